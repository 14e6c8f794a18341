"""A chat server: one room, one line per message, the first line is the nickname.

    python examples/chat_server.py --port 7001
    nc 127.0.0.1 7001

Each connection's state lives in `socket.data`. What a member has not read yet is queued; one that
falls more than 256 KiB behind is dropped, so that a slow reader neither holds up the others nor
fills the memory.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import mantou

MAX_LINE = 4096
MAX_BEHIND = 256 * 1024


@dataclass
class Member:
    """What the server knows about one connection."""

    nickname: str = ""  # empty until the first line
    partial: bytes = b""  # the start of a line whose end has not arrived


class Chat(mantou.SocketHandler[Member]):
    """One room. All connections share this object; what is theirs alone is in `socket.data`."""

    def __init__(self) -> None:
        self.members: dict[str, mantou.Socket[Member]] = {}

    def open(self, socket: mantou.Socket[Member]) -> None:
        socket.write_all("Welcome. Your nickname?\n")

    def data(self, socket: mantou.Socket[Member], data: bytes) -> None:
        # TCP is a stream: a line may come in pieces, or several at once.
        *lines, socket.data.partial = (socket.data.partial + data).split(b"\n")
        for line in lines:
            text = "".join(filter(str.isprintable, line.decode(errors="replace"))).strip()
            if text == "/quit":
                self.dismiss(socket, "Bye.")
                return
            if not socket.data.nickname:
                self.join(socket, text)
            elif text:
                self.broadcast(f"{socket.data.nickname}: {text}", but=socket)
        if len(socket.data.partial) > MAX_LINE:
            self.dismiss(socket, "That line is too long.")

    def close(self, socket: mantou.Socket[Member], error: BaseException | None) -> None:
        if self.members.pop(socket.data.nickname, None):
            self.announce(f"* {socket.data.nickname} left")

    def join(self, socket: mantou.Socket[Member], nickname: str) -> None:
        if not nickname or nickname in self.members:
            self.send(socket, "Empty or taken. Another one?")
            return
        self.send(socket, f"Here are: {', '.join(self.members) or 'nobody else'}")
        self.announce(f"* {nickname} joined")
        socket.data.nickname = nickname
        self.members[nickname] = socket

    def dismiss(self, socket: mantou.Socket[Member], line: str) -> None:
        self.send(socket, line)
        socket.close()  # once the line is sent; end() would go on reading until the peer ends too

    def announce(self, line: str) -> None:
        print(line, flush=True)
        self.broadcast(line)

    def broadcast(self, line: str, but: mantou.Socket[Member] | None = None) -> None:
        for member in list(self.members.values()):
            if member is not but:
                self.send(member, line)

    def send(self, socket: mantou.Socket[Member], line: str) -> None:
        try:
            socket.write_all(f"{line}\n")
        except BufferError:  # too far behind
            socket.terminate()
        except BrokenPipeError:  # has just left: `close` is about to be called
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat server.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7001, help="7001; 0 picks a free one")
    options = parser.parse_args()

    listener = mantou.listen(
        hostname=options.hostname,
        port=options.port,
        socket=Chat(),
        data_factory=lambda socket: Member(),
        write_limit=MAX_BEHIND,
    )
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    try:
        mantou.run()
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    main()

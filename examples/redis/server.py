"""A server that Redis's clients take for one: strings, expiry, and messages to subscribers.

    python -m examples.redis.server --port 6380
    redis-cli -p 6380 set answer 42

Commands that came together are answered together, in one send. A client that does not read its
answers is not read from either; a subscriber that falls too far behind is dropped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

import mantou
from examples.redis.protocol import bulk, request, split_commands
from examples.redis.store import Store, Words

LONGEST = 8 * 1024 * 1024  # bytes of one command


@dataclass
class Client:
    """What the server knows about one connection."""

    rest: bytes = b""  # the beginning of a command whose end has not arrived
    channels: set[bytes] = field(default_factory=set)


Socket = mantou.Socket[Client]


class Server(mantou.SocketHandler[Client]):
    """All connections share this object, and so the data."""

    def __init__(self) -> None:
        self.subscribers: dict[bytes, set[Socket]] = {}
        self.clients = self.commands = 0
        store = Store()
        # The least number of arguments, and who answers.
        self.of_data: dict[bytes, tuple[int, Callable[[Words], bytes]]] = {
            b"get": (1, store.get),
            b"set": (2, store.set),
            b"del": (1, store.delete),
            b"incr": (1, store.incr),
            b"expire": (2, store.expire),
            b"ttl": (1, store.ttl),
            b"publish": (2, self.publish),
            b"ping": (0, lambda words: bulk(words[1]) if words[1:] else b"+PONG\r\n"),
            b"info": (0, self.info),
            b"config": (2, lambda words: request(words[2], b"")),  # redis-benchmark asks
        }
        self.of_socket = {b"subscribe": self.subscribe, b"unsubscribe": self.unsubscribe}

    def open(self, socket: Socket) -> None:
        self.clients += 1

    def data(self, socket: Socket, data: bytes) -> None:
        client = socket.data
        try:
            commands, client.rest = split_commands(client.rest + data)
            if len(client.rest) > LONGEST:
                raise ValueError("too big a command")
        except ValueError as error:
            socket.write_all(f"-ERR Protocol error: {error}\r\n")
            socket.close()
            return
        self.commands += len(commands)
        socket.write_all(b"".join([self.answer(socket, words) for words in commands if words]))
        if socket.buffered:
            socket.pause()

    def drain(self, socket: Socket) -> None:
        socket.resume()

    def close(self, socket: Socket, error: BaseException | None) -> None:
        self.clients -= 1
        self.unsubscribe(socket, [])

    def answer(self, socket: Socket, words: Words) -> bytes:
        name = words[0].lower()
        if name in self.of_socket:
            return self.of_socket[name](socket, words[1:])
        if name not in self.of_data:
            return b"-ERR unknown command '%b'\r\n" % words[0]
        least, method = self.of_data[name]
        if len(words) <= least:
            return b"-ERR wrong number of arguments for '%b' command\r\n" % words[0]
        try:
            return method(words)
        except ValueError:
            return b"-ERR value is not an integer or out of range\r\n"

    def subscribe(self, socket: Socket, channels: Words) -> bytes:
        answers = b""
        for channel in channels:
            socket.data.channels.add(channel)
            self.subscribers.setdefault(channel, set()).add(socket)
            answers += self.subscribed(b"subscribe", channel, socket)
        return answers

    def unsubscribe(self, socket: Socket, channels: Words) -> bytes:
        answers = b""
        for channel in channels or list(socket.data.channels):
            socket.data.channels.discard(channel)
            listening = self.subscribers.get(channel, set())
            listening.discard(socket)
            if not listening:
                self.subscribers.pop(channel, None)
            answers += self.subscribed(b"unsubscribe", channel, socket)
        return answers or self.subscribed(b"unsubscribe", None, socket)

    def subscribed(self, kind: bytes, channel: bytes | None, socket: Socket) -> bytes:
        count = len(socket.data.channels)
        return b"*3\r\n" + bulk(kind) + bulk(channel) + b":%d\r\n" % count

    def publish(self, words: Words) -> bytes:
        listening = self.subscribers.get(words[1], set())
        message = request(b"message", words[1], words[2])
        for socket in list(listening):
            try:
                socket.write_all(message)
            except BufferError:  # too far behind
                socket.terminate()
        return b":%d\r\n" % len(listening)

    def info(self, words: Words) -> bytes:
        lines = ["# Clients", f"connected_clients:{self.clients}", "# Stats"]
        return bulk("\r\n".join([*lines, f"total_commands_processed:{self.commands}", ""]).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="A server that Redis's clients take for one.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6380, help="6380; 0 picks a free one")
    options = parser.parse_args()
    listener = mantou.listen(
        hostname=options.hostname,
        port=options.port,
        socket=Server(),
        data_factory=lambda socket: Client(),
    )
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    try:
        mantou.run()
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    main()

"""A server that Redis's clients take for one: strings, expiry, and messages to subscribers.

    python -m examples.redis.server --port 6380
    redis-cli -p 6380 set answer 42

Commands that came together are answered together, in one send. A client that does not read its
answers is not read from either; a subscriber that falls too far behind is dropped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import mantou
from examples.redis.audience import Audience, Client, Socket
from examples.redis.protocol import NIL, bulk, request, split_commands
from examples.redis.store import Store, Words

LONGEST = 8 * 1024 * 1024  # bytes of one command


class Server(mantou.SocketHandler[Client]):
    """All connections share this object, and so the data."""

    def __init__(self) -> None:
        self.audience = Audience()
        self.clients = self.commands = 0
        store = Store()
        # The least number of arguments, and who answers.
        self.of_data: dict[bytes, tuple[int, Callable[[Words], bytes]]] = {
            b"get": (1, store.get),
            b"set": (2, store.set),
            b"del": (1, store.delete),
            b"incr": (1, store.incr),
            b"incrby": (2, store.incr),
            b"expire": (2, store.expire),
            b"ttl": (1, store.ttl),
            b"publish": (2, self.audience.publish),
            b"ping": (0, lambda words: bulk(words[1]) if words[1:] else b"+PONG\r\n"),
            b"info": (0, self.info),
            b"config": (2, lambda words: request(words[2], b"")),  # redis-benchmark asks
        }
        self.of_socket = {
            b"hello": self.hello,
            b"subscribe": self.audience.subscribe,
            b"unsubscribe": self.audience.unsubscribe,
        }

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
        self.audience.unsubscribe(socket, [])

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
            answer = method(words)
            return b"_\r\n" if answer == NIL and socket.data.pushes == b">" else answer
        except ValueError:
            return b"-ERR value is not an integer or out of range\r\n"

    def hello(self, socket: Socket, words: Words) -> bytes:
        version = words[0] if words else b"2"
        if version not in (b"2", b"3"):
            return b"-NOPROTO unsupported protocol version\r\n"
        socket.data.pushes = b">" if version == b"3" else b"*"
        begin = b"%2\r\n" if version == b"3" else b"*4\r\n"
        return begin + bulk(b"server") + bulk(b"redis") + bulk(b"proto") + b":%b\r\n" % version

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

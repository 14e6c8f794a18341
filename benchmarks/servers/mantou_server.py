"""mantou_server.py LOOP ROLE [CERTIFICATE KEY]: prints its port and serves.

LOOP: mantou (its own), asyncio, uvloop; view (its own, with the engine's buffer instead of bytes);
sslcontext (its own, TLS by an ssl.SSLContext). Roles as in floor.c, and timeouts: an echo whose
connections all have an idle timeout.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from common import BLOCK, PIECE, ssl_context

import mantou

Socket = mantou.Socket[Any]


class Echo(mantou.SocketHandler[Any]):
    def data(self, socket: Socket, data: bytes) -> None:
        socket.write_all(data)


class ViewEcho(Echo):
    binary_type = "memoryview"


class Timeouts(Echo):
    def open(self, socket: Socket) -> None:
        socket.timeout(600)


class Sink(mantou.SocketHandler[Any]):
    binary_type = "memoryview"  # the bytes are only counted

    def open(self, socket: Socket) -> None:
        socket.data = 0

    def data(self, socket: Socket, data: memoryview) -> None:  # type: ignore[override]
        received = socket.data + len(data)
        while received >= len(BLOCK):
            received -= len(BLOCK)
            socket.write_all(b"\0")
        socket.data = received


class Source(mantou.SocketHandler[Any]):
    def open(self, socket: Socket) -> None:
        socket.data = 0  # bytes due

    def data(self, socket: Socket, data: bytes) -> None:
        waiting = socket.data
        socket.data = waiting + len(data) * len(BLOCK)
        if not waiting:
            self.drain(socket)

    def drain(self, socket: Socket) -> None:
        due = socket.data
        while due:
            start = -due % len(BLOCK)
            sent = socket.write(BLOCK, start)
            due -= sent
            if sent < len(BLOCK) - start:
                break
        socket.data = due


class FanOut(mantou.SocketHandler[Any]):
    def __init__(self) -> None:
        self.everybody: set[Socket] = set()

    def open(self, socket: Socket) -> None:
        self.everybody.add(socket)

    def data(self, socket: Socket, data: bytes) -> None:
        for each in self.everybody:
            each.write_all(data)

    def close(self, socket: Socket, error: BaseException | None) -> None:
        self.everybody.discard(socket)


class Pieces(mantou.SocketHandler[Any]):
    def data(self, socket: Socket, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            socket.write_all(data[start : start + PIECE])


class Corked(mantou.SocketHandler[Any]):
    def data(self, socket: Socket, data: bytes) -> None:
        with socket.cork():
            for start in range(0, len(data), PIECE):
                socket.write_all(data[start : start + PIECE])


ROLES = {
    "echo": Echo,
    "timeouts": Timeouts,
    "sink": Sink,
    "source": Source,
    "fanout": FanOut,
    "pieces": Pieces,
    "corked": Corked,
}


def listen(kind: str, role: str, files: list[str]) -> None:
    handler = ViewEcho if kind == "view" and role == "echo" else ROLES[role]
    options: dict[str, Any] = {}
    if files and kind == "sslcontext":
        options["tls"] = ssl_context(*files)
    elif files:
        options["tls"] = {
            "cert_file": files[0],
            "key_file": files[1],
            "min_version": "TLSv1.3",
            "ciphers": "TLS_AES_256_GCM_SHA384",
        }
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=handler(), **options)
    print(listener.port, flush=True)


async def serve(kind: str, role: str, files: list[str]) -> None:
    listen(kind, role, files)
    await asyncio.get_running_loop().create_future()


def main(kind: str, role: str, *files: str) -> None:
    if kind == "uvloop":
        import uvloop

        uvloop.run(serve(kind, role, list(files)))
    elif kind == "asyncio":
        asyncio.run(serve(kind, role, list(files)))
    else:
        listen(kind, role, list(files))
        mantou.run()


if __name__ == "__main__":
    main(*sys.argv[1:])

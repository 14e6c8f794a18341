"""protocol_server.py LOOP ROLE [CERTIFICATE KEY]: prints its port and serves.

The same asyncio protocols on asyncio, uvloop, aiofastnet (on asyncio), aiofastnet-uvloop and rloop.
Roles as in floor.c, and timeouts: an echo whose connections all have an idle timeout.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from common import BLOCK, PIECE, loop_factory, ssl_context

IDLE = 600.0


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        # asyncio and uvloop have set it already.
        if LOOP == "rloop":
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def eof_received(self) -> None:
        if LOOP == "rloop":  # the others close by themselves
            self.transport.close()


class Timeouts(Echo):
    """One timer a connection, started again where it comes up too early: no cost per message."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop = asyncio.get_running_loop()
        self.last = self.loop.time()
        self.timer = self.loop.call_later(IDLE, self.check)

    def data_received(self, data: bytes) -> None:
        self.last = self.loop.time()
        self.transport.write(data)

    def check(self) -> None:
        left = self.last + IDLE - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self.timer = self.loop.call_later(left, self.check)

    def connection_lost(self, error: Exception | None) -> None:
        self.timer.cancel()


class Sink(asyncio.BufferedProtocol):
    """Reads into one buffer: the bytes are only counted."""

    buffer = memoryview(bytearray(256 * 1024))
    received = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        self.received += size
        while self.received >= len(BLOCK):
            self.received -= len(BLOCK)
            self.transport.write(b"\0")


class PlainSink(Echo):
    """Where there are no buffered protocols."""

    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        while self.received >= len(BLOCK):
            self.received -= len(BLOCK)
            self.transport.write(b"\0")


class Source(Echo):
    """Writes a block when the transport has room: `pause_writing` holds the next one back."""

    due = 0
    paused = False

    def data_received(self, data: bytes) -> None:
        self.due += len(data)
        self.fill()

    def fill(self) -> None:
        while self.due and not self.paused:
            self.due -= 1
            self.transport.write(BLOCK)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.fill()


class FanOut(Echo):
    everybody: set[Any] = set()  # noqa: RUF012

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.everybody.add(transport)

    def data_received(self, data: bytes) -> None:
        for transport in self.everybody:
            transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.everybody.discard(self.transport)


class Pieces(Echo):
    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            self.transport.write(data[start : start + PIECE])


class Corked(Echo):
    def data_received(self, data: bytes) -> None:
        self.transport.writelines([data[i : i + PIECE] for i in range(0, len(data), PIECE)])


async def serve(role: str, files: tuple[str, ...]) -> None:
    factory = ROLES[role]
    if LOOP == "rloop" and factory is Sink:
        factory = PlainSink
    tls = ssl_context(*files) if files else None
    server = await asyncio.get_running_loop().create_server(
        factory, "127.0.0.1", 0, ssl=tls, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()  # rloop has no serve_forever


ROLES: dict[str, Any] = {
    "echo": Echo,
    "timeouts": Timeouts,
    "sink": Sink,
    "source": Source,
    "fanout": FanOut,
    "pieces": Pieces,
    "corked": Corked,
}

if __name__ == "__main__":
    LOOP, wanted, *certificate = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory(LOOP)) as runner:
        runner.run(serve(wanted, tuple(certificate)))

"""What is served, by kind: handlers, streams and asyncio's protocols.

Every kind counts how many connections it had, and how many of them ended and how: who was opened
is closed once.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import mantou
from soak.content import pieces

Socket = mantou.Socket[Any]


class Count:
    """How many connections of a kind began, and how they ended."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.twice = 0
        """Ends of connections that had ended, or never begun."""
        self.ends: collections.Counter[str] = collections.Counter()
        self._open: set[object] = set()

    def begin(self, who: object) -> None:
        self.opened += 1
        self._open.add(who)

    def end(self, who: object, error: BaseException | None) -> None:
        self.closed += 1
        self.twice += who not in self._open
        self._open.discard(who)
        self.ends[type(error).__name__ if error else "well"] += 1

    def told(self) -> dict[str, Any]:
        """For the report."""
        return {
            "opened": self.opened,
            "closed": self.closed,
            "twice": self.twice,
            "ends": dict(self.ends),
        }


class Handlers(mantou.SocketHandler[Any]):
    """Counts, and keeps what is sent within bounds."""

    def __init__(self, count: Count) -> None:
        self.count = count

    def open(self, socket: Socket) -> None:
        self.count.begin(socket)

    def close(self, socket: Socket, error: BaseException | None) -> None:
        self.count.end(socket, error)

    def send(self, socket: Socket, data: bytes) -> None:
        # A peer's RST may overtake what it has sent; `close` tells of it.
        with contextlib.suppress(BrokenPipeError):
            socket.write_all(data)
        if socket.buffered:
            socket.pause()

    def drain(self, socket: Socket) -> None:
        socket.resume()


class Echo(Handlers):
    """Says the same."""

    def data(self, socket: Socket, data: bytes) -> None:
        self.send(socket, data)


class Faulty(Echo):
    """Fails when it is asked to: `trip`, and `error` has it go on; `fail`, and that is its end."""

    def __init__(self, count: Count) -> None:
        super().__init__(count)
        self.raised = self.told = 0

    def data(self, socket: Socket, data: bytes) -> None:
        if data in {b"trip", b"fail"}:
            self.raised += 1
            raise LookupError(data.decode())
        self.send(socket, data)

    def error(self, socket: Socket, error: BaseException) -> bool:
        self.told += 1
        if error.args != ("trip",):
            return False
        socket.write_all("tripped")
        return True


class Digest(Handlers):
    """Takes all that comes, and answers the FIN with its digest: half-open on the client's side."""

    def open(self, socket: Socket) -> None:
        super().open(socket)
        socket.data = hashlib.sha256()

    def data(self, socket: Socket, data: bytes) -> None:
        socket.data.update(data)

    def end(self, socket: Socket) -> None:
        socket.end(socket.data.hexdigest())


class Source(Handlers):
    """Asked for `seed size`, a line, sends that much as fast as it is taken, and finishes."""

    def open(self, socket: Socket) -> None:
        super().open(socket)
        socket.data = (b"", None)

    def data(self, socket: Socket, data: bytes) -> None:
        asked, waiting = socket.data
        asked += data
        if waiting is None and asked.endswith(b"\n"):
            seed, size = map(int, asked.split())
            waiting = pieces(seed, size, 48 * 1024)
        socket.data = (asked, waiting)
        self.go_on(socket)

    def drain(self, socket: Socket) -> None:
        self.go_on(socket)

    def go_on(self, socket: Socket) -> None:
        waiting: Iterator[bytes] | None = socket.data[1]
        if waiting is None:
            return
        for piece in waiting:
            socket.write_all(piece)
            if socket.buffered:
                return
        socket.data = (b"", None)
        socket.end()


class BeforeTLS(Handlers):
    """Upgrades at the client's word; what is behind it is for other handlers."""

    def __init__(self, count: Count, tls: mantou.TLSOptions, behind: Handlers) -> None:
        super().__init__(count)
        self.tls = tls
        self.behind = behind

    def data(self, socket: Socket, data: bytes) -> None:
        assert data == b"STARTTLS\n"
        socket.write_all("go ahead\n")
        socket.upgrade_tls(tls=self.tls, socket=self.behind)


async def echo_with_cancels(stream: mantou.Stream, count: Count) -> None:
    """Gives up waiting again and again, at any moment, and loses nothing by it."""
    count.begin(stream)
    error: BaseException | None = None
    patience = random.Random(count.opened)
    try:
        while True:
            try:
                async with asyncio.timeout(patience.uniform(0, 0.02)):
                    data = await stream.receive()
            except TimeoutError:
                continue
            await stream.send(data)
    except mantou.EndOfStream:
        await stream.send_eof()
    except OSError as broken:
        error = broken
    finally:
        count.end(stream, error)


class Protocol(asyncio.Protocol):
    """An unchanged protocol of asyncio's."""

    transport: asyncio.Transport

    def __init__(self, count: Count) -> None:
        self.count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.count.begin(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.count.end(self, exc)

"""The peers of `mantou.testing`: plain sockets, and Python's own TLS, in the hands of a test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket as kernel
import ssl
import struct
from collections.abc import Iterator, Sequence
from typing import Any, cast

from ._core import Socket
from ._validate import integer, seconds_or_none, wrong_type

# A turn or two are enough for what has arrived; who paused its socket takes nothing at all.
_TURNS = 100

_LARGEST = 2**63 - 1


def check_manners(
    fragments: object, pause: object, finish_after: object, reset_after: object
) -> None:
    """TypeError or ValueError for what a peer cannot do."""
    if isinstance(fragments, str | bytes) or not isinstance(fragments, Sequence):
        raise wrong_type("fragments", "a sequence of sizes", fragments)
    for size in cast("Sequence[object]", fragments):
        integer({"fragments": size}, "fragments", 1, 1, _LARGEST)
    if seconds_or_none({"pause": pause}, "pause") is None:
        raise wrong_type("pause", "a number of seconds", pause)
    for name, after in (("finish_after", finish_after), ("reset_after", reset_after)):
        if after is not None:
            integer({name: after}, name, 0, 0, _LARGEST)


class Peer:
    """The far end of one connection: a raw socket that does what it is told.

    Made by `mantou.testing.peer()`. Its attributes can be changed at any time and are looked at
    by the next `send()`.
    """

    socket: Socket[Any]
    """The socket under test."""
    fragments: Sequence[int]
    """The sizes in bytes of what `send()` sends at a time, again from the first one when they are
    through. Each is taken by the socket under test before the next one is sent, so that it is an
    event of its own. Empty: everything at once."""
    pause: float
    """Seconds between two fragments."""
    finish_after: int | None
    """After so many bytes, counted over all `send()`, comes the FIN, and nothing else."""
    reset_after: int | None
    """After so many bytes comes the RST."""

    def __init__(self, sock: kernel.socket) -> None:
        self.sock: kernel.socket = sock
        """The raw socket."""
        self.sent: int = 0
        """Bytes that were sent."""
        self.fragments = ()
        self.pause = 0.0
        self.finish_after = self.reset_after = None
        sock.setblocking(False)
        if sock.family != kernel.AF_UNIX:
            # Each fragment travels at once.
            sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)

    async def send(self, data: bytes | bytearray | memoryview) -> int:
        """Sends the bytes, as `fragments` and the other attributes say.

        :returns: How many bytes were sent: fewer than given when `finish_after` or `reset_after`
            came first.
        :raises OSError: The connection is gone, or was finished before.
        :raises TypeError: An attribute is of the wrong type.
        :raises ValueError: An attribute is negative, or a fragment empty.
        """
        check_manners(self.fragments, self.pause, self.finish_after, self.reset_after)
        ends = [end for end in (self.finish_after, self.reset_after) if end is not None]
        rest = memoryview(data).cast("B")
        rest = rest[: max(min(ends) - self.sent, 0)] if ends else rest
        for fragment in self._cut(rest):
            await self._transmit(fragment)
            self.sent += len(fragment)
            if self.fragments:
                await self._taken()
            if self.pause:
                await asyncio.sleep(self.pause)
        if self.reset_after is not None and self.sent >= self.reset_after:
            self.reset()
        elif self.finish_after is not None and self.sent >= self.finish_after:
            await self.finish()
        return len(rest)

    def _cut(self, data: memoryview) -> Iterator[memoryview]:
        sizes = itertools.cycle(self.fragments or [len(data)])
        while data:
            size = next(sizes)
            yield data[:size]
            data = data[size:]

    async def _taken(self) -> None:
        """Returns when everything that was sent has been read by the socket under test."""
        for _ in range(_TURNS):
            if self.socket.bytes_read >= self.sent:
                return
            await asyncio.sleep(0)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What one read gets: at least a byte, or b"" for a FIN.

        :raises ConnectionResetError: A RST came.
        :raises ssl.SSLEOFError: Over TLS a FIN came without `close_notify`.
        """
        return await self._obtain(max_bytes)

    async def receive_exactly(self, size: int) -> bytes:
        """So many bytes.

        :raises EOFError: The FIN came first.
        """
        received = bytearray()
        while len(received) < size:
            piece = await self.receive(size - len(received))
            if not piece:
                raise EOFError(f"{len(received)} bytes came, {size} were expected")
            received += piece
        return bytes(received)

    async def receive_until_end(self, *, at_most: int = 65536, pause: float = 0.0) -> bytes:
        """Everything up to the FIN, read `at_most` bytes at a time with `pause` seconds between."""
        received = bytearray()
        while piece := await self.receive(at_most):
            received += piece
            if pause:
                await asyncio.sleep(pause)
        return bytes(received)

    async def finish(self) -> None:
        """Sends the FIN, over TLS `close_notify` before it. Reading goes on."""
        self.sock.shutdown(kernel.SHUT_WR)

    def truncate(self) -> None:
        """Sends a FIN alone: over TLS without `close_notify`, as a cut connection does."""
        self.sock.shutdown(kernel.SHUT_WR)

    def reset(self) -> None:
        """Sends a RST, and is closed."""
        self.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Closes the socket: what was not read makes it a RST."""
        self.sock.close()

    async def _transmit(self, data: memoryview) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def _obtain(self, most: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, most)


class TLSPeer(Peer):
    """A peer that speaks TLS. Its fragments are records, and its sizes those of the plaintext."""

    def __init__(self, sock: kernel.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl: ssl.SSLObject = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )

    async def handshake(self) -> None:
        """Does the handshake.

        :raises ssl.SSLError: It failed.
        :raises ConnectionError: The other end left.
        """
        while True:
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                return
            finally:
                # Also when it failed: the other end is told why.
                await self._flush()
            await self._fill()

    async def finish(self) -> None:
        # The answer to our close_notify is nothing to wait for.
        with contextlib.suppress(ssl.SSLWantReadError):
            self.ssl.unwrap()
        await self._flush()
        self.sock.shutdown(kernel.SHUT_WR)

    async def _transmit(self, data: memoryview) -> None:
        while data:
            data = data[self.ssl.write(data[: 1 << 16]) :]
            await self._flush()

    async def _obtain(self, most: int) -> bytes:
        while True:
            try:
                return self.ssl.read(most)
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    async def _fill(self) -> None:
        ciphertext = await super()._obtain(65536)
        if ciphertext:
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if ready := self._outgoing.read():
            await super()._transmit(memoryview(ready))

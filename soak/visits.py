"""What a client does with a connection, by kind: a coroutine each, from connecting to its end.

They are asyncio's streams throughout; `Place.open` says whose: the standard library's or mantou's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket as kernel
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from soak.content import content

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
KIB = 1024


class LostError(Exception):
    """Bytes that came are not those that were sent, or more or fewer of them."""


@dataclass
class Place:
    """Where to, and with what."""

    ports: dict[str, int]
    open: Callable[..., Awaitable[Streams]]
    context: ssl.SSLContext
    random: random.Random
    pace: float
    """The longest pause between two messages of a connection, in seconds."""
    carried: int = 0
    """Bytes that came and were checked."""
    visits: dict[str, int] = field(default_factory=dict[str, int])

    async def connect(self, kind: str) -> Streams:
        tls: dict[str, Any] = {}
        if kind.startswith("tls"):
            tls = {"ssl": self.context, "server_hostname": "localhost"}
        return await self.open("127.0.0.1", self.ports[kind], limit=64 * KIB, **tls)

    async def pause(self) -> None:
        await asyncio.sleep(self.random.uniform(0, self.pace))

    def size(self) -> int:
        """Mostly small, seldom large."""
        most = 256 * KIB if self.random.random() < 0.02 else 4 * KIB
        return self.random.randint(1, most)

    def check(self, got: bytes, expected: bytes) -> None:
        if got != expected:
            raise LostError(f"{len(got)} bytes are not the {len(expected)} that were sent")
        self.carried += len(got)


async def converse(
    place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """A few messages, each of which comes back."""
    for _ in range(place.random.randint(1, 6)):
        message = content(place.random.getrandbits(20), place.size())
        writer.write(message)
        answer = asyncio.ensure_future(reader.readexactly(len(message)))
        await writer.drain()
        place.check(await answer, message)
        await place.pause()


async def part(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def echo(place: Place, kind: str) -> None:
    reader, writer = await place.connect(kind)
    await converse(place, reader, writer)
    if writer.can_write_eof():
        writer.write_eof()
        place.check(await reader.read(), b"")
    await part(writer)


async def source(place: Place, kind: str) -> None:
    """Reads much, sometimes slowly."""
    reader, writer = await place.connect(kind)
    seed, size = place.random.getrandbits(20), place.random.randint(1, 768 * KIB)
    slow = place.random.random() < 0.5
    writer.write(b"%d %d\n" % (seed, size))
    got = 0
    while piece := await reader.read(place.random.randint(1, 64 * KIB)):
        place.check(piece, content(seed, len(piece), got))
        got += len(piece)
        if slow:
            await asyncio.sleep(place.random.uniform(0, place.pace / 10))
    if got != size:
        raise LostError(f"{got} bytes of {size}")
    await part(writer)


async def digest(place: Place, kind: str) -> None:
    """Sends all, finishes, and is answered over the half that is left."""
    reader, writer = await place.connect(kind)
    whole = hashlib.sha256()
    for _ in range(place.random.randint(1, 8)):
        piece = content(place.random.getrandbits(20), place.size())
        whole.update(piece)
        writer.write(piece)
        await writer.drain()
        await place.pause()
    writer.write_eof()
    place.check(await reader.read(), whole.hexdigest().encode())
    await part(writer)


async def starttls(place: Place, kind: str) -> None:
    reader, writer = await place.connect(kind)
    writer.write(b"STARTTLS\n")
    place.check(await reader.readexactly(9), b"go ahead\n")
    await writer.start_tls(place.context, server_hostname="localhost")
    await converse(place, reader, writer)
    await part(writer)


async def faulty(place: Place, kind: str) -> None:
    """Has a handler fail, at last so that it is the end of this connection, and of no other."""
    reader, writer = await place.connect(kind)
    await converse(place, reader, writer)
    writer.write(b"trip")
    place.check(await reader.readexactly(7), b"tripped")
    writer.write(b"fail")
    with contextlib.suppress(ConnectionResetError):
        place.check(await reader.read(), b"")
    with contextlib.suppress(ConnectionResetError):
        await part(writer)


async def reset(place: Place, kind: str) -> None:
    """Leaves with a RST, in the middle of something."""
    reader, writer = await place.connect(kind)
    await converse(place, reader, writer)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(content(1, place.size()))
    writer.transport.abort()


KINDS: dict[str, Callable[[Place, str], Awaitable[None]]] = {
    "echo": echo,
    "stream": echo,
    "protocol": echo,
    "worker": echo,
    "faulty": faulty,
    "tls": echo,
    "tls-context": echo,
    "tls-stream": echo,
    "tls-protocol": echo,
    "source": source,
    "tls-source": source,
    "digest": digest,
    "starttls": starttls,
    "reset": reset,
}

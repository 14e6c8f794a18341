"""How a TLS connection ends on mantou's loop and on asyncio's own: both tell the same story.

Ours is a protocol over asyncio's API, its peer a raw one: what is on the wire is in its hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.peers import Peer
from tests.protocols import Plain, raw_pair
from tests.tls_support import TlsPeer, context

SIDES = ("client", "server", "upgraded client", "upgraded server")
"""Who we are."""


@dataclass
class Story:
    """What a program can see of an ending, and what its peer can."""

    calls: list[str]
    received: bytes
    error: tuple[type[BaseException], str] | None
    """What `connection_lost()` was given: its class, and the words of one that is not OpenSSL's."""
    wire: list[str]
    reports: list[str]
    """What reached the loop's exception handler."""
    notes: list[object] = field(default_factory=list)


@dataclass
class Connection:
    """A session that stands: our protocol, and its peer."""

    protocol: Any
    peer: TlsPeer
    wire: list[str] = field(default_factory=list)
    notes: list[object] = field(default_factory=list)

    @property
    def transport(self) -> Any:
        return self.protocol.transport

    async def see(self) -> None:
        """The peer reads until we say goodbye, without an answer."""
        received = bytearray()
        try:
            while piece := await self.peer.receive_some():
                received += piece
        except ssl.SSLEOFError:
            said = "FIN without close_notify"
        except ConnectionResetError:
            said = "RST"
        else:
            said = "close_notify"
        if received:
            self.wire.append(f"{len(received)} bytes")
        self.wire.append(said)

    async def see_the_end(self) -> None:
        """The peer reads what comes on the wire, up to FIN or RST."""
        try:
            while await Peer.receive_some(self.peer):
                pass
        except ConnectionResetError:
            self.wire.append("RST")
        else:
            self.wire.append("FIN")


Case = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True)
class Setting:
    """Who we are, and how we speak TLS."""

    side: str
    version: str
    kind: type[ssl.SSLContext]
    protocol: type[Any] = Plain
    shutdown_timeout: float = 10.0
    handshake_timeout: float = 10.0

    @property
    def server_side(self) -> bool:
        return self.side.endswith("server")

    def context(self) -> ssl.SSLContext:
        return context(self.server_side, self.version, self.kind)

    async def prepare(self, ours: kernel.socket) -> Any:
        """The transport to be upgraded; None if TLS is there from the start."""
        if not self.side.startswith("upgraded"):
            return None
        plain, _ = await asyncio.get_running_loop().connect_accepted_socket(Plain, ours)
        return plain

    async def begin(self, ours: kernel.socket, plain: Any, protocol: Any) -> None:
        """Does our part of the handshake over a connected socket."""
        loop = asyncio.get_running_loop()
        tls = self.context()
        options: dict[str, Any] = {
            "ssl_handshake_timeout": self.handshake_timeout,
            "ssl_shutdown_timeout": self.shutdown_timeout,
        }
        if not self.server_side:
            options["server_hostname"] = "localhost"
        if plain is not None:
            options["server_side"] = self.server_side
            protocol.transport = await loop.start_tls(plain, protocol, tls, **options)
        elif self.server_side:
            await loop.connect_accepted_socket(lambda: protocol, ours, ssl=tls, **options)
        else:
            await loop.create_connection(lambda: protocol, sock=ours, ssl=tls, **options)


@contextlib.asynccontextmanager
async def connection(setting: Setting) -> AsyncIterator[Connection]:
    ours, theirs = raw_pair()
    peer = TlsPeer(theirs, not setting.server_side, setting.version)
    protocol = setting.protocol()
    try:
        plain = await setting.prepare(ours)
        await asyncio.gather(setting.begin(ours, plain, protocol), peer.handshake())
        if not setting.server_side:
            # Tickets would be unread bytes, of which a RST is made.
            await peer.send(b"hello")
            await protocol.wait_for(5)
        else:
            protocol.transport.write(b"hello")
            assert await peer.receive(5) == b"hello"
        yield Connection(protocol, peer)
        if not protocol.lost.done():
            protocol.transport.abort()
        await protocol.lost
    finally:
        peer.close()


async def told(case: Case, setting: Setting) -> Story:
    """What becomes of a connection in such a case, on the loop that runs."""
    reports: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, report: reports.append(report["message"]))
    async with connection(setting) as made:
        await case(made)
        await made.protocol.lost
    protocol = made.protocol
    # Flow depends on how much the kernel takes.
    calls = [name for name in protocol.calls if name not in ("pause", "resume")]
    return Story(
        calls,
        bytes(protocol.received),
        described(protocol.error),
        made.wire,
        reports,
        made.notes,
    )


async def failed(
    failure: Callable[[TlsPeer], Awaitable[None]], setting: Setting
) -> tuple[Any, list[str], list[str]]:
    """What a handshake raises that the peer lets fail, what is told, and what is reported."""
    reports: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, report: reports.append(report["message"]))
    ours, theirs = raw_pair()
    peer = TlsPeer(theirs, not setting.server_side, setting.version)
    protocol = setting.protocol()
    plain = await setting.prepare(ours)
    beginning = loop.create_task(setting.begin(ours, plain, protocol))
    try:
        # It begins.
        await asyncio.sleep(0)
        await failure(peer)
        await asyncio.wait([beginning])
    finally:
        peer.close()
    return described(beginning.exception()), protocol.calls, reports


def described(error: BaseException | None) -> tuple[type[BaseException], str] | None:
    if error is None:
        return None
    words = error.reason or "" if isinstance(error, ssl.SSLError) else str(error)
    return type(error), words


def on_loop(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    story: Callable[[], Any],
    seconds: float = 20,
) -> Any:
    """Runs it on a loop of its own."""

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await story()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(bounded())

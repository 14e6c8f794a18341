"""What connections of asyncio programs hold goes with them, cycles included."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
import weakref
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS
from tests.protocols import LINKS, Buffered, Plain, connect, serving
from tests.tls import authority, client_context, server_context, server_credential


class Knot(Plain):
    """A protocol that its transport, its loop and itself lead back to."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.myself = self
        self.timer = self.loop.call_later(3600, self.got, b"")

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.socket = transport.get_extra_info("socket")
        self.tls = transport.get_extra_info("ssl_object")


class BufferedKnot(Buffered, Knot):  # type: ignore[misc]
    data_received = None  # type: ignore[assignment]


def contexts(kind: type[ssl.SSLContext]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = kind(ssl.PROTOCOL_TLS_SERVER), kind(ssl.PROTOCOL_TLS_CLIENT)
    server_credential().load_into(server)
    client.load_verify_locations(cadata=authority().pem.decode())
    return server, client


def options_of(link: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a server and a client need."""
    if link == "tls":
        return {"ssl": server_context()}, {"ssl": client_context()}
    if link != "rustls":
        return {}, {}
    server, client = contexts(mantou.SSLContext)
    return {"ssl": server}, {"ssl": client}


@pytest.mark.loops("mantou", "asyncio")
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("kind", [Knot, BufferedKnot])
@pytest.mark.parametrize("link", [*LINKS, "rustls"])
async def test_a_connection_that_ended_is_collected(link: str, kind: Any, how: str) -> None:
    references: list[weakref.ref[Any]] = []
    accepted: asyncio.Queue[Any] = asyncio.Queue()

    def accept() -> Any:
        accepted.put_nowait(kind())
        return accepted._queue[-1]  # type: ignore[attr-defined]

    async def once(place: str, address: Any, options: dict[str, Any]) -> None:
        client = await connect(place, address, kind, **options)
        server = await accepted.get()
        await server.made
        client.transport.write(b"steamed")
        await server.wait_for(7)
        getattr(client.transport, how)()
        for protocol in (client, server):
            await protocol.lost
            protocol.timer.cancel()
            references.extend(map(weakref.ref, (protocol, protocol.transport)))

    ours, theirs = options_of(link)
    place = "tls" if link == "rustls" else link
    async with serving(place, accept, **ours) as (_, address):
        for _ in range(3):
            await once(place, address, theirs)
        # What lies in the loop's hands for the turn that is under way.
        await asyncio.sleep(0)
        gc.collect()
        assert [reference() for reference in references] == [None] * 12


@pytest.mark.parametrize("loop_kind", ["mantou", "asyncio"])
@pytest.mark.parametrize("link", ["tcp", "tls", "rustls"])
def test_a_loop_that_nobody_closed_is_collected_with_its_connections(
    link: str, loop_kind: str
) -> None:
    references: list[weakref.ref[Any]] = []

    def build() -> None:
        loop = LOOPS[loop_kind]()
        kept: list[Any] = []

        def accept() -> Knot:
            kept.append(Knot())
            return kept[-1]

        async def open_one() -> None:
            ours, theirs = options_of(link)
            server = await loop.create_server(accept, "127.0.0.1", 0, **ours)
            client = await connect(
                "tls" if link == "rustls" else link,
                server.sockets[0].getsockname(),
                Knot,
                **theirs,
            )
            client.transport.write(b"steamed")
            while not kept:
                await asyncio.sleep(0)
            await kept[0].wait_for(7)
            kept.extend([client, server])

        loop.run_until_complete(open_one())
        loop.kept = kept  # type: ignore[attr-defined]
        references.append(weakref.ref(loop))
        for protocol in kept[:2]:
            references.extend(map(weakref.ref, (protocol, protocol.transport)))

    build()
    with warnings.catch_warnings():
        # Of all that was not closed.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert [reference() for reference in references] == [None] * 5


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("link", ["tcp", "tls"])
async def test_connections_leave_nothing_behind(link: str) -> None:
    """Not one object for each: a cycle through the native side would stay for ever."""
    accepted: list[Plain] = []

    def accept() -> Plain:
        accepted.append(Plain())
        return accepted[-1]

    options = {"ssl": server_context()} if link == "tls" else {}
    async with serving(link, accept, **options) as (_, address):

        async def come_and_go(count: int) -> int:
            for _ in range(count):
                more = {"ssl": client} if link == "tls" else {}
                protocol = await connect(link, address, Plain, **more)
                protocol.transport.close()
                await protocol.lost
                await accepted[-1].lost
                accepted.clear()
            del protocol
            gc.collect()
            return len(gc.get_objects())

        client = client_context()
        await come_and_go(20)
        before = await come_and_go(20)
        assert await come_and_go(200) < before + 100

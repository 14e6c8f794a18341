"""Two ends of one TLS connection, both ours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import mantou
from mantou import testing
from tests.support import Recorder
from tests.tls import client_options, server_options

Pair = tuple[mantou.Socket[Any], mantou.Socket[Any]]


@contextlib.asynccontextmanager
async def pair(
    server: Recorder, client: Recorder, server_tls: Any = None, client_tls: Any = None
) -> AsyncIterator[Pair]:
    """Both ends of a connection, established; the accepted one first."""
    server_tls = server_options() if server_tls is None else server_tls
    client_tls = client_options() if client_tls is None else client_tls
    async with testing.socket_pair(server, client, tls=(server_tls, client_tls)) as both:
        yield both
        both[1].end()
        await client.until("close", len(client.of("open")))
        await server.until("close", len(server.of("open")))


@contextlib.asynccontextmanager
async def joined(
    listener: mantou.TCPSocketListener[Any], server: Recorder, client: Recorder, client_tls: Any
) -> AsyncIterator[Pair]:
    """One more connection to a listener."""
    before = len(server.of("open"))
    socket = await mantou.connect(
        hostname="127.0.0.1", port=listener.port, socket=client, tls=client_tls
    )
    # What the client says arrives behind its handshake.
    assert socket.write(b"!") == 1
    await server.until("data", before + 1)
    accepted = server.sockets[-1]
    try:
        yield accepted, socket
    finally:
        socket.end()
        await client.until("close", len(client.of("open")))
        await server.until("close", before + 1)


async def listener_is_empty(listener: mantou.TCPSocketListener[Any]) -> None:
    listener.stop()
    await listener.closed()

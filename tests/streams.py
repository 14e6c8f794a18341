"""Streams over any link, and the peers at their other end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as kernel
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import mantou
from tests.support import TLS_LINKS, Peer, RawListener, others_had_their_turn
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, context, secured

Handler = Callable[[mantou.Stream], Coroutine[Any, Any, object]]


@contextlib.asynccontextmanager
async def streaming(link: str, **options: Any) -> AsyncIterator[tuple[mantou.Stream, Peer]]:
    """A stream that mantou has connected over such a link, and the peer that accepted it."""
    if link == "unix":
        raw = RawListener("", kernel.AF_UNIX)
        options["unix"] = raw.sock.getsockname()
    else:
        raw = RawListener()
        options |= {"hostname": "127.0.0.1", "port": raw.port}
    with raw:
        connecting = asyncio.ensure_future(mantou.connect_stream(**options | client_tls(link)))
        peer = await raw.accept()
        try:
            if link in TLS_LINKS:
                peer = await secured(peer.sock, server_side=True)
            stream = await connecting
            yield stream, peer
            await closed(stream)
        finally:
            connecting.cancel()
            peer.close()


async def closed(stream: mantou.Stream) -> None:
    """Has the stream closed without waiting for its peer."""
    stream.abort()
    await stream.aclose()


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, link: str, directory: Path, **options: Any
) -> AsyncIterator[tuple[mantou.StreamServer, Callable[[], Coroutine[Any, Any, Peer]]]]:
    """A server, and what connects a peer to it."""
    address: Any
    if link == "unix":
        options["unix"] = address = str(directory / "socket")
    else:
        options |= {"hostname": "127.0.0.1", "port": 0}
    peers: list[Peer] = []

    async def dial() -> Peer:
        place = address if link == "unix" else ("127.0.0.1", server.port)
        family = kernel.AF_UNIX if link == "unix" else kernel.AF_INET
        peer = Peer.connect_at_once(place, family)
        if link in TLS_LINKS:
            peer = await secured(peer.sock, server_side=False)
        peers.append(peer)
        return peer

    async with mantou.serve_streams(handler, **options | server_tls(link)) as server:
        yield server, dial
        for peer in peers:
            peer.close()


def client_tls(link: str) -> dict[str, Any]:
    if link not in TLS_LINKS:
        return {}
    return {"tls": CLIENT_OPTIONS if link == "tls" else context(False)}


def server_tls(link: str) -> dict[str, Any]:
    if link not in TLS_LINKS:
        return {}
    return {"tls": SERVER_OPTIONS if link == "tls" else context(True)}


def make_small(stream: mantou.Stream, peer: Peer, size: int) -> None:
    """Has the kernel hold about so many bytes on their way to the peer."""
    with kernel.socket(fileno=os.dup(stream.socket.fileno())) as ours:
        ours.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, size)
    peer.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, size)


async def waits(operation: Any) -> asyncio.Future[Any]:
    """A task for the operation, which is waiting for something."""
    task = asyncio.ensure_future(operation)
    await others_had_their_turn()
    assert not task.done()
    return task

"""upgrade_tls() of streams: STARTTLS on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

import mantou
from tests.streams import client_tls, closed, server_tls, streaming, waits
from tests.support import Peer, others_had_their_turn
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, secured


@pytest.mark.parametrize("link", ["tls", "context"])
async def test_starttls_on_both_sides(link: str, tmp_path: Path) -> None:
    async def serve(stream: mantou.Stream) -> None:
        assert await stream.receive_until(b"\n", 100) == b"STARTTLS"
        await stream.send(b"go\n")
        secure = await stream.upgrade_tls(**server_tls(link))
        with pytest.raises(mantou.ClosedResourceError):
            await stream.receive()
        async for chunk in secure:
            await secure.send(chunk)
        await secure.aclose()

    async with mantou.serve_streams(serve, hostname="127.0.0.1", port=0) as server:
        stream = await mantou.connect_stream(hostname="127.0.0.1", port=server.port)
        await stream.send(b"STARTTLS\n")
        assert await stream.receive_until(b"\n", 100) == b"go"
        secure = await stream.upgrade_tls(**client_tls(link), server_name="localhost")
        assert secure.socket.get_tls_version() == "TLSv1.3"
        await secure.send(b"secret")
        assert await secure.receive() == b"secret"
        await secure.send_eof()
        with pytest.raises(mantou.EndOfStream):
            await secure.receive()
        await secure.aclose()
        server.stop()
        await server.closed()


@pytest.mark.parametrize("link", ["tls", "context"])
@pytest.mark.parametrize("how", ["aclose", "block", "abort"])
async def test_the_plain_stream_closes_what_it_became(link: str, how: str) -> None:
    async with streaming("tcp") as (stream, peer):
        shaking = asyncio.ensure_future(secured(peer.sock, server_side=True))
        secure = await stream.upgrade_tls(**client_tls(link), server_name="localhost")
        other = await shaking
        if how == "abort":
            stream.abort()
            with pytest.raises(ConnectionResetError):
                await other.receive_some()
        elif how == "aclose":
            closing = asyncio.ensure_future(stream.aclose())
            assert await other.receive_until_fin() == b""
            await closing
        else:
            async with stream:
                await secure.send(b"last")
            assert await other.receive_until_fin() == b"last"
        with pytest.raises(mantou.ClosedResourceError):
            await secure.receive()


@pytest.mark.parametrize("link", ["tls", "context"])
async def test_a_handler_that_upgrades_leaves_nothing_open(link: str) -> None:
    async def serve(stream: mantou.Stream) -> None:
        secure = await stream.upgrade_tls(**server_tls(link))
        await secure.send(b"hello")

    async with mantou.serve_streams(serve, hostname="127.0.0.1", port=0) as server:
        peer = Peer.connect_at_once(("127.0.0.1", server.port))
        secure = await secured(peer.sock, server_side=False)
        assert await secure.receive_until_fin() == b"hello"
        peer.close()


async def test_closing_ends_an_upgrade() -> None:
    async with streaming("tcp") as (stream, peer):
        upgrading = await waits(stream.upgrade_tls(tls=CLIENT_OPTIONS, server_name="localhost"))
        await stream.aclose()
        with pytest.raises(ConnectionAbortedError):
            await upgrading
        assert (await peer.receive_until_fin())[:1] == b"\x16"


async def test_what_was_received_goes_to_tls() -> None:
    async with streaming("tcp") as (stream, peer):
        # The peer, as a client, speaks TLS before it is asked to.
        shaking = asyncio.ensure_future(secured(peer.sock, server_side=False))
        while stream.socket.bytes_read == 0:
            await others_had_their_turn()
        secure = await stream.upgrade_tls(tls=SERVER_OPTIONS, server_side=True)
        other = await shaking
        await other.send(b"hello")
        assert await secure.receive() == b"hello"
        await closed(secure)


async def test_an_upgrade_that_is_refused() -> None:
    async with streaming("tcp") as (stream, peer):
        upgrade = asyncio.ensure_future(
            stream.upgrade_tls(tls=CLIENT_OPTIONS, server_name="other.example")
        )
        with contextlib.suppress(ssl.SSLError):
            await secured(peer.sock, server_side=True)
        with pytest.raises(ssl.SSLCertVerificationError):
            await upgrade


async def test_an_upgrade_with_nonsense() -> None:
    async with streaming("tcp") as (stream, _):
        with pytest.raises(TypeError, match="'tls' must be"):
            await stream.upgrade_tls(tls=False)  # type: ignore[arg-type]
        reading = await waits(stream.receive())
        with pytest.raises(mantou.BusyResourceError):
            await stream.upgrade_tls(tls=True)
        reading.cancel()
    async with streaming("tls") as (stream, _):
        with pytest.raises(ValueError, match="speaks TLS already"):
            await stream.upgrade_tls(tls=CLIENT_OPTIONS)

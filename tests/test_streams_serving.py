"""What streams have of sockets: limits, the PROXY protocol, and no packets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import mantou
from tests.streams import serving, streaming
from tests.support import Peer, RawListener, every_path, others_had_their_turn

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 80\r\n"


async def echo(stream: mantou.Stream) -> None:
    async for chunk in stream:
        await stream.send(chunk)


@every_path
async def test_a_server_keeps_to_its_limits(link: str, tmp_path: Path) -> None:
    async with serving(echo, link, tmp_path, max_connections=1) as (server, dial):
        first = await dial()
        await first.send(b"first")
        assert await first.receive(5) == b"first"
        dialling = asyncio.ensure_future(dial())
        await others_had_their_turn()
        assert server.listener.stats().connections == 1
        assert server.listener.stats().pauses.max_connections == 1
        first.finish()
        second = await dialling
        await second.send(b"second")
        assert await second.receive(6) == b"second"


async def test_a_server_drains(tmp_path: Path) -> None:
    async with serving(echo, "tcp", tmp_path) as (server, dial):
        polite, stubborn = await dial(), await dial()
        for peer in (polite, stubborn):
            await peer.send(b"x")
            assert await peer.receive(1) == b"x"
        draining = asyncio.ensure_future(server.listener.drain(grace=0.2))
        await polite.send(b"last")
        assert await polite.receive(4) == b"last"
        polite.finish()
        assert await polite.receive_until_fin() == b""
        assert await draining == 1
        with pytest.raises(ConnectionResetError):
            await stubborn.receive_some()


async def test_a_stream_knows_its_client(tmp_path: Path) -> None:
    async def tell(stream: mantou.Stream) -> None:
        await stream.send(f"{stream.socket.remote_address}".encode())
        await echo(stream)

    options = {"proxy_protocol": "require"}
    async with serving(tell, "tcp", tmp_path, **options) as (server, _):
        peer = Peer.connect_at_once(("127.0.0.1", server.port))
        await peer.send(HEADER + b"hello")
        assert await peer.receive(14) == b"192.0.2.1hello"
        peer.close()
        garbage = Peer.connect_at_once(("127.0.0.1", server.port))
        await garbage.send(b"no header at all\r\n")
        with pytest.raises(ConnectionResetError):
            await garbage.receive_some()
        garbage.close()


async def test_a_stream_says_for_whom_it_comes() -> None:
    with RawListener() as raw:
        header = mantou.ProxyHeader(version=1)
        connecting = mantou.connect_stream(hostname="127.0.0.1", port=raw.port, proxy_header=header)
        stream, peer = await asyncio.gather(connecting, raw.accept())
        await stream.send(b"hello")
        expected = bytes(header) + b"hello"
        assert await peer.receive(len(expected)) == expected
        peer.close()
        await stream.aclose()


@pytest.mark.parametrize("name", ["packet", "packet_size", "socket", "data"])
async def test_streams_have_neither_packets_nor_handlers(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        await mantou.connect_stream(hostname="127.0.0.1", port=1, **{name: 1})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=name):
        mantou.serve_streams(echo, hostname="127.0.0.1", port=0, **{name: 1})  # type: ignore[call-overload]


async def test_a_streams_socket_cuts_no_packets() -> None:
    async with streaming("tcp") as (stream, peer):
        with pytest.raises(ValueError, match="the socket of a stream"):
            stream.socket.set_packet("line")
        await peer.send(b"one\ntwo")
        assert await stream.receive_exactly(7) == b"one\ntwo"


@every_path
async def test_serving(link: str, tmp_path: Path) -> None:
    async def shout(stream: mantou.Stream) -> None:
        async for line in stream.lines():
            await stream.send_all([line.upper(), b"\n"])

    async with serving(shout, link, tmp_path) as (server, dial):
        peers = [await dial() for _ in range(3)]
        for peer in peers:
            await peer.send(b"hello\nwor")
        for peer in peers:
            assert await peer.receive(6) == b"HELLO\n"
            await peer.send(b"ld")
            peer.finish()
            assert await peer.receive_until_fin() == b"WORLD\n"
        server.stop()
        await server.closed()


async def test_a_handler_that_fails_ends_its_stream_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def picky(stream: mantou.Stream) -> None:
        async for chunk in stream:
            if chunk == b"bad":
                raise ValueError("I do not like that")
            await stream.send(chunk)

    async with serving(picky, "tcp", tmp_path) as (_, dial):
        good, bad = await dial(), await dial()
        await bad.send(b"bad")
        assert await bad.receive_until_fin() == b""
        await good.send(b"good")
        assert await good.receive(4) == b"good"
    (record,) = (record for record in caplog.records if record.name == "mantou")
    assert "I do not like that" in record.getMessage()
    # It has a traceback, and that the stream.
    caplog.clear()


async def test_closing_a_server_ends_its_handlers(tmp_path: Path) -> None:
    ended: list[str] = []

    async def patient(stream: mantou.Stream) -> None:
        await stream.send(b"hello")
        try:
            await stream.receive()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with serving(patient, "tcp", tmp_path) as (server, dial):
        peer = await dial()
        assert await peer.receive(5) == b"hello"
        await server.aclose()
        assert ended == ["cancelled"]
        assert await peer.receive_until_fin() == b""

"""`await` on a socket: closed(), send(), and `async with`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import mantou
from tests.support import (
    Gate,
    Recorder,
    connected,
    every_path,
    linked,
    others_had_their_turn,
)
from tests.tls_support import CLIENT_OPTIONS, TlsPeer

KIB = 1024
# More than the kernel takes for a peer that does not read.
MUCH = 8 * KIB * KIB
HIGH_WATER = 64 * KIB


@every_path
async def test_closed_returns_when_close_has_run(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        waiters = [asyncio.ensure_future(socket.closed()) for _ in range(3)]
        waiters[0].cancel()
        await others_had_their_turn()
        assert not waiters[1].done()
        peer.finish()
        await asyncio.gather(*waiters[1:])
        assert recorder.names == ["open", "end", "close"]
        # And at once from now on.
        await socket.closed()


async def test_closed_does_not_raise_what_the_connection_ended_with() -> None:
    recorder = Recorder()
    async with connected(recorder) as (socket, peer):
        peer.reset()
        await socket.closed()
        assert isinstance(recorder.errors[-1], ConnectionResetError)


async def test_closed_waits_for_an_async_close() -> None:
    gate = Gate()
    recorder = Recorder(close=lambda *_: gate.wait())
    async with connected(recorder) as (socket, peer):
        early = asyncio.ensure_future(socket.closed())
        peer.finish()
        await recorder.until("close")
        late = asyncio.ensure_future(socket.closed())
        await others_had_their_turn()
        assert not early.done()
        assert not late.done()
        gate.opened.set()
        await early
        await late


async def test_a_socket_that_was_upgraded_is_closed_with_its_successor() -> None:
    secure = Recorder()
    async with connected(Recorder()) as (socket, peer):
        raw, upgraded = socket.upgrade_tls(tls=CLIENT_OPTIONS, socket=secure)
        closed = asyncio.ensure_future(raw.closed())
        over_tls = await TlsPeer(peer.sock, server_side=True).handshake()
        await secure.until("open")
        assert not closed.done()
        over_tls.finish()
        await closed
        await upgraded.closed()


@every_path
async def test_leaving_async_with_ends_and_waits(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        answering = asyncio.ensure_future(peer.receive_until_fin())
        answering.add_done_callback(lambda _: peer.finish())
        async with socket as entered:
            assert entered is socket
            socket.write_all(b"last words")
        assert recorder.names == ["open", "end", "close"]
        assert await answering == b"last words"


async def test_async_with_lets_exceptions_through() -> None:
    recorder = Recorder()
    async with connected(recorder) as (socket, peer):
        peer.finish()
        with pytest.raises(LookupError):
            async with socket:
                raise LookupError
        assert recorder.names == ["open", "end", "close"]


@every_path
async def test_send_returns_when_little_enough_waits(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder, write_limit=KIB) as (socket, peer):
        await socket.send("little ")
        sending = asyncio.ensure_future(socket.send(bytes(MUCH)))
        await others_had_their_turn()
        assert not sending.done()
        assert socket.buffered > HIGH_WATER
        received = len(await peer.receive(7))
        while not sending.done():
            received += len(await peer.receive_some())
            await asyncio.sleep(0)
        await sending
        assert socket.buffered <= HIGH_WATER
        assert received < 7 + MUCH
        await peer.receive(7 + MUCH - received)


@every_path
async def test_what_was_sent_is_sent_also_if_nobody_waits(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        sending = [socket.send(bytes([n]) * MUCH) for n in range(3)]
        sending[2].cancel()
        received = await peer.receive(3 * MUCH)
        assert received == b"".join(bytes([n]) * MUCH for n in range(3))
        await sending[0]
        await sending[1]
        with pytest.raises(asyncio.CancelledError):
            await sending[2]


@every_path
async def test_send_fails_with_its_connection(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        sending = asyncio.ensure_future(socket.send(bytes(MUCH)))
        await others_had_their_turn()
        peer.reset()
        with pytest.raises(ConnectionError):
            await sending
        await recorder.until("close")
        with pytest.raises(BrokenPipeError):
            await socket.send(b"more")


async def test_send_after_end_is_refused() -> None:
    async with connected(Recorder()) as (socket, _):
        socket.end()
        with pytest.raises(BrokenPipeError):
            socket.send(b"more")
        with pytest.raises(TypeError):
            socket.send(1)  # type: ignore[arg-type]


async def test_send_before_the_handshake() -> None:
    sending: list[asyncio.Future[None]] = []

    def on_open(socket: mantou.Socket[Any]) -> None:
        sending.extend((socket.send(b"little"), socket.send(bytes(MUCH))))

    recorder = Recorder(open=on_open)
    recorder.handshake = lambda *_: None  # type: ignore[method-assign]
    async with linked("tls", recorder) as (_, peer):
        assert sending[0].done()
        assert not sending[1].done()
        assert await peer.receive(6 + MUCH) == b"little" + bytes(MUCH)
        await sending[1]


async def test_bytes_that_have_to_wait_are_held_and_not_copied() -> None:
    async with connected(Recorder()) as (socket, peer):
        data = bytes(MUCH)
        before = sys.getrefcount(data)
        sending = socket.send(data)
        assert sys.getrefcount(data) == before + 1
        await peer.receive(MUCH)
        await sending
        assert sys.getrefcount(data) == before

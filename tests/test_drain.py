"""`buffered` and `drain`: whoever sees that bytes wait is told when none do, in every situation."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

import mantou
from tests.support import (
    Handshaker,
    Recorder,
    accepted,
    connected,
    dial,
    every_engine,
    every_path,
    fill,
    linked,
    listen,
    others_had_their_turn,
)
from tests.tls_support import CLIENT_OPTIONS, TlsPeer

KIB = 1024
MIB = 1024 * KIB


def overfill(socket: mantou.Socket[Any]) -> int:
    """Has bytes wait behind a full kernel, without a look at them; returns how many to read."""
    socket.write_all(bytes(8 * MIB))
    return 8 * MIB


async def told_once(recorder: Recorder) -> None:
    await recorder.until("drain")
    await others_had_their_turn()
    assert recorder.names.count("drain") == 1


# The echo of README


def honour(socket: mantou.Socket[Any], data: bytes) -> None:
    socket.write_all(data)
    if socket.buffered:
        socket.pause()


def go_on(socket: mantou.Socket[Any]) -> None:
    socket.resume()


@every_path
async def test_an_echo_that_honours_backpressure_never_stalls(link: str) -> None:
    content = hashlib.shake_256(b"echo").digest(6 * MIB)
    client = Recorder(data=honour, drain=go_on)
    async with linked(link, client) as (_, peer):
        for _ in range(3):
            await peer.send(b"short")
            assert await peer.receive(5) == b"short"
        sending = asyncio.ensure_future(peer.send(content))
        # Nothing is read meanwhile: the echo goes on until it has to wait for that.
        read = -1
        while len(client.received) > read:
            read = len(client.received)
            await others_had_their_turn()
            await others_had_their_turn()
        assert read < len(content)
        assert await peer.receive(len(content)) == content
        await sending
        await peer.send(b"short")
        assert await peer.receive(5) == b"short"
    # It was put to the test.
    assert "drain" in client.names


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_the_echo_of_a_listener(link: str) -> None:
    content = bytes(range(256)) * 8 * KIB
    server = Recorder(data=honour, drain=go_on)
    async with accepted(server, link) as (_, peer):
        sending = asyncio.ensure_future(peer.send(content))
        assert await peer.receive(len(content)) == content
        await sending
        await peer.send(b"short")
        assert await peer.receive(5) == b"short"


async def test_the_echo_of_a_peer_that_resets_is_closed() -> None:
    """Paused until drain, it meets the RST only by reading on: drain comes all the same."""
    client = Recorder(data=honour, drain=go_on)
    async with linked("tcp", client) as (socket, peer):
        sending = asyncio.ensure_future(peer.send(bytes(32 * MIB)))
        await client.until_true(lambda: socket.buffered)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        peer.reset()
        _, error = await client.until("close")
    assert isinstance(error, ConnectionError)


# What counts


@every_path
async def test_what_is_only_gathered_does_not_count(link: str) -> None:
    seen: list[int] = []

    def answer(socket: mantou.Socket[Any], _: bytes) -> None:
        socket.write(b"a")
        socket.write_all(b"bc")
        seen.append(socket.buffered)
        with socket.cork():
            socket.write(b"d")
            socket.write_all(b"ef")
            seen.append(socket.buffered)

    client = Recorder(data=answer)
    async with linked(link, client) as (socket, peer):
        await peer.send(b"?")
        assert await peer.receive(6) == b"abcdef"
        with socket.cork():
            socket.write_all(b"outside")
            seen.append(socket.buffered)
        assert await peer.receive(7) == b"outside"
        await others_had_their_turn()
    assert seen == [0, 0, 0]
    assert "drain" not in client.names


@every_path
async def test_a_look_is_a_promise(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        size = overfill(socket)
        assert socket.buffered > 0
        assert socket.buffered > 0
        assert await peer.receive(size) == bytes(size)
        await told_once(client)
        assert socket.buffered == 0
        assert socket.write(b"more") == 4
        assert await peer.receive(4) == b"more"


@every_path
async def test_a_look_under_a_cork_is_a_promise(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        with socket.cork():
            size = overfill(socket)
            assert socket.buffered > 0
        assert await peer.receive(size) == bytes(size)
        await told_once(client)


@every_path
async def test_a_full_cork_that_stays_on(link: str) -> None:
    """What it holds leaves when 64 KiB have come together; then there is room for the next."""
    size = 3 * 64 * KIB
    left = size

    def write_on(socket: mantou.Socket[Any]) -> None:
        nonlocal left
        left -= socket.write(bytes(left))

    client = Recorder(drain=write_on)
    async with linked(link, client) as (socket, peer):
        with socket.cork():
            write_on(socket)
            await client.until_true(lambda: left == 0)
            assert await peer.receive(size - 64 * KIB) == bytes(size - 64 * KIB)
        assert await peer.receive(64 * KIB) == bytes(64 * KIB)
    # Never a drain without room.
    assert client.names.count("drain") <= 2


@every_path
async def test_flush_keeps_the_promise_too(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        size = fill(socket)
        socket.write_all(b"x" * 100)
        assert socket.buffered > 0
        await peer.receive(size)
        socket.flush()
        assert await peer.receive(100) == b"x" * 100
        await told_once(client)


# Before the handshake


@every_engine
@pytest.mark.parametrize("side", ["client", "server"])
async def test_what_waits_for_the_handshake_counts(link: str, side: str) -> None:
    seen: list[int] = []

    def early(socket: mantou.Socket[Any]) -> None:
        socket.write_all(b"early")
        seen.append(socket.buffered)

    ours = Handshaker(open=early)
    if side == "client":
        async with linked(link, ours) as (socket, peer):
            assert await peer.receive(5) == b"early"
            await told_once(ours)
            assert socket.buffered == 0
    else:
        with listen(ours, link) as listener:
            peer = await dial(listener, link)
            assert await peer.receive(5) == b"early"
            await told_once(ours)
            peer.close()
    assert seen == [5]
    assert ours.names[:3] == ["open", "handshake", "drain"]


@every_engine
@pytest.mark.parametrize("look", [False, True])
async def test_more_than_the_kernel_takes_before_the_handshake(link: str, look: bool) -> None:
    def early(socket: mantou.Socket[Any]) -> None:
        overfill(socket)
        assert not look or socket.buffered == 8 * MIB

    client = Handshaker(open=early)
    async with linked(link, client) as (_, peer):
        assert await peer.receive(8 * MIB) == bytes(8 * MIB)
        await told_once(client)


# Across upgrade_tls() and reload()


async def test_a_look_after_an_upgrade_is_a_promise() -> None:
    clear, secure = Recorder(), Handshaker()
    async with connected(clear) as (socket, peer):
        size = overfill(socket)
        _, upgraded = socket.upgrade_tls(tls=CLIENT_OPTIONS, socket=secure)
        assert upgraded.buffered > 0
        assert await peer.receive(size) == bytes(size)
        over_tls = await TlsPeer(peer.sock, server_side=True).handshake()
        await told_once(secure)
        assert upgraded.write(b"sealed") == 6
        assert await over_tls.receive(6) == b"sealed"
    assert clear.names.count("drain") == 0


@every_path
async def test_the_promise_is_kept_to_the_next_handlers(link: str) -> None:
    first, second = Recorder(), Recorder()
    async with linked(link, first) as (socket, peer):
        size = overfill(socket)
        assert socket.buffered > 0
        socket.reload(second)
        assert await peer.receive(size) == bytes(size)
        await told_once(second)
    assert "drain" not in first.names


# Half-closed, paused


@every_path
async def test_the_peers_fin_does_not_break_the_promise(link: str) -> None:
    client = Recorder()
    async with linked(link, client, allow_half_open=True) as (socket, peer):
        size = overfill(socket)
        assert socket.buffered > 0
        peer.finish()
        await client.until("end")
        assert await peer.receive(size) == bytes(size)
        await told_once(client)
        assert client.names == ["open", "end", "drain"]


@every_path
@pytest.mark.parametrize("way", ["end", "shutdown"])
async def test_our_own_end_does_not_break_the_promise(link: str, way: str) -> None:
    client = Recorder()
    async with linked(link, client, allow_half_open=True) as (socket, peer):
        overfill(socket)
        assert socket.buffered > 0
        getattr(socket, way)()
        await peer.receive_until_fin()
        await told_once(client)


@every_path
async def test_whoever_is_paused_hears_of_it_behind_its_end(link: str) -> None:
    client = Recorder(drain=go_on)
    async with linked(link, client, allow_half_open=True) as (socket, peer):
        overfill(socket)
        socket.pause()
        socket.end()
        await peer.send(b"unread")
        await peer.receive_until_fin()
        assert await client.until_received(6) == b"unread"
        await told_once(client)


@every_path
async def test_whoever_did_not_look_and_has_ended_is_left_alone(link: str) -> None:
    client = Recorder()
    async with linked(link, client, allow_half_open=True) as (socket, peer):
        overfill(socket)
        socket.end()
        await peer.receive_until_fin()
        await others_had_their_turn()
    assert client.names == ["open"]


@every_path
async def test_pausing_and_resuming_change_nothing(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        size = overfill(socket)
        assert socket.buffered > 0
        for _ in range(2):
            socket.pause()
            await others_had_their_turn()
            socket.resume()
        socket.pause()
        assert await peer.receive(size) == bytes(size)
        await told_once(client)


@every_path
async def test_a_busy_owner_is_told_when_it_is_free(link: str) -> None:
    free = asyncio.Event()
    order: list[str] = []

    class Busy(Recorder):
        async def data(self, socket: mantou.Socket[Any], data: Any) -> None:  # type: ignore[override]
            overfill(socket)
            assert socket.buffered > 0
            await free.wait()
            order.append("free")

    client = Busy(drain=lambda _: order.append("drain"))
    async with linked(link, client) as (_, peer):
        await peer.send(b"?")
        assert await peer.receive(8 * MIB) == bytes(8 * MIB)
        await others_had_their_turn()
        assert order == []
        free.set()
        await told_once(client)
    assert order == ["free", "drain"]

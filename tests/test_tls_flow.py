"""Flow under TLS: what is accepted, what waits, what leaves together, and large transfers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Any

import pytest

import mantou
from tests.peers import Peer
from tests.streams import streaming
from tests.support import TLS_LINKS, Recorder, accepted, fill, linked, others_had_their_turn
from tests.tls_support import (
    APPLICATION_DATA,
    VERSIONS,
    TlsPeer,
    records,
)

both_versions = pytest.mark.parametrize("version", VERSIONS)
every_tls = pytest.mark.parametrize("link", TLS_LINKS)

MIB = 1 << 20
FRAGMENT = 16 * 1024
# A header, in TLS 1.2 a nonce and in 1.3 a content type, and a tag.
OVERHEAD = {"TLSv1.2": 5 + 8 + 16, "TLSv1.3": 5 + 1 + 16}


async def on_the_wire(peer: Peer, size: int) -> bytes:
    """So much ciphertext, as it came."""
    return await Peer(peer.sock).receive(size)


# write() and drain


@both_versions
async def test_write_takes_what_fits_and_drain_follows(version: str) -> None:
    client = Recorder()
    async with linked("tls", client, version=version) as (socket, peer):
        content = bytes(range(256)) * 4096
        total = 0
        while (taken := socket.write(content)) == len(content):
            total += taken
        assert 0 <= taken < len(content)
        total += taken
        # What was accepted and not sent is bounded: one gathering of 64 KiB, as records.
        assert socket.buffered <= 5 * (FRAGMENT + OVERHEAD[version])
        assert socket.write(content) == 0
        await others_had_their_turn()
        assert "drain" not in client.names
        received = await peer.receive(total)
        assert received == (content * (total // len(content) + 1))[:total]
        await client.until("drain")
        assert socket.buffered == 0
        assert socket.write(b"more") == 4
        assert await peer.receive(4) == b"more"
        await others_had_their_turn()
    assert client.names == ["open", "drain"]


async def test_writing_in_drain_gets_everything_across() -> None:
    content = hashlib.shake_256(b"steamed").digest(8 * MIB)
    position = 0

    def write_on(socket: mantou.Socket[Any]) -> None:
        nonlocal position
        position += socket.write(content, position)

    client = Recorder(open=write_on, drain=write_on)
    async with linked("tls", client) as (_, peer):
        assert await peer.receive(len(content)) == content


async def test_a_write_before_the_handshake_is_followed_by_one_drain() -> None:
    class Handlers(Recorder):
        def handshake(self, socket: mantou.Socket[Any], success: bool, error: Any) -> object:
            return self._note("handshake", socket, success, error)

    results: list[int] = []
    client = Handlers(
        open=lambda socket: results.append(socket.write(b"too early")),
        drain=lambda socket: results.append(socket.write(b"now")),
    )
    async with linked("tls", client) as (_, peer):
        assert await peer.receive(3) == b"now"
        await others_had_their_turn()
    assert results == [0, 3]
    assert client.names == ["open", "handshake", "drain"]


@both_versions
async def test_more_than_a_gathering_before_the_handshake(version: str) -> None:
    """write_all() holds it all, and what the handshake's handler writes goes behind it."""
    results: list[int] = []

    class Handlers(Recorder):
        def handshake(self, socket: mantou.Socket[Any], success: bool, error: Any) -> object:
            results.append(socket.write(b"behind"))
            return None

    content = bytes(range(256)) * 1024
    client = Handlers(open=lambda socket: socket.write_all(content))
    async with linked("tls", client, version=version) as (_, peer):
        assert await peer.receive(len(content) + results[0]) == content + b"behind"[: results[0]]


# write_all(), drained(), buffered, write_limit


async def test_buffered_falls_to_nothing_as_the_peer_reads() -> None:
    content = hashlib.shake_256(b"buns").digest(8 * MIB)
    client = Recorder()
    async with linked("tls", client) as (socket, peer):
        socket.write_all(content)
        full = socket.buffered
        assert 0 < full <= len(content) + len(content) // FRAGMENT * OVERHEAD["TLSv1.3"]
        waiting = asyncio.ensure_future(socket.drained())
        await others_had_their_turn()
        assert not waiting.done()
        assert await peer.receive(len(content)) == content
        await waiting
        assert socket.buffered == 0
        assert socket.bytes_written == len(content)
        await client.until("drain")
    assert client.names.count("drain") == 1


async def test_the_write_limit_holds_before_and_after_the_handshake() -> None:
    refused: list[BaseException] = []

    def too_much(socket: mantou.Socket[Any]) -> None:
        socket.write_all(bytes(900))
        with pytest.raises(BufferError, match="101 bytes on top of 900") as caught:
            socket.write_all(bytes(101))
        refused.append(caught.value)

    class Handlers(Recorder):
        def handshake(self, *_: object) -> None:
            pass

    client = Handlers(open=too_much)
    async with linked("tls", client, write_limit=1000) as (socket, peer):
        assert await peer.receive(900) == bytes(900)
        filled = fill(socket)
        with pytest.raises(BufferError, match="write_limit=1000"):
            socket.write_all(bytes(1001))
        assert await peer.receive(filled) == bytes(filled)
    assert len(refused) == 1


# Records


@both_versions
async def test_writes_under_a_cork_leave_in_one_record(version: str) -> None:
    async with linked("tls", Recorder(), version=version) as (socket, peer):
        assert isinstance(peer, TlsPeer)
        with socket.cork():
            for _ in range(1000):
                assert socket.write(b"steamed ") == 8
            with pytest.raises(BlockingIOError):
                peer.sock.recv(1)
        wire = await on_the_wire(peer, 8000 + OVERHEAD[version])
        assert [kind for kind, _ in records(wire)] == [APPLICATION_DATA]
        assert peer.open(wire) == b"steamed " * 1000


@both_versions
async def test_writes_of_one_turn_leave_in_one_record(version: str) -> None:
    def answer(socket: mantou.Socket[Any], _: bytes) -> None:
        for _ in range(100):
            socket.write(b"bun")

    async with accepted(Recorder(data=answer), "tls", tls={"max_version": version}) as (_, peer):
        assert isinstance(peer, TlsPeer)
        await peer.send(b"?")
        if version == "TLSv1.3":
            # The tickets come first.
            assert await peer.receive(3) == b"bun"
            assert await peer.receive(297) == b"bun" * 99
            await peer.send(b"?")
        wire = await on_the_wire(peer, 300 + OVERHEAD[version])
        assert [kind for kind, _ in records(wire)] == [APPLICATION_DATA]
        assert peer.open(wire) == b"bun" * 100


@both_versions
async def test_large_writes_fill_their_records(version: str) -> None:
    async with linked("tls", Recorder(), version=version) as (socket, peer):
        size = 4 * FRAGMENT
        assert socket.write(bytes(size)) == size
        found = records(await on_the_wire(peer, size + 4 * OVERHEAD[version]))
        assert [length + 5 - OVERHEAD[version] for _, length in found] == [FRAGMENT] * 4


@every_tls
async def test_writes_of_any_size_arrive_in_order(link: str) -> None:
    """Some fill all that is gathered at once, come behind a little, or leave a little over."""
    full = 64 * 1024
    sizes = [full, 1, full, full - 1, full, 3, full + 1, 2 * full, full, 5, 0, 3 * full + 7, full]
    content = hashlib.shake_256(b"dough").digest(sum(sizes))
    async with linked(link, Recorder()) as (socket, peer):
        for corked in (False, True):
            receiving = asyncio.ensure_future(peer.receive(len(content)))
            with socket.cork() if corked else contextlib.nullcontext():
                position = 0
                for size in sizes:
                    socket.write_all(content[position : position + size])
                    position += size
            assert await receiving == content
        assert socket.bytes_written == 2 * len(content)


# Reading


async def test_records_are_cut_to_what_a_reader_asks_for() -> None:
    """One read opens several, of which some have room and some are left for later."""
    sizes = [1, FRAGMENT, 7, 3 * FRAGMENT, 100, FRAGMENT - 1, 2 * FRAGMENT + 1, 12]
    content = hashlib.shake_256(b"filling").digest(sum(sizes))
    async with streaming("tls") as (stream, peer):
        assert isinstance(peer, TlsPeer)
        for most in (3, 1000, FRAGMENT, FRAGMENT + 1, 64 * 1024, MIB):
            position, wire = 0, b""
            for size in sizes:
                wire += peer.seal(content[position : position + size])
                position += size
            sending = asyncio.ensure_future(Peer(peer.sock).send(wire))
            received = bytearray()
            while len(received) < len(content):
                piece = await stream.receive(most)
                assert 0 < len(piece) <= most
                received += piece
            assert received == content
            await sending


@both_versions
async def test_what_is_opened_and_not_delivered_yet_is_not_forgotten(version: str) -> None:
    """The kernel will not report again what TLS has taken from it."""
    client = Recorder(data=lambda socket, data: socket.pause())
    content = bytes(range(256)) * 256
    async with linked("tls", client, version=version) as (socket, peer):
        assert isinstance(peer, TlsPeer)
        socket.pause()
        await peer.send(content)
        await others_had_their_turn()
        assert client.names == ["open"]
        while len(client.received) < len(content):
            before = len(client.of("data"))
            socket.resume()
            await client.until("data", before + 1)
            await others_had_their_turn()
            assert len(client.of("data")) == before + 1
        assert client.received == content


@both_versions
async def test_more_than_one_turn_may_read_does_not_get_stuck(version: str) -> None:
    client = Recorder()
    async with linked("tls", client, version=version) as (socket, peer):
        # The last bytes have to come without another event.
        for size in (512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 3 * MIB + 7):
            client.received.clear()
            socket.pause()
            sending = asyncio.ensure_future(peer.send(bytes(size)))
            await others_had_their_turn()
            socket.resume()
            assert await client.until_received(size) == bytes(size)
            await sending


async def test_the_peers_end_behind_data_while_paused() -> None:
    client = Recorder(data=lambda socket, data: socket.pause())
    async with linked("tls", client) as (socket, peer):
        await peer.send(b"last words")
        peer.finish()
        await client.until("data")
        await others_had_their_turn()
        assert client.names == ["open", "data"]
        socket.resume()
        await client.until("close")
    assert client.names == ["open", "data", "end", "close"]


async def test_a_paused_reader_stalls_its_peer() -> None:
    """Backpressure reaches the wire: a sender cannot send without bounds."""
    client = Recorder()
    async with linked("tls", client) as (socket, peer):
        socket.pause()
        peer.sock.setblocking(False)
        assert isinstance(peer, TlsPeer)
        sent = 0
        record = b""
        with contextlib.suppress(BlockingIOError):
            while sent < 256 * MIB:
                record = peer.seal(bytes(FRAGMENT))
                while record:
                    record = record[peer.sock.send(record) :]
                sent += FRAGMENT
        assert record, "nothing held the sender back"
        assert client.names == ["open"]
        socket.resume()
        await Peer(peer.sock).send(record)
        await client.until_received(sent + FRAGMENT)
        assert len(client.received) == sent + FRAGMENT


async def test_memory_of_a_stalled_reader_is_bounded_by_the_write_limit() -> None:
    client = Recorder()
    async with linked("tls", client, write_limit=MIB) as (socket, peer):
        filled = fill(socket)
        accepted_bytes = 0
        # The kernel may take some more of it meanwhile, if we are slow.
        with contextlib.suppress(BufferError):
            while accepted_bytes < 4 * MIB:
                socket.write_all(bytes(10_000))
                accepted_bytes += 10_000
        assert accepted_bytes < 4 * MIB
        assert socket.buffered <= MIB + MIB // 100
        total = filled + accepted_bytes
        assert len(await peer.receive(total)) == total

"""write_limit: what may come together behind a peer that does not read, and what is not meant."""

from __future__ import annotations

from typing import Any

import pytest

import mantou
from tests.support import Handshaker, Recorder, every_engine, every_path, fill, linked

KIB = 1024
LIMIT = 1000
# More than any kernel takes at once, and much more than the limit.
LARGE = 8 * KIB * KIB


@every_path
@pytest.mark.parametrize("size", [3 * LIMIT, LARGE])
async def test_where_nothing_waits_any_size_is_taken(link: str, size: int) -> None:
    content = bytes(range(250)) * (size // 250)
    client = Recorder()
    async with linked(link, client, write_limit=LIMIT) as (socket, peer):
        for _ in range(2):
            socket.write_all(content)
            assert await peer.receive(len(content)) == content
            if socket.buffered:
                await client.until("drain", len(client.of("drain")) + 1)


@every_path
@pytest.mark.parametrize("size", [3 * LIMIT, LARGE])
async def test_so_it_is_by_end(link: str, size: int) -> None:
    client = Recorder()
    async with linked(link, client, write_limit=LIMIT) as (socket, peer):
        assert socket.end(bytes(size)) == size
        assert await peer.receive_until_fin() == bytes(size)
        peer.finish()
        await client.until("close")
    assert client.errors == [None]


@every_path
async def test_while_bytes_wait_the_limit_holds_and_nothing_is_taken(link: str) -> None:
    client = Recorder()
    async with linked(link, client, write_limit=LIMIT) as (socket, peer):
        socket.write_all(bytes(LARGE))
        waiting = socket.buffered
        assert waiting > LIMIT
        for refused in (socket.write_all, socket.end):
            with pytest.raises(BufferError, match=f"1 bytes on top of {waiting}.*={LIMIT}"):
                refused(b"x")
        assert socket.buffered == waiting
        # Nothing was taken and nothing has ended.
        assert await peer.receive(LARGE) == bytes(LARGE)
        await client.until("drain")
        assert socket.end(b"the end") == 7
        assert await peer.receive_until_fin() == b"the end"


@every_path
async def test_what_waits_may_grow_up_to_the_limit(link: str) -> None:
    client = Recorder()
    limit = 64 * KIB
    async with linked(link, client, write_limit=limit) as (socket, peer):
        total = fill(socket)
        while not socket.buffered:
            socket.write_all(b"x" * 100)
            total += 100
        room = limit - socket.buffered
        with pytest.raises(BufferError):
            socket.write_all(bytes(room + 1))
        socket.write_all(bytes(room))
        assert len(await peer.receive(total + room)) == total + room


@every_path
async def test_an_end_without_data_is_never_over_the_limit(link: str) -> None:
    client = Recorder()
    async with linked(link, client, write_limit=LIMIT) as (socket, peer):
        socket.write_all(bytes(LARGE))
        assert socket.end() == 0
        assert await peer.receive_until_fin() == bytes(LARGE)


@every_path
async def test_what_is_only_gathered_does_not_count(link: str) -> None:
    """Neither under a cork nor within a turn."""
    piece = bytes(LIMIT - 1)

    def answer(socket: mantou.Socket[Any], _: bytes) -> None:
        for _ in range(20):
            socket.write_all(piece)

    client = Recorder(data=answer)
    async with linked(link, client, write_limit=LIMIT) as (socket, peer):
        with socket.cork():
            for _ in range(20):
                socket.write_all(piece)
        await peer.send(b"?")
        assert await peer.receive(40 * len(piece)) == 40 * piece
    assert "error" not in client.names


@every_engine
async def test_before_the_handshake_everything_waits(link: str) -> None:
    refused: list[BufferError] = []

    def early(socket: mantou.Socket[Any]) -> None:
        socket.write_all(bytes(3 * LIMIT))
        with pytest.raises(BufferError, match=f"on top of {3 * LIMIT}") as caught:
            socket.write_all(b"x")
        refused.append(caught.value)

    async with linked(link, Handshaker(open=early), write_limit=LIMIT) as (_, peer):
        assert await peer.receive(3 * LIMIT) == bytes(3 * LIMIT)
    assert len(refused) == 1

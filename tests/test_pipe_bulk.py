"""pipe() of two TCP connections with much to carry: the kernel moves it, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import resource
import struct
import termios
from collections.abc import Iterator
from typing import Any

import pytest

import mantou
from tests.peers import Peer
from tests.support import others_had_their_turn
from tests.test_pipe import MIB, Ends, ends

# More than a slow reader may have waiting for it here, beside what the kernel holds.
MOST_WAITING = 32 * 1024


def conduits() -> list[int]:
    """The ends of large kernel pipes that this process has."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                size = fcntl.fcntl(int(name), fcntl.F_GETPIPE_SZ)
                found += [int(name)] if size == MIB else []
    return found


def unread(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])


async def read_slowly(it: Ends, peer: Peer, size: int, chance: random.Random) -> bytes:
    """So many bytes, now fast and now slowly. What waits meanwhile stays little."""
    sender = it.b if peer is it.right else it.a
    received = bytearray()
    pace = 1
    while len(received) < size:
        if chance.random() < 0.02:
            pace = chance.choice((1, 1, 3000, 40_000))
        received += await peer.receive_some(MIB if pace == 1 else pace)
        assert sender.buffered <= MOST_WAITING
        assert all(unread(fd) == 0 for fd in conduits())
        if pace > 1:
            await asyncio.sleep(0)
    return bytes(received)


@pytest.mark.parametrize("seed", range(2))
async def test_every_byte_arrives_at_readers_that_are_fast_and_slow(seed: int) -> None:
    chance = random.Random(seed)
    there, back = chance.randbytes(16 * MIB + 5), chance.randbytes(6 * MIB + 1)
    before = len(conduits())
    async with ends("tcp", "tcp") as it:
        piped = it.pipe()
        _, _, got_back, got_there = await asyncio.gather(
            it.left.send(there),
            it.right.send(back),
            read_slowly(it, it.left, len(back), chance),
            read_slowly(it, it.right, len(there), chance),
        )
        assert got_there == there
        assert got_back == back
        assert len(conduits()) == before + 2
        it.left.finish()
        it.right.finish()
        assert await it.left.receive_until_fin() == await it.right.receive_until_fin() == b""
        assert await piped == (len(there), len(back))
        # Of the sockets, too, whoever moved the bytes.
        assert (it.a.bytes_read, it.a.bytes_written) == (len(there), len(back))
        assert (it.b.bytes_read, it.b.bytes_written) == (len(back), len(there))


@pytest.mark.parametrize("first", ["left", "right"])
async def test_what_a_broken_pipe_leaves_gets_into_no_other(first: str) -> None:
    for _ in range(3):
        async with ends("tcp", "tcp") as broken:
            piped = broken.pipe()
            sending = asyncio.ensure_future(broken.left.send(b"x" * 64 * MIB))
            await broken.right.receive(3 * MIB)
            if first == "left":
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                broken.left.reset()
                # Behind what comes before it.
                with pytest.raises(ConnectionResetError):
                    await broken.right.receive_until_fin()
            else:
                broken.right.reset()
                with pytest.raises(ConnectionError):
                    await sending
            with pytest.raises(ConnectionError):
                await piped
            await broken.closed()
    await carries(6 * MIB)


async def test_whoever_ends_one_end_in_the_middle_of_it_leaves_nothing_in_the_way() -> None:
    async with ends("tcp", "tcp") as it:
        piped = it.pipe()
        sending = asyncio.ensure_future(it.left.send(b"x" * 64 * MIB))
        await it.right.receive(3 * MIB)
        it.b.end()
        with pytest.raises(ConnectionError):
            await piped
        sending.cancel()
        await it.closed()
    await carries(6 * MIB)


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_out_of_descriptors_it_is_copied() -> None:
    data = random.Random(5).randbytes(12 * MIB)
    before = len(conduits())
    async with ends("tcp", "tcp") as it:
        it.pipe()
        with no_more_descriptors():
            _, received = await asyncio.gather(it.left.send(data), it.right.receive(len(data)))
            assert received == data
        assert len(conduits()) == before


async def test_a_forked_child_keeps_nothing_of_it() -> None:
    before = len(conduits())
    await carries(6 * MIB)
    assert len(conduits()) == before + 2
    child = os.fork()
    if child == 0:
        os._exit(len(conduits()) - before)
    assert os.waitpid(child, 0) == (child, 0)
    await carries(6 * MIB)


async def carries(size: int) -> None:
    data = random.Random(size).randbytes(size)
    async with ends("tcp", "tcp") as it:
        piped: asyncio.Future[Any] = mantou.pipe(it.a, it.b)
        _, received = await asyncio.gather(it.left.send(data), it.right.receive(size))
        assert received == data
        await others_had_their_turn()
        piped.cancel()
        await it.closed()

"""socket.send_file(): the bytes of a file, in their place among all others."""

from __future__ import annotations

import asyncio
import io
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import mantou
from tests.support import (
    Recorder,
    accepted,
    every_link,
    every_path,
    fill,
    linked,
    others_had_their_turn,
)

SIZE = 5_000_011
CONTENT = random.Random(7).randbytes(SIZE)


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.seek(17)
        yield file
        assert file.tell() == 17


async def until_idle(recorder: Recorder, socket: mantou.Socket[Any]) -> None:
    socket.terminate()
    await recorder.until("close")


@every_path
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, CONTENT),
        (1_000_003, None, CONTENT[1_000_003:]),
        (3, 2_000_000, CONTENT[3:2_000_003]),
        (SIZE - 10, 1000, CONTENT[-10:]),
        (SIZE + 10, None, b""),
        (0, 0, b""),
        (7, 2**63 - 1, CONTENT[7:]),
        (2**60, 5, b""),
        (2**63 - 1, 2**63 - 1, b""),
    ],
)
async def test_it_sends_what_it_is_told(
    link: str, file: IO[bytes], offset: int, count: int | None, expected: bytes
) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        sending = asyncio.ensure_future(socket.send_file(file, offset, count))
        assert await peer.receive(len(expected)) == expected
        assert await sending == len(expected)
        assert socket.bytes_written == len(expected)
        socket.end()
        assert await peer.receive_until_fin() == b""
        await until_idle(recorder, socket)


@every_path
async def test_everything_stays_in_order(link: str, file: IO[bytes]) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        waiting = fill(socket)
        socket.write_all(b"before ")
        first = asyncio.ensure_future(socket.send_file(file, 0, 1_000_000))
        await asyncio.sleep(0)
        assert socket.write(b"not taken") == 0
        socket.write_all(b" between ")
        second = asyncio.ensure_future(socket.send_file(file, 1_000_000))
        await asyncio.sleep(0)
        assert socket.end(b" behind") == len(b" behind")
        expected = b"".join(
            (bytes(waiting), b"before ", CONTENT[:1_000_000], b" between ", CONTENT[1_000_000:])
        )
        assert await peer.receive_until_fin() == expected + b" behind"
        assert (await first, await second) == (1_000_000, SIZE - 1_000_000)
        await until_idle(recorder, socket)


@every_path
async def test_many_small_ones(link: str, file: IO[bytes]) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        received = asyncio.ensure_future(peer.receive_until_fin())
        for offset in range(300):
            socket.write_all(b"<")
            assert await socket.send_file(file, offset, offset) == offset
            socket.write_all(b">")
        socket.end()
        expected = b"".join(b"<" + CONTENT[n : n + n] + b">" for n in range(300))
        assert await received == expected
        await until_idle(recorder, socket)


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_from_an_async_handler(link: str, file: IO[bytes]) -> None:
    sent: list[int] = []

    async def serve(socket: mantou.Socket[Any]) -> None:
        sent.append(await socket.send_file(file))
        socket.end()

    recorder = Recorder(open=serve)
    async with accepted(recorder, link) as (socket, peer):
        assert await peer.receive_until_fin() == CONTENT
        await until_idle(recorder, socket)
    assert sent == [SIZE]


@every_path
async def test_cancelled_it_sends_no_more(link: str, file: IO[bytes]) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        waiting = fill(socket)
        sending = asyncio.ensure_future(socket.send_file(file))
        await asyncio.sleep(0)
        assert socket.buffered > 0
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        socket.end(b"!")
        received = await peer.receive_until_fin()
        # A piece of it may have been on its way.
        piece = received[waiting:-1]
        assert received[:waiting] + received[-1:] == bytes(waiting) + b"!"
        assert piece == CONTENT[: len(piece)]
        assert len(piece) < SIZE
        await until_idle(recorder, socket)


@every_path
async def test_cancelled_it_does_not_count_any_more(link: str, file: IO[bytes]) -> None:
    """Behind what waits, in front of it, and between others."""
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        waiting = 0
        # An `ssl.SSLContext` has its turn in between.
        while taken := fill(socket):
            waiting += taken
            await others_had_their_turn()
        socket.write_all(b"<")
        sendings = []
        size = 1_000_000
        for offset in (0, size, 2 * size):
            sendings.append(asyncio.ensure_future(socket.send_file(file, offset, size)))
            await asyncio.sleep(0)
            socket.write_all(b"|")
        before = socket.buffered
        for left, cancelled in ((2, 1), (1, 0), (0, 2)):
            sendings[cancelled].cancel()
            await asyncio.wait([sendings[cancelled]])
            # Sealed, what is in front of it may have grown.
            assert left * size < socket.buffered < before - (3 - left) * size + 1000
        socket.end(b">")
        assert await peer.receive_until_fin() == bytes(waiting) + b"<|||>"
        await until_idle(recorder, socket)


async def test_cancelled_behind_close_it_sends_no_more(file: IO[bytes]) -> None:
    recorder = Recorder()
    async with linked("tcp", recorder) as (socket, peer):
        waiting = fill(socket)
        sending = asyncio.ensure_future(socket.send_file(file))
        await asyncio.sleep(0)
        socket.close()
        sending.cancel()
        with pytest.raises((asyncio.CancelledError, ConnectionError)):
            await sending
        await recorder.until("close")
        assert await peer.receive_until_fin() == bytes(waiting)


@every_path
async def test_a_file_that_gets_shorter_ends_earlier(link: str, file: IO[bytes]) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        waiting = fill(socket)
        sending = asyncio.ensure_future(socket.send_file(file))
        await asyncio.sleep(0)
        file.truncate(1_000_000)
        assert await peer.receive(waiting + 1_000_000) == bytes(waiting) + CONTENT[:1_000_000]
        assert await sending == 1_000_000
        socket.end()
        assert await peer.receive_until_fin() == b""
        await until_idle(recorder, socket)


@every_path
async def test_a_file_that_cannot_be_read_is_an_error_and_the_connection_goes_on(
    link: str, tmp_path: Path
) -> None:
    recorder = Recorder()
    path = tmp_path / "write-only"
    path.write_bytes(CONTENT)
    with path.open("ab") as unreadable:
        async with linked(link, recorder) as (socket, peer):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await socket.send_file(unreadable)
            socket.end(b"still here")
            assert await peer.receive_until_fin() == b"still here"
            await until_idle(recorder, socket)


@every_path
async def test_a_reader_that_stops_stops_it(link: str, file: IO[bytes]) -> None:
    """Nothing of the file is held in memory, and hardly more than what the kernel took is read."""
    recorder = Recorder()
    os.truncate(file.fileno(), 200 << 20)
    async with linked(link, recorder) as (socket, peer):
        sending = asyncio.ensure_future(socket.send_file(file))
        while not socket.buffered:
            await asyncio.sleep(0)
        assert not sending.done()
        received = 0
        while received < 200 << 20:
            received += len(await peer.receive_some(1 << 20))
        assert await sending == 200 << 20
        await until_idle(recorder, socket)


@every_link
async def test_a_peer_that_resets_ends_it(link: str, file: IO[bytes]) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        fill(socket)
        sending = asyncio.ensure_future(socket.send_file(file))
        await asyncio.sleep(0)
        peer.reset()
        with pytest.raises(ConnectionError):
            await sending
        await recorder.until("close")
        with pytest.raises(BrokenPipeError):
            await socket.send_file(file)


async def test_what_is_no_file_is_refused(file: IO[bytes]) -> None:
    recorder = Recorder()
    async with linked("tcp", recorder) as (socket, peer):
        read, write = os.pipe()
        with open(read, "rb") as pipe, open(write, "wb"):
            for wrong, error in (
                ("path", TypeError),
                (io.BytesIO(b"bytes"), TypeError),
                (io.StringIO("text"), TypeError),
                (pipe, ValueError),
            ):
                with pytest.raises(error, match="send_file"):
                    await socket.send_file(wrong)  # type: ignore[arg-type]
        wrong_arguments: list[tuple[Any, type[Exception], str]] = [
            ({"offset": -1}, ValueError, "'offset' must be from 0"),
            ({"offset": 1.0}, TypeError, "'offset' must be an int"),
            ({"count": -1}, ValueError, "'count' must be from 0"),
            ({"count": True}, TypeError, "'count' must be an int"),
        ]
        for arguments, error, text in wrong_arguments:
            with pytest.raises(error, match=text):
                await socket.send_file(file, **arguments)
        socket.end(b"nothing came of it")
        assert await peer.receive_until_fin() == b"nothing came of it"
        await until_idle(recorder, socket)


@every_path
async def test_more_than_can_be_counted_is_refused(link: str) -> None:
    """A file may have a hole of any size."""
    recorder = Recorder()
    with open(os.memfd_create("hole"), "r+b") as hole:
        hole.truncate(2**63 - 1)
        async with linked(link, recorder) as (socket, peer):
            fill(socket)
            sending = asyncio.ensure_future(socket.send_file(hole, 0, 2**62))
            await asyncio.sleep(0)
            before = socket.buffered
            assert before >= 2**62
            for _ in range(2):
                with pytest.raises(BufferError, match="are more than can be counted"):
                    await socket.send_file(hole)
            assert socket.buffered == before
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            # Little enough for write_limit.
            socket.end(b"!")
            assert (await peer.receive_until_fin())[-1:] == b"!"
            await until_idle(recorder, socket)


async def test_a_file_that_the_kernel_makes_up_is_refused() -> None:
    recorder = Recorder()
    async with linked("tcp", recorder) as (socket, peer):
        with open("/proc/self/status", "rb") as made_up:
            for count in (None, 100):
                with pytest.raises(ValueError, match="whose size is known"):
                    await socket.send_file(made_up, 0, count)
        with tempfile.TemporaryFile() as empty:
            assert await socket.send_file(empty) == 0
        socket.end()
        assert await peer.receive_until_fin() == b""
        await until_idle(recorder, socket)


async def test_a_file_is_no_packet(file: IO[bytes]) -> None:
    recorder = Recorder()
    async with accepted(recorder, packet=4) as (socket, peer):
        with pytest.raises(ValueError, match=r"set_packet\('raw'\) ends them"):
            await socket.send_file(file)
        socket.set_packet("line")
        assert await socket.send_file(file, count=5) == 5
        assert await peer.receive(5) == CONTENT[:5]
        await until_idle(recorder, socket)

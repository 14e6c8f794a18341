"""What a stream's members do, over every link and loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as kernel
import tempfile
from typing import Any

import pytest

import mantou
from tests.streams import make_small, streaming, waits
from tests.support import every_path, others_had_their_turn

KIB = 1024


@every_path
async def test_receiving_in_every_way(link: str) -> None:
    async with streaming(link) as (stream, peer):
        await peer.send(b"one two\nthree\r\nrest")
        assert await stream.receive(3) == b"one"
        memory = bytearray(4)
        assert await stream.receive_into(memoryview(memory)[:2]) == 2
        assert memory == b" t\0\0"
        assert await stream.receive_exactly(1) == b"w"
        assert await stream.receive_exactly(0) == b""
        assert await stream.receive_until(b"\n", 10) == b"o"
        lines = stream.lines()
        assert await anext(lines) == b"three"
        task = await waits(stream.receive_exactly(11))
        await peer.send(b" later")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.01)
        task.cancel()
        await asyncio.wait([task])
        assert await stream.receive() == b"rest later"
        await peer.send(b"last")
        peer.finish()
        assert [line async for line in stream.lines()] == [b"last"]
        for _ in range(2):
            with pytest.raises(mantou.EndOfStream):
                await stream.receive()
            with pytest.raises(mantou.EndOfStream):
                await stream.receive_into(memory)
        assert [chunk async for chunk in stream] == []


@every_path
async def test_bytes_come_straight_to_who_waits(link: str) -> None:
    async with streaming(link) as (stream, peer):
        memory = bytearray(200 * KIB)
        for operation, expected in (
            (stream.receive, b"a" * 10),
            (lambda: stream.receive_exactly(5 * KIB), b"b" * 5 * KIB),
            (lambda: stream.receive_exactly(300 * KIB), b"c" * 300 * KIB),
            (lambda: stream.receive_until(b"--", 400 * KIB), b"d" * 300 * KIB),
        ):
            task = await waits(operation())
            await peer.send(expected + (b"--" if expected[:1] == b"d" else b""))
            assert await task == expected
        task = await waits(stream.receive_into(memory))
        await peer.send(b"e" * 20 * KIB)
        count = await task
        while count < 20 * KIB:
            count += await stream.receive_into(memoryview(memory)[count:])
        assert memory[: 20 * KIB] == b"e" * 20 * KIB
        assert memory[20 * KIB :] == bytes(180 * KIB)


async def test_a_delimiter_that_does_not_come() -> None:
    async with streaming("tcp") as (stream, peer):
        await peer.send(b"12345--6")
        for most in (1, 4):
            with pytest.raises(mantou.DelimiterNotFound):
                await stream.receive_until(b"--", most)
        assert await stream.receive_until(b"--", 5) == b"12345"
        task = await waits(stream.receive_until(b"--", 5))
        # Now it is certain: neither within five bytes nor right behind them.
        await peer.send(b"78901-")
        with pytest.raises(mantou.DelimiterNotFound):
            await task
        assert await stream.receive() == b"678901-"


async def test_a_delimiter_may_come_in_pieces() -> None:
    async with streaming("tcp") as (stream, peer):
        task = await waits(stream.receive_until(b"\r\n\r\n", 100))
        for piece in (b"head\r", b"\n", b"\r", b"\nbody"):
            await peer.send(piece)
            await others_had_their_turn()
        assert await task == b"head"
        assert await stream.receive() == b"body"


@every_path
async def test_a_buffer_that_loses_its_room_loses_no_byte(link: str) -> None:
    async with streaming(link) as (stream, peer):
        memory = bytearray(20 * KIB)
        task = await waits(stream.receive_into(memory))
        del memory[1:]
        await peer.send(b"1234")
        assert await task == 1
        assert await stream.receive_exactly(3) == b"234"
        task = await waits(stream.receive_into(memory))
        memory.clear()
        await peer.send(b"56")
        with pytest.raises(ValueError, match="changed its size"):
            await task
        assert await stream.receive_exactly(2) == b"56"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda stream: stream.receive(0),
        lambda stream: stream.receive_exactly(-1),
        lambda stream: stream.receive_until(b"", 1),
        lambda stream: stream.receive_until(b"x", 0),
        lambda stream: stream.receive_into(bytearray()),
        lambda stream: stream.lines(0),
    ],
)
async def test_values_that_mean_nothing_are_refused_at_once(wrong: Any) -> None:
    async with streaming("tcp") as (stream, _):
        with pytest.raises(ValueError, match=r"must|has no room"):
            wrong(stream)


async def test_what_is_no_buffer_is_refused() -> None:
    async with streaming("tcp") as (stream, _):
        with pytest.raises(TypeError, match="buffer must be a writable"):
            stream.receive_into(b"constant")  # type: ignore[arg-type]
        for send in (stream.send, lambda data: stream.send_all([b"x", data])):
            with pytest.raises(TypeError, match="data must be"):
                await send(1)
        await stream.send(b"still fine")


@every_path
async def test_sending_in_every_way(link: str) -> None:
    async with streaming(link) as (stream, peer):
        await stream.send("ä")
        await stream.send(bytearray(b"b"))
        await stream.send_all([b"c", memoryview(b"d"), "e"])
        await stream.send_all([])
        await stream.send(b"")
        assert await peer.receive(6) == "äbcde".encode()
        await stream.send_eof()
        await stream.send_eof()
        assert await peer.receive_until_fin() == b""
        with pytest.raises(mantou.ClosedResourceError, match="send_eof"):
            await stream.send(b"too late")
        await peer.send(b"still open")
        assert await stream.receive() == b"still open"


@every_path
async def test_a_send_waits_for_its_peer(link: str) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        data = os.urandom(3000 * KIB)
        task = await waits(stream.send(data))
        assert await peer.receive(len(data)) == data
        await task
        task = await waits(stream.send_all([data[:1000], data[1000:]]))
        assert await peer.receive(len(data)) == data
        await task


@every_path
async def test_reading_pauses_where_nobody_asks(link: str) -> None:
    async with streaming(link) as (stream, peer):
        sending = asyncio.ensure_future(peer.send(bytes(20_000 * KIB)))
        await others_had_their_turn()
        await others_had_their_turn()
        assert stream.socket.bytes_read <= 64 * KIB
        assert not sending.done()
        received = await stream.receive_exactly(20_000 * KIB)
        assert received == bytes(20_000 * KIB)
        await sending


@every_path
async def test_one_reads_and_one_writes(link: str) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        reading = await waits(stream.receive())
        for operation in (stream.receive, lambda: stream.receive_exactly(1), lambda: anext(stream)):
            with pytest.raises(mantou.BusyResourceError, match="reading from"):
                await operation()
        writing = await waits(stream.send(bytes(3000 * KIB)))
        for operation in (lambda: stream.send(b"x"), lambda: stream.send_all([b"x"])):
            with pytest.raises(mantou.BusyResourceError, match="writing to"):
                await operation()
        with pytest.raises(mantou.BusyResourceError):
            await stream.send_eof()
        await peer.send(b"x")
        assert await reading == b"x"
        assert await peer.receive(3000 * KIB) == bytes(3000 * KIB)
        await writing


@every_path
async def test_file(link: str) -> None:
    with tempfile.TemporaryFile() as file:
        data = os.urandom(1000 * KIB)
        file.write(data)
        file.flush()
        async with streaming(link) as (stream, peer):
            await stream.send(b"head")
            task = asyncio.ensure_future(stream.send_file(file))
            assert await peer.receive(4 + len(data)) == b"head" + data
            assert await task == len(data)
            assert await stream.send_file(file, 10, 20) == 20
            assert await stream.send_file(file, len(data) + 1) == 0
            assert await stream.send_file(file, 2**63 - 1, 2**63 - 1) == 0
            assert await peer.receive(20) == data[10:30]
            assert await stream.send_file(file, len(data) - 5, 2**63 - 1) == 5
            assert await peer.receive(5) == data[-5:]
            with pytest.raises(ValueError, match="must be from 0"):
                await stream.send_file(file, -1)


@every_path
async def test_a_file_has_the_senders_place(link: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(20_000 * KIB)
        async with streaming(link) as (stream, peer):
            task = asyncio.ensure_future(stream.send_file(file))
            await others_had_their_turn()
            assert not task.done()
            for sending in (stream.send(b"x"), stream.send_file(file)):
                with pytest.raises(mantou.BusyResourceError):
                    await sending
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stream.abort()
            with pytest.raises(mantou.ClosedResourceError):
                await stream.send_file(file)
            peer.close()


async def test_options_of_handlers_are_refused() -> None:
    with pytest.raises(TypeError, match="'socket' is for handlers"):
        await mantou.connect_stream(hostname="127.0.0.1", port=1, socket={})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'data_factory' is for handlers"):
        mantou.serve_streams(print, hostname="127.0.0.1", port=0, data_factory=print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="handler must be"):
        mantou.serve_streams(None, hostname="127.0.0.1", port=0)  # type: ignore[call-overload]


async def test_a_connection_that_fails() -> None:
    with kernel.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await mantou.connect_stream(hostname="127.0.0.1", port=unused.getsockname()[1])


async def test_what_nobody_awaits_is_told() -> None:
    async with streaming("tcp") as (stream, _):
        stream.send(b"forgotten")
        with pytest.warns(RuntimeWarning, match="never awaited"):
            await stream.send(b"x")


async def test_a_task_is_named_after_what_it_awaits() -> None:
    async with streaming("tcp") as (stream, _):
        fill = bytes(20_000_000)
        for operation, name in ((stream.receive(), "receive"), (stream.send(fill), "send")):
            task = asyncio.ensure_future(operation)
            assert f"coro=<Stream.{name}()>" in repr(task)
            await others_had_their_turn()
            assert f"coro=<Stream.{name}()>" in repr(task)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert "coro=<Stream.operation()>" in repr(task)

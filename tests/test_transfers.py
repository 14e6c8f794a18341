"""Large transfers under backpressure: every byte arrives, once and in order."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket as kernel
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.support import RawListener, Recorder

MIB = 1 << 20
SMALL = 32 * MIB
LARGE = 1024 * MIB

# A prime length: a lost or doubled piece of any size the kernel likes shifts the pattern.
PERIOD = 1_000_003
PATTERN = random.Random(20).randbytes(PERIOD)
TWICE = memoryview(PATTERN * 4)


def piece(position: int, size: int) -> memoryview:
    """The transfer's bytes from a position on, at most 3 MiB."""
    start = position % PERIOD
    return TWICE[start : start + size]


class Reader(threading.Thread):
    """A peer that compares all it gets with the pattern, and reads as its owner is told."""

    def __init__(self, sock: kernel.socket, pace: Callable[[int], int]) -> None:
        super().__init__()
        self.sock = sock
        self.received = 0
        self.wrong_at: int | None = None
        self._pace = pace

    def run(self) -> None:
        self.sock.settimeout(30)
        buffer = memoryview(bytearray(MIB))
        while n := self.sock.recv_into(buffer[: self._pace(self.received)]):
            if self.wrong_at is None and buffer[:n] != piece(self.received, n):
                self.wrong_at = self.received
            self.received += n
        self.sock.close()


def stall_and_drip(position: int) -> int:
    """How much to read next: one byte at a time for a while, then nothing, then in large pieces."""
    if position < 2000:
        return 1
    if position % (64 * MIB) < 4096:
        time.sleep(0.02)
        return 100
    return MIB


async def with_reader(
    send: Callable[[mantou.Socket[Any], Recorder], Any], pace: Callable[[int], int]
) -> tuple[Reader, Recorder]:
    """Connects to a reader, sends, and waits until both are done."""
    recorder = Recorder()
    with RawListener() as raw:
        socket = await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder)
        sock, _ = await asyncio.get_running_loop().sock_accept(raw.sock)
    reader = Reader(sock, pace)
    reader.start()
    await send(socket, recorder)
    socket.end()
    await recorder.until("close")
    await asyncio.to_thread(reader.join)
    assert recorder.errors == [None]
    return reader, recorder


async def write_and_drain(socket: mantou.Socket[Any], recorder: Recorder, size: int) -> None:
    position = 0
    drains = len(recorder.of("drain"))
    while position < size:
        wanted = min(MIB, size - position)
        taken = socket.write(piece(position, wanted))
        assert 0 <= taken <= wanted
        position += taken
        if taken < wanted:
            # Short: `drain` comes once.
            await recorder.until("drain", drains + 1)
            assert len(recorder.of("drain")) == drains + 1
            drains += 1
        recorder.events.clear()
        drains = 0
    assert socket.bytes_written == size


async def write_all_and_drained(socket: mantou.Socket[Any], recorder: Recorder, size: int) -> None:
    position = 0
    scratch = bytearray(MIB)
    while position < size:
        wanted = min(MIB, size - position)
        scratch[:wanted] = piece(position, wanted)
        socket.write_all(memoryview(scratch)[:wanted])
        # What was accepted is safe, whatever becomes of the buffer.
        scratch[:wanted] = bytes(wanted)
        position += wanted
        if socket.buffered > 8 * MIB:
            await socket.drained()
            assert socket.buffered == 0
    await socket.drained()
    assert socket.bytes_written == size


WAYS = pytest.mark.parametrize("way", [write_and_drain, write_all_and_drained])


@WAYS
async def test_to_a_reader_that_stalls_and_drips(way: Any) -> None:
    reader, _ = await with_reader(lambda socket, rec: way(socket, rec, SMALL), stall_and_drip)
    assert (reader.received, reader.wrong_at) == (SMALL, None)


@WAYS
@pytest.mark.loops("mantou")
async def test_a_gibibyte(way: Any) -> None:
    reader, _ = await with_reader(lambda socket, rec: way(socket, rec, LARGE), stall_and_drip)
    assert (reader.received, reader.wrong_at) == (LARGE, None)


async def test_drain_comes_from_the_handler_alone() -> None:
    """The loop that everybody writes: on from where the kernel stopped, in `drain`."""
    sent = 0

    def go_on(socket: mantou.Socket[Any]) -> None:
        nonlocal sent
        while sent < SMALL:
            taken = socket.write(piece(sent, min(MIB, SMALL - sent)))
            sent += taken
            if taken < MIB:
                return

    async def start(socket: mantou.Socket[Any], recorder: Recorder) -> None:
        recorder._handlers["drain"] = go_on
        go_on(socket)
        await recorder.until_true(lambda: sent == SMALL)

    reader, _ = await with_reader(start, stall_and_drip)
    assert (reader.received, reader.wrong_at) == (SMALL, None)


@pytest.mark.parametrize("binary_type", ["bytes", "bytearray", "memoryview"])
async def test_receiving_with_pauses(binary_type: str) -> None:
    """A peer sends at full speed; the socket is paused and resumed every now and then."""
    loop = asyncio.get_running_loop()
    digest = hashlib.sha256()
    received = 0
    pauses = 0
    paused = False
    done = loop.create_future()

    def resume(socket: mantou.Socket[Any]) -> None:
        nonlocal paused
        paused = False
        socket.resume()

    class Handlers(mantou.SocketHandler[Any]):
        def data(self, socket: mantou.Socket[Any], data: Any) -> None:
            nonlocal received, pauses, paused
            assert not paused, "data while paused"
            digest.update(data)
            if received // (4 * MIB) != (received + len(data)) // (4 * MIB):
                pauses += 1
                paused = True
                socket.pause()
                loop.call_later(0.005, resume, socket)
            received += len(data)

        def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
            done.set_result(error)

    handlers = Handlers()
    handlers.binary_type = binary_type  # type: ignore[assignment]
    expected = hashlib.sha256()

    def send(sock: kernel.socket) -> None:
        with sock:
            position = 0
            while position < SMALL:
                part = piece(position, min(MIB, SMALL - position))
                expected.update(part)
                sock.sendall(part)
                position += len(part)

    with mantou.listen(hostname="127.0.0.1", port=0, socket=handlers) as listener:
        sock = kernel.create_connection(("127.0.0.1", listener.port))
        await asyncio.gather(asyncio.to_thread(send, sock), done)
    assert done.result() is None
    assert received == SMALL
    assert digest.digest() == expected.digest()
    assert pauses >= 4


async def test_both_directions_at_once_between_two_sockets() -> None:
    """An echo of everything, with a window: what comes back is compared."""
    position = 0
    returned = 0
    server = {"data": lambda socket, data: socket.write_all(data)}
    done = asyncio.get_running_loop().create_future()

    def more(socket: mantou.Socket[Any]) -> None:
        nonlocal position
        # The window keeps the echo's queue below its limit.
        while position < SMALL and position - returned < 8 * MIB:
            taken = socket.write(piece(position, min(65536, SMALL - position)))
            position += taken
            if taken < 65536:
                break

    def came(socket: mantou.Socket[Any], data: bytes) -> None:
        nonlocal returned
        while data:
            part, data = data[:MIB], data[MIB:]
            assert part == piece(returned, len(part))
            returned += len(part)
        if returned == SMALL:
            socket.end()
        else:
            more(socket)

    client = {"data": came, "drain": more, "close": lambda _, error: done.set_result(error)}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server) as listener:
        socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=client)
        more(socket)
        assert await done is None
    await listener.closed()
    assert (position, returned) == (SMALL, SMALL)
    assert (socket.bytes_written, socket.bytes_read) == (SMALL, SMALL)


async def test_a_large_end_is_delivered_to_a_slow_reader() -> None:
    async def send(socket: mantou.Socket[Any], _: Recorder) -> None:
        assert socket.end(piece(0, 3 * MIB)) == 3 * MIB
        assert socket.end(b"once more") == -1

    reader, _ = await with_reader(send, lambda at: 1 if at < 2000 else 8192)
    assert (reader.received, reader.wrong_at) == (3 * MIB, None)

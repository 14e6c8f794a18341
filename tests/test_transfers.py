"""Large transfers under backpressure: every byte arrives, once and in order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket as kernel
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mantou
from tests.support import RawListener, Recorder, every_stream, listen, reach
from tests.tls_support import CLIENT_OPTIONS, context

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


@contextlib.contextmanager
def blocking(sock: kernel.socket, link: str, server_side: bool) -> Iterator[kernel.socket]:
    """The peer's end, for a thread. Over TLS by way of Python's ssl; left with a clean goodbye."""
    sock.settimeout(30)
    with sock:
        if link == "tcp":
            yield sock
            return
        name = None if server_side else "localhost"
        with context(server_side).wrap_socket(
            sock, server_side, server_hostname=name, suppress_ragged_eofs=False
        ) as secure:
            yield secure
            secure.unwrap()


class Reader(threading.Thread):
    """A peer that compares all it gets with the pattern, and reads as its owner is told."""

    def __init__(self, sock: kernel.socket, link: str, pace: Callable[[int], int]) -> None:
        super().__init__()
        self.received = 0
        self.wrong_at: int | None = None
        self._sock = sock
        self._link = link
        self._pace = pace

    def run(self) -> None:
        buffer = memoryview(bytearray(MIB))
        with blocking(self._sock, self._link, server_side=True) as sock:
            while n := sock.recv_into(buffer[: self._pace(self.received)]):
                if self.wrong_at is None and buffer[:n] != piece(self.received, n):
                    self.wrong_at = self.received
                self.received += n


def stall_and_drip(position: int) -> int:
    """How much to read next: one byte at a time for a while, then nothing, then in large pieces."""
    if position < 2000:
        return 1
    position %= 64 * MIB
    if position < 4096:
        time.sleep(0.02)
        return 1000
    return min(MIB, 64 * MIB - position)


async def with_reader(
    link: str, send: Callable[[mantou.Socket[Any], Recorder], Any], pace: Callable[[int], int]
) -> tuple[Reader, Recorder]:
    """Connects to a reader, sends, and waits until both are done."""
    recorder = Recorder()
    options: Any = {"tls": CLIENT_OPTIONS} if link == "tls" else {}
    with RawListener() as raw:
        connecting = asyncio.ensure_future(
            mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder, **options)
        )
        sock, _ = await asyncio.get_running_loop().sock_accept(raw.sock)
    reader = Reader(sock, link, pace)
    reader.start()
    socket = await connecting
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
@every_stream
async def test_to_a_reader_that_stalls_and_drips(link: str, way: Any) -> None:
    reader, _ = await with_reader(link, lambda socket, rec: way(socket, rec, SMALL), stall_and_drip)
    assert (reader.received, reader.wrong_at) == (SMALL, None)


@WAYS
@every_stream
@pytest.mark.loops("mantou")
async def test_a_gibibyte(link: str, way: Any) -> None:
    reader, _ = await with_reader(link, lambda socket, rec: way(socket, rec, LARGE), stall_and_drip)
    assert (reader.received, reader.wrong_at) == (LARGE, None)


@every_stream
async def test_drain_comes_from_the_handler_alone(link: str) -> None:
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

    reader, _ = await with_reader(link, start, stall_and_drip)
    assert (reader.received, reader.wrong_at) == (SMALL, None)


def send_all(port: int, link: str, size: int) -> None:
    """A peer that sends the pattern at full speed."""
    sock = kernel.create_connection(("127.0.0.1", port))
    with blocking(sock, link, server_side=False) as sock:
        position = 0
        while position < size:
            wanted = min(MIB, size - position)
            sock.sendall(piece(position, wanted))
            position += wanted


class Comparing(mantou.SocketHandler[Any]):
    """Compares what comes with the pattern; pauses for a moment after every so many bytes."""

    def __init__(self, pause_after: int) -> None:
        self.received = 0
        self.wrong_at: int | None = None
        self.pauses = 0
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pause_after = pause_after
        self._paused = False

    def data(self, socket: mantou.Socket[Any], data: Any) -> None:
        assert not self._paused, "data while paused"
        before = self.received
        self.received += len(data)
        if self.wrong_at is None and data != piece(before, len(data)):
            self.wrong_at = before
        if before // self._pause_after != self.received // self._pause_after:
            self.pauses += 1
            self._paused = True
            socket.pause()
            asyncio.get_running_loop().call_later(0.005, self._resume, socket)

    def _resume(self, socket: mantou.Socket[Any]) -> None:
        self._paused = False
        socket.resume()

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
        self.done.set_result(error)


async def receive(link: str, size: int, binary_type: Any, pause_after: int) -> None:
    handler = Comparing(pause_after)
    handler.binary_type = binary_type
    with listen(handler, link) as listener:
        _, error = await asyncio.gather(
            asyncio.to_thread(send_all, listener.port, link, size), handler.done
        )
    assert error is None
    assert (handler.received, handler.wrong_at) == (size, None)
    assert handler.pauses == size // pause_after


@every_stream
@pytest.mark.parametrize("binary_type", ["bytes", "bytearray", "memoryview"])
async def test_receiving_with_pauses(link: str, binary_type: str) -> None:
    await receive(link, SMALL, binary_type, pause_after=4 * MIB)


@every_stream
@pytest.mark.loops("mantou")
async def test_a_gibibyte_comes_in(link: str) -> None:
    await receive(link, LARGE, "memoryview", pause_after=64 * MIB)


@every_stream
async def test_both_directions_at_once_between_two_sockets(link: str) -> None:
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
    with listen(server, link) as listener:
        socket = await reach(listener, client, link)
        more(socket)
        assert await done is None
    await listener.closed()
    assert (position, returned) == (SMALL, SMALL)
    assert (socket.bytes_written, socket.bytes_read) == (SMALL, SMALL)


@every_stream
async def test_a_large_end_is_delivered_to_a_slow_reader(link: str) -> None:
    async def send(socket: mantou.Socket[Any], _: Recorder) -> None:
        assert socket.end(piece(0, 3 * MIB)) == 3 * MIB
        assert socket.end(b"once more") == -1

    reader, _ = await with_reader(link, send, lambda at: 1 if at < 2000 else 8192)
    assert (reader.received, reader.wrong_at) == (3 * MIB, None)

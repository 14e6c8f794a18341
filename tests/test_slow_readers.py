"""Readers that are slow but steady keep their connection; those that stopped lose it in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import mantou
from tests.peers import Peer
from tests.support import Recorder, every_link
from tests.tls_support import CLIENT_OPTIONS, secured

KIB = 1024
# In seconds. A peer's silence must be longer than this, and by far the most are not.
TIMEOUT = 0.2
# The kernel is asked four times within a timeout: so late a silent peer may be cut.
LATE = 1.25
# What a busy machine may add, in seconds.
SLACK = 0.35
# The last bytes that a reader takes lie in its window: they were acknowledged a little before.
EARLY = 0.1
# A kernel puts off an acknowledgement for 0.2 seconds at most, and one that comes after the first
# look, a quarter of a timeout after the bytes, counts as a sign of life: not within this timeout.
UNDELAYED = 1.0
# Between two reads of a steady reader, in seconds: many within one timeout.
PACE = 0.01
# It is in the kernel at once: nothing but acknowledgements is left to be seen.
ANSWER = 512 * KIB
# It is not.
LARGE = 8192 * KIB
WINDOW = 16 * KIB
# A steady reader takes three times TIMEOUT for an answer.
PIECE = ANSWER // 60


@contextlib.asynccontextmanager
async def narrow(
    link: str, recorder: Recorder, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """A connected socket of mantou's and a peer whose kernel takes little at a time.

    The window is bounded before the peer is connected, so that TCP never offers more.
    """
    family = kernel.AF_UNIX if link == "unix" else kernel.AF_INET
    with kernel.socket(family) as raw:
        raw.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, WINDOW)
        raw.bind("" if link == "unix" else ("127.0.0.1", 0))
        raw.listen()
        raw.setblocking(False)
        if link == "unix":
            options["unix"] = raw.getsockname()
        else:
            options |= {"hostname": "127.0.0.1", "port": raw.getsockname()[1]}
        if link == "tls":
            options["tls"] = CLIENT_OPTIONS
        connecting = asyncio.ensure_future(mantou.connect(socket=recorder, **options))
        sock, _ = await asyncio.get_running_loop().sock_accept(raw)
        peer = Peer(sock)
        try:
            if link == "tls":
                peer = await secured(sock, server_side=True)
            socket = await connecting
            with kernel.socket(fileno=kernel.dup(socket.fileno())) as ours:
                ours.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, 2 * ANSWER)
            yield socket, peer
        finally:
            connecting.cancel()
            peer.close()


class SteadyReader:
    """Reads a little every few milliseconds, off the peer's kernel socket."""

    def __init__(self, peer: Peer, piece: int, stop_after: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._peer, self._piece, self._stop_after = peer, piece, stop_after
        self.size = 0
        self.last_read = self._loop.time()
        # The size, when the FIN has come; None when it stopped before.
        self.finished: asyncio.Future[int | None] = self._loop.create_future()
        self._read()

    def _read(self) -> None:
        try:
            piece = self._peer.sock.recv(self._piece)
        except BlockingIOError:
            piece = b"?"
        except OSError as error:
            self.finished.set_exception(error)
            return
        else:
            self.size += len(piece)
            self.last_read = self._loop.time()
        if not piece:
            self.finished.set_result(self.size)
        elif self._stop_after is not None and self.size >= self._stop_after:
            self.finished.set_result(None)
        else:
            self._loop.call_later(PACE, self._read)


Way = Callable[[mantou.Socket[Any], int], object]


def end(socket: mantou.Socket[Any], size: int) -> None:
    socket.end(bytes(size))


def close(socket: mantou.Socket[Any], size: int) -> None:
    socket.write_all(bytes(size))
    socket.close()


# close_timeout


@every_link
@pytest.mark.parametrize(("way", "half_open"), [(end, False), (close, False), (close, True)])
async def test_a_steady_reader_gets_all_of_the_answer(link: str, way: Way, half_open: bool) -> None:
    loop = asyncio.get_running_loop()
    client = Recorder()
    options: Any = {"close_timeout": TIMEOUT, "allow_half_open": half_open}
    async with narrow(link, client, **options) as (socket, peer):
        begin = loop.time()
        way(socket, ANSWER)
        size = await SteadyReader(peer, PIECE).finished
        assert size is not None
        assert size >= ANSWER
        # It would have been cut by then, had nobody asked the kernel.
        assert loop.time() - begin > LATE * TIMEOUT
        peer.sock.shutdown(kernel.SHUT_WR)
        await client.until("close")
    # Over TLS this peer says no goodbye, and nobody waits for it after close().
    assert link == "tls" or client.errors == [None]


@every_link
@pytest.mark.parametrize(("way", "size"), [(end, ANSWER), (end, LARGE), (close, LARGE)])
async def test_a_reader_that_stopped_is_cut_in_time(link: str, way: Way, size: int) -> None:
    loop = asyncio.get_running_loop()
    client = Recorder()
    async with narrow(link, client, close_timeout=TIMEOUT) as (socket, peer):
        way(socket, size)
        reader = SteadyReader(peer, 2 * PIECE, stop_after=ANSWER // 2)
        assert await reader.finished is None
        assert client.names == ["open"]
        _, error = await client.until("close")
        assert isinstance(error, TimeoutError)
        silence = loop.time() - reader.last_read
        assert TIMEOUT - EARLY <= silence <= LATE * TIMEOUT + SLACK


# idle_timeout, timeout()

every_way_to_set_it = pytest.mark.parametrize(
    ("link", "how"),
    [("tcp", "option"), ("unix", "option"), ("tls", "option"), ("tcp", "member")],
)


@every_way_to_set_it
async def test_a_steady_reader_is_not_idle(link: str, how: str) -> None:
    loop = asyncio.get_running_loop()
    client = Recorder()
    options = {"idle_timeout": TIMEOUT} if how == "option" else {}
    async with narrow(link, client, **options) as (socket, peer):
        if how == "member":
            socket.timeout(TIMEOUT)
        begin = loop.time()
        socket.write_all(bytes(ANSWER))
        reader = SteadyReader(peer, PIECE, stop_after=ANSWER)
        assert await reader.finished is None
        assert loop.time() - begin > LATE * TIMEOUT
        assert client.names in (["open"], ["open", "drain"])
        # From now on it is.
        await client.until("timeout")
        silence = loop.time() - reader.last_read
        assert TIMEOUT - EARLY <= silence <= LATE * TIMEOUT + SLACK
        await client.until("close")


@every_link
async def test_a_reader_that_stopped_is_idle(link: str) -> None:
    loop = asyncio.get_running_loop()
    client = Recorder()
    async with narrow(link, client, idle_timeout=TIMEOUT) as (socket, peer):
        socket.write_all(bytes(ANSWER))
        reader = SteadyReader(peer, 2 * PIECE, stop_after=ANSWER // 2)
        assert await reader.finished is None
        _, error = await client.until("close")
        assert isinstance(error, TimeoutError)
        silence = loop.time() - reader.last_read
        assert TIMEOUT - EARLY <= silence <= LATE * TIMEOUT + SLACK


@every_way_to_set_it
async def test_an_idle_connection_times_out_exactly(link: str, how: str) -> None:
    """What was acknowledged at once does not count as a later sign of life."""
    loop = asyncio.get_running_loop()
    answered: list[float] = []

    def answer(socket: mantou.Socket[Any], _: bytes) -> None:
        answered.append(loop.time())
        socket.write(b"answer")

    client = Recorder(data=answer)
    options = {"idle_timeout": UNDELAYED} if how == "option" else {}
    waits, times = [], []
    for _ in range(2):
        async with narrow(link, client, **options) as (socket, peer):
            if how == "member":
                socket.timeout(UNDELAYED)
            asked = loop.time()
            await peer.send(b"question")
            assert await peer.receive(6) == b"answer"
            await client.until("timeout", len(answered))
            waits.append(loop.time() - asked)
            times.append(loop.time() - answered[-1])
            await client.until("close", len(answered))
    # It is idle from the turn on in which the question came, however late in that it was answered.
    assert min(waits) >= UNDELAYED - 0.002
    # The better of two: a busy machine is late now and then, a wrong clock is always.
    assert min(times) < UNDELAYED * 9 / 8

"""`dead_after`: a peer that has vanished is found within that time, idle or sending."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket as kernel
import time
from typing import Any

import pytest

import mantou
from tests.kernel import option
from tests.peers import RawListener
from tests.support import (
    Recorder,
    accepted,
    connected,
    dial,
    every_stream,
    fill,
    linked,
    listen,
)
from tests.wire import Wire, strike_deaf, tcp_option, unacknowledged

# The shortest there is, and how late the kernel's timers and a busy machine may be.
DEAD_AFTER = 2.0
LATE = 3.0
# The kernel finds out; that each kind of loop hears of it is seen where the network goes away.
one_loop = pytest.mark.loops("mantou")


class Timed(Recorder):
    """A recorder that looks at its clock when it is told of the end."""

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> object:
        self.closed_at = time.monotonic()
        return super().close(socket, error)


def check_found(recorder: Timed, vanished: float) -> None:
    (error,) = recorder.errors
    assert isinstance(error, TimeoutError)
    assert error.errno == errno.ETIMEDOUT
    assert error.strerror == "the peer answered nothing within dead_after"
    # It may have been silent before it vanished, but not for long.
    assert DEAD_AFTER - 1 <= recorder.closed_at - vanished < DEAD_AFTER + LATE


@pytest.mark.alone
async def test_a_peer_whose_network_is_gone_is_found_idle_and_sending() -> None:
    with Wire() as wire, contextlib.ExitStack() as stack:

        async def reached(recorder: Timed) -> mantou.Socket[Any]:
            """A socket that the other end has connected to."""
            listener = mantou.listen(
                hostname=wire.local, port=0, socket=recorder, dead_after=DEAD_AFTER
            )
            stack.enter_context(listener)
            far = stack.enter_context(wire.inside(kernel.socket))
            far.connect((wire.local, listener.port))
            await recorder.until("open")
            return recorder.sockets[0]

        outgoing = stack.enter_context(wire.inside(lambda: RawListener((wire.remote, 0))))
        idle, sending, connecting = Timed(), Timed(), Timed()
        await reached(idle)
        sender = await reached(sending)
        await mantou.connect(
            hostname=wire.remote, port=outgoing.port, socket=connecting, dead_after=DEAD_AFTER
        )
        wire.pull()
        vanished = time.monotonic()
        assert sender.write(b"into the void") == 13
        for recorder in (idle, sending, connecting):
            await recorder.until("close")
            check_found(recorder, vanished)


@one_loop
@pytest.mark.alone
@pytest.mark.parametrize("sends", [False, True], ids=["idle", "sending"])
async def test_a_peer_that_answers_nothing_is_found_over_every_path(sends: bool) -> None:
    async def accept_and_lose(link: str) -> None:
        recorder = Timed()
        async with accepted(recorder, link, dead_after=DEAD_AFTER) as (socket, peer):
            await lose(recorder, socket, peer.sock)

    async def connect_and_lose(link: str) -> None:
        recorder = Timed()
        async with linked(link, recorder, dead_after=DEAD_AFTER) as (socket, peer):
            await lose(recorder, socket, peer.sock)

    async def lose(recorder: Timed, socket: mantou.Socket[Any], sock: kernel.socket) -> None:
        while unacknowledged(sock):
            # It would go on sending that, and not be silent.
            await asyncio.sleep(0.01)
        strike_deaf(sock)
        vanished = time.monotonic()
        if sends:
            socket.write_all(b"into the void")
        await recorder.until("close")
        check_found(recorder, vanished)

    async def greet_and_lose(policy: str) -> None:
        """One that has not said yet for whom it comes."""
        failed = asyncio.get_running_loop().create_future()
        handlers = {"connect_error": lambda _, error: failed.set_result(error)}
        with listen(handlers, dead_after=DEAD_AFTER, proxy_protocol=policy) as listener:
            peer = await dial(listener)
            strike_deaf(peer.sock)
            error = await failed
            peer.close()
        assert type(error) is TimeoutError
        assert error.errno == errno.ETIMEDOUT
        assert error.strerror == "the peer answered nothing within dead_after"

    async def keep() -> None:
        """Who answers the kernel's probes stays, for longer than that."""
        recorder = Timed()
        async with accepted(recorder, dead_after=DEAD_AFTER) as (socket, peer):
            await stop.wait()
            assert socket.stats().tcp.last_ack_recv < DEAD_AFTER  # type: ignore[union-attr]
            await peer.send(b"here")
            await recorder.until("data")
            assert recorder.errors == []
            socket.terminate()
            await recorder.until("close")

    stop = asyncio.Event()
    keeping = asyncio.ensure_future(keep())
    await asyncio.gather(
        *(accept_and_lose(link) for link in ("tcp", "tls", "context")),
        *(connect_and_lose(link) for link in ("tcp", "tls", "context")),
        *(greet_and_lose(policy) for policy in ("optional", "require")),
    )
    stop.set()
    await keeping


@one_loop
@pytest.mark.alone
async def test_a_peer_that_takes_nothing_counts_as_dead() -> None:
    recorder = Timed()
    async with accepted(recorder, dead_after=DEAD_AFTER) as (socket, _):
        fill(socket)
        vanished = time.monotonic()
        await recorder.until("close")
        check_found(recorder, vanished)


@one_loop
@pytest.mark.alone
@every_stream
async def test_an_echo_that_waits_for_room_finds_out(link: str) -> None:
    """It is paused when its peer vanishes, and what it waits for never comes."""

    def data(socket: mantou.Socket[Any], data: bytes) -> None:
        socket.write_all(data)
        if socket.buffered:
            socket.pause()

    recorder = Timed(data=data, drain=lambda socket: socket.resume())
    async with accepted(recorder, link, dead_after=DEAD_AFTER) as (socket, peer):
        flooding = asyncio.ensure_future(peer.send(bytes(64 * 1024 * 1024)))
        while not socket.buffered:
            await asyncio.sleep(0.01)
        flooding.cancel()
        strike_deaf(peer.sock)
        vanished = time.monotonic()
        await recorder.until("close")
        assert recorder.closed_at - vanished < DEAD_AFTER + LATE
        # Told that there is room, it may have written once more.
        assert isinstance(recorder.errors[0], TimeoutError | BrokenPipeError)


@one_loop
@pytest.mark.alone
async def test_a_paused_socket_is_told_after_resume() -> None:
    recorder = Timed()
    async with accepted(recorder, dead_after=DEAD_AFTER) as (socket, peer):
        await peer.send(b"before")
        socket.pause()
        strike_deaf(peer.sock)
        while socket.stats().tcp.state != "CLOSE":  # type: ignore[union-attr]
            await asyncio.sleep(0.05)
        assert recorder.errors == []
        vanished = time.monotonic() - DEAD_AFTER
        socket.resume()
        await recorder.until("close")
        check_found(recorder, vanished)
        assert recorder.received == b"before"


@pytest.mark.alone
async def test_other_errors_stay_what_they_are() -> None:
    recorder = Recorder()
    async with accepted(recorder, dead_after=DEAD_AFTER) as (_, peer):
        peer.reset()
        await recorder.until("close")
        assert isinstance(recorder.errors[0], ConnectionResetError)


@pytest.mark.parametrize("seconds", [2, 2.9, 3, 4, 5, 10, 60.5, 3600, 32767])
async def test_the_kernel_is_told_to_be_done_by_then(seconds: float) -> None:
    async def check(socket: mantou.Socket[Any]) -> None:
        fd = socket.fileno()
        assert option(fd, kernel.SOL_SOCKET, kernel.SO_KEEPALIVE) == 1
        idle, interval, count, patience = (
            tcp_option(fd, name)
            for name in (
                kernel.TCP_KEEPIDLE,
                kernel.TCP_KEEPINTVL,
                kernel.TCP_KEEPCNT,
                kernel.TCP_USER_TIMEOUT,
            )
        )
        # The last probe that can be unanswered is followed by the verdict, in whole seconds.
        assert idle + count * interval == int(seconds)
        assert min(idle, interval, count) >= 1
        assert (int(seconds) - 1) * 1000 < patience < seconds * 1000
        if seconds >= 4:
            assert count == 3

    async with connected(Recorder(), dead_after=seconds) as (socket, _):
        await check(socket)
    async with accepted(Recorder(), dead_after=seconds) as (socket, _):
        await check(socket)


async def test_without_it_the_kernel_is_left_alone() -> None:
    async with connected(Recorder(), dead_after=None) as (socket, _):
        assert option(socket.fileno(), kernel.SOL_SOCKET, kernel.SO_KEEPALIVE) == 0
        assert tcp_option(socket.fileno(), kernel.TCP_USER_TIMEOUT) == 0


# Options


async def test_times_that_the_kernel_cannot_keep_are_refused() -> None:
    for wrong in (1, 1.99, 32768, 1e9):
        with pytest.raises(ValueError, match="option 'dead_after' must be from 2 to 32767 seconds"):
            listen(Recorder(), dead_after=wrong)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="option 'dead_after' must be"):
            listen(Recorder(), dead_after=wrong)
    for mistyped in ("2", True):
        with pytest.raises(TypeError, match="option 'dead_after' must be a number of seconds"):
            listen(Recorder(), dead_after=mistyped)


async def test_it_contradicts_keep_alive() -> None:
    with pytest.raises(ValueError, match=r"'dead_after' and 'keep_alive' contradict each other"):
        listen(Recorder(), dead_after=10, keep_alive=5)
    with listen(Recorder(), dead_after=10, keep_alive=None) as listener:
        peer = await dial(listener)
        peer.close()


async def test_only_tcp_has_it() -> None:
    options: dict[str, Any] = {"dead_after": 10, "socket": Recorder()}
    with pytest.raises(TypeError, match="'dead_after' is only for 'hostname' and 'port'"):
        mantou.listen(unix="\0mantou", **options)
    with pytest.raises(TypeError, match="'dead_after' is only for 'hostname' and 'port'"):
        await mantou.connect(unix="\0mantou", **options)
    with pytest.raises(TypeError, match="'dead_after' is only for 'hostname' and 'port'"):
        mantou.listen(fd=0, **options)

"""The limits of a listener: who is let in, who waits, who is refused, and what that costs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket as kernel
import time
from typing import Any

import pytest

import mantou
from tests.limits import arrive, arrive_from, come_in, echo, listen_over
from tests.support import (
    Peer,
    Recorder,
    dial,
    every_engine,
    every_path,
    listen,
    others_had_their_turn,
)
from tests.test_fork import Child

# max_connections


@every_path
async def test_at_max_connections_others_wait_and_come_in_order(link: str) -> None:
    recorder = Recorder(data=echo)
    with listen_over(link, recorder, max_connections=2) as listener:
        peers = [arrive(listener) for _ in range(4)]
        first, second = [await come_in(link, peer) for peer in peers[:2]]
        await recorder.until("open", 2)
        await others_had_their_turn()
        assert listener.connections == 2
        assert listener.stats().accepted == 2
        assert listener.stats().pauses.max_connections == 1
        if link != "unix":
            assert listener.stats().waiting == 2
        second.close()
        third = await come_in(link, peers[2])
        await third.send(b"third")
        assert await third.receive(5) == b"third"
        assert listener.connections == 2
        await first.send(b"first")
        assert await first.receive(5) == b"first"
        first.close()
        fourth = await come_in(link, peers[3])
        await fourth.send(b"fourth")
        assert await fourth.receive(6) == b"fourth"
        third.close()
        fourth.close()
        await recorder.until("close", 4)


async def test_a_connection_counts_until_its_descriptor_is_closed() -> None:
    """A peer that never finishes holds a descriptor, whatever its socket was told."""
    recorder = Recorder(open=lambda socket: socket.close())
    with listen(recorder, max_connections=1) as listener:
        lingering, waiting = arrive(listener), arrive(listener)
        await recorder.until("close")
        assert await lingering.receive_some() == b""
        await others_had_their_turn()
        assert len(recorder.of("open")) == 1
        lingering.close()
        await recorder.until("close", 2)
        waiting.close()


async def test_everybody_is_served_and_never_too_many_at_once() -> None:
    open_now, most = 0, 0

    def opened(socket: mantou.Socket[Any]) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)

    def closed(socket: mantou.Socket[Any], error: BaseException | None) -> None:
        nonlocal open_now
        open_now -= 1

    async def visit() -> None:
        peer = await Peer.connect(("127.0.0.1", listener.port))
        await peer.send(b"ping")
        assert await peer.receive(4) == b"ping"
        peer.close()

    recorder = Recorder(open=opened, data=echo, close=closed)
    with listen(recorder, max_connections=7) as listener:
        await asyncio.gather(*(visit() for _ in range(300)))
        await recorder.until("close", 300)
        assert most == 7
        assert listener.stats().accepted == 300
        assert listener.stats().pauses.max_connections > 1


async def test_connections_that_break_make_room() -> None:
    recorder = Recorder()
    with listen(recorder, max_connections=1) as listener:
        for count in range(1, 4):
            peer = arrive(listener)
            await recorder.until("open", count)
            peer.reset()
            await recorder.until("close", count)


# accept_rate


async def test_connections_are_accepted_no_faster_than_that() -> None:
    rate, count = 40.0, 80
    times: list[float] = []
    recorder = Recorder(open=lambda socket: times.append(time.monotonic()))
    with listen(recorder, accept_rate=rate) as listener:
        begun = time.monotonic()
        peers = [arrive(listener) for _ in range(count)]
        await recorder.until("open", count)
        for number, moment in enumerate(times, 1):
            # Those of one second may come at once; a millisecond is what clocks are read to.
            assert number <= rate + rate * (moment - begun + 0.002)
        assert listener.stats().pauses.accept_rate >= 1
        for peer in peers:
            peer.close()
        await recorder.until("close", count)


async def test_who_is_refused_does_not_use_up_the_rate() -> None:
    recorder = Recorder()
    with listen(recorder, accept_rate=0.001, max_connections_per_host=1) as listener:
        # One is let in at once. Then nobody is for a quarter of an hour.
        inside, outside = arrive(listener), arrive(listener)
        await recorder.until("open")
        await others_had_their_turn()
        assert listener.stats().refused == 0
        assert listener.stats().pauses.accept_rate == 1
        inside.close()
        outside.close()
    with listen(recorder, accept_rate=3, max_connections_per_host=1) as listener:
        inside = arrive(listener)
        await recorder.until("open", 2)
        for _ in range(5):
            refused = arrive(listener)
            with pytest.raises(ConnectionResetError):
                await refused.receive_some()
            refused.close()
        other = arrive_from("127.0.0.2", listener)
        await recorder.until("open", 3)
        assert listener.stats().pauses.accept_rate == 0
        inside.close()
        other.close()
        await recorder.until("close", 3)


# max_handshakes


@every_engine
async def test_who_would_begin_one_handshake_too_many_waits(link: str) -> None:
    recorder = Recorder(data=echo)
    with listen(recorder, link, max_handshakes=2) as listener:
        silent = [arrive(listener) for _ in range(2)]
        visiting = asyncio.ensure_future(dial(listener, link))
        await others_had_their_turn()
        assert listener.stats().accepted == 2
        assert listener.stats().waiting == 1
        assert not visiting.done()
        silent[0].close()
        peer = await visiting
        await peer.send(b"in")
        assert await peer.receive(2) == b"in"
        assert listener.stats().pauses.max_handshakes >= 1
        # What is established does not count.
        more = [await dial(listener, link) for _ in range(3)]
        await recorder.until("open", 4)
        for each in (silent[1], peer, *more):
            each.close()
        await recorder.until("close", 4)
        await recorder.until("connect_error", 2)


@every_engine
async def test_silence_makes_room_when_its_time_is_over(link: str) -> None:
    recorder = Recorder(data=echo)
    with listen(recorder, link, max_handshakes=1, handshake_timeout=0.2) as listener:
        silent = arrive(listener)
        peer = await dial(listener, link)
        await peer.send(b"in")
        assert await peer.receive(2) == b"in"
        assert listener.stats().handshake_failures.timeout == 1
        silent.close()
        peer.close()
        await recorder.until("close")


# Processes that share a listener


# Said by Python 3.12 and later of a process with threads. The children here run nothing of theirs.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_each_process_has_the_whole_of_a_limit() -> None:
    def serve() -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        mantou.run()

    recorder = Recorder(data=lambda socket, data: socket.write_all(b"%d" % os.getpid()))
    with listen(recorder, max_connections=1) as listener:
        children = [Child(serve) for _ in range(2)]
        try:
            address = ("127.0.0.1", listener.port)
            first, second = (kernel.create_connection(address, timeout=20) for _ in range(2))
            third = kernel.create_connection(address, timeout=20)
            third.sendall(b"?")
            pids = []
            for sock in (first, second):
                sock.sendall(b"?")
                pids.append(int(sock.recv(100)))
            assert set(pids) == {child.pid for child in children}
            # Both have had their turn since it came.
            third.setblocking(False)
            with pytest.raises(BlockingIOError):
                third.recv(100)
            second.close()
            third.settimeout(20)
            assert int(third.recv(100)) == pids[1]
            first.close()
            third.close()
        finally:
            for child in children:
                os.kill(child.pid, signal.SIGTERM)
                os.waitpid(child.pid, 0)
        # The listener is this process's, too, and so is the loop that waits for it.
        listener.stop()
        mantou.run()


# Options


@pytest.mark.parametrize("name", ["max_connections", "max_connections_per_host", "max_handshakes"])
def test_counts_are_positive_integers(name: str) -> None:
    place: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0, "socket": Recorder()}
    for wrong in (0, -1, 2**31):
        with pytest.raises(ValueError, match=f"option '{name}' must be from 1 to 2147483647"):
            mantou.listen(**place, **{name: wrong})
    for wrong in (True, 1.0, "1"):
        with pytest.raises(TypeError, match=f"option '{name}' must be an int"):
            mantou.listen(**place, **{name: wrong})
    with pytest.raises(TypeError, match=f"option '{name}' is only for listen"):
        asyncio.run(mantou.connect(**place | {"port": 1}, **{name: 1}))


def test_a_rate_is_a_positive_number() -> None:
    place: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0, "socket": Recorder()}
    for wrong in (0, -1, float("nan"), float("inf"), 10**400):
        with pytest.raises(ValueError, match="option 'accept_rate' must be greater than 0"):
            mantou.listen(**place, accept_rate=wrong)
    for wrong in (True, "1"):
        with pytest.raises(TypeError, match="option 'accept_rate' must be a number per second"):
            mantou.listen(**place, accept_rate=wrong)


def test_there_are_no_handshakes_without_tls() -> None:
    with pytest.raises(ValueError, match="'max_handshakes' must be None without 'tls'"):
        mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), max_handshakes=1)


def test_a_unix_path_takes_no_limit_per_host() -> None:
    options: dict[str, Any] = {"max_connections_per_host": 1}
    with pytest.raises(TypeError, match="'max_connections_per_host' is only for 'hostname'"):
        mantou.listen(unix="\0mantou", socket=Recorder(), **options)


async def test_none_is_no_limit() -> None:
    options: dict[str, Any] = dict.fromkeys(
        ["max_connections", "max_connections_per_host", "accept_rate", "max_handshakes"]
    )
    recorder = Recorder()
    with listen(recorder, **options) as listener:
        peers = [arrive(listener) for _ in range(5)]
        await recorder.until("open", 5)
        for peer in peers:
            peer.close()
        await recorder.until("close", 5)

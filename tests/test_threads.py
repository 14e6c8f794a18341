"""Loops that change their thread, and threads beside a loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import socket as kernel
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import mantou
from tests.comings_and_goings import KINDS, Kind, settled
from tests.conftest import LOOPS
from tests.support import Recorder, listen, run_turns
from tests.test_loop import busy

every_loop = pytest.mark.parametrize("kind", LOOPS)


def echo() -> Recorder:
    return Recorder(data=lambda socket, data: socket.write_all(data))


async def start(recorder: Recorder) -> mantou.TCPSocketListener[Any]:
    return listen(recorder)


def ask(sock: kernel.socket) -> bytes:
    sock.sendall(b"anybody there?")
    return sock.recv(14)


def finish(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@every_loop
def test_a_loop_in_the_background(kind: str) -> None:
    """Made here, run in a thread, closed here, as with run_coroutine_threadsafe()."""
    loop = LOOPS[kind]()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    recorder = echo()
    listener = asyncio.run_coroutine_threadsafe(start(recorder), loop).result(10)
    with kernel.create_connection(("127.0.0.1", listener.port), timeout=10) as sock:
        assert ask(sock) == b"anybody there?"
        for use in (lambda: recorder.sockets[0].write(b"!"), listener.stop):
            with pytest.raises(mantou.WrongThreadError):
                use()
        assert ask(sock) == b"anybody there?"
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        # Nobody runs it: whoever comes may.
        assert recorder.sockets[0].write(b"at rest") == 7
        assert sock.recv(7) == b"at rest"
    finish(loop)
    assert recorder.names == ["open", "data", "end", "close"]


@every_loop
def test_a_loop_wanders_from_thread_to_thread(kind: str) -> None:
    loop = LOOPS[kind]()
    recorder = echo()
    with (
        concurrent.futures.ThreadPoolExecutor(1) as first,
        concurrent.futures.ThreadPoolExecutor(1) as second,
    ):
        run: Callable[[Coroutine[Any, Any, Any]], Any] = loop.run_until_complete
        listener = first.submit(run, start(recorder)).result(10)
        sock = kernel.create_connection(("127.0.0.1", listener.port), timeout=10)
        second.submit(run, recorder.until("open")).result(10)

        async def here() -> None:
            # The first that this thread does is to write.
            assert recorder.sockets[0].write(b"from here") == 9
            for pool in (first, second):
                with pytest.raises(mantou.WrongThreadError):
                    pool.submit(recorder.sockets[0].write, b"from elsewhere").result(10)

        run(here())
        assert sock.recv(9) == b"from here"
        first.submit(finish, loop).result(10)
    assert recorder.names == ["open", "close"]
    sock.close()


def test_what_waits_for_a_loop_goes_with_it() -> None:
    recorder = Recorder(close=lambda socket, _: socket.listener.stop())
    listener = listen(recorder)
    loop = mantou.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(loop.until_idle()))
    thread.start()
    kernel.create_connection(("127.0.0.1", listener.port)).close()
    thread.join(10)
    assert recorder.names == ["open", "end", "close"]
    loop.close()


@pytest.mark.alone
def test_a_busy_loop_lets_threads_work() -> None:
    """Each call lets go of the interpreter's lock and wants it back."""

    def work() -> float:
        ours, theirs = kernel.socketpair()
        with ours, theirs:
            began = time.perf_counter()
            for _ in range(10_000):
                ours.send(b"x")
                theirs.recv(1)
            return time.perf_counter() - began

    async def beside() -> float:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            while not working.done():
                await asyncio.sleep(0)
            return working.result()

    seconds, asyncios = mantou.run(beside()), asyncio.run(beside())
    assert seconds is not None
    assert seconds < 0.1 + 10 * asyncios


@pytest.mark.alone
@pytest.mark.loops("mantou")
async def test_turns_full_of_events_let_threads_work() -> None:
    def work() -> float:
        began = time.perf_counter()
        for _ in range(200):
            time.sleep(0.0001)
        return time.perf_counter() - began

    async with busy(50) as bounced:
        while not bounced[0]:
            await asyncio.sleep(0)
        assert await asyncio.to_thread(work) < 1


class Slow(mantou.EventLoop):
    """A loop whose clock lets another thread in, just as it is about to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.answered = threading.Event()

    def time(self) -> float:
        if threading.current_thread() is not threading.main_thread():
            self.asked.set()
            self.answered.wait(10)
        return super().time()


def test_what_comes_while_the_loop_makes_ready_to_sleep_wakes_it() -> None:
    loop = Slow()
    loop.call_later(60, print)
    done = threading.Event()
    # A daemon, so that a loop that sleeps on does not hold the tests.
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    assert loop.asked.wait(10)
    loop.call_soon_threadsafe(done.set)
    loop.answered.set()
    assert done.wait(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_callbacks_of_other_threads_come_in_order(loop: Any) -> None:
    seen: list[tuple[int, int]] = []
    done = threading.Semaphore(0)

    def bring(which: int) -> None:
        for number in range(200):
            loop.call_soon_threadsafe(seen.append, (which, number))
        loop.call_soon_threadsafe(done.release)

    async def main() -> None:
        threads = [threading.Thread(target=bring, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0)
        for thread in threads:
            thread.join()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert len(seen) == 800
    for which in range(4):
        assert [number for it, number in seen if it == which] == list(range(200))


def test_each_callback_of_another_thread_wakes_a_loop_that_waits(loop: Any) -> None:
    called = threading.Semaphore(0)
    late: list[int] = []

    def bring() -> None:
        for number in range(300):
            loop.call_soon_threadsafe(called.release)
            if not called.acquire(timeout=20):
                late.append(number)
                break
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=bring)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert late == []


def test_a_stopped_loop_keeps_what_other_threads_bring(loop: Any) -> None:
    seen: list[str] = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "kept"))
    thread.start()
    thread.join()
    run_turns(loop)
    assert seen == ["kept"]


def test_24_threads_have_a_loop_each() -> None:
    """They share a process and nothing else: whatever comes in one of them goes there, too."""
    kinds = list(itertools.islice(itertools.cycle(KINDS.values()), 24))
    together = threading.Barrier(len(kinds))
    others = mantou.stats().connections

    async def main(kind: Kind) -> None:
        await kind.run(20)
        await settled(others)

    def serve(kind: Kind) -> str:
        together.wait(20)
        mantou.run(main(kind))
        return kind.name

    with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
        assert list(pool.map(serve, kinds, timeout=60)) == [kind.name for kind in kinds]

"""Signals: none waits for the next event, and whoever else hears of them goes on doing so."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket as kernel
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mantou

SIGNAL = signal.SIGUSR1


def send() -> Callable[[int], int]:
    """raise(3) itself: behind it, there is no bytecode at which Python looks for signals."""
    return getattr(ctypes.CDLL(None), "raise")


@contextlib.contextmanager
def handled(handler: Callable[..., Any]) -> Iterator[None]:
    before = signal.signal(SIGNAL, handler)
    try:
        yield
    finally:
        signal.signal(SIGNAL, before)


def wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    if fd != -1:
        signal.set_wakeup_fd(fd)
    return fd


def from_call_soon(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(send(), SIGNAL)


def from_a_timer(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(0.01, send(), SIGNAL)


def from_a_descriptor(loop: asyncio.AbstractEventLoop) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"!")
    os.close(writing)
    loop.add_reader(reading, send(), SIGNAL)
    # In the same turn, behind it.
    loop.call_soon(loop.call_soon, loop.remove_reader, reading)
    loop.call_soon(loop.call_soon, os.close, reading)


def behind_a_handler_that_is_removed(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.remove_signal_handler(signal.SIGUSR2)
    loop.call_soon(send(), SIGNAL)


@pytest.mark.parametrize(
    "come", [from_call_soon, from_a_timer, from_a_descriptor, behind_a_handler_that_is_removed]
)
def test_a_signal_just_before_the_wait(come: Callable[..., None]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        started = loop.time()
        with handled(lambda *_: came.set()):
            async with asyncio.timeout(30):
                come(loop)
                await came.wait()
            assert loop.time() - started < 20

    mantou.run(main())
    assert wakeup_fd() == -1


def test_a_signal_between_two_runs_of_a_loop() -> None:
    loop = mantou.new_event_loop()
    came = loop.create_future()
    loop.run_until_complete(asyncio.sleep(0))
    assert wakeup_fd() == -1
    loop.add_signal_handler(SIGNAL, came.set_result, "signal")
    loop.run_until_complete(asyncio.sleep(0))
    send()(SIGNAL)
    assert loop.run_until_complete(asyncio.wait_for(came, 20)) == "signal"
    loop.close()
    assert wakeup_fd() == -1


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_another_who_hears_signals_goes_on_doing_so(when: str) -> None:
    ours, theirs = kernel.socketpair()
    ours.setblocking(False)

    async def main() -> None:
        if when == "meanwhile":
            signal.set_wakeup_fd(ours.fileno())
        send()(SIGNAL)

    if when == "before":
        signal.set_wakeup_fd(ours.fileno())
    with ours, theirs, handled(lambda *_: None):
        mantou.run(main())
        send()(SIGNAL)
        assert signal.set_wakeup_fd(-1) == ours.fileno()
        theirs.settimeout(20)
        assert theirs.recv(1, kernel.MSG_WAITALL) == bytes([SIGNAL])
        assert theirs.recv(1, kernel.MSG_WAITALL) == bytes([SIGNAL])


def test_a_forked_child_does_not_wake_its_parent() -> None:
    async def main() -> int:
        if (child := os.fork()) == 0:
            os._exit(wakeup_fd() != -1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert mantou.run(main()) == 0


def test_a_loop_outside_the_main_thread_leaves_signals_alone() -> None:
    ran = []
    thread = threading.Thread(target=lambda: ran.append(mantou.run(asyncio.sleep(0, "ran"))))
    thread.start()
    thread.join()
    assert (ran, wakeup_fd()) == (["ran"], -1)

"""Callbacks, timers and descriptors by chance: mantou's loop and asyncio's call the same, in order.

Both have a clock that stands still until the script moves it, and take turns when it says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import threading
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.chance import Step, examples, step
from tests.conftest import LOOPS
from tests.support import run_turns


class Raised(Exception):
    """What callbacks raise: the loop's exception handler is told."""


class Left(SystemExit):
    """What leaves the loop."""


endings = st.sampled_from([None, None, None, None, Raised, Left])
milliseconds = st.integers(-2, 12)
simple = st.one_of(
    step("cancel", st.integers(0, 30)),
    step("cancel_newest"),
    step("ask", st.integers(0, 30)),
    step("stop"),
    step("advance", st.integers(0, 8)),
    step("poke"),
    step("stop_reading"),
    step("start_reading"),
)


def calling(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    """Steps that have something called, which takes steps in its turn."""
    calls = st.lists(steps, max_size=3)
    return st.one_of(
        step("soon", calls, endings),
        step("later", milliseconds, calls, endings),
        step("at", milliseconds, calls, endings),
        step("from_a_thread", calls, endings),
        step("resolve", calls, endings),
    )


steps = st.recursive(st.one_of(simple, calling(simple)), calling, max_leaves=12)
scripts = st.lists(st.one_of(steps, steps, step("turn", st.integers(1, 3))), max_size=20)


class Play:
    """A script on a loop, and what came of it."""

    def __init__(self, loop: Any, near: kernel.socket, far: kernel.socket) -> None:
        self.loop, self.near, self.far = loop, near, far
        self.now = 50.0
        self.seen: list[Any] = []
        self.handles: list[asyncio.Handle] = []
        self.made = 0
        loop.time = lambda: self.now
        loop.set_exception_handler(
            lambda _, context: self.seen.append(type(context.get("exception")))
        )

    def take(self, steps: list[Step]) -> None:
        for name, *arguments in steps:
            getattr(self, name)(*arguments)

    def callback(self, calls: list[Step], ending: type[BaseException] | None) -> Any:
        self.made += 1
        number = self.made

        def called(*_: Any) -> None:
            self.seen.append(number)
            self.take(calls)
            if ending is not None:
                raise ending

        return called

    # What a script may do, in a callback and outside.

    def soon(self, calls: list[Step], ending: type[BaseException] | None) -> None:
        self.handles.append(self.loop.call_soon(self.callback(calls, ending)))

    def later(self, delay: int, calls: list[Step], ending: type[BaseException] | None) -> None:
        callback = self.callback(calls, ending)
        self.handles.append(self.loop.call_later(self.apart(delay), callback))

    def at(self, delay: int, calls: list[Step], ending: type[BaseException] | None) -> None:
        callback = self.callback(calls, ending)
        self.handles.append(self.loop.call_at(self.now + self.apart(delay), callback))

    def apart(self, delay: int) -> float:
        # asyncio's heap has no order for timers of one moment.
        return delay / 1000 + self.made / 1_000_000

    def from_a_thread(self, calls: list[Step], ending: type[BaseException] | None) -> None:
        callback = self.callback(calls, ending)
        thread = threading.Thread(
            target=lambda: self.handles.append(self.loop.call_soon_threadsafe(callback))
        )
        thread.start()
        thread.join()

    def resolve(self, calls: list[Step], ending: type[BaseException] | None) -> None:
        future = self.loop.create_future()
        future.add_done_callback(self.callback(calls, ending))
        future.set_result(None)

    def cancel(self, number: int) -> None:
        if self.handles:
            self.handles[number % len(self.handles)].cancel()

    def cancel_newest(self) -> None:
        if self.handles:
            self.handles[-1].cancel()

    def ask(self, number: int) -> None:
        if self.handles:
            handle = self.handles[number % len(self.handles)]
            when = handle.when() if isinstance(handle, asyncio.TimerHandle) else None
            self.seen.append((handle.cancelled(), when))

    def stop(self) -> None:
        self.loop.stop()

    def advance(self, delay: int) -> None:
        self.now += delay / 1000

    def poke(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.far.send(b".")

    def start_reading(self) -> None:
        self.loop.add_reader(self.near, self.readable)

    def stop_reading(self) -> None:
        self.seen.append(self.loop.remove_reader(self.near))

    def readable(self) -> None:
        self.seen.append(self.near.recv(4))

    def turn(self, count: int) -> None:
        try:
            run_turns(self.loop, count)
        except Left:
            self.seen.append("left")
        self.seen.append("turned")


@contextlib.contextmanager
def stage(kind: str) -> Iterator[Play]:
    loop: Any = LOOPS[kind]()
    near, far = kernel.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    try:
        yield Play(loop, near, far)
    finally:
        loop.remove_reader(near)
        loop.close()
        near.close()
        far.close()


@examples(150)
@given(script=scripts)
def test_what_is_called_is_what_asyncio_calls(script: list[Step]) -> None:
    told = []
    for kind in ("asyncio", "mantou"):
        with stage(kind) as play:
            # A turn is no step of a callback.
            for name, *arguments in script:
                getattr(play, name)(*arguments)
            play.turn(3)
            play.advance(100)
            play.turn(6)
            told.append(play.seen)
    asyncios, ours = told
    assert ours == asyncios

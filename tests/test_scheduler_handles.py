"""What callbacks and timers return, debug mode, memory; and callbacks beside sockets."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.support import Recorder, accepted, run_turns

# Handles


def test_handles_look_like_asyncios(loop: Any) -> None:
    reference = asyncio.SelectorEventLoop()

    def shown(loop: Any) -> list[str]:
        handles = [
            loop.call_soon(print, "text", 7),
            loop.call_soon(int),
            loop.call_at(12.5, print),
            loop.call_soon(print, 1),
            loop.call_at(99.0, print, 1),
        ]
        for handle in handles[3:]:
            handle.cancel()
        return [repr(handle) for handle in handles]

    for debug in (False, True):
        loop.set_debug(debug)
        reference.set_debug(debug)
        assert shown(loop) == shown(reference)
    reference.close()


def test_handles_are_asyncios(loop: Any) -> None:
    soon, timer = loop.call_soon(print), loop.call_later(1, print)
    assert isinstance(soon, asyncio.Handle)
    assert not isinstance(soon, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.Handle)
    assert weakref.ref(soon)() is soon
    assert soon._loop is loop


def test_timers_compare_as_asyncios(loop: Any) -> None:
    one, same, later = (loop.call_at(when, print) for when in (10.0, 10.0, 20.0))
    assert one == same
    assert one <= same
    assert one >= same
    assert one < later
    assert later > same
    assert one != later
    assert one != loop.call_soon(print)
    assert hash(one) == hash(10.0)
    assert (one.when(), later.when()) == (10.0, 20.0)
    with pytest.raises(TypeError):
        assert one < 3
    same.cancel()
    assert one != same


# Debug mode


def test_slow_callbacks_are_named(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    handle = loop.call_soon(time.sleep, 0.02)
    run_turns(loop)
    assert f"Executing {handle!r} took 0.0" in caplog.text

    async def slow() -> None:
        time.sleep(0.02)

    task = loop.create_task(slow())
    loop.run_until_complete(task)
    assert "Executing <Task finished" in caplog.text


def test_debug_mode_can_be_changed_while_running(
    loop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loop.slow_callback_duration = 0.0

    def quick() -> None:
        pass

    async def main() -> None:
        loop.call_soon(quick)
        await asyncio.sleep(0)
        assert "quick" not in caplog.text
        loop.set_debug(True)
        loop.call_soon(quick)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "quick" in caplog.text
        loop.set_debug(False)

    loop.run_until_complete(main())


def test_debug_mode_finds_coroutines_and_what_is_no_callback(loop: Any) -> None:
    loop.set_debug(True)

    async def coroutine() -> None: ...

    made = coroutine()
    for call in (
        loop.call_soon,
        loop.call_soon_threadsafe,
        lambda it: loop.call_later(1, it),
        lambda it: loop.call_at(1, it),
    ):
        for wrong in (made, coroutine):
            with pytest.raises(TypeError, match="coroutines cannot be used with call_"):
                call(wrong)
        with pytest.raises(TypeError, match="a callable object was expected by call_"):
            call("no callable")
    made.close()


def test_debug_mode_finds_the_wrong_thread(loop: Any) -> None:
    loop.set_debug(True)
    raised: list[str] = []

    def elsewhere() -> None:
        for call in (
            lambda: loop.call_soon(print),
            lambda: loop.call_later(0, print),
            lambda: loop.call_at(0, print),
        ):
            try:
                call()
            except RuntimeError as error:
                raised.append(str(error))

    async def main() -> None:
        await asyncio.to_thread(elsewhere)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    expected = "Non-thread-safe operation invoked on an event loop other than the current one"
    assert raised == [expected] * 3


# Memory


def test_a_loop_with_callbacks_that_wait_is_collected() -> None:
    class Holder:
        def __init__(self, loop: mantou.EventLoop) -> None:
            self.loop = loop
            self.soon = loop.call_soon(self.callback)
            self.timer = loop.call_later(3600, self.callback, self)

        def callback(self, *_: object) -> None: ...

    # Handles whose memory is used again are to be found, too.
    for _ in range(3):
        loop = mantou.new_event_loop()
        holder = Holder(loop)
        references = [weakref.ref(it) for it in (loop, holder, holder.soon, holder.timer)]
        del holder, loop
        with pytest.warns(ResourceWarning, match="unclosed event loop"):
            gc.collect()
        assert [reference() for reference in references] == [None] * 4


def test_a_handle_that_refers_to_itself_is_collected(loop: Any) -> None:
    class Argument:
        handle: Any = None

    references: list[weakref.ref[Any]] = []
    for make in (loop.call_soon, lambda *args: loop.call_later(0, *args)):
        for _ in range(10):
            argument = Argument()
            argument.handle = make(id, argument)
            references.append(weakref.ref(argument))
        run_turns(loop, 2)
    del argument
    gc.collect()
    assert [reference() for reference in references] == [None] * 20


def test_callbacks_leave_nothing_behind(loop: Any) -> None:
    def work() -> None:
        for _ in range(300):
            loop.call_soon(str, 1)
            loop.call_soon(str, b"x", "utf-8")
            loop.call_later(0, int)
            loop.call_later(3600, int).cancel()
        run_turns(loop, 2)

    work()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(5):
        work()
    gc.collect()
    assert len(gc.get_objects()) < before + 100


def test_finalizers_may_call_a_loop_while_the_interpreter_ends() -> None:
    program = """
import gc, mantou

class Late:
    def __init__(self):
        self.loop = mantou.new_event_loop()
        self.loop.call_soon(print)

    def __del__(self):
        self.loop.call_soon(print, "argument", context=None)
        self.loop.call_later(1, print).cancel()
        self.loop.call_soon_threadsafe(print)
        self.loop.close()
        try:
            self.loop.call_soon(print)
        except RuntimeError as error:
            print(error)

gc.disable()
late = Late()
late.itself = late
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Event loop is closed\n", "")


# Tasks


async def answer() -> int:
    return 42


def test_tasks_are_made_as_asyncio_makes_them(loop: Any) -> None:
    context = contextvars.copy_context()
    named = loop.create_task(answer(), name="named", context=context)
    plain = loop.create_task(coro=answer())
    assert (type(named), named.get_name()) == (asyncio.Task, "named")
    assert plain.get_name().startswith("Task-")
    assert plain.get_loop() is loop
    both = loop.run_until_complete(asyncio.gather(named, plain))
    assert both == [42, 42]


def test_tasks_are_made_by_the_factory_if_there_is_one(loop: Any) -> None:
    made: list[Any] = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(answer(), name="named")
    assert (made, task.get_name()) == ([task.get_coro()], "named")
    assert loop.run_until_complete(task) == 42
    loop.set_task_factory(None)
    assert loop.run_until_complete(loop.create_task(answer())) == 42
    assert len(made) == 1


def test_what_is_no_task(loop: Any) -> None:
    coroutine = answer()
    wrong: list[Callable[[], object]] = [
        lambda: loop.create_task(answer),
        lambda: loop.create_task(coroutine, nickname="none"),
        loop.create_task,
        lambda: loop.set_task_factory("none"),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_debug_mode_tells_where_a_task_was_made(loop: Any) -> None:
    loop.set_debug(True)
    task = loop.create_task(answer())
    assert task._source_traceback[-1].name == "test_debug_mode_tells_where_a_task_was_made"
    assert loop.run_until_complete(task) == 42


# With sockets


@pytest.mark.loops("mantou")
async def test_a_deadline_set_late_in_a_turn_is_not_early() -> None:
    loop = asyncio.get_running_loop()
    rang: asyncio.Future[float] = loop.create_future()
    recorder = Recorder(timeout=lambda *_: rang.set_result(loop.time()))
    async with accepted(recorder) as (socket, _):
        await asyncio.sleep(0)
        time.sleep(0.1)
        start = loop.time()
        socket.timeout(0.05)
        assert await rang - start >= 0.05


@pytest.mark.loops("mantou")
async def test_what_a_callback_closes_is_told_in_the_next_turn() -> None:
    recorder = Recorder()
    async with accepted(recorder) as (socket, _):
        socket.terminate()
        assert "close" not in recorder.names
        await asyncio.sleep(0)
        assert "close" in recorder.names

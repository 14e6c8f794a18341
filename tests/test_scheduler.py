"""Callbacks and timers, by asyncio's own measure: its loop takes each of these tests, too."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.support import run_turns

# Order


def test_what_callbacks_add_is_for_the_next_turn(loop: Any) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "added")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    run_turns(loop)
    assert seen == ["first", "second"]
    run_turns(loop)
    assert seen == ["first", "second", "added"]


def test_due_timers_come_after_what_was_ready(loop: Any) -> None:
    seen: list[str] = []
    loop.call_later(0, seen.append, "timer")
    loop.call_soon(seen.append, "ready")
    run_turns(loop)
    assert seen == ["ready", "timer"]


def test_timers_come_in_the_order_of_their_times(loop: Any) -> None:
    seen: list[int] = []
    start = loop.time()
    for number in (3, 1, 4, 2, 0):
        loop.call_at(start + number / 1000, seen.append, number)
    loop.call_later(0.006, loop.stop)
    loop.run_forever()
    assert seen == [0, 1, 2, 3, 4]


def test_timers_of_one_moment_come_in_the_order_of_their_making() -> None:
    loop = mantou.new_event_loop()
    seen: list[int] = []
    when = loop.time()
    for number in range(50):
        loop.call_at(when, seen.append, number)
    run_turns(loop)
    loop.close()
    assert seen == list(range(50))


def test_no_timer_comes_early(loop: Any) -> None:
    rang: list[float] = []
    when = loop.time() + 0.0123
    loop.call_at(when, lambda: (rang.append(loop.time()), loop.stop()))
    loop.run_forever()
    assert rang[0] >= when


def test_a_time_that_is_past_is_now(loop: Any) -> None:
    seen: list[str] = []
    loop.call_later(-1, seen.append, "late")
    loop.call_at(0, seen.append, "long ago")
    run_turns(loop)
    assert seen == ["long ago", "late"]


def test_a_descriptor_is_asked_in_each_turn(loop: Any) -> None:
    reading, writing = os.pipe()
    seen: list[bytes] = []
    loop.add_reader(reading, lambda: seen.append(os.read(reading, 1)))
    for count in range(1, 4):
        os.write(writing, b"x")
        run_turns(loop)
        assert len(seen) == count
    assert loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)


def test_a_cancelled_handle_of_a_descriptor_removes_it(loop: Any) -> None:
    reading, writing = os.pipe()
    handle = loop._add_reader(reading, lambda: None)
    handle.cancel()
    os.write(writing, b"x")
    run_turns(loop)
    assert not loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)


# Cancelling


def test_a_callback_cancelled_in_its_own_turn_is_not_called(loop: Any) -> None:
    seen: list[str] = []
    loop.call_soon(lambda: (soon.cancel(), timer.cancel()))
    soon = loop.call_soon(seen.append, "soon")
    timer = loop.call_later(0, seen.append, "timer")
    run_turns(loop, 2)
    assert seen == []
    assert soon.cancelled()
    assert timer.cancelled()


def test_cancelling_lets_go_of_the_callback(loop: Any) -> None:
    class Argument:
        pass

    for make in (loop.call_soon, lambda *args: loop.call_later(60, *args)):
        argument = Argument()
        reference = weakref.ref(argument)
        handle = make(id, argument)
        del argument
        gc.collect()
        assert reference() is not None
        handle.cancel()
        handle.cancel()
        gc.collect()
        assert reference() is None
        assert (handle._callback, handle._args) == (None, None)


def test_a_closed_loop_is_gone_with_its_last_reference() -> None:
    gc.disable()
    try:
        loop = mantou.new_event_loop()
        loop.create_future()
        reference = weakref.ref(loop)
        loop.close()
        del loop
        assert reference() is None
    finally:
        gc.enable()


def test_a_callback_may_cancel_itself(loop: Any, told: list[dict[str, Any]]) -> None:
    seen: list[object] = []

    def callback(argument: object) -> None:
        handle.cancel()
        gc.collect()
        seen.append(argument)

    handle = loop.call_soon(callback, object())
    run_turns(loop)
    assert len(seen) == 1
    assert told == []


def test_cancelled_timers_do_not_pile_up(loop: Any) -> None:
    for _ in range(300):
        loop.call_later(3600, print).cancel()
    kept = [loop.call_later(3600, print) for _ in range(5)]
    run_turns(loop)
    assert sorted(loop._scheduled) == kept
    assert not any(timer.cancelled() for timer in kept)


def test_a_few_cancelled_timers_go_when_they_come_up(loop: Any) -> None:
    last = loop.call_later(60, print)
    first = loop.call_later(30, print)
    first.cancel()
    run_turns(loop)
    assert list(loop._scheduled) == [last]


# Contexts

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


def test_each_callback_has_the_context_of_its_maker(loop: Any) -> None:
    seen: list[str] = []

    def look_and_set(value: str) -> None:
        seen.append(variable.get())
        variable.set(value)

    context = contextvars.copy_context()
    context.run(variable.set, "given")
    variable.set("made")
    loop.call_soon(look_and_set, "lost")
    loop.call_soon(look_and_set, "kept", context=context)
    variable.set("later")
    loop.call_soon(look_and_set, "lost")
    loop.call_later(0, look_and_set, "lost", context=context)
    run_turns(loop)
    assert seen == ["made", "given", "later", "kept"]
    assert (variable.get(), context[variable]) == ("later", "lost")
    variable.set("none")


def test_a_context_that_is_entered_already(
    loop: Any, told: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    context = contextvars.copy_context()
    loop.call_soon(lambda: None, context=context)
    context.run(run_turns, loop)
    # Since Python 3.12 the exception handler would run in that context, too.
    assert "already entered" in str(told) + caplog.text


# Exceptions


@pytest.mark.parametrize("debug", [False, True])
def test_what_a_callback_raises_is_reported(
    loop: Any, told: list[dict[str, Any]], debug: bool
) -> None:
    loop.set_debug(debug)
    error = LookupError("no such thing")

    def fail(*_: object) -> None:
        raise error

    handles = [loop.call_soon(fail, 1, "two"), loop.call_soon(fail), loop.call_later(0, fail, 3)]
    run_turns(loop)
    assert [context["handle"] for context in told] == handles
    reference = asyncio.SelectorEventLoop()
    reference.set_debug(debug)
    for context, arguments in zip(told, ([1, "two"], [], [3]), strict=True):
        expected: list[dict[str, Any]] = []
        reference.set_exception_handler(lambda _, it, expected=expected: expected.append(it))
        reference.call_soon(fail, *arguments)
        run_turns(reference)
        assert context["message"] == expected[0]["message"]
        assert context["exception"] is error
        assert set(context) == set(expected[0])
        if debug:
            assert context["source_traceback"][-1].name == (
                "test_what_a_callback_raises_is_reported"
            )
    reference.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_keeps_the_rest_for_later(
    loop: Any, told: list[dict[str, Any]], error: type[BaseException]
) -> None:
    seen: list[str] = []

    def leave() -> None:
        raise error

    loop.call_soon(leave)
    loop.call_soon(seen.append, "rest")
    with pytest.raises(error):
        loop.run_forever()
    assert (seen, told, loop.is_running()) == ([], [], False)
    run_turns(loop)
    assert seen == ["rest"]


def test_a_cancellation_is_reported_as_any_other(loop: Any, told: list[dict[str, Any]]) -> None:
    def fail() -> None:
        raise asyncio.CancelledError

    loop.call_soon(fail)
    run_turns(loop)
    assert isinstance(told[0]["exception"], asyncio.CancelledError)


def test_an_overridden_exception_handler_is_called() -> None:
    told: list[dict[str, Any]] = []

    class Loop(mantou.EventLoop):
        def call_exception_handler(self, context: dict[str, Any]) -> None:
            told.append(context)

    loop = Loop()
    loop.call_soon(lambda: 1 / 0)
    run_turns(loop)
    loop.close()
    assert isinstance(told[0]["exception"], ZeroDivisionError)


# Stopping


def test_stop_before_running_runs_one_turn(loop: Any) -> None:
    seen: list[str] = []
    loop.call_soon(lambda: (seen.append("first"), loop.call_soon(seen.append, "second")))
    loop.stop()
    loop.run_forever()
    assert seen == ["first"]
    run_turns(loop)
    assert seen == ["first", "second"]


def test_stop_lets_the_turn_end(loop: Any) -> None:
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same turn")
    loop.call_soon(loop.call_soon, seen.append, "next turn")
    loop.run_forever()
    assert seen == ["same turn"]


def test_what_is_called_by_hand_is_one_turn(loop: Any) -> None:
    seen: list[int] = []
    loop.call_soon(lambda: loop.call_soon(seen.append, 1))
    loop._run_once()
    assert seen == []
    loop._run_once()
    assert seen == [1]


def test_a_closed_loop_refuses_callbacks(loop: Any) -> None:
    handle = loop.call_soon(print)
    loop.close()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        loop.run_forever,
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()
    handle.cancel()
    assert len(loop._ready) == 0


# Arguments


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_arguments_arrive(loop: Any, count: int) -> None:
    seen: list[tuple[object, ...]] = []
    arguments = tuple(range(count))

    def callback(*given: object) -> None:
        seen.append(given)

    handles = [
        loop.call_soon(callback, *arguments),
        loop.call_soon_threadsafe(callback, *arguments, context=contextvars.copy_context()),
        loop.call_later(0, callback, *arguments),
        loop.call_at(loop.time(), callback, *arguments, context=None),
    ]
    assert [(handle._callback, handle._args) for handle in handles] == [(callback, arguments)] * 4
    run_turns(loop)
    assert seen == [arguments] * 4


def test_arguments_by_name(loop: Any) -> None:
    seen: list[str] = []
    loop.call_soon(callback=lambda: seen.append("soon"))
    loop.call_later(delay=0, callback=lambda: seen.append("later"))
    loop.call_at(callback=lambda: seen.append("at"), when=0.0)
    run_turns(loop)
    assert seen == ["soon", "at", "later"]


def test_wrong_arguments(loop: Any) -> None:
    wrong: list[Callable[[], object]] = [
        loop.call_soon,
        lambda: loop.call_later(1),
        loop.call_at,
        lambda: loop.call_soon(print, callback=print),
        lambda: loop.call_soon(print, sep="-"),
        lambda: loop.call_later(None, print),
        lambda: loop.call_at(None, print),
        lambda: loop.call_later("soon", print),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    assert len(loop._ready) == 0
    assert len(loop._scheduled) == 0


# Subclasses


def test_a_subclass_may_have_a_clock_of_its_own() -> None:
    class Loop(mantou.EventLoop):
        offset = 0.0

        def time(self) -> float:
            return super().time() + self.offset

    loop = Loop()
    seen: list[str] = []
    timer = loop.call_later(1000, seen.append, "in time")
    run_turns(loop)
    assert seen == []
    assert timer.when() == pytest.approx(loop.time() + 1000, abs=10)
    loop.offset = 1000.0
    run_turns(loop)
    assert seen == ["in time"]
    loop.close()


def test_a_loop_may_be_given_another_clock(loop: Any) -> None:
    loop.time = lambda: 50.0
    seen: list[str] = []
    assert loop.call_later(1.0, seen.append, "future").when() == 51.0
    loop.call_at(49.0, seen.append, "past")
    run_turns(loop)
    assert seen == ["past"]
    del loop.time
    assert loop.call_later(0, seen.append, "now").when() <= loop.time()


def test_a_running_loop_may_be_given_another_clock(loop: Any) -> None:
    seen: list[str] = []
    start = loop.time()

    def patch() -> None:
        loop.time = lambda: start + 60.0

    def stop_after(turns: int) -> None:
        if turns == 0:
            loop.stop()
        else:
            loop.call_soon(stop_after, turns - 1)

    loop.call_at(start + 30.0, seen.append, "due")
    loop.call_soon(patch)
    loop.call_soon(stop_after, 3)
    loop.run_forever()
    assert seen == ["due"]


def test_a_subclass_may_override_what_schedules() -> None:
    seen: list[str] = []

    class Loop(mantou.EventLoop):
        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            seen.append("call_at")
            return super().call_at(when, callback, *args, context=context)

        def _run_once(self) -> None:
            seen.append("turn")
            super()._run_once()

    loop = Loop()
    loop.call_later(0, seen.append, "called")
    run_turns(loop, 2)
    loop.close()
    assert seen == ["call_at", "turn", "called", "turn"]

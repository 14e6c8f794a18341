"""Async handlers: their first step within the event, the rest as a task.

A handler that never waits needs no task of its own. But its coroutine may ask who is running
(`asyncio.timeout()` does), so there has to be a task from the first step on. One is kept in
reserve; it is given away only to a coroutine that really waits.
"""

from __future__ import annotations

import asyncio
from asyncio import tasks
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

AnyCoroutine = Coroutine[Any, Any, object]


class Runner:
    """Runs the coroutines of one loop's handlers."""

    def __init__(self) -> None:
        self._reserve: tuple[asyncio.Task[object], _Rest] | None = None

    def begin(
        self, loop: asyncio.AbstractEventLoop, coroutine: AnyCoroutine, context: Context
    ) -> asyncio.Task[object]:
        """Takes the first step, in the current context. Returns the task that takes the others.

        :raises StopIteration: there are no others; its value is the coroutine's result.
        """
        # Taken out meanwhile: the step may begin another handler, of a socket that it connects.
        (task, rest), self._reserve = self._ready(loop), None
        before = asyncio.current_task(loop)
        if before is not None:
            tasks._leave_task(loop, before)
        tasks._enter_task(loop, task)
        try:
            awaited = coroutine.send(None)
        except BaseException:
            self._reserve = task, rest
            raise
        finally:
            tasks._leave_task(loop, task)
            if before is not None:
                tasks._enter_task(loop, before)
        _show(task)
        rest.take(coroutine, context, awaited)
        return task

    def close(self) -> None:
        """Lets go of the task in reserve."""
        self._reserve = None

    def _ready(self, loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Task[object], _Rest]:
        # One that was cancelled is of no use to others.
        if self._reserve is None or self._reserve[0].done() or self._reserve[0].cancelling():
            rest = _Rest(loop)
            task = loop.create_task(rest)
            _hide(task)
            return task, rest
        return self._reserve


# What a coroutine waits for is not known, or the task waits for it already.
_NOTHING = object()


class _Rest(Coroutine[Any, Any, object]):
    """What is left of a coroutine after its first step; until there is one, it waits for that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun: asyncio.Future[None] | None = None
        self._coroutine: AnyCoroutine | None = None
        self._context: Context | None = None
        # What the coroutine waits for since its first step, until the task waits for it.
        self._awaited: Any = _NOTHING

    def take(self, coroutine: AnyCoroutine, context: Context, awaited: object) -> None:
        self._coroutine, self._context, self._awaited = coroutine, context, awaited
        if self._begun is None:
            return
        if awaited is None:
            # It gives way, as in sleep(0): to whatever was to run before the task wakes up.
            self._awaited = _NOTHING
        if not self._begun.done():
            self._begun.set_result(None)

    def send(self, value: object) -> Any:
        if self._coroutine is None or self._context is None:
            self._begun = self._loop.create_future()
            return next(iter(self._begun))
        awaited, self._awaited = self._awaited, _NOTHING
        if awaited is not _NOTHING:
            return awaited
        return self._context.run(self._coroutine.send, value)

    def throw(self, error: Any, *_: object) -> Any:
        # Tasks give the exception itself, and nothing else.
        if self._coroutine is None or self._context is None:
            raise error
        awaited, self._awaited = self._awaited, _NOTHING
        if awaited not in (None, _NOTHING) and awaited.cancel():
            # The task would have cancelled it, had it waited for it already.
            return awaited
        return self._context.run(self._coroutine.throw, error)

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        # What debuggers want to know of a coroutine (cr_frame, cr_code, ...): the handler's.
        return getattr(self._coroutine, name)


def _hide(task: asyncio.Task[object]) -> None:
    """Whoever asks for all tasks is not to wait for one that does nothing."""
    tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def _show(task: asyncio.Task[object]) -> None:
    tasks._register_task(task)
    task._log_destroy_pending = True  # type: ignore[attr-defined]

"""Async handlers that wait: what is left of them is a task.

Their first step is native (`crates/binding/src/first_step.rs`), and taken as a task that is kept
in reserve.
"""

from __future__ import annotations

import asyncio
from asyncio import tasks
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

AnyCoroutine = Coroutine[Any, Any, object]


def new_reserve(loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Task[object], Rest]:
    """A task that does nothing, until there is a coroutine whose rest it is to run."""
    rest = Rest(loop)
    task = loop.create_task(rest)
    # Whoever asks for all tasks is not to wait for it.
    tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task, rest


def show(task: asyncio.Task[object]) -> None:
    """It has something to do now."""
    tasks._register_task(task)
    task._log_destroy_pending = True  # type: ignore[attr-defined]


# What a coroutine waits for is not known, or the task waits for it already.
_NOTHING = object()


class Rest(Coroutine[Any, Any, object]):
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

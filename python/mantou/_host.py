"""What the native engine asks of the event loop it runs in: tasks, futures, a place for errors."""

from __future__ import annotations

import asyncio
import functools
import logging
import weakref
from asyncio.log import logger as asyncio_log
from collections.abc import AsyncGenerator
from contextvars import Context
from typing import Any

from ._core import Engine, Socket
from ._coroutines import AnyCoroutine, Rest, new_reserve, show
from ._log import log, logger

# Seconds that coroutines of handlers get when the loop ends, and once more when cancelled.
_LAST_WORDS = 1.0


class Host:
    """Stands for one event loop towards its engine.

    The loop is held weakly: it owns the engine, not the other way round.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
        self._loop = weakref.ref(loop)
        self._engine = engine
        # The coroutines that wait, of each socket.
        self._tasks: dict[Socket[Any], set[asyncio.Task[object]]] = {}
        # Those of them that were told that the connection is gone.
        self._cancelled: set[asyncio.Task[object]] = set()
        self._runs_tasks = True
        # On a loop that is not ours: the generator whose end is the end of the engine.
        self.guard: AsyncGenerator[None, None] | None = None
        engine.attach(self)

    def admits(self) -> bool:
        """Whether this thread may use the sockets: it runs the loop, or nobody does."""
        loop = self._loop()
        if loop is None or not loop.is_running():
            return True
        return asyncio._get_running_loop() is loop

    def reserve(
        self, coroutine: AnyCoroutine
    ) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[object], Rest] | None:
        """A task for the first step of async handlers.

        None if tasks do not run any more: then this handler's coroutine is dropped.
        """
        if not self._runs_tasks:
            coroutine.close()
            # By its text: a record that is kept must not keep the socket.
            log(
                logging.WARNING,
                "the loop was closed without shutdown_asyncgens(): %s could not run",
                repr(coroutine),
            )
            return None
        loop = self._living_loop()
        return loop, *new_reserve(loop)

    def go_on(  # noqa: PLR0917
        self,
        socket: Socket[Any],
        stage: int,
        cause: BaseException | None,
        coroutine: AnyCoroutine,
        context: Context,
        awaited: object,
        task: asyncio.Task[object],
        rest: Rest,
    ) -> None:
        """Has the task run the rest of an async handler, which waits since its first step."""
        show(task)
        rest.take(coroutine, context, awaited)
        self._tasks.setdefault(socket, set()).add(task)
        self._engine.hold()
        task.add_done_callback(functools.partial(self._finished, socket, stage, cause))

    def _finished(
        self,
        socket: Socket[Any],
        stage: int,
        cause: BaseException | None,
        task: asyncio.Task[object],
    ) -> None:
        tasks = self._tasks.get(socket, set())
        self._cancelled.discard(task)
        if task not in tasks:
            # It comes too late: the loop has ended, and the socket was told of its end.
            return
        tasks.remove(task)
        if not tasks:
            del self._tasks[socket]
        self._engine.unhold()
        result, error = None, None
        # A handler that was cancelled has decided nothing: what is to happen by default does.
        if not task.cancelled():
            error = task.exception()
            result = task.result() if error is None else None
        if isinstance(error, KeyboardInterrupt | SystemExit):
            # Raised out of the loop by the task's step already: not a second time, into its end.
            error = None
        self._engine.handler_finished(socket, stage, cause, result, error)

    def cancel(self, socket: Socket[Any]) -> None:
        """Cancels the coroutines of a socket whose connection is gone.

        Each of them once, whatever becomes of the connection then: it may be cleaning up.
        """
        waiting = self._tasks.get(socket, set()) - self._cancelled
        self._cancelled |= waiting
        for task in waiting:
            task.cancel()

    def called(self, handler: object, name: str, socket: Socket[Any], seconds: float) -> None:
        """In debug mode: names a handler that kept the loop, as asyncio names its callbacks."""
        if seconds >= self._living_loop().slow_callback_duration:
            owner = getattr(handler, "__self__", None)
            if owner is None:
                title = getattr(handler, "__qualname__", repr(handler))
            else:
                title = f"{type(owner).__qualname__}.{name}"
            # Only what it looks like now: a record that is kept is not to keep the socket.
            asyncio_log.warning(
                "Executing handler %s of %s took %.3f seconds", title, repr(socket), seconds
            )

    def report(self, message: str, error: BaseException, about: object) -> None:
        """Hands an exception that nobody else wants to the loop's exception handler."""
        context: dict[str, Any] = {"message": f"mantou: {message}", "exception": error}
        if about is not None:
            # asyncio's name for whatever the message is about.
            context["protocol"] = about
        self._living_loop().call_exception_handler(context)

    def starved(self, error: BaseException) -> None:
        log(
            logging.WARNING, "accepting connections rests until resources are free again: %s", error
        )

    def at_limit(self, listener: object, limit: str) -> None:
        # Once for each listener and limit: at the limit every connection more must cost little.
        log(
            logging.WARNING,
            "%s has reached %s; its stats() count from now on",
            repr(listener),
            limit,
        )

    def turned_away(self, socket: Socket[Any], error: BaseException) -> None:
        # What peers do wrong is for those who look: anybody could fill a log.
        if logger.isEnabledFor(logging.DEBUG):
            log(logging.DEBUG, "%s was turned away: %s", repr(socket), str(error))

    def handshake_failed(self, socket: Socket[Any], error: BaseException | None) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            # By their text: a record that is kept must not keep the socket.
            log(logging.DEBUG, "%s: the TLS handshake failed: %s", repr(socket), str(error))

    async def end(self) -> None:
        """Terminates what is open and lets async handlers say their last words."""
        self._engine.end()
        for _ in range(2):
            if self._tasks:
                waiting = [task for tasks in self._tasks.values() for task in tasks]
                _, late = await asyncio.wait(waiting, timeout=_LAST_WORDS)
                for task in late:
                    task.cancel()
        # Those who do not even listen to that are left behind.
        self._leave_behind()

    def end_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        """Terminates what is open. The loop does not run, so neither do async handlers."""
        # The garbage collector clears weak references before it has a loop closed.
        self._loop = weakref.ref(loop)
        self._runs_tasks = False
        self._engine.end()
        self._leave_behind()

    def stop(self) -> None:
        """Stops a loop that was inherited from a parent process."""
        self._living_loop().stop()

    def _leave_behind(self) -> None:
        """Tells sockets of their end although coroutines of their handlers still wait."""
        left, self._tasks = self._tasks, {}
        for socket, tasks in left.items():
            for _ in tasks:
                self._engine.unhold()
            self._engine.end_without_waiting(socket)

    def let_go(self) -> None:
        """Parts host and engine, whose references to each other would keep both alive."""
        self._engine.attach(None)
        del self._engine

    def _living_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        if loop is None:
            raise RuntimeError("the event loop of this socket is gone")
        return loop

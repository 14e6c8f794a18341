"""What the native engine asks of the event loop it runs in: tasks, futures, a place for errors."""

from __future__ import annotations

import asyncio
import functools
import logging
import weakref
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from ._core import Engine, Socket

_log = logging.getLogger("mantou")

# Seconds that async `close` handlers get when the loop ends.
_LAST_WORDS = 1.0


class Host:
    """Stands for one event loop towards its engine.

    The loop is held weakly: it owns the engine, not the other way round.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
        self._loop = weakref.ref(loop)
        self._engine = engine
        self._tasks: set[asyncio.Task[Any]] = set()
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

    def future(self) -> asyncio.Future[None]:
        return self._living_loop().create_future()

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, object],
        socket: Socket[Any],
        stage: int,
        cause: BaseException | None,
    ) -> None:
        """Runs an async handler. Its end counts as the handler's end."""
        if not self._runs_tasks:
            coroutine.close()
            # By its text: a record that is kept must not keep the socket.
            _log.warning(
                "the loop was closed without shutdown_asyncgens(): %s could not run",
                repr(coroutine),
            )
            return
        task = self._living_loop().create_task(coroutine)
        self._tasks.add(task)
        self._engine.hold()
        task.add_done_callback(functools.partial(self._finished, socket, stage, cause))

    def _finished(
        self,
        socket: Socket[Any],
        stage: int,
        cause: BaseException | None,
        task: asyncio.Task[Any],
    ) -> None:
        self._tasks.discard(task)
        self._engine.unhold()
        result, error = None, None
        # A handler that was cancelled has decided nothing: what is to happen by default does.
        if not task.cancelled():
            error = task.exception()
            result = task.result() if error is None else None
        self._engine.handler_finished(socket, stage, cause, result, error)

    def report(self, message: str, error: BaseException, about: object) -> None:
        """Hands an exception that nobody else wants to the loop's exception handler."""
        context: dict[str, Any] = {"message": f"mantou: {message}", "exception": error}
        if about is not None:
            # asyncio's name for whatever the message is about.
            context["protocol"] = about
        self._living_loop().call_exception_handler(context)

    def starved(self, error: BaseException) -> None:
        _log.warning("accepting connections rests until resources are free again: %s", error)

    async def end(self) -> None:
        """Terminates what is open and lets async handlers say their last words."""
        self._engine.end()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=_LAST_WORDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def end_at_once(self) -> None:
        """Terminates what is open. The loop does not run, so neither do async handlers."""
        self._runs_tasks = False
        self._engine.end()

    def stop(self) -> None:
        """Stops a loop that was inherited from a parent process."""
        self._living_loop().stop()

    def let_go(self) -> None:
        """Parts host and engine, whose references to each other would keep both alive."""
        self._engine.attach(None)
        del self._engine

    def _living_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        if loop is None:
            raise RuntimeError("the event loop of this socket is gone")
        return loop

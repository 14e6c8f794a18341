"""Runs a command's coroutine, and ends it in order at Ctrl-C and at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import mantou

from .endings import Code, Failure

T = TypeVar("T")


def run(work: Coroutine[Any, Any, Code | None], stop: Callable[[], object] | None = None) -> Code:
    """Runs it on mantou's loop; its exit code.

    :param stop: what SIGTERM calls, instead of cancelling the work.
    """
    code: Code | None = None
    terminated = False

    async def until_told() -> None:
        nonlocal code, terminated
        loop = asyncio.get_running_loop()
        loop.set_default_executor(_Unawaited())
        task = asyncio.current_task()
        assert task is not None

        def end() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, stop or end)
        code = await work

    # Ctrl-C may come before any of it has begun.
    main = until_told()
    try:
        with closing(work), closing(main), _hearing_ctrl_c():
            mantou.run(main)
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    except asyncio.CancelledError:
        if not terminated:
            raise
        return Code.TERMINATED
    except BrokenPipeError as error:
        raise Failure(Code.NO_READER) from error
    return code or Code.FINE


class _Unawaited(ThreadPoolExecutor):
    """Threads that the end does not wait for: to look up a name may take a minute."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        """Calls it in a thread of its own."""
        future = Future[T]()

        def call() -> None:
            try:
                future.set_result(fn(*args, **options))
            except BaseException as error:  # as the executor's own threads do
                future.set_exception(error)

        if future.set_running_or_notify_cancel():
            threading.Thread(target=call, daemon=True).start()
        return future


@contextmanager
def _hearing_ctrl_c() -> Generator[None, None, None]:
    """Has Ctrl-C be what asyncio's runner builds on, unless the caller has it ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

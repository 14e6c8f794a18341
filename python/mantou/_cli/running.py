"""Runs a command's coroutine, and ends it in order at Ctrl-C and at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Generator
from contextlib import closing, contextmanager
from typing import Any

import mantou

from .endings import Code, Failure


def run(work: Coroutine[Any, Any, Code | None], stop: Callable[[], object] | None = None) -> Code:
    """Runs it on mantou's loop; its exit code.

    :param stop: what SIGTERM calls, instead of cancelling the work.
    """
    code: Code | None = None
    terminated = False

    async def until_told() -> None:
        nonlocal code, terminated
        loop = asyncio.get_running_loop()
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

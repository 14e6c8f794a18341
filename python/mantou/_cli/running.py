"""Runs a command's coroutine, and ends it in order at Ctrl-C and at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
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

    try:
        mantou.run(until_told())
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    except asyncio.CancelledError:
        if not terminated:
            raise
        return Code.TERMINATED
    except BrokenPipeError as error:
        raise Failure(Code.NO_READER) from error
    return code or Code.FINE

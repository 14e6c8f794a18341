"""stdin and stdout: as something to await, and for results.

A thread of its own waits for each: regular files cannot be polled, and descriptors that others
share (a terminal's is the shell's, too) must not be made non-blocking. Others may have made them
so: then they are waited for.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from .endings import Code, Failure, reason

CHUNK = 256 * 1024


class Input:
    """Bytes from a descriptor, read only when asked for."""

    def __init__(self, number: int, name: str = "stdin") -> None:
        self._number = number
        self._name = name
        self._worker = _Worker()

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        try:
            data: bytes = await self._worker.do(lambda: _read(self._number))
        except OSError as error:
            raise Failure(Code.FAILED, f"{self._name}: {reason(error)}") from error
        return data


class Output:
    """A descriptor to write to, at the pace of whoever reads it."""

    def __init__(self, number: int, name: str = "stdout") -> None:
        self._number = number
        self._name = name
        self._worker = _Worker()

    async def write(self, data: bytes) -> None:
        """Returns when all of it was taken."""
        with _written(self._name):
            await self._worker.do(lambda: _write_all(self._number, data))

    async def finish(self) -> None:
        """Others may write to it as well: it stays open."""


def show(text: str) -> None:
    """Writes a result to stdout, past Python's buffer: that would fail at the end of the process.

    :raises Failure: it cannot be written, or nobody reads it.
    """
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    with _written("stdout"):
        _write_all(1, f"{text}\n".encode(encoding, "backslashreplace"))


@contextmanager
def _written(name: str) -> Generator[None, None, None]:
    try:
        yield
    except BrokenPipeError:
        raise Failure(Code.NO_READER) from None
    except OSError as error:
        raise Failure(Code.FAILED, f"{name}: {reason(error)}") from error


def _read(number: int) -> bytes:
    while True:
        try:
            return os.read(number, CHUNK)
        except BlockingIOError:
            select.select([number], [], [])


def _write_all(number: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(number, view) :]
        except BlockingIOError:
            select.select([], [number], [])


class _Worker(threading.Thread):
    """Does one blocking call after another. Nobody waits for it at the end of the process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]]
        self._calls = queue.SimpleQueue()

    async def do(self, call: Callable[[], Any]) -> Any:
        if not self.is_alive():
            self.start()
        done = asyncio.get_running_loop().create_future()
        self._calls.put((call, done))
        return await done

    def run(self) -> None:
        while True:
            call, done = self._calls.get()
            result, error = None, None
            try:
                result = call()
            except OSError as problem:
                error = problem
            try:
                done.get_loop().call_soon_threadsafe(_settle, done, result, error)
            except RuntimeError:
                return  # the loop is closed: the command has ended


def _settle(done: asyncio.Future[Any], result: object, error: OSError | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)

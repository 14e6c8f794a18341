"""Several addresses, one connection: attempts run side by side until the first one succeeds.

RFC 8305 ("Happy Eyeballs"), section 5: the next attempt starts 250 ms after the one before, or as
soon as that one has failed. Nobody waits for a dead address, and the losers are closed.
"""

from __future__ import annotations

import asyncio
import errno
import functools
from collections import deque
from collections.abc import Iterable

from . import _bind
from ._addresses import SocketAddress, shown_address
from ._core import Attempt, Engine
from ._options import Way
from .errors import locate

STAGGER = 0.25  # seconds

Candidate = tuple[int, SocketAddress]
"""An address family and an address in it."""


class Race:
    """The attempts of one connect()."""

    def __init__(self, engine: Engine, way: Way) -> None:
        self._engine = engine
        self._way = way
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Candidate] = deque()
        self._running: dict[Candidate, tuple[Attempt, float]] = {}
        self._failures: list[OSError] = []
        self._notes: list[str] = []
        self._next_start: asyncio.TimerHandle | None = None
        self._winner: asyncio.Future[Attempt] = self._loop.create_future()

    async def run(self, candidates: Iterable[Candidate]) -> Attempt:
        """The first attempt that succeeds; else the failure of the first one, with a note each."""
        self._waiting.extend(candidates)
        self._start_next()
        try:
            return await self._winner
        except asyncio.CancelledError:
            # It may have been won in the same moment.
            won = self._winner.done() and not self._winner.cancelled()
            if won and self._winner.exception() is None:
                self._winner.result().cancel()
            raise
        finally:
            self._stop()

    def annotate(self, error: OSError) -> None:
        """Adds what became of each attempt, if there was more than one."""
        if len(self._notes) > 1:
            for note in self._notes:
                error.add_note(note)

    def _start_next(self) -> None:
        """Starts attempts until one is under way."""
        self._cancel_timer()
        while self._waiting:
            candidate = self._waiting.popleft()
            started = self._loop.time()
            try:
                bound = _bind.for_connecting(self._way, candidate[0])
                attempt = self._engine.connect(candidate[1], bound, None)
            except OSError as error:
                self._record(candidate, started, error)
                continue
            except Exception as error:
                # The resolver's answer was none; whoever waits is told, not the timer.
                self._lose(error)
                return
            if attempt.connected:
                self._win(attempt)
                return
            finished: asyncio.Future[None] = self._loop.create_future()
            finished.add_done_callback(functools.partial(self._finished, candidate))
            attempt.follow(finished)
            self._running[candidate] = (attempt, started)
            if self._waiting and not self._takes_turns():
                self._next_start = self._loop.call_later(STAGGER, self._start_next)
            return
        if not self._running:
            failure = self._failures[0]
            self.annotate(failure)
            self._lose(failure)

    def _takes_turns(self) -> bool:
        """A local port that is ours alone can be used by one attempt at a time."""
        return self._way.exclusive and self._way.local_port > 0

    def _finished(self, candidate: Candidate, finished: asyncio.Future[None]) -> None:
        error = finished.exception()
        if candidate not in self._running:
            # The race was over before we heard of it.
            return
        attempt, started = self._running.pop(candidate)
        if isinstance(error, OSError):
            self._record(candidate, started, error)
            self._start_next()
        else:
            self._win(attempt)

    def _win(self, attempt: Attempt) -> None:
        if self._winner.done():
            attempt.cancel()
        else:
            self._winner.set_result(attempt)

    def _lose(self, error: Exception) -> None:
        if not self._winner.done():
            self._winner.set_exception(error)

    def _record(self, candidate: Candidate, started: float, error: OSError) -> None:
        locate(error, shown_address(*candidate[1][:2]))
        self._failures.append(error)
        name = errno.errorcode.get(error.errno or 0, "no errno")
        self._note(candidate, started, f"{error.strerror} ({name})")

    def _note(self, candidate: Candidate, started: float, what: str) -> None:
        host, port = candidate[1][:2]
        milliseconds = (self._loop.time() - started) * 1000
        self._notes.append(f"{host} port {port}: {what} after {milliseconds:.1f} ms")

    def _stop(self) -> None:
        self._cancel_timer()
        for candidate, (attempt, started) in self._running.items():
            self._note(candidate, started, "no answer")
            attempt.cancel()
        self._running.clear()

    def _cancel_timer(self) -> None:
        if self._next_start is not None:
            self._next_start.cancel()
            self._next_start = None

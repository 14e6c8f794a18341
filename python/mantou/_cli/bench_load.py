"""The load of `mantou bench`: connections that ask, and when they do."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import mantou

from .endings import reason
from .histogram import Histogram

# Seconds before a message is due in which the loop no longer waits, but looks again and again.
_SPIN = 0.002
# So many waits of a connection are recorded one by one.
_RECORDED = 10_000
_FINISHED = "the server has finished"
# Nanoseconds that a message may be late by our own fault.
_LATE = 1_000_000


class Asker:
    """What belongs to a connection. Times are in nanoseconds."""

    __slots__ = ("began", "due", "left", "socket")

    def __init__(self, socket: mantou.Socket[Any]) -> None:
        self.socket = socket
        self.began = 0
        # Bytes of the answer that have not come yet; 0 while it asks nothing.
        self.left = 0
        # When the next message is to be sent: of the open loop.
        self.due = 0


class Load(mantou.SocketHandler[Any]):
    """The handlers of all connections, and what they have measured."""

    def __init__(self, size: int) -> None:
        self.message = b"m" * size
        self.size = size
        self.askers: list[Asker] = []
        self.latencies = Histogram()
        self.errors: Counter[str] = Counter()
        self.alive = 0
        self.pace: Turns | Rate
        self.stopped = False
        self.answered = 0
        # Answers that came before the end, which the rate is made of.
        self.in_time = 0
        self.wake: asyncio.Future[None] | None = None

    def add(self, socket: mantou.Socket[Any]) -> None:
        """One more connection."""
        socket.data = Asker(socket)
        self.askers.append(socket.data)
        if socket.fileno() < 0:
            self.errors[_FINISHED] += 1  # at once, before it was one of ours
        else:
            self.alive += 1

    def ask(self, asker: Asker, began: int) -> None:
        """Sends a message whose latency counts from `began`."""
        asker.began = began
        asker.left = self.size
        asker.socket.write_all(self.message)

    def data(self, socket: mantou.Socket[Any], data: Any) -> None:
        asker: Asker | None = socket.data
        if asker is None or len(data) > asker.left:
            self.errors["it sent more than it got"] += 1
            socket.terminate()
            return
        asker.left -= len(data)
        if asker.left:
            return
        now = time.perf_counter_ns()
        self.latencies.record(now - asker.began)
        self.answered += 1
        if self.stopped:
            self._look()
        else:
            self.in_time += 1
            self.pace.answered(asker, now)

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
        if socket.data is None:  # it never became one of ours: connect() tells why
            return
        self.alive -= 1
        if not self.stopped or error is not None:
            self.errors[reason(error) if error is not None else _FINISHED] += 1
        if self.stopped or not self.alive:
            self._look()

    def unanswered(self) -> int:
        """Messages that were sent, and whose answer has not come. As latency counts their wait."""
        waiting = [asker for asker in self.askers if asker.left]
        now = time.perf_counter_ns()
        for asker in waiting:
            if asker.socket.fileno() >= 0:
                self.latencies.record(now - asker.began)
        return len(waiting)

    async def finished(self, patience: float) -> None:
        """Returns when all answers have come, and after `patience` seconds at most."""
        self.wake = asyncio.get_running_loop().create_future()
        self._look()
        await asyncio.wait({self.wake}, timeout=patience)

    async def goodbye(self, patience: float) -> None:
        """Has the connections end in order, if the server does so within `patience` seconds."""
        for asker in self.askers:
            asker.socket.end()
        await asyncio.wait([asker.socket.closed() for asker in self.askers], timeout=patience)

    def agreed(self) -> dict[str, Any] | None:
        """Version and cipher of TLS."""
        for asker in self.askers:
            cipher = asker.socket.get_cipher()
            if cipher is not None:
                return {"version": cipher["version"], "cipher": cipher["name"]}
        return None

    def terminate(self) -> None:
        """Ends all connections."""
        self.stopped = True
        for asker in self.askers:
            asker.socket.terminate()

    def _look(self) -> None:
        waits = any(asker.left and asker.socket.fileno() >= 0 for asker in self.askers)
        if self.wake is not None and not self.wake.done() and not (self.alive and waits):
            self.wake.set_result(None)


class Turns:
    """The closed loop: the next message follows the answer."""

    late = 0

    def __init__(self, load: Load) -> None:
        self._load = load
        load.pace = self

    def begin(self, now: int) -> None:
        """Has each connection ask."""
        for asker in self._load.askers:
            if asker.socket.fileno() >= 0:
                self._load.ask(asker, now)

    def answered(self, asker: Asker, now: int) -> None:
        """An answer has come."""
        self._load.ask(asker, now)

    def stop(self) -> None:
        """Has nobody ask any more."""
        self._load.stopped = True

    def unsent(self) -> int:
        """Messages that were due and not sent: there are none."""
        return 0


class Rate:
    """The open loop: messages are due at fixed times, the connections take turns.

    One whose answer is late sends the next as soon as it can, and its latency counts from when it
    was due.
    """

    def __init__(self, load: Load, rate: int) -> None:
        self._load = load
        self._rate = rate
        self._began = 0
        self._next = 0
        self._step = 0
        self._end = 0
        # Messages that were sent late, and not because an answer was.
        self.late = 0
        load.pace = self

    def begin(self, now: int) -> None:
        """Has the first message be due now."""
        self._began = now
        askers = self._load.askers
        self._step = round(1e9 * len(askers) / self._rate)
        for number, asker in enumerate(askers):
            asker.due = now + round(1e9 * number / self._rate)
        self._tick()

    def _tick(self) -> None:
        load = self._load
        if load.stopped:
            return
        now = time.perf_counter_ns()
        askers = load.askers
        while (due := self._began + round(1e9 * self._next / self._rate)) <= now:
            asker = askers[self._next % len(askers)]
            self._next += 1
            if not asker.left:
                self.late += now - due > _LATE
                self._send(asker)
        # A timer comes up to a millisecond late, which would be taken for the server's latency.
        loop = asyncio.get_running_loop()
        left = (due - time.perf_counter_ns()) / 1e9
        if left > _SPIN:
            loop.call_later(left - _SPIN, self._tick)
        else:
            loop.call_soon(self._tick)

    def answered(self, asker: Asker, now: int) -> None:
        """An answer has come: what has become due meanwhile goes out at once."""
        if asker.due <= now:
            self._send(asker)

    def _send(self, asker: Asker) -> None:
        if asker.socket.fileno() < 0:
            return
        due = asker.due
        asker.due += self._step
        self._load.ask(asker, due)

    def stop(self) -> None:
        """Has nobody ask any more."""
        self._end = time.perf_counter_ns()
        self._load.stopped = True

    def unsent(self) -> int:
        """Messages that were due and not sent. As latency counts their wait until the end."""
        total = 0
        for asker in self._load.askers:
            if asker.due > self._end:
                continue
            number = (self._end - asker.due) // self._step + 1
            total += number
            if asker.socket.fileno() >= 0:
                # Of many, one stands for some.
                stride = number // _RECORDED + 1
                for first in range(0, number, stride):
                    waited = self._end - asker.due - first * self._step
                    self._load.latencies.record(waited, min(stride, number - first))
        return total

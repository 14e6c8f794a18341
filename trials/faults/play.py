"""Plays one conversation with every fault: the process that has the shim in it.

python -m trials.faults.play CONVERSATION LINK LOOP PATTERN SEEDS SKIP [briefly]

Prints a line of JSON for each case, before it is played and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import fnmatch
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mantou
from trials.conversations import CONVERSATIONS, Conversation, Stage
from trials.faults.errnos import SHORTAGES, TABLE, is_passing
from trials.faults.shim import Fault, Shim
from trials.verdict import complaints, has_carried_all, is_whole

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "mantou": mantou.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}
SIZE = 200_000
# Bounds each case; far more than any needs.
LIMIT = 10.0
# Seconds of the processor that a conversation may take. It needs a hundredth.
CPU_LIMIT = 0.15
# How long a shortage lasts, and how often the loop may look meanwhile whether it is over.
SHORTAGE = 0.3
LOOKS = 100
_STOPPED = "Event loop stopped before Future completed."
# Seconds until nothing of a case may be held any more.
LINGERS = 3.0
# A conversation that has gone on for so long when a case is over is stuck.
STUCK = 30.0


class Case:
    """One conversation with one fault."""

    def __init__(self, shim: Shim, conversation: Conversation, link: str, loop: str) -> None:
        self._shim = shim
        self._conversation, self._link, self._loop = conversation, link, loop
        self.seen: dict[str, int] = {}
        self.hits = 0
        self.unraisable: list[str] = []
        sys.unraisablehook = self._note_unraisable

    def _note_unraisable(self, what: Any) -> None:
        # asyncio's own loop says so where it could not be made.
        if not (self._loop == "asyncio" and "'_ssock'" in str(what.exc_value)):
            self.unraisable.append(f"unraisable: {what.exc_value!r}")

    def play(self, fault: Fault) -> list[str]:
        """What is wrong with how it went."""
        gc.collect()
        before = _descriptors()
        found = self._play(fault)
        # What is still held, by an error's traceback or a thread that is just ending, is no leak.
        patience = time.monotonic() + LINGERS
        gc.collect()
        while (left := _descriptors() - before) and time.monotonic() < patience:
            gc.collect()
        if left:
            found.append(f"left open: {sorted(left)}")
        found += self.unraisable
        self.unraisable.clear()
        return found

    def _play(self, fault: Fault) -> list[str]:
        # A peer that reads little at a time has our side wait for it.
        stage = Stage(self._conversation, self._link, size=SIZE, slow=fault.seed % 2 == 1)
        named: list[BaseException] = []
        raised: list[BaseException] = []

        def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            # Servers of asyncio's say so, and go on.
            if context["message"] != "socket.accept() out of system resource":
                stage.told.reported.append(context["message"])
            if "exception" in context:
                named.append(context["exception"])

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(report)
            async with asyncio.timeout(LIMIT):
                await self._conversation.play(stage)

        cpu = time.thread_time()
        self._shim.arm(fault)
        try:
            with asyncio.Runner(loop_factory=LOOPS[self._loop]) as runner:
                runner.run(main())
        except BaseException as error:
            raised.append(error)
        finally:
            self.hits = self._shim.disarm()
        cpu = time.thread_time() - cpu
        self.seen = self._shim.seen()
        stage.leave()
        found = self._judge(fault, stage, named, raised)
        if cpu > CPU_LIMIT:
            found.append(f"{cpu:.2f} s of the processor")
        if fault.lasting and (looks := self.seen.get("epoll_wait", 0)) > LOOKS:
            found.append(f"it looked {looks} times whether it is over")
        return found

    def is_passing(self, fault: Fault) -> bool:
        """Whether nobody is to notice. Who waits for arrivals gets no second chance."""
        if self._conversation.peeks and fault.call == "recv" and fault.error != errno.EINTR:
            return False
        return is_passing(fault.call, fault.error)

    def _judge(
        self,
        fault: Fault,
        stage: Stage,
        named: list[BaseException],
        raised: list[BaseException],
    ) -> list[str]:
        told, peer = stage.told, stage.peer
        found = []
        for error in raised:
            if isinstance(error, TimeoutError) and error.errno is None:
                found.append("it hangs")
            elif isinstance(error, OSError):
                told.errors.append(error)
            elif fault.call != "epoll_wait" or str(error) != _STOPPED:
                # A loop that failed and is run again stops, where its first run was about to.
                # asyncio's own does as well.
                found.append(f"it raised {error!r}")
        if fault.call == "epoll_wait" and raised and self._conversation.ends_with_the_loop:
            told.closed = told.opened
        is_final = bool(fault.call) and not self.is_passing(fault)
        # A listener rests where the kernel cannot watch whom it has accepted, and logs that.
        is_quiet = self._conversation.quiet or fault.call == "epoll_ctl"
        if is_final and is_quiet and not told.opened and peer.error is not None:
            # Who connected knows.
            return found
        found += complaints(told, peer)
        if is_final:
            is_known = fault.error in _errnos([*told.errors, *named])
            if not (is_known or has_carried_all(told, peer)):
                found.append("the error has another name")
        elif not is_whole(told, peer):
            found.append("not whole")
        if found:
            found.append(f"told {told.errors} {told.reported}, the peer {peer.error!r}")
        return found


def faults(seen: dict[str, int], seeds: int, briefly: bool) -> Iterator[Fault]:
    """Every fault for a conversation that makes so many calls."""
    for call, count in seen.items():
        # The first calls and the last are each of another kind; those between are much alike.
        places = [1, count] if briefly else [1, 2, 3, 4, (count + 1) // 2, count - 1, count]
        for name in TABLE.get(call, ()):
            error = getattr(errno, name)
            for first in sorted({place for place in places if 1 <= place <= count}):
                yield Fault(call, error, first)
                if is_passing(call, error) and not briefly:
                    yield Fault(call, error, first, times=3)
            if error in SHORTAGES and is_passing(call, error):
                yield Fault(call, error, 1, lasting=SHORTAGE)
    for seed in range(1, seeds + 1):
        yield Fault(seed=seed)


def is_possible(conversation: Conversation, fault: Fault) -> bool:
    """Whether a kernel could do that: it does not announce once what is not there."""
    return not (conversation.peeks and (fault.call, fault.error) == ("recv", errno.EAGAIN))


def main(name: str, link: str, loop: str, *options: str) -> None:
    """Plays all that the pattern fits, but the first so many."""
    pattern, seeds, skip, *briefly = options
    logging.disable()
    conversation = next(it for it in CONVERSATIONS if it.name == name)
    case = Case(Shim(), conversation, link, loop)
    # What is made once and stays is no leak; and afterwards it is known what is called how often.
    for _ in range(3):
        if found := case.play(Fault()):
            print(json.dumps({"fault": "nothing", "found": found}), flush=True)
            return
    # What was imported stays; without it the many collections take a millisecond each.
    gc.collect()
    gc.freeze()
    plan = [
        fault
        for fault in faults(case.seen, int(seeds), bool(briefly))
        if fnmatch.fnmatch(str(fault), pattern) and is_possible(conversation, fault)
    ]
    for fault in plan[int(skip) :]:
        print(json.dumps({"begun": str(fault)}), flush=True)
        faulthandler.dump_traceback_later(STUCK, exit=True)
        found = case.play(fault)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"fault": str(fault), "hits": case.hits, "found": found}), flush=True)


def _errnos(errors: list[BaseException]) -> set[int]:
    """The numbers of all errors, and of what they are because of."""
    found: set[int] = set()
    for error in errors:
        one: BaseException | None = error
        while one is not None:
            if isinstance(one, OSError) and one.errno is not None:
                found.add(one.errno)
            one = one.__cause__ or one.__context__
    return found


def _descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{entry.name} {os.readlink(entry)}")
    return {one for one in found if not one.endswith("/fd")}


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What is tried, and what has to come of it."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import time
from collections.abc import Awaitable, Callable

from trials.conversations import Stage
from trials.network.forwarder import Conditions
from trials.network.way import Way

# A vanished peer is found within that time; the kernel's timers may be so much late.
DEAD_AFTER = 4.0
LATE = 5.0

Act = Callable[[Way, list[Stage]], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Trial:
    """All conversations at once, over a way that is like that."""

    name: str
    conditions: Conditions
    midway: Act | None = None
    """What happens when all of them are on their way."""
    limit: float = 60.0
    dies: bool = False
    """Our side has to find out that there is no peer any more."""


# Slow enough that something can happen meanwhile.
_SLOW = Conditions(delay=0.005, rate=2_000_000)


async def narrow(way: Way, stages: list[Stage]) -> None:
    """The largest packet becomes smaller, and larger again."""
    for size in (576, 1280, 576, 1500):
        way.set_mtu(size)
        await further(stages)


def outage(near: bool, seconds: float) -> Act:
    """An end is down for a while."""

    async def act(way: Way, stages: list[Stage]) -> None:
        way.set_up(near, False)
        await asyncio.sleep(seconds)
        assert not all(stage.peer.came.received == stage.size for stage in stages)
        way.set_up(near, True)

    return act


async def vanish(way: Way, stages: list[Stage]) -> None:
    """Nothing arrives any more, and nothing comes back."""
    way.become(Conditions(down=True))


async def swallow(way: Way, stages: list[Stage]) -> None:
    """Large packets vanish for a while; small ones, acknowledgements among them, do not."""
    way.become(dataclasses.replace(_SLOW, largest=400))
    await asyncio.sleep(5)
    way.become(_SLOW)


async def under_way(stages: list[Stage]) -> None:
    """Returns when all of them carry bytes, in one direction at least."""
    while not all(stage.told.came.received or stage.peer.came.received for stage in stages):
        await asyncio.sleep(0.01)


async def further(stages: list[Stage]) -> None:
    """Returns when a tenth more has been carried, or all of it."""
    whole = sum(stage.size for stage in stages)
    goal = min(whole, _carried(stages) + whole // 10)
    while _carried(stages) < goal:
        await asyncio.sleep(0.01)


def _carried(stages: list[Stage]) -> int:
    return sum(stage.peer.came.received for stage in stages)


TRIALS = [
    Trial("down for 40 s at our end", _SLOW, outage(True, 40.0), limit=150.0),
    Trial("down for 40 s at the peer's end", _SLOW, outage(False, 40.0), limit=150.0),
    Trial("late", Conditions(delay=0.04, jitter=0.02)),
    Trial("lossy", Conditions(delay=0.005, loss=0.03)),
    Trial("in disorder", Conditions(delay=0.01, jitter=0.005, reorder=0.25)),
    Trial("doubled", Conditions(delay=0.005, duplicate=0.2)),
    Trial("corrupted", Conditions(delay=0.005, corrupt=0.03)),
    Trial(
        "all of that",
        Conditions(delay=0.02, jitter=0.01, loss=0.01, reorder=0.1, duplicate=0.05, corrupt=0.01),
    ),
    Trial("of changing width", _SLOW, narrow),
    Trial("gone", _SLOW, vanish, limit=40.0, dies=True),
    Trial("a black hole for what is large", _SLOW, swallow),
]


def judge_death(stage: Stage, vanished: float) -> list[str]:
    """Whether our side has found out in time, and says the right thing."""
    told = stage.told
    found = []
    if not any(getattr(error, "errno", None) == errno.ETIMEDOUT for error in told.errors):
        found.append(f"it is told {told.errors}, and not that the peer is gone")
    if (took := told.closed_at - vanished) > DEAD_AFTER + LATE:
        found.append(f"it took {took:.1f} s to be found")
    return found


def now() -> float:
    """The clock of `Told.closed_at`."""
    return time.monotonic()

"""What one kind of peer costs one victim."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from tests.hostile.kinds import Kind
from tests.hostile.victim import Live, Victim, victim


@dataclass(frozen=True)
class Cost:
    """Of one peer, or of one byte."""

    kib: float
    """What is allocated for each peer while all of them are there."""
    us: float
    """Of the processor, for each peer or for each byte that it sent."""
    pulse: float
    """Seconds: the median time of somebody else's echo meanwhile."""
    quiet: float
    """The same before: what it takes on this machine, with all that it has to do besides."""
    left: float
    """KiB that are still allocated for each when all are gone."""
    ends: dict[str, int]
    """What ended its connections: names of errors, each with a number."""


def cost_of(kind: Kind, program: str, link: str, count: int) -> Cost:
    """The same of a victim of its own."""
    with victim(program, link, **kind.options) as attacked:
        live = Live(attacked)
        # Once for what is made only once, and stays.
        measure(kind, attacked, live, max(1, count // 20))
        cost = measure(kind, attacked, live, count)
        live.close()
        return cost


def measure(kind: Kind, attacked: Victim, live: Live, count: int) -> Cost:
    times: list[float] = []
    quiet = statistics.median(live.ping() for _ in range(9))
    before = attacked.settled(live)
    with kind.attack(attacked, count, lambda: times.append(live.ping())) as sent:
        during = attacked.settled(live)
    while attacked.figures().connections > before.connections:
        live.ping()
    after = attacked.settled(live)
    units = sent if kind.per == "byte" else count
    ends = {name: n - before.ends.get(name, 0) for name, n in after.ends.items()}
    return Cost(
        kib=(during.held - before.held) / 1024 / count,
        us=(during.seconds - before.seconds) * 1e6 / max(units, 1),
        pulse=statistics.median(times),
        quiet=quiet,
        left=(after.held - before.held) / 1024 / count,
        ends={name: n for name, n in ends.items() if n},
    )


def excess(kind: Kind, link: str, cost: Cost, count: int) -> list[str]:
    """What is above the kind's bounds."""
    bound = kind.bound_over(link)
    found = []
    # A table that grew for all of them is no peer's.
    if cost.kib > bound.kib + SLACK / count:
        found.append(f"holds {cost.kib:.1f} KiB, more than {bound.kib:g}")
    if cost.us > bound.us:
        found.append(f"takes {cost.us:.3f} us, more than {bound.us:g}")
    if cost.pulse > kind.pulse + 5 * cost.quiet:
        found.append(f"lets others wait {cost.pulse * 1e3:.0f} ms, more than {kind.pulse * 1e3:g}")
    if cost.left * count > LEFT + LEFT_EACH * count:
        found.append(f"leaves {cost.left:.2f} KiB of each of {count}")
    return found


# KiB. What is read into, what the allocator keeps with its own, error messages that are kept once.
SLACK, LEFT, LEFT_EACH = 64, 512, 0.5

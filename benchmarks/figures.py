"""From rounds to figures: medians, and ratios of rounds that were measured side by side."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peers import BY_NAME, PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers import Peer
    from rows import Contender, Row
    from scenarios import Scenario

    Peers = Sequence[Peer | Contender]

NOTHING = float("nan")
OTHER_PYTHON = [
    peer.name
    for peer in PEERS
    if peer.program.endswith(".py") and not peer.program.startswith("mantou")
]

Results = dict[str, Any]
"""Of a scenario: by a peer's name its rounds, or the error."""


@dataclass
class Summary:
    """A peer's rounds in a scenario, as medians; the ratio is that to the base."""

    name: str
    label: str
    cpu: float
    ratio: float
    lowest: float
    highest: float
    per_second: float
    p50: float
    p99: float
    p999: float
    rss: int
    busy: float
    load_busy: float
    resumed: float


@dataclass
class Rival:
    """Who mantou is compared with, and the median of mantou's ratio to it."""

    name: str
    label: str
    ratio: float


def median(results: Results, name: str, key: str) -> float:
    """Return a peer's figure; NaN if there is none."""
    rounds = results.get(name, {}).get("rounds")
    return statistics.median(each[key] for each in rounds) if rounds else NOTHING


def ratios(results: Results, name: str, base: str, key: str) -> list[float]:
    """Return the ratio of one peer to another in each round; one NaN if there is none."""
    pairs = zip(
        results.get(name, {}).get("rounds", ()),
        results.get(base, {}).get("rounds", ()),
        strict=False,
    )
    found = [mine[key] / other[key] for mine, other in pairs if other[key] > 0]
    return found or [NOTHING]


def rival(results: Results, names: list[str], key: str) -> Rival | None:
    """Return who of these mantou looks worst beside."""
    found = [
        Rival(name, BY_NAME[name].label, statistics.median(ratios(results, "mantou", name, key)))
        for name in names
    ]
    found = [each for each in found if not math.isnan(each.ratio)]
    return max(found, key=lambda each: each.ratio, default=None)


def summarise(results: Results, among: Peers = PEERS, base: str = "floor") -> list[Summary]:
    """Return the summaries of the peers that have any rounds."""
    found = []
    for peer in among:
        if not results.get(peer.name, {}).get("rounds"):
            continue
        to_base = ratios(results, peer.name, base, "cpu_us")
        found.append(
            Summary(
                name=peer.name,
                label=peer.label,
                cpu=median(results, peer.name, "cpu_us"),
                ratio=statistics.median(to_base),
                lowest=min(to_base),
                highest=max(to_base),
                per_second=median(results, peer.name, "per_second"),
                p50=median(results, peer.name, "p50_us"),
                p99=median(results, peer.name, "p99_us"),
                p999=median(results, peer.name, "p999_us"),
                rss=results[peer.name]["rss"],
                busy=median(results, peer.name, "busy"),
                load_busy=median(results, peer.name, "load_busy"),
                resumed=median(results, peer.name, "resumed"),
            )
        )
    return found


def held(results: Results, among: Peers = PEERS) -> list[tuple[str, str, list[float]]]:
    """Return name, label and bytes per idle connection of each round, the smallest first."""
    found = [
        (peer.name, peer.label, [each["bytes"] for each in results[peer.name]["rounds"]])
        for peer in among
        if results.get(peer.name, {}).get("rounds")
    ]
    return sorted(found, key=lambda each: statistics.median(each[2]))


def failures(results: Results, among: Peers = PEERS) -> dict[str, str]:
    labels = {peer.name: peer.label for peer in among}
    return {labels[n]: r["error"] for n, r in results.items() if "error" in r}


def table(
    scenario: Scenario | Row, results: Results, among: Peers = PEERS, base: str = "floor"
) -> str:
    """Return a table for the terminal."""
    if scenario.load == "hold":
        lines = [f"  {'':<26}{'bytes':>10}{'lowest':>10}{'highest':>10}"]
        lines += [
            f"  {label:<26}{statistics.median(each):>10,.0f}{min(each):>10,.0f}{max(each):>10,.0f}"
            for _, label, each in held(results, among)
        ]
    else:
        lines = [
            f"  {'':<26}{'us/' + scenario.unit:>14}{'ratio':>8}{'lowest':>8}{'highest':>8}"
            f"{'per second':>12}{'p50':>9}{'p99':>9}{'p99.9':>10}{'busy':>6}{'load':>6}"
            + f"{'resumed':>9}"
            * scenario.resume
        ]
        lines += [
            f"  {s.label:<26}{s.cpu:>14.3f}{s.ratio:>8.3f}{s.lowest:>8.3f}{s.highest:>8.3f}"
            f"{s.per_second:>12,.0f}{s.p50:>9,.0f}{s.p99:>9,.0f}{s.p999:>10,.0f}"
            f"{s.busy:>6.0%}{s.load_busy:>6.0%}" + f"{s.resumed:>9.0%}" * scenario.resume
            for s in summarise(results, among, base)
        ]
    lines += [f"  {label}: failed: {error}" for label, error in failures(results, among).items()]
    return "\n".join(lines)

"""The result as a page: tables and plots out of results.json.

python benchmarks/report.py [FOLDER]        writes the page again
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plots
from peers import BY_NAME, PEERS
from scenarios import SCENARIOS, Scenario


@dataclass
class Summary:
    """A peer's rounds in a scenario, as figures."""

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


def summarise(results: dict[str, Any]) -> list[Summary]:
    """Return the medians of the peers that have any; ratios are of each round to the floor's."""
    floor = results.get("floor", {}).get("rounds")
    found = []
    for peer in PEERS:
        rounds = results.get(peer.name, {}).get("rounds")
        if not rounds:
            continue
        ratios = [float("nan")]
        if floor:
            pairs = zip(rounds, floor, strict=False)
            ratios = [mine["cpu_us"] / base["cpu_us"] for mine, base in pairs if base["cpu_us"]]

        def median(key: str, rounds: list[dict[str, float]] = rounds) -> float:
            return statistics.median(each[key] for each in rounds)

        found.append(
            Summary(
                name=peer.name,
                label=peer.label,
                cpu=median("cpu_us"),
                ratio=statistics.median(ratios),
                lowest=min(ratios),
                highest=max(ratios),
                per_second=median("per_second"),
                p50=median("p50_us"),
                p99=median("p99_us"),
                p999=median("p999_us"),
                rss=results[peer.name]["rss"],
                busy=median("busy"),
                load_busy=median("load_busy"),
            )
        )
    return found


def failures(results: dict[str, Any]) -> dict[str, str]:
    return {BY_NAME[n].label: r["error"] for n, r in results.items() if "error" in r}


def table(scenario: Scenario, results: dict[str, Any]) -> str:
    """Return a table for the terminal."""
    lines = [
        f"  {'':<26}{'us/' + scenario.unit:>14}{'ratio':>8}{'lowest':>8}{'highest':>8}"
        f"{'per second':>12}{'p50':>9}{'p99':>9}{'p99.9':>10}{'busy':>6}{'load':>6}"
    ]
    lines += [
        f"  {s.label:<26}{s.cpu:>14.3f}{s.ratio:>8.3f}{s.lowest:>8.3f}{s.highest:>8.3f}"
        f"{s.per_second:>12,.0f}{s.p50:>9,.0f}{s.p99:>9,.0f}{s.p999:>10,.0f}"
        f"{s.busy:>6.0%}{s.load_busy:>6.0%}"
        for s in summarise(results)
    ]
    lines += [f"  {label}: {error}" for label, error in failures(results).items()]
    return "\n".join(lines)


def markdown_table(scenario: Scenario, results: dict[str, Any]) -> str:
    lines = [
        f"| {scenario.title} | CPU, µs per {scenario.unit} | ratio to C | lowest to highest |"
        f" {scenario.unit}s per second | p50 µs | p99 µs | p99.9 µs | RSS MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for s in sorted(summarise(results), key=lambda each: each.cpu):
        label = f"**{s.label}**" if s.name.startswith("mantou") else s.label
        spread = f"{s.lowest:.2f} to {s.highest:.2f}"
        ratio = f"{s.ratio:.2f}" if s.ratio == s.ratio else "-"
        lines.append(
            f"| {label} | {s.cpu:,.2f} | {ratio} | {spread if ratio != '-' else '-'} |"
            f" {s.per_second:,.0f} | {s.p50:,.0f} | {s.p99:,.0f} | {s.p999:,.0f} |"
            f" {s.rss / 2**20:,.0f} |"
        )
    for label, error in failures(results).items():
        lines.append(f"| {label} | failed: {error} | | | | | | | |")
    return "\n".join(lines)


def groups(result: dict[str, Any]) -> dict[str, list[Scenario]]:
    """Return the scenarios that were measured, by group, in order."""
    found: dict[str, list[Scenario]] = {}
    for scenario in SCENARIOS:
        if scenario.name in result["scenarios"]:
            found.setdefault(scenario.group, []).append(scenario)
    return found


def plot(title: str, scenarios: list[Scenario], result: dict[str, Any]) -> str:
    """Draw a group: a block of bars a scenario, as long as the CPU time is times the floor's."""
    blocks = []
    for scenario in scenarios:
        summaries = summarise(result["scenarios"][scenario.name])
        if any(s.ratio != s.ratio for s in summaries):  # no floor here: to the cheapest
            cheapest = min(s.cpu for s in summaries)
            for s in summaries:
                s.ratio, s.lowest, s.highest = s.cpu / cheapest, s.cpu / cheapest, s.cpu / cheapest
        bars = [
            plots.Bar(s.name, s.label, s.ratio, s.lowest, s.highest, f"{s.cpu:,.2f} µs")
            for s in sorted(summaries, key=lambda each: each.ratio)
        ]
        blocks.append(plots.Block(scenario.title, bars))
    return plots.draw(f"{title}: CPU time of the program under test, C epoll = 1", blocks)


def scale_table(scenarios: list[Scenario], result: dict[str, Any]) -> str:
    """Return how the cost grows with idle connections: each row to its own first column."""
    by_name = {
        s.name: {each.label: each for each in summarise(result["scenarios"][s.name])}
        for s in scenarios
    }
    lines = [
        "| CPU µs per message (to its own first) | "
        + " | ".join(s.title for s in scenarios)
        + " |",
        "|---|" + "--:|" * len(scenarios),
    ]
    for label in {label: None for each in by_name.values() for label in each}:
        first = by_name[scenarios[0].name].get(label)
        cells = []
        for scenario in scenarios:
            s = by_name[scenario.name].get(label)
            cells.append(
                f"{s.cpu:.2f}" + (f" ({s.cpu / first.cpu:.2f})" if first else "") if s else "-"
            )
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(result: dict[str, Any], files: dict[str, str]) -> str:
    machine, versions = result["machine"], result["versions"]
    pinned = "on different cores" if result["pinned"] else "not pinned"
    parts = [
        "# Benchmark",
        f"Measured on {result['date']}: {result['rounds']} interleaved rounds of"
        f" {result['seconds']:g} s each, program under test and load {pinned}. CPU time is user and"
        " system time of the program under test, all threads, divided by messages. Ratios are the"
        " median of the rounds' ratios to the C server, with the lowest and the highest. The load"
        " checks every byte that comes back. Under TLS: 1.3, TLS_AES_256_GCM_SHA384, X25519, an EC"
        " P-256 certificate; the C floor is OpenSSL. glibc's allocator is told, for every program,"
        " not to map memory anew for large reads: by default that doubles asyncio's cost, by"
        " chance. The C server has no idle timeouts; for connects the load generator is the floor.",
        f"```\n{result['command']}\n```",
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB,"
        f" {machine['kernel']}; load average before: {machine['load_average']}."
        " The numbers of another machine differ; ratios differ less.",
        "| | version |\n|---|---|\n" + "\n".join(f"| {k} | {v} |" for k, v in versions.items()),
    ]
    if result["missing"]:
        rows = (f"- {BY_NAME[name].label}: {why}" for name, why in result["missing"].items())
        parts.append("Missing here:\n\n" + "\n".join(rows))
    limits = (f"- {peer.label}: {peer.limits}" for peer in PEERS if peer.limits)
    parts.append("Not in every table:\n\n" + "\n".join(limits))
    for group, scenarios in groups(result).items():
        parts.append(f"## {group[0].upper()}{group[1:]}")
        parts.append(f"![{group}]({files[group]})")
        if group.endswith("scale") and len(scenarios) > 1:
            parts.append(scale_table(scenarios, result))
        parts += [markdown_table(s, result["scenarios"][s.name]) for s in scenarios]
    return "\n\n".join(parts) + "\n"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write the page and its plots."""
    files = {}
    for group, scenarios in groups(result).items():
        name = group.lower().replace(",", "").replace(" ", "-") + ".svg"
        (folder / name).write_text(plot(group[0].upper() + group[1:], scenarios, result))
        files[group] = name
    (folder / "README.md").write_text(page(result, files))


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    write(json.loads((place / "results.json").read_text()), place)

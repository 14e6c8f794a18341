"""The result as a page: tables and plots out of results.json.

python benchmarks/report.py [FOLDER]        writes the page again
"""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plots
import runs
from figures import OTHER_PYTHON, Results, failures, held, median, ratios, rival, summarise
from peers import BY_NAME, PEERS
from scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from figures import Peers
    from rows import Row

VARIANTS = ("mantou", "mantou-asyncio", "mantou-uvloop")
PROFILE = (
    "Where the time goes, what was tried, which goals are not reached: [PROFILE.md](../PROFILE.md)."
)
METHOD = (
    "For each scenario all programs run side by side and are measured in turn, in interleaved"
    " rounds. CPU time is user and system time of the program under test, all threads, divided by"
    " messages. Ratios are the median of the rounds' ratios (the same round of both), with the"
    " lowest and the highest. The load checks every byte that comes back. Under TLS: 1.3,"
    " TLS_AES_256_GCM_SHA384, X25519, an EC P-256 certificate; the C floor is OpenSSL."
    " Where a run says so, glibc's allocator has its defaults; in runs before it was told, for"
    " every program, not to map memory anew for large reads, which doubles asyncio's cost."
    " The C server has no idle timeouts; for connects the"
    " load generator is the floor. The numbers of another machine differ; ratios differ less."
)
MEMORY = (
    "Resident memory with 10,000 connections that are open and were never used, less that after"
    " 500 were opened and closed, divided by 10,000: the median of up to three processes."
    " The C server under TLS keeps OpenSSL's buffers, for speed."
)
RESUMED = (
    "Resumed handshakes: the last column is the share of the connections that were resumed. The"
    " load uses each ticket once: a server that gives no new one on a resumed connection resumes"
    " fewer."
)
INSTRUCTIONS = (
    "Echo on 50 connections, counted by callgrind: without noise, but without the kernel's part."
    " Its CPU has no AVX-512,"
    " which ciphers use elsewhere. Bun and Node compile as they run, and cannot be counted."
)


class Page:
    """Puts the page together, part by part."""

    peers: Peers = PEERS
    base, base_label = "floor", "C"
    known: Sequence[Scenario | Row] = SCENARIOS

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        self.runs = runs.distinct(result)
        self.labels = {peer.name: peer.label for peer in self.peers}
        self.scenarios = [s for s in self.known if s.name in result["scenarios"]]

    def results(self, scenario: Scenario) -> Results:
        found: Results = self.result["scenarios"][scenario.name]["results"]
        return found

    def mark(self, measured: dict[str, Any]) -> str:
        """Return which run it is from, if there are several."""
        return f" (run {self.runs.index(measured['run']) + 1})" if len(self.runs) > 1 else ""

    def groups(self) -> dict[str, list[Scenario]]:
        """Return the scenarios that were measured, by group, in order."""
        found: dict[str, list[Scenario]] = {}
        for scenario in self.scenarios:
            found.setdefault(scenario.group, []).append(scenario)
        return found

    def text(self) -> str:
        parts = ["# Benchmark", *self.summary(), PROFILE, "## How it was measured", METHOD]
        parts += [self.circumstances(number, run) for number, run in enumerate(self.runs, 1)]
        parts.append(self.versions())
        limits = (f"- {peer.label}: {peer.limits}" for peer in PEERS if peer.limits)
        parts.append("Not in every table:\n\n" + "\n".join(limits))
        for group, scenarios in self.groups().items():
            parts += [f"## {title(group)}", f"![{group}]({file_name(group)})"]
            if group.endswith("scale") and len(scenarios) > 1:
                parts.append(self.scale(scenarios))
            if scenarios[0].load == "hold":
                parts.append(MEMORY)
            parts += [self.table(scenario) for scenario in scenarios]
            if any(scenario.resume for scenario in scenarios):
                parts.append(RESUMED)
        if "instructions" in self.result:
            parts += self.instructions(self.result["instructions"])
        return "\n\n".join(parts) + "\n"

    def summary(self) -> list[str]:
        """Return all scenarios in short: what the goals are stated in."""
        timed = [s for s in self.scenarios if s.figure == "cpu_us"]
        single = [s for s in timed if s.connections == 1]
        memory = [s for s in self.scenarios if s.load == "hold"]
        parts = [
            "The last two columns are mantou's ratio to Bun and to the Python system that it looks"
            " worst beside: the median of the rounds' ratios, below 1 where mantou is lower. In"
            " bold is the lowest of these three, by those columns."
        ]
        for heading, scenarios, key in (
            ("CPU time, ratio to C", timed, "cpu_us"),
            ("p50 latency, ratio to C", single, "p50_us"),
            ("Idle memory, bytes per connection", memory, "bytes"),
        ):
            if scenarios:
                rows = [self.summary_row(scenario, key) for scenario in scenarios]
                columns = ["C", *(BY_NAME[name].label for name in VARIANTS), "Bun"]
                columns += ["best other Python", "mantou / Bun", "mantou / best Python"]
                lines = [f"| {heading} | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
                parts.append("\n".join([*lines, *rows]))
        return parts

    def summary_row(self, scenario: Scenario, key: str) -> str:
        results = self.results(scenario)

        def figure(name: str) -> str:
            if key == "bytes":
                return number(median(results, name, key), ",.0f")
            return number(statistics.median(ratios(results, name, "floor", key)), ".2f")

        bun, other = rival(results, ["bun"], key), rival(results, OTHER_PYTHON, key)
        worst = max((r for r in (bun, other) if r), key=lambda each: each.ratio, default=None)
        lowest = "mantou" if worst is None or worst.ratio <= 1 else worst.name

        def cell(name: str, label: str = "") -> str:
            content = f"{label} {figure(name)}".strip()
            return f"**{content}**" if name == lowest and content != "-" else content

        cells = [figure("floor"), *(cell(name) for name in VARIANTS), cell("bun")]
        cells.append(cell(other.name, other.label) if other else "-")
        cells += [f"{each.ratio:.2f}" if each else "-" for each in (bun, other)]
        measured = self.result["scenarios"][scenario.name]
        return f"| {scenario.title}{self.mark(measured)} | {' | '.join(cells)} |"

    def circumstances(self, count: int, run: dict[str, Any]) -> str:
        machine = run["machine"]
        text = (
            f"{f'Run {count}: ' * (len(self.runs) > 1)}{run['date']}, commit {run['commit']},"
            f" {run['method']}. {machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']}"
            f" GiB, {machine['kernel']}; load average before: {machine['load_average']}."
            f"\n\n```\n{run['command']}\n```"
        )
        for name, why in run["missing"].items():
            text += f"\n\nMissing: {self.labels[name]}: {why}"
        return text

    def versions(self) -> str:
        """Return the versions of everything; a column a run where they differ."""
        sets = [run["versions"] for run in self.runs]
        if all(each == sets[0] for each in sets):
            sets = sets[:1]
        names = list(dict.fromkeys(name for each in sets for name in each))
        heads = [f"run {n}" for n in range(1, len(sets) + 1)] if len(sets) > 1 else ["version"]
        lines = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
        lines += [f"| {n} | {' | '.join(each.get(n, '-') for each in sets)} |" for n in names]
        return "\n".join(lines)

    def table(self, scenario: Scenario) -> str:
        results = self.results(scenario)
        name = scenario.title + self.mark(self.result["scenarios"][scenario.name])
        heads = [name, f"CPU, µs per {scenario.unit}", f"ratio to {self.base_label}"]
        heads += [
            "lowest to highest",
            f"{scenario.unit}s per second",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "RSS MiB",
        ]
        heads += ["resumed"] * scenario.resume
        rows = []
        if scenario.load == "hold":
            heads = [name, "bytes per connection", "lowest to highest"]
            for key, label, each in held(results, self.peers):
                middle, spread = statistics.median(each), f"{min(each):,.0f} to {max(each):,.0f}"
                rows.append([own(key, label), f"{middle:,.0f}", spread])
        else:
            summaries = summarise(results, self.peers, self.base)
            for s in sorted(summaries, key=lambda each: each.cpu):
                row = [own(s.name, s.label), f"{s.cpu:,.2f}", number(s.ratio, ".2f")]
                row += [f"{number(s.lowest, '.2f')} to {number(s.highest, '.2f')}"]
                row += [f"{each:,.0f}" for each in (s.per_second, s.p50, s.p99, s.p999)]
                row += [f"{s.rss / 2**20:,.0f}", *[f"{s.resumed:.0%}"] * scenario.resume]
                rows.append(row)
        for label, error in failures(results, self.peers).items():
            rows.append([label, f"failed: {error}", *[""] * (len(heads) - 2)])
        lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])

    def scale(self, scenarios: list[Scenario]) -> str:
        """Return how the cost grows with idle connections: each row to its own first column."""
        heads = " | ".join(s.title for s in scenarios)
        lines = [f"| CPU µs per message (to its own first) | {heads} |"]
        lines.append("|---|" + "--:|" * len(scenarios))
        for peer in PEERS:
            costs = [median(self.results(s), peer.name, "cpu_us") for s in scenarios]
            if all(math.isnan(cost) for cost in costs):
                continue
            own_first = (f" ({number(cost / costs[0], '.2f')})" for cost in costs)
            cells = [number(c, ".2f") + ratio for c, ratio in zip(costs, own_first, strict=True)]
            lines.append(f"| {peer.label} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def instructions(self, counted: dict[str, Any]) -> list[str]:
        parts = ["## Instructions per message (user space)", INSTRUCTIONS + self.mark(counted)]
        for kind, by_peer in counted["figures"].items():
            sizes = list(dict.fromkeys(s for each in by_peer.values() for s in each["sizes"]))
            lines = [f"| {kind} echo | {' | '.join(f'{size} B' for size in sizes)} |"]
            lines.append("|---|" + "--:|" * len(sizes))
            for name, each in by_peer.items():
                cells = [number(each["sizes"].get(size, float("nan")), ",.0f") for size in sizes]
                failed = f": failed: {each['error']}" if "error" in each else ""
                label = own(name, BY_NAME[name].label) + failed
                lines.append(f"| {label} | {' | '.join(cells)} |")
            parts.append("\n".join(lines))
        return parts

    def plot(self, group: str, scenarios: list[Scenario]) -> str:
        """Draw a group: a block of bars a scenario, as long as the CPU time is in bases."""
        if scenarios[0].load == "hold":
            blocks = [self.memory_block(scenario) for scenario in scenarios]
            return plots.draw(f"{title(group)}: KiB per connection on the server", blocks)
        blocks = []
        for scenario in scenarios:
            summaries = summarise(self.results(scenario), self.peers, self.base)
            if any(math.isnan(s.ratio) for s in summaries):  # no base here: to the cheapest
                cheapest = min(s.cpu for s in summaries)
                for s in summaries:
                    s.ratio = s.lowest = s.highest = s.cpu / cheapest
            bars = [
                plots.Bar(s.name, s.label, s.ratio, s.lowest, s.highest, f"{s.cpu:,.2f} µs")
                for s in sorted(summaries, key=lambda each: each.ratio)
            ]
            blocks.append(plots.Block(scenario.title, bars))
        heading = f"{title(group)}: CPU time of the program under test"
        return plots.draw(f"{heading}, {self.labels[self.base]} = 1", blocks)

    def memory_block(self, scenario: Scenario) -> plots.Block:
        bars = []
        for name, label, each in held(self.results(scenario), self.peers):
            low, middle, high = (n / 1024 for n in (min(each), statistics.median(each), max(each)))
            bars.append(plots.Bar(name, label, middle, low, high, f"{middle * 1024:,.0f} B"))
        return plots.Block(scenario.title, bars)


def number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def own(name: str, label: str) -> str:
    return f"**{label}**" if name.startswith("mantou") else label


def title(group: str) -> str:
    return group[0].upper() + group[1:]


def file_name(group: str) -> str:
    return group.lower().replace(",", "").replace(" ", "-") + ".svg"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write the page and its plots."""
    page = Page(result)
    for group, scenarios in page.groups().items():
        (folder / file_name(group)).write_text(page.plot(group, scenarios))
    (folder / "README.md").write_text(page.text())


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else runs.RESULTS
    write(runs.read(place), place)

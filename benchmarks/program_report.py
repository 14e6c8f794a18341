"""The result of programs.py as a page: tables and plots out of programs.json.

python benchmarks/program_report.py [FOLDER]        writes the page again
"""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runs
from figures import Results, held, median, ratios
from report import Page, file_name, number, own, title
from rows import BASE, CONTENDERS, ROWS

if TYPE_CHECKING:
    from rows import Contender, Row

FIGURES = "programs.json"
INTRODUCTION = (
    "Programs written for asyncio, not one line of them changed, on several loops: CPU time of the"
    " process under test, user and system, all threads, in times uvloop, whose own column has the"
    " time. Less is better. In brackets are the lowest and the highest round; bold is what meets"
    " its goal. Goals are mantou's; `rustls` marks those of mantou.SSLContext. All others have a"
    " plain ssl.SSLContext."
)
METHOD = (
    "For each row all programs run side by side and are measured in turn, in interleaved rounds;"
    " the first is thrown away. Ratios are the median of the rounds' ratios (the same round of"
    " both). HTTP servers are driven by wrk, which opens 50 connections for each round and keeps"
    " them alive: the handshakes are in the figure, for everybody. One answer of each server is"
    " checked; a round with an error has no figure. A client's own process is measured, on 10"
    " connections (redis-py: 10 tasks); its server is on the other core. Scheduling: µs for a"
    " thousand operations, which are ns for one. TLS: 1.3, TLS_AES_256_GCM_SHA384, an EC P-256"
    " certificate. Idle memory: resident memory with 10,000 connections that were never used, less"
    " that after 500 were opened and closed, divided by 10,000, in up to three new processes. All"
    " have the allocator's defaults."
)
SPLIT = (
    "User and system time in µs, split by the kernel's count of ticks; `busy` is the share of its"
    " core that the process used: near 100 % means that it, not what drives it, was the limit."
)
PROFILE = "What limits each row: [PROFILE.md](../PROFILE.md)."


class ProgramsPage(Page):
    """The suite's page, of other peers and with another base."""

    peers = CONTENDERS
    base, base_label = BASE, BASE
    known = ROWS

    def text(self) -> str:
        parts = ["# Unchanged asyncio programs", INTRODUCTION, *self.overview(), PROFILE]
        parts += ["## How it was measured", METHOD]
        parts += [self.circumstances(number, run) for number, run in enumerate(self.runs, 1)]
        parts.append(self.versions())
        for group, rows in self.groups().items():
            parts += [f"## {title(group)}", f"![{group}](programs-{file_name(group)})"]
            parts += [self.table(row) for row in rows]
        parts += ["## User and system time", SPLIT, self.split()]
        return "\n\n".join(parts) + "\n"

    def overview(self) -> list[str]:
        """Return the tables that the goals are stated in."""
        found = []
        for heading, chosen in (
            ("CPU time, in times uvloop", [r for r in self.scenarios if r.figure == "cpu_us"]),
            ("Memory, KiB", [r for r in self.scenarios if r.figure == "bytes"]),
        ):
            if chosen:
                columns = [*(peer.label for peer in CONTENDERS), "goal"]
                lines = [f"| {heading} | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
                found.append("\n".join([*lines, *(self.overview_row(row) for row in chosen)]))
        return found

    def overview_row(self, row: Row) -> str:
        cells = [self.cell(row, contender) for contender in CONTENDERS]
        goals = " / ".join(
            f"{goal:.2f}{' rustls' * name.endswith('rustls')}" for name, goal in row.goals.items()
        )
        shown = row.title + self.mark(self.result["scenarios"][row.name])
        return f"| {shown} | {' | '.join(cells)} | {goals} |"

    def cell(self, row: Row, contender: Contender) -> str:
        """Return a ratio with its spread, or that there is none: the row's own table says why."""
        results = self.results(row)
        if contender.name not in row.contenders:
            return ""
        if "error" in results.get(contender.name, {}):
            return "failed"
        if contender.name == BASE and row.load != "hold":
            unit = "ns" if row.unit == "thousand" else "µs"
            return f"{median(results, BASE, row.figure):,.1f} {unit}"
        if row.load == "hold":
            found = [size / 1024 for size in held_by(results, contender.name)]
        else:
            found = ratios(results, contender.name, BASE, row.figure)
        middle = statistics.median(found) if found else float("nan")
        if math.isnan(middle):
            return "-"
        form = ".1f" if row.load == "hold" else ".2f"
        shown = f"{middle:{form}}"
        if middle <= row.goals.get(contender.name, -1.0):
            shown = f"**{shown}**"
        return f"{shown} ({min(found):{form}} to {max(found):{form}})"

    def split(self) -> str:
        heads = ["user + system, busy", *(own(each.name, each.label) for each in CONTENDERS)]
        lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * len(CONTENDERS)]
        for row in self.scenarios:
            if row.load != "hold":
                results = self.results(row)
                cells = (split_cell(results, contender.name) for contender in CONTENDERS)
                lines.append(f"| {row.title} | {' | '.join(cells)} |")
        return "\n".join(lines)


def split_cell(results: Results, name: str) -> str:
    cost, system = median(results, name, "cpu_us"), median(results, name, "system")
    if math.isnan(cost):
        return ""
    busy = median(results, name, "busy")
    return f"{cost * (1 - system):,.1f} + {cost * system:,.1f}, {number(busy, '.0%')}"


def held_by(results: Results, wanted: str) -> list[float]:
    """Return the bytes of a connection in each round."""
    return next((found for name, _, found in held(results, CONTENDERS) if name == wanted), [])


def write(result: dict[str, Any], folder: Path) -> None:
    """Write the page and its plots."""
    page = ProgramsPage(result)
    for group, rows in page.groups().items():
        (folder / f"programs-{file_name(group)}").write_text(page.plot(group, rows))
    (folder / "programs.md").write_text(page.text())


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else runs.RESULTS
    write(runs.read(place, FIGURES), place)

"""The table: what was seen, what it means, and how it is written to results.md and read again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from conformance.reasons import reason
from conformance.scenario import Scenario

PAGE = Path(__file__).resolve().parent / "results.md"
REASONS = "../docs/porting/from-bun.md"
SAME, DIFFERENT = "same", "different on purpose: "
AS_ABOVE = "the same"
AT_HOME = "as at home"
MIXED = "With each other"

HEAD = """
# Bun and mantou, side by side

{scenarios} scenarios ran on Bun {version} and on mantou, against the same peers: {same} with the
same events, {different} with others on purpose. Each of those has the row of
[From Bun](../docs/porting/from-bun.md) that says why. {pairs} that have a server and a client were
played by the two with each other as well, in both roles: in {at_home} of them each end saw what it
sees among its own. `make conformance` runs them anew and writes this page, and fails where one
differs without a reason; `make test` compares mantou with it.

S is a socket of a server, S2 its second one, C one of a client; ST and CT are theirs after an
upgrade to TLS. P is a raw peer, a socket of the operating system's or OpenSSL, and what it got is
what was on the wire. A name is an event, with its data or its error; a name with `()` is a call,
and what it returned, told where it began. Handlers and calls have mantou's names. "Still open":
nobody has closed it. Data that came in pieces is joined.
"""

Seen = dict[str, list[str]]
"""What each end has seen."""


@dataclass(frozen=True)
class Row:
    """A scenario on both."""

    scenario: Scenario
    bun: str
    mantou: str

    def verdict(self) -> str:
        """What the last column says."""
        if self.bun == self.mantou:
            return SAME
        return DIFFERENT + because(self.scenario.because)

    def fault(self) -> str:
        """Why this row must not be: a difference without a reason, or a reason without one."""
        if self.bun != self.mantou and not self.scenario.because:
            return f"differs without a reason\n    Bun     {self.bun}\n    mantou  {self.mantou}"
        if self.bun == self.mantou and self.scenario.because:
            return "has a reason to differ, and does not"
        return ""

    def line(self) -> str:
        """As the page has it."""
        mantou = AS_ABOVE if self.bun == self.mantou else self.mantou
        return f"| {self.scenario.name} | {self.bun} | {mantou} | {self.verdict()} |"


def because(beginnings: tuple[str, ...]) -> str:
    """The rows of the page on porting."""
    found = [reason(one) for one in beginnings]
    return "; ".join(f"[{one.bun}]({REASONS}#{anchor(one.section)})" for one in found)


def anchor(section: str) -> str:
    """What the documentation calls a section."""
    return section.lower().replace(" ", "-")


def cell(seen: Seen) -> str:
    """What all ends have seen, each on a line."""
    lines = [f"`{who}: {', '.join(events) or 'nothing'}`" for who, events in seen.items()]
    return "<br>".join(lines)


def page(version: str, groups: dict[str, list[Row]], mixed: list[str]) -> str:
    """The whole page."""
    rows = [row for group in groups.values() for row in group]
    same = sum(row.bun == row.mantou for row in rows)
    parts = [
        HEAD.format(
            version=version,
            scenarios=len(rows),
            same=same,
            different=len(rows) - same,
            pairs=len(mixed),
            at_home=sum(row.count(AT_HOME) == 2 for row in mixed),
        ).strip()
    ]
    for title, group in groups.items():
        head = "| scenario | on Bun | on mantou | |\n|---|---|---|---|"
        parts.append(f"## {title}\n\n" + "\n".join([head, *(row.line() for row in group)]))
    head = "| scenario | Bun serves mantou | mantou serves Bun |\n|---|---|---|"
    parts.append(f"## {MIXED}\n\n" + "\n".join([head, *mixed]))
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Committed:
    """A row of the page, read again."""

    bun: str
    mantou: str


@functools.cache
def committed() -> dict[str, Committed]:
    """What the page says of each scenario."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
        if len(cells) == 4 and cells[0] != "scenario":
            name, bun, mantou, _ = cells
            found[name] = Committed(bun, bun if mantou == AS_ABOVE else mantou)
    return found


def counts() -> str:
    """Markdown: what the page has of each group, in numbers."""
    rows = ["| scenarios | | same | different on purpose |", "|---|---|---|---|"]
    total = [0, 0]
    for group in PAGE.read_text().split("\n## ")[1:]:
        title, _, table = group.partition("\n")
        verdicts = [line.endswith(f"| {SAME} |") for line in table.splitlines()[3:] if line]
        if title == MIXED:
            break
        same, different = sum(verdicts), len(verdicts) - sum(verdicts)
        total = [total[0] + same, total[1] + different]
        rows.append(f"| {title} | {len(verdicts)} | {same} | {different} |")
    return "\n".join([*rows, f"| **all** | {sum(total)} | {total[0]} | {total[1]} |"])

"""The table: what was seen, what it means, and how it is written to results.md and read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conformance.reasons import reason
from conformance.scenario import Scenario

PAGE = Path(__file__).resolve().parent / "results.md"
SAME, DIFFERENT = "same", "different on purpose: "
AS_ABOVE = "the same"

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
    """The rows of the page on porting, each with the section that it is in."""
    found = [reason(one) for one in beginnings]
    return "; ".join(
        f"{one.bun} ([{one.section}](../porting/from-bun.md#{anchor(one.section)}))"
        for one in found
    )


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
        f"{len(rows)} scenarios on Bun {version} and on mantou: {same} the same, "
        f"{len(rows) - same} different on purpose.",
    ]
    for title, group in groups.items():
        head = "| scenario | on Bun | on mantou | |\n|---|---|---|---|"
        parts.append(f"### {title}\n\n" + "\n".join([head, *(row.line() for row in group)]))
    head = "| scenario | Bun serves mantou | mantou serves Bun |\n|---|---|---|"
    parts.append("### With each other\n\n" + "\n".join([head, *mixed]))
    return "\n\n".join(parts) + "\n"


def committed() -> dict[str, str]:
    """What mantou's column of the committed page says of each scenario."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = line.strip("| ").split(" | ")
        if len(cells) == 4 and cells[0] != "scenario":
            found[cells[0]] = cells[1] if cells[2] == AS_ABOVE else cells[2]
    return found

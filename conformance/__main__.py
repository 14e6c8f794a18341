"""Runs all scenarios on Bun and on mantou, and writes the table.

python -m conformance [PATTERN]      with a pattern: those only, shown and not written
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator

from benchmarks.peers import install_bun, program, run
from conformance.results import AT_HOME, PAGE, Row, because, cell, page
from conformance.scenario import Scenario
from conformance.scenarios import GROUPS
from conformance.stage import Driver, Stage


class Company:
    """The drivers of both: one of each for each role, for all scenarios."""

    def __init__(self) -> None:
        self._drivers = {
            (runtime, role): Driver(runtime) for runtime in ("bun", "mantou") for role in "SC"
        }

    def play(self, scenario: Scenario, serves: str, connects: str) -> dict[str, list[str]]:
        """Plays it with one's server and one's client."""
        drivers = {"S": self._drivers[serves, "S"], "C": self._drivers[connects, "C"]}
        return Stage(scenario, drivers).play()

    def stop(self) -> None:
        """Ends all of them."""
        for driver in self._drivers.values():
            driver.stop()


def main(pattern: str = "") -> int:
    """Returns 1 if a scenario failed, or differs without a reason."""
    install_bun()
    for _, scenario in wanted(pattern):
        because((*scenario.because, *scenario.abroad))  # all reasons are there
    company = Company()
    faults: list[str] = []
    groups: dict[str, list[Row]] = {}
    mixed: list[str] = []
    try:
        for title, scenario in wanted(pattern):
            try:
                row, line = compare(company, scenario, faults)
            except Exception as error:
                faults.append(f"{scenario.name}: {type(error).__name__} {error}")
                print(f"!! {faults[-1]}", flush=True)
                company.stop()
                company = Company()
                continue
            groups.setdefault(title, []).append(row)
            mixed += line
            if pattern:
                print(f"{scenario.name}\n    Bun     {row.bun}\n    mantou  {row.mantou}", *line)
    finally:
        company.stop()
    if not pattern and not faults:
        PAGE.write_text(page(run([program("bun"), "--version"]), groups, mixed))
    print(*faults, sep="\n")
    print(f"{sum(map(len, groups.values()))} scenarios, {len(faults)} faults")
    return int(bool(faults))


def wanted(pattern: str) -> Iterator[tuple[str, Scenario]]:
    """All, or those that a pattern fits."""
    for title, scenarios in GROUPS.items():
        for scenario in scenarios:
            if not pattern or fnmatch.fnmatch(scenario.name, pattern):
                yield title, scenario


def compare(company: Company, scenario: Scenario, faults: list[str]) -> tuple[Row, list[str]]:
    """Plays a scenario among Buns, among mantous, and if it has two programs with each other."""
    at_home = {one: company.play(scenario, one, one) for one in ("bun", "mantou")}
    row = Row(scenario, cell(at_home["bun"]), cell(at_home["mantou"]))
    if fault := row.fault():
        faults.append(f"{scenario.name}: {fault}")
    if len(scenario.programs) < 2 or scenario.alone:
        return row, []
    cells = []
    for serves, connects in (("bun", "mantou"), ("mantou", "bun")):
        seen = company.play(scenario, serves, connects)
        native = {"S": at_home[serves]["S"], "C": at_home[connects]["C"]}
        strange = {who: seen[who] for who in native if seen[who] != native[who]}
        cells.append(cell(strange) if strange else AT_HOME)
        if strange and not scenario.abroad:
            faults.append(
                f"{scenario.name}: {serves} serves {connects}, without a reason: {strange}"
            )
    why = f"<br>{because(scenario.abroad)}" if scenario.abroad else ""
    return row, [f"| {scenario.name} | {cells[0]} | {cells[1]}{why} |"]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

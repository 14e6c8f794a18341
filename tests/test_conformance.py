"""mantou's column of conformance/results.md is what mantou does; Bun's needs `make conformance`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.behaviours import behaviours
from conformance.drivers.mantou_actions import Actions
from conformance.results import Row, because, cell, committed, counts
from conformance.scenario import Scenario
from conformance.scenarios import GROUPS
from conformance.stage import COMMANDS, Driver, Stage

SCENARIOS = [scenario for scenarios in GROUPS.values() for scenario in scenarios]


@pytest.fixture(scope="session")
def drivers() -> Iterator[dict[str, Driver]]:
    both = {role: Driver("mantou") for role in "SC"}
    yield both
    for driver in both.values():
        driver.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: re.sub(r"\W+", "-", one.name))
def test_mantou_does_what_the_table_says(scenario: Scenario, drivers: dict[str, Driver]) -> None:
    assert cell(Stage(scenario, drivers).play()) == committed()[scenario.name].mantou


def test_the_table_has_each_scenario_once() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))
    assert list(committed()) == names


def test_each_behaviour_is_shown() -> None:
    names = {scenario.name for scenario in SCENARIOS}
    tests = Path(__file__).parent
    assert len(behaviours()) > 250
    for one in behaviours():
        assert one.scenarios or one.tests or one.reason.endswith("."), one.name
        assert set(one.scenarios) <= names, one.name
        for test in one.tests:
            file, _, function = test.partition("::")
            assert f"def {function}(" in (tests / file).read_text(), one.name


def test_the_counts_are_those_of_the_page() -> None:
    *groups, total = counts().splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in groups] == list(GROUPS)
    same, others = (
        sum((seen.bun == seen.mantou) is alike for seen in committed().values())
        for alike in (True, False)
    )
    assert total == f"| **all** | {same + others} | {same} | {others} |"


def test_each_difference_has_a_reason() -> None:
    for scenario in SCENARIOS:
        seen = committed()[scenario.name]
        assert Row(scenario, seen.bun, seen.mantou).fault() == ""
        because(scenario.because + scenario.abroad)


def test_both_drivers_know_the_same_calls() -> None:
    theirs = Path(COMMANDS["bun"][-1]).read_text()
    _, _, table = theirs.partition("const ACTIONS")
    known = re.findall(r"^  (\w+): \(", table.partition("\n};")[0], re.MULTILINE)
    assert len(known) > 40
    ours = [name.removeprefix("do_") for name in vars(Actions) if name.startswith("do_")]
    assert sorted(known) == sorted(ours)


def test_what_differs_needs_a_reason_and_what_does_not_has_none() -> None:
    same, other = Scenario("same", (), ()), Scenario("other", (), (), because=("BoringSSL",))
    assert Row(same, "open", "open").fault() == Row(other, "open", "close").fault() == ""
    assert "without a reason" in Row(same, "open", "close").fault()
    assert "does not" in Row(other, "open", "open").fault()
    with pytest.raises(ValueError, match="0 rows"):
        because(("no such row",))

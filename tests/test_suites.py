"""The judge of others' tests: what is excluded must fail, and must be there."""

from __future__ import annotations

import pytest

from tools.suites import cpython, exclusions
from tools.suites.cpython import OURS, THEIRS, Report

EXCLUDED = exclusions.Exclusion("looks inside", "cpython", ("test_a.Inside.*",))


def verdict(
    monkeypatch: pytest.MonkeyPatch,
    *,
    loop: str = OURS,
    broken: tuple[str, ...] = (),
    **results: str,
) -> int:
    monkeypatch.setattr(exclusions, "read", lambda suite: [EXCLUDED])
    report = Report(broken=list(broken))
    report.loops[loop] = 1
    for name, what in results.items():
        report.results["test_a." + name.replace("__", ".")] = (what, "")
    return cpython.judge(report, stock=False, everything=True)


def test_what_is_expected_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        verdict(monkeypatch, Inside__one="failed", Public__two="passed", Public__three="skipped")
        == 0
    )


@pytest.mark.parametrize(
    "results",
    [
        {"Inside__one": "failed", "Public__two": "failed"},
        {"Inside__one": "passed"},
        {"Inside__one": "failed", "Inside__two": "passed"},
        {"Public__two": "passed"},
    ],
    ids=["a test fails", "an excluded one passes", "one of several passes", "there is none"],
)
def test_what_is_not_expected_is_told(
    monkeypatch: pytest.MonkeyPatch, results: dict[str, str]
) -> None:
    assert verdict(monkeypatch, **results) == 1


def test_a_module_that_breaks_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict(monkeypatch, broken=("test_b ended with -11",), Inside__one="failed") == 1


def test_tests_that_ran_on_another_loop_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict(monkeypatch, loop=THEIRS, Inside__one="failed") == 1


def test_each_exclusion_says_why() -> None:
    for suite in ("cpython", "websockets", "anyio", "asyncssh"):
        for exclusion in exclusions.read(suite):
            assert exclusion.reason
            assert exclusion.tests

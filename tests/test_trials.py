"""A sample of `make faults` and `make network`: they take minutes, this takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.faults.__main__ import Sum, play_all
from trials.faults.shim import compile_into
from trials.network.__main__ import play
from trials.network.conditions import TRIALS


@pytest.mark.parametrize("title", ["handlers_serve tls mantou", "protocols_serve tls mantou"])
def test_calls_that_fail(title: str, tmp_path: Path) -> None:
    total = Sum()
    play_all(title, compile_into(tmp_path), 5, True, total)
    assert total.findings == []
    assert total.cases > 100
    # Each of them failed as it was told to.
    assert min(total.pairs.values()) > 0


@pytest.mark.alone
def test_a_bad_way() -> None:
    (trial,) = [trial for trial in TRIALS if trial.name == "all of that"]
    count, found, _ = play(trial, size=20_000)
    assert found == []
    assert count > 20

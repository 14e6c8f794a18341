"""A sample of `make faults` and `make network`: they take minutes, this takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.faults.__main__ import Sum, play_all
from trials.faults.shim import compile_into
from trials.network.__main__ import play
from trials.network.conditions import TRIALS


@pytest.mark.parametrize(
    "title, faults",
    [
        ("handlers_serve tcp mantou", "accept4 #1 *"),
        ("handlers_connect tcp mantou", "connect #*"),
        # A server's first answer, and what becomes of a peer that waits for it.
        ("handlers_serve tls mantou", "send #1 *"),
        ("protocols_serve tls mantou", "recv #* ETIMEDOUT *"),
        ("proxy_header tcp mantou", "recv #* EINTR *"),
        ("pipe tcp mantou", "s* *0.3 s"),
        ("streams_serve context mantou", "seed *"),
    ],
)
def test_calls_that_fail(title: str, faults: str, tmp_path: Path) -> None:
    total = Sum()
    play_all(title, compile_into(tmp_path), total, faults, "5", "briefly")
    assert total.findings == []
    # Each of them failed as it was told to.
    assert all(total.pairs.values())
    assert total.failed_calls > 0


@pytest.mark.alone
def test_a_bad_way() -> None:
    (trial,) = [trial for trial in TRIALS if trial.name == "all of that"]
    count, found, _ = play(trial, size=20_000)
    assert found == []
    assert count > 20

"""A short soak, `make soak` in small; and that it sees what it looks for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from soak.__main__ import parse, run
from soak.report import faults, report


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    small = "--seconds 5 --connections 100 --idle 200 --churn 300 --pace 0.2"
    return run(parse(small.split()))


def test_nothing_is_lost(figures: dict[str, Any]) -> None:
    assert faults(figures) == [], report(figures)


def spoil(figures: dict[str, Any], *path: str | int, by: Any) -> dict[str, Any]:
    spoiled = copy.deepcopy(figures)
    place: Any = spoiled
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = by
    return spoiled


@pytest.mark.parametrize(
    ("path", "by", "told"),
    [
        (("server", "counts", "echo", "twice"), 1, "not one close for each open"),
        (("server", "counts", "tls", "closed"), 0, "not one close for each open"),
        (("server", "counts", "digest", "opened"), 0, "nobody came"),
        (("server", "counts", "echo", "ends"), {"TimeoutError": 1}, "ended with TimeoutError"),
        (("server", "faults"), [2, 1], "2 handlers failed, and 1 errors were told"),
        (("server", "cut"), 1, "1 were cut"),
        (("server", "workers"), [0, 1], "the workers ended with"),
        (("server", "log"), ["socket.send() raised"], "log: socket.send"),
        (("loads", "mantou", "faults"), ["echo: LostError"], "mantou: echo: LostError"),
        (("loads", "idle", "idled"), 0, "idle: 100 of 200"),
        (("loads", "mantou", "churned"), 299, "churn: 299 of 300"),
    ],
)
def test_what_is_lost_is_told(
    figures: dict[str, Any], path: tuple[str | int, ...], by: Any, told: str
) -> None:
    assert told in "\n".join(faults(spoil(figures, *path, by=by)))

"""Reads the list of tests that are known not to pass: see `exclusions.toml`."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

LIST = Path(__file__).with_name("exclusions.toml")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Exclusion:
    """Tests that are excluded for one reason."""

    reason: str
    suite: str
    tests: tuple[str, ...]
    pythons: tuple[str, ...] = (PYTHON,)
    hang: bool = False

    def matches(self, test: str) -> bool:
        """Whether it names the test."""
        return any(fnmatchcase(test, pattern) for pattern in self.tests)


def read(suite: str) -> list[Exclusion]:
    """What is excluded of a suite on this Python."""
    entries = tomllib.loads(LIST.read_text()).get("exclusion", [])
    exclusions = [Exclusion(**entry) for entry in entries]
    return [one for one in exclusions if one.suite == suite and PYTHON in one.pythons]


def find(test: str, exclusions: Iterable[Exclusion]) -> Exclusion | None:
    """The exclusion that names a test, if any does."""
    return next((one for one in exclusions if one.matches(test)), None)


def unused(exclusions: Iterable[Exclusion], tests: Iterable[str]) -> list[str]:
    """The patterns that name none of the tests, though they were to run."""
    names = list(tests)
    return [
        pattern
        for one in exclusions
        for pattern in one.tests
        if not one.hang and not any(fnmatchcase(name, pattern) for name in names)
    ]

"""Runs one module of CPython's tests of asyncio, and writes down what came of each test.

    python -m tools.suites.cpython_module test_events outcome.json

Before the module is imported, `mantou.install()` puts mantou's loop in the place of asyncio's. The
loops that are made are counted, as a proof of which loop was tested.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import importlib
import json
import sys
import unittest
from asyncio import selector_events
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import mantou
from tools.suites import exclusions

# Bounds each test, in seconds: none takes a tenth of it.
LIMIT = 120.0

_Error = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def main() -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("outcome", type=Path)
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--match", default="*")
    options = parser.parse_args()

    made = count_loops()
    if not options.stock:
        mantou.install()
    outcome = Outcome()
    try:
        module = importlib.import_module(f"test.test_asyncio.{options.module}")
    except unittest.SkipTest as reason:
        outcome.results[options.module] = ("skipped", str(reason))
    else:
        suite = unittest.defaultTestLoader.loadTestsFromModule(module)
        chosen(suite, options.match)(outcome)
    told = {"results": outcome.results, "loops": made}
    options.outcome.write_text(json.dumps(told))


def count_loops() -> dict[str, int]:
    """Counts the loops that are made from now on, by their class."""
    made: dict[str, int] = collections.Counter()

    def count(kind: Any, known: type | None = None) -> None:
        begin = kind.__init__

        def counted(loop: Any, *args: Any, **options: Any) -> None:
            # Where one class derives from the other, a loop is counted as what it is.
            if known is None or not isinstance(loop, known):
                made[f"{type(loop).__module__}.{type(loop).__qualname__}"] += 1
            begin(loop, *args, **options)

        kind.__init__ = counted

    count(mantou.EventLoop)
    count(selector_events.BaseSelectorEventLoop, mantou.EventLoop)
    return made


def chosen(suite: unittest.TestSuite, pattern: str) -> unittest.TestSuite:
    """The tests that match and that come to an end."""
    known = exclusions.read("cpython")
    tests = unittest.TestSuite()
    for test in flat(suite):
        name = name_of(test)
        excluded = exclusions.find(name, known)
        if fnmatchcase(name, pattern) and not (excluded and excluded.hang):
            tests.addTest(test)
    return tests


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Every test in a suite of suites."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def name_of(test: unittest.TestCase) -> str:
    """A test's name as `exclusions.toml` has it."""
    return test.id().removeprefix("test.test_asyncio.")


class Outcome(unittest.TestResult):
    """Each test with what came of it: (passed, failed or skipped, a traceback or reason)."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, tuple[str, str]] = {}

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        print(name_of(test), file=sys.stderr)
        faulthandler.dump_traceback_later(LIMIT, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.results.setdefault(name_of(test), ("passed", ""))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.results.setdefault(name_of(test), ("skipped", reason))

    def addExpectedFailure(self, test: unittest.TestCase, err: _Error) -> None:
        self.addSuccess(test)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.results[name_of(test)] = ("failed", "passes, and is expected to fail")

    def addError(self, test: unittest.TestCase, err: _Error) -> None:
        told = cast("Any", self)._exc_info_to_string(err, test)
        self.results[name_of(test)] = ("failed", told)

    addFailure = addError

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: _Error | None
    ) -> None:
        if err is not None:
            self.addError(test, err)


if __name__ == "__main__":
    main()

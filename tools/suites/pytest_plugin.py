"""A plugin for pytest: puts mantou's loop in the place of asyncio's, and writes down what came out.

Two variables of the environment are for it: `SUITE_OUTCOME`, the file to write, and `SUITE_STOCK`,
with which asyncio's loop stays. Where processes share the tests, each of them loads it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import mantou


class Loops:
    """Counts mantou's loops, as a proof of which loop was tested."""

    made = 0

    @classmethod
    def count(cls) -> None:
        """Counts those that are made from now on."""
        kind: Any = mantou.EventLoop
        begin = kind.__init__

        def counted(loop: Any, *args: Any, **options: Any) -> None:
            cls.made += 1
            begin(loop, *args, **options)

        kind.__init__ = counted


class Outcome:
    """Collects what came of each test, in the process that the others report to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps the worst of a test's stages."""
        if report.failed:
            self.results[report.nodeid] = ("failed", report.longreprtext)
        elif report.skipped:
            self.results.setdefault(report.nodeid, ("skipped", ""))
        elif report.when == "call":
            self.results.setdefault(report.nodeid, ("passed", ""))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be imported has failed."""
        if report.failed:
            self.results[report.nodeid] = ("failed", report.longreprtext)

    def pytest_testnodedown(self, node: Any) -> None:
        """Adds the loops that another process has made."""
        Loops.made += getattr(node, "workeroutput", {}).get("loops", 0)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Writes it down."""
        self.path.write_text(json.dumps({"results": self.results, "loops": Loops.made}))


class Worker:
    """Tells the other process how many loops were made in this one."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Called before the process ends."""
        output: dict[str, Any] = getattr(session.config, "workeroutput")
        output["loops"] = Loops.made


def pytest_configure(config: pytest.Config) -> None:
    """Begins, in each process."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker())
    else:
        config.pluginmanager.register(Outcome(Path(os.environ["SUITE_OUTCOME"])))


Loops.count()
if "SUITE_STOCK" not in os.environ:
    mantou.install()

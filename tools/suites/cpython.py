"""Runs CPython's tests of asyncio on mantou's loop: `make asyncio-suite`."""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tools.suites import exclusions

ROOT = Path(__file__).resolve().parent.parent.parent

# These take most of the time, and so begin first.
LONGEST = ["test_tasks", "test_subprocess", "test_events", "test_ssl"]

# Bounds a module, in seconds.
LIMIT = 600

OURS = "mantou._loop.EventLoop"
THEIRS = "asyncio.unix_events._UnixSelectorEventLoop"

MISSING = """\
{python} comes without CPython's own tests (the package `test.test_asyncio`).
Pythons that were built from source have them, as pyenv's; so do python.org's installers. Debian
ships them apart, as libpython{version}-testsuite. Builds made for small size, like uv's, have none.
Then: make asyncio-suite PYTHON_VERSION={version}"""


@dataclass
class Report:
    """What came of some modules."""

    results: dict[str, tuple[str, str]] = field(default_factory=dict)
    loops: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def main() -> None:
    """Does what the command line says; exit status 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(prog="make asyncio-suite", description=__doc__)
    parser.add_argument("modules", nargs="*", help="like test_events; all of them if none is named")
    parser.add_argument("--match", default="*", help="tests, like 'test_ssl.*.test_create_*'")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="processes")
    parser.add_argument("--stock", action="store_true", help="asyncio's own loop, to compare with")
    options = parser.parse_args()

    known = modules()
    chosen = options.modules or sorted(known, key=lambda name: (name not in LONGEST, name))
    if unknown := set(chosen) - set(known):
        sys.exit(f"no such module in test.test_asyncio: {', '.join(sorted(unknown))}")
    report = Report()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(run, name, options.match, stock=options.stock) for name in chosen]
        for job in jobs:
            part = job.result()
            report.results |= part.results
            report.loops += part.loops
            report.broken += part.broken
    everything = not options.modules and options.match == "*"
    sys.exit(judge(report, stock=options.stock, everything=everything))


def modules() -> list[str]:
    """The modules of tests that this Python has."""
    try:
        package = importlib.import_module("test.test_asyncio")
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(MISSING.format(python=sys.executable, version=version))
    folder = Path(package.__path__[0])
    return [path.stem for path in folder.glob("test_*.py")]


def run(module: str, match: str, *, stock: bool) -> Report:
    """Runs one module in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder, "outcome.json")
        command = [sys.executable, "-m", "tools.suites.cpython_module", module, str(outcome)]
        command += ["--match", match, *(["--stock"] if stock else [])]
        process = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=LIMIT,
            check=False,
        )
        if process.returncode or not outcome.exists():
            last = "\n".join(process.stderr.splitlines()[-30:])
            return Report(broken=[f"{module} ended with {process.returncode}:\n{last}"])
        told = json.loads(outcome.read_text())
    results = {name: (what, why) for name, (what, why) in told["results"].items()}
    return Report(results, Counter(told["loops"]))


def judge(report: Report, *, stock: bool, everything: bool) -> int:
    """Says what came out, and 1 unless each test did what is expected of it."""
    excluded = [] if stock else exclusions.read("cpython")
    counts: Counter[str] = Counter()
    wrong = list(report.broken)
    for name, (what, told) in sorted(report.results.items()):
        entry = exclusions.find(name, excluded)
        if entry is None:
            counts[what] += 1
            if what == "failed":
                wrong.append(f"{name} failed:\n{told}")
        elif what == "failed":
            counts["excluded"] += 1
        else:
            wrong.append(f"{name} {what}, and is excluded: {entry.reason}")
    if everything:
        missing = exclusions.unused(excluded, report.results)
        wrong += [f"{pattern} is excluded, and there is no such test" for pattern in missing]
    expected, unwanted = (THEIRS, OURS) if stock else (OURS, THEIRS)
    if everything and not report.loops[expected]:
        wrong.append(f"no loop of the class {expected} was made")
    if report.loops[unwanted]:
        wrong.append(f"{report.loops[unwanted]} loops of the class {unwanted} were made")

    for text in wrong:
        print(text.rstrip(), end="\n\n")
    print("loops made:", ", ".join(f"{n} {kind}" for kind, n in report.loops.most_common()))
    print("excluded tests, which fail as they should:", counts["excluded"])
    print(f"{counts['passed']} passed, {len(wrong)} failed, {counts['skipped']} skipped")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()

"""Runs the tests of packages that build on asyncio on mantou's loop: `make program-suites`.

They come with the packages' sources. A test that fails on asyncio's loop on this
machine, too, is no fault of mantou's, and is told apart by running it there.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tools.suites import exclusions, sources

ROOT = Path(__file__).resolve().parent.parent.parent

# Bounds a suite, in seconds.
LIMIT = 1200


def resolves_to_ipv6() -> bool:
    """Whether `localhost` has an address of IPv6, which anyio's tests take for granted."""
    try:
        return bool(socket.getaddrinfo("localhost", 0, socket.AF_INET6))
    except socket.gaierror:
        return False


@dataclass(frozen=True)
class Suite:
    """The tests of a package: where they come from, which of them, and pytest's options."""

    folder: Callable[[], Path]
    files: tuple[str, ...]
    options: tuple[str, ...] = ()


SUITES = {
    "websockets": Suite(
        partial(sources.from_debian, "websockets", "python-websockets"),
        ("tests/asyncio",),
        # It has no settings for pytest, which would look for ours then.
        ("-c", "pyproject.toml"),
    ),
    "asyncssh": Suite(
        partial(sources.from_index, "asyncssh"),
        tuple(
            f"tests/test_{name}.py"
            for name in ("channel", "forward", "process", "stream", "subprocess")
        ),
    ),
    "anyio": Suite(
        partial(sources.from_index, "anyio"),
        ("tests",),
        ("-m", "not network", *(() if resolves_to_ipv6() else ("-k", "not ipv6"))),
    ),
}

# Not of those that run by themselves: `make anyio-suite`.
STREAMS = {
    "anyio-streams": Suite(
        partial(sources.from_index, "anyio"),
        ("tests/test_sockets.py", "tests/streams"),
        (
            # What it marks as needing the network needs this machine's own.
            *("-p", "tools.suites.anyio_streams", "-k"),
            "(TestTCP or TestUNIXStream or TestUNIXListener or multi_listener or streams)"
            " and not trio and not uvloop" + ("" if resolves_to_ipv6() else " and not ipv6"),
        ),
    ),
}

Results = dict[str, tuple[str, str]]


def main() -> None:
    """Does what the command line says; exit status 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(prog="make program-suites", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="processes")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES | STREAMS):
        sys.exit(f"no such suite: {', '.join(sorted(unknown))}")
    wrong = 0
    for name in options.suites or SUITES:
        wrong += judge(name, options.jobs)
    sys.exit(1 if wrong else 0)


def judge(name: str, jobs: int) -> int:
    """Runs a suite, says what came out, and how many tests did not do what is expected of them."""
    suite = (SUITES | STREAMS)[name]
    folder = suite.folder()
    options = ["-p", "no:asyncio", "-n", str(jobs), *suite.options]
    results, loops = run(folder, [*options, *suite.files], stock=False)
    excluded = exclusions.read(name)
    failed = {test for test, (what, _) in results.items() if what == "failed"}
    suspects = sorted(test for test in failed if exclusions.find(test, excluded) is None)
    elsewhere: Results = {}
    if suspects:
        elsewhere, _ = run(folder, [*options, *suspects], stock=True)

    counts: Counter[str] = Counter()
    wrong = [
        f"{one} is excluded, and there is no such test"
        for one in exclusions.unused(excluded, results)
    ]
    if not loops:
        wrong.append("no loop of mantou's was made")
    for test, (what, told) in sorted(results.items()):
        entry = exclusions.find(test, excluded)
        if entry is not None and what != "failed":
            wrong.append(f"{test} {what}, and is excluded: {entry.reason}")
        elif entry is not None:
            counts["excluded"] += 1
        elif what == "failed" and elsewhere.get(test, ("missing", ""))[0] == "failed":
            counts["failed on asyncio's loop, too"] += 1
        elif what == "failed":
            wrong.append(f"{test} failed:\n{told}")
        else:
            counts[what] += 1

    for text in wrong:
        print(text.rstrip(), end="\n\n")
    more = {key: counts[key] for key in ("excluded", "failed on asyncio's loop, too")}
    print(f"{name}: {loops} loops made;", ", ".join(f"{n} {what}" for what, n in more.items()))
    print(f"{name}: {counts['passed']} passed, {len(wrong)} failed, {counts['skipped']} skipped")
    return len(wrong)


def run(folder: Path, arguments: Sequence[str], *, stock: bool) -> tuple[Results, int]:
    """Runs tests on mantou's loop or asyncio's: what came of each, and mantou's loops."""
    with tempfile.TemporaryDirectory() as own:
        outcome = Path(own, "outcome.json")
        environment = {
            **os.environ,
            "PYTHONPATH": f"{folder / 'site'}:{ROOT}:{ROOT / 'python'}:{folder}",
            "SUITE_OUTCOME": str(outcome),
            **({"SUITE_STOCK": "1"} if stock else {}),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.suites.pytest_plugin"]
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
            check=False,
        )
        if done.returncode not in {0, 1} or not outcome.exists():
            last = "\n".join((done.stdout + done.stderr).splitlines()[-50:])
            sys.exit(f"pytest ended with {done.returncode} in {folder}:\n{last}")
        told = json.loads(outcome.read_text())
    return {test: (what, why) for test, (what, why) in told["results"].items()}, told["loops"]


if __name__ == "__main__":
    main()

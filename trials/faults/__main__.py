"""Plays every conversation with every fault, each conversation in a process of its own.

python -m trials.faults [--briefly] [--seeds N] [--faults PATTERN] [PATTERN]

PATTERN picks some, as "handlers_serve tls mantou" or "pipe *". Ends with 1 if anything was found.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trials.conversations import CONVERSATIONS
from trials.faults.errnos import TABLE
from trials.faults.shim import compile_into, environment


class Sum:
    """What became of all of them."""

    def __init__(self) -> None:
        self.cases = 0
        self.failed_calls = 0
        self.pairs: Counter[str] = Counter()
        """Call and errno, and how often one failed with the other."""
        self.findings: list[str] = []

    def add(self, title: str, line: dict[str, Any]) -> None:
        """One case is over."""
        self.cases += 1
        self.failed_calls += line.get("hits", 0)
        call, _, rest = line["fault"].partition(" #")
        if rest:
            self.pairs[f"{call} {rest.split()[1]}"] += line["hits"]
        if line["found"]:
            self.find(f"{title}: {line['fault']}: " + "; ".join(line["found"]))

    def find(self, what: str) -> None:
        """Something is wrong."""
        self.findings.append(what)
        print("!!", what, flush=True)

    def untried(self) -> list[str]:
        """What the table has, and no conversation came to."""
        return sorted(
            {f"{call} {name}" for call, names in TABLE.items() for name in names} - {*self.pairs}
        )


def main() -> int:
    """Returns 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m trials.faults")
    parser.add_argument("--briefly", action="store_true", help="the first and the last call only")
    parser.add_argument("--seeds", type=int, default=200, help="rounds of chance (default: 200)")
    parser.add_argument("--faults", default="*", help="those only, as in 'send #1 *' or 'seed 7'")
    parser.add_argument("pattern", nargs="*", help="conversation, link and loop")
    arguments = parser.parse_args()
    pattern = " ".join(arguments.pattern) or "*"
    briefly = ["briefly"] if arguments.briefly else []
    titles = [
        title
        for conversation in CONVERSATIONS
        for link in conversation.links
        for loop in conversation.loops
        if fnmatch.fnmatch(title := f"{conversation.name} {link} {loop}", pattern)
    ]
    if not titles:
        parser.error(f"no conversation is called {pattern!r}")
    total = Sum()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        library = compile_into(Path(directory))

        def play(title: str) -> None:
            before = total.cases
            play_all(title, library, total, arguments.faults, str(arguments.seeds), *briefly)
            print(f"   {title}: {total.cases - before} cases", flush=True)

        # They mostly wait for their peers.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(play, titles))
    print(
        f"{len(titles)} conversations, {total.cases} cases, {total.failed_calls} calls that "
        f"failed or were cut short, {len(total.pairs)} pairs of call and errno; "
        f"{(time.monotonic() - start) / 60:.1f} minutes; {len(total.findings)} findings"
    )
    if untried := total.untried():
        print("not tried:", ", ".join(untried))
    return 1 if total.findings else 0


def play_all(title: str, library: Path, total: Sum, *options: str) -> None:
    """One conversation, in as many processes as it takes: behind a stuck case there is another.

    The options are a pattern of faults, the number of seeds and, if so, "briefly".
    """
    done = 0
    pattern, seeds, *briefly = options
    while True:
        command = [sys.executable, "-m", "trials.faults.play", *title.split()]
        command += [pattern, seeds, str(done), *briefly]
        child = subprocess.Popen(
            command,
            env=environment(library),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun = None
        assert child.stdout is not None
        for text in child.stdout:
            line = json.loads(text)
            if "begun" in line:
                begun = line["begun"]
                continue
            done, begun = done + 1, None
            total.add(title, line)
        _, errors = child.communicate()
        if child.returncode == 0:
            return
        total.find(f"{title}: {begun}: the process ended with {child.returncode}\n{errors}")
        if begun is None:
            return
        done += 1


if __name__ == "__main__":
    sys.exit(main())

"""Runs the tests by chance for as long as it is told, with other seeds each time: `make random`.

Each file goes on by itself, as many side by side as there are cores. What fails is told with its
seed, kept in `build/random/`, and ends that file.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FILES = (
    "test_random_handlers.py",
    "test_random_streams.py",
    "test_random_protocols.py",
    "test_random_scheduler.py",
    "test_drain_model.py",
    "test_packets_model.py",
    "test_streams_cancelling.py",
)
# So many times as many examples as in `make test`: a run takes a minute or two.
TIMES = 10
KEPT = Path("build/random")


@dataclass
class Outcome:
    """What became of one file."""

    name: str
    examples: int = 0
    runs: int = 0
    seconds: float = 0.0
    failure: Path | None = None

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.1f} min"
        told = f"{self.name}: {self.examples:,} examples, {self.runs} runs, {minutes}"
        return told if self.failure is None else f"{told}\n    FAILED: {self.failure}"


def main() -> int:
    """Runs all files, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="for each file")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="files side by side")
    parser.add_argument("files", nargs="*", default=FILES, help="of tests/, instead of all")
    arguments = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.at_once) as pool:
        outcomes = pool.map(lambda name: gone_on(name, arguments.minutes * 60), arguments.files)
        failed = False
        for outcome in outcomes:
            print(outcome, flush=True)
            failed |= outcome.failure is not None
    return int(failed)


def gone_on(name: str, seconds: float) -> Outcome:
    """Runs a file again and again until the time is over, or it fails."""
    outcome = Outcome(name)
    began = time.monotonic()
    while outcome.failure is None and outcome.seconds < seconds:
        seed = random.randrange(1 << 32)
        command = [sys.executable, "-m", "pytest", f"tests/{name}", "-n0", "-q", "--timeout=900"]
        command += [f"--hypothesis-seed={seed}", "--hypothesis-show-statistics"]
        done = subprocess.run(
            command,
            env=os.environ | {"EXAMPLES_TIMES": str(TIMES)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        outcome.examples += sum(map(int, re.findall(r"- (\d+) passing", done.stdout)))
        outcome.runs += 1
        outcome.seconds = time.monotonic() - began
        if done.returncode:
            outcome.failure = KEPT / f"{Path(name).stem}-{seed}.txt"
            outcome.failure.write_text(f"{' '.join(command)}\n{done.stdout}")
    return outcome


if __name__ == "__main__":
    sys.exit(main())

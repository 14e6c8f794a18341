"""The benchmark: mantou side by side with everything else, in interleaved rounds.

    python benchmarks/suite.py                                   everything (hours)
    python benchmarks/suite.py --scenarios 'echo-*-50' --peers mantou bun uvloop
    python benchmarks/suite.py --list

A full run takes hours: `--add` measures scenarios again and keeps the others' figures.

For each scenario all servers run at once, each with its own load, and are measured in turn:
A B C ... A B C ... What the machine does meanwhile falls on all of them. Figures are quoted as the
median of the rounds' ratios to the floor (the C server), with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from typing import TYPE_CHECKING

import peers
import report
import runs
from figures import table
from processes import allow_descriptors
from runner import Runner
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in peers.PEERS]
    parser.add_argument("--scenarios", nargs="+", default=["*"], help="names, or patterns")
    parser.add_argument("--peers", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=7, help="of each peer (7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round (1)")
    parser.add_argument("--list", action="store_true", help="name the scenarios and peers")
    return runs.parse(parser, arguments)


def main() -> int:
    options = parse()
    chosen = [s for s in SCENARIOS if any(fnmatch.fnmatch(s.name, p) for p in options.scenarios)]
    if options.list or not chosen:
        print("\n".join(f"{s.name:<20}{s.title}" for s in SCENARIOS))
        print("peers:", ", ".join(peer.name for peer in peers.PEERS))
        return 0 if options.list else 2
    allow_descriptors()
    peers.build_load()
    # The floor always takes part: all is quoted as a ratio to it.
    wanted = [p for p in peers.PEERS if p.name in options.peers or p.name == "floor"]
    missing = peers.prepare(wanted)
    for name, why in missing.items():
        print(f"{peers.BY_NAME[name].label} is missing: {why}", file=sys.stderr)
    taking_part = [peer for peer in wanted if peer.name not in missing]

    result = runs.read(options.output) if options.add else {"scenarios": {}}
    cores = "on different cores" if options.pin else "not pinned"
    rounds = f"{options.rounds} rounds of {options.seconds:g} s"
    method = f"{rounds}, program and load {cores}, the allocator's defaults"
    run = runs.this_run(missing, method)
    runner = Runner(options)
    for number, scenario in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {scenario.title}", flush=True)
        figures = runner.run(scenario, taking_part)
        print(table(scenario, figures), flush=True)
        result["scenarios"][scenario.name] = {"run": run, "results": figures}
        runs.write(result, options.output)  # so far: a long run may be broken off
    report.write(result, options.output)
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

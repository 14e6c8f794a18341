"""What does a change cost? Two builds of mantou side by side, before and after it.

    git worktree add ../before main~1 && make -C ../before build
    python benchmarks/builds.py ../before
    python benchmarks/builds.py ../before --scenarios 'echo-*-50' --rounds 21 --output /tmp/trial

Both run the same server program, on their own interpreters, and are measured in turn, so that
whatever else the machine does falls on both. The result is the median of the ratios of the rounds;
it is written to results/builds.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peers
import runs
from figures import median, ratios
from processes import allow_descriptors
from runner import Runner
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios import Scenario

DEFAULT = ["echo-64-50", "echo-1k-50", "echo-16k-50", "tls-echo-64-50", "tls-echo-16k-50"]
DEFAULT += ["churn", "connect", "*idle-memory"]
COMPARED = ["mantou", "mantou-sslcontext"]
HEADING = """# Before and after

Written by `{command}`.
Commits {before} (before) and {after} (after), {date}, Python {python}, {cpus} x {cpu}, {kernel},
load average {load_average} at the start. {method}. Ratios are medians of pairs, with the quartiles
behind them; below 1 the change made it cheaper.

| | | before | after | after / before | |
|---|---|--:|--:|--:|--:|
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout that was built: its .venv is used")
    parser.add_argument("--scenarios", nargs="+", default=DEFAULT, help="names, or patterns")
    parser.add_argument("--peers", nargs="+", default=COMPARED, help="which of mantou's own")
    parser.add_argument("--rounds", type=int, default=15, help="of each build (15)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a round (0.5)")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let CPUs be shared")
    parser.add_argument("--output", type=Path, default=runs.RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    if not peers.interpreter(options.before).exists():
        parser.error(f"{options.before} was not built: run make build there")
    return options


def compare(scenario: Scenario, peer: peers.Peer, options: argparse.Namespace) -> str | None:
    """Return a row of the table; None where the peer cannot take part."""
    before = replace(peer, name="before", root=options.before.resolve())
    after = replace(peer, name="after")
    results: dict[str, Any] = Runner(options).run(scenario, [before, after])
    if not results:
        return None
    for name, result in results.items():
        if "error" in result:
            return f"| {scenario.title} | {peer.label} | {name}: {result['error']} | | | |"
    pairs = ratios(results, "after", "before", scenario.figure)
    costs = [median(results, name, scenario.figure) for name in ("before", "after")]
    shown = " | ".join(
        f"{cost:,.0f} B" if scenario.figure == "bytes" else f"{cost:.2f} us" for cost in costs
    )
    low, _, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else pairs * 3
    ratio = f"**{statistics.median(pairs):.3f}** | {low:.2f} to {high:.2f}"
    return f"| {scenario.title} | {peer.label} | {shown} | {ratio} |"


def main() -> int:
    options = parse()
    allow_descriptors()
    peers.build_load()
    # It serves where clients are measured.
    peers.prepare([peers.BY_NAME["floor"]])
    chosen = [s for s in SCENARIOS if any(fnmatch.fnmatch(s.name, p) for p in options.scenarios)]
    rounds = f"{options.rounds} rounds of {options.seconds:g} s"
    run = runs.this_run({}, f"{rounds}, the allocator's defaults")
    commits = {"before": peers.commit(options.before), "after": peers.commit(peers.ROOT)}
    text = HEADING.format_map({**run, **run["machine"], **run["versions"], **commits})
    for scenario in chosen:
        for name in options.peers:
            row = compare(scenario, peers.BY_NAME[name], options)
            if row is not None:
                print(row, flush=True)
                text += row + "\n"
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "builds.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What do more threads give, beside more processes? Echoes per second, of all connections together.

    python benchmarks/threads.py
    python benchmarks/threads.py --count 4 --work 0

One loop, COUNT threads with a loop each, and COUNT processes are measured in turn, each with as
many loads as it has loops. A handler that does nothing shares the processors with its load; one
that works (`--work`, numbers added in Python) has them nearly for itself, so both are shown. The
result is the median of the rounds, and of their ratios to one loop.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import peers
from processes import Program, ProgramError

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVER = Path(__file__).parent / "servers" / "threads_server.py"


@dataclass
class Way:
    """Servers of one kind, with a load for each of their loops."""

    label: str
    servers: list[Program] = field(default_factory=list)
    loads: list[Program] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    """Echoes per second."""
    costs: list[float] = field(default_factory=list)
    """Microseconds of the servers' processor time for an echo."""
    busy: list[float] = field(default_factory=list)
    """Processors that the servers kept busy."""

    def measure(self, pool: ThreadPoolExecutor, seconds: float) -> None:
        """Run one round on all loads at once."""
        before, began = self.cpu_seconds(), time.monotonic()
        figures = list(pool.map(lambda load: load.ask(f"{seconds}s"), self.loads))
        elapsed = time.monotonic() - began
        used = self.cpu_seconds() - before
        messages = sum(each["messages"] for each in figures)
        self.rates.append(messages / elapsed)
        self.costs.append(used / messages * 1e6)
        self.busy.append(used / elapsed)

    def cpu_seconds(self) -> float:
        return sum(server.cpu_seconds() for server in self.servers)

    def forget(self) -> None:
        """Leave out what warmed it up."""
        for figures in (self.rates, self.costs, self.busy):
            figures.clear()


def start(
    label: str,
    processes: int,
    threads: int,
    options: argparse.Namespace,
    stack: contextlib.ExitStack,
) -> Way:
    way = Way(label)
    command = [sys.executable, str(SERVER), str(threads), str(options.work)]
    for _ in range(processes):
        server = Program(label, command, None, peers.ENVIRONMENT)
        stack.callback(server.stop)
        way.servers.append(server)
        for _ in range(threads):
            load = Program(
                f"the load on {label}",
                [
                    str(peers.LOAD),
                    "echo",
                    "--port",
                    server.line(),
                    "--connections",
                    "25",
                    "--size",
                    "64",
                ],
                None,
            )
            stack.callback(load.stop)
            load.line()
            way.loads.append(load)
    return way


def compare(options: argparse.Namespace) -> None:
    """Measure all ways and print the table."""
    count = options.count
    with contextlib.ExitStack() as stack:
        one = start("one loop", 1, 1, options, stack)
        ways = [
            one,
            start(f"{count} threads", 1, count, options, stack),
            start(f"{count} processes", count, 1, options, stack),
        ]
        pool = stack.enter_context(ThreadPoolExecutor(count))
        for number in range(-1, options.rounds):
            for way in ways:
                way.measure(pool, options.seconds)
                if number < 0:
                    way.forget()
    print(f"work {options.work}, {options.rounds} rounds of {options.seconds:g} s")
    print(f"{'':<14}{'echoes/s':>10}{'to one loop':>13}{'us/echo':>9}{'busy':>6}")
    for way in ways:
        ratio = statistics.median(
            rate / base for rate, base in zip(way.rates, one.rates, strict=True)
        )
        rate, cost, busy = map(statistics.median, (way.rates, way.costs, way.busy))
        print(f"{way.label:<14}{rate:>10,.0f}{ratio:>13.2f}{cost:>9.2f}{busy:>6.2f}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2, help="threads, and processes (2)")
    parser.add_argument(
        "--work", type=int, nargs="+", default=[0, 5000], help="numbers to add (0 5000)"
    )
    parser.add_argument("--rounds", type=int, default=9, help="of each way (9)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round (1)")
    options = parser.parse_args(arguments)
    if min(options.count, options.rounds, options.seconds) <= 0 or min(options.work) < 0:
        parser.error("--count, --rounds and --seconds must be above 0, --work not below")
    return options


def main() -> int:
    options = parse()
    peers.build_load()
    try:
        for work in options.work:
            compare(argparse.Namespace(**{**vars(options), "work": work}))
    except ProgramError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

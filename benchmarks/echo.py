"""What does an echo cost? CPU time of the server per message, compared with a plain C epoll loop.

The quick look at one row of the benchmark (suite.py). Every peer is measured in pairs with the C
server (the floor), in alternating order, so that whatever else the machine does falls on both. The
result is the median of the pairs' ratios:

    python benchmarks/echo.py --peers mantou uvloop asyncio --limit 1.15

Only the server's CPU time counts, not the wall clock: the load is as busy as the server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import peers
from processes import Program, ProgramError

if TYPE_CHECKING:
    from collections.abc import Sequence

POSSIBLE = [peer.name for peer in peers.PEERS if peer.plain and peer.name != "floor"]


@dataclass
class Server:
    """A running server with the load that is connected to it."""

    label: str
    program: Program
    load: Program
    costs: list[float] = field(default_factory=list)

    def measure(self, seconds: float) -> float:
        """Run one round and return the server's CPU time per message in microseconds."""
        before = self.program.cpu_seconds()
        messages = self.load.ask(f"{seconds}s")["messages"]
        cost: float = (self.program.cpu_seconds() - before) / messages * 1e6
        self.costs.append(cost)
        return cost


def start(name: str, options: argparse.Namespace, stack: contextlib.ExitStack) -> Server:
    """Start a server and the load on it."""
    peer = peers.BY_NAME[name]
    cpus: list[int | None] = sorted(os.sched_getaffinity(0)) if options.pin else [None]
    command = peers.server_command(peer, "echo", ())
    server = Program(f"the {peer.label} server", command, cpus[0], peers.ENVIRONMENT)
    stack.callback(server.stop)
    arguments = ["echo", "--port", server.line(), "--connections", str(options.connections)]
    command = [str(peers.LOAD), *arguments, "--size", str(options.size)]
    load = Program(f"the load on {peer.label}", command, cpus[-1])
    stack.callback(load.stop)
    load.line()
    return Server(peer.label, server, load)


def compare(options: argparse.Namespace) -> dict[str, float]:
    """Measure all peers, print the table and return each one's ratio to the floor."""
    ratios: dict[str, list[float]] = {name: [] for name in options.peers}
    with contextlib.ExitStack() as stack:
        floor = start("floor", options, stack)
        servers = {name: start(name, options, stack) for name in options.peers}
        for server in (floor, *servers.values()):  # warm caches, allocators and the interpreter
            server.measure(options.seconds)
            server.costs.clear()
        for number in range(options.rounds):
            for name, server in servers.items():
                pair = (floor, server) if number % 2 == 0 else (server, floor)
                cost = {each.label: each.measure(options.seconds) for each in pair}
                ratios[name].append(cost[server.label] / cost[floor.label])

    print(
        f"CPU time of the server, {options.connections} connections x {options.size} bytes, "
        f"{options.rounds} pairs of {options.seconds:g} s"
    )
    print(f"{'server':<26}{'us/message':>12}{'ratio':>9}{'lowest':>9}{'highest':>9}")
    print(f"{floor.label:<26}{statistics.median(floor.costs):>12.3f}{1:>9.3f}")
    medians: dict[str, float] = {}
    for name, server in servers.items():
        pairs = ratios[name]
        medians[name] = statistics.median(pairs)
        print(
            f"{server.label:<26}{statistics.median(server.costs):>12.3f}"
            f"{medians[name]:>9.3f}{min(pairs):>9.3f}{max(pairs):>9.3f}"
        )
    return medians


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="pairs per peer (9)")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--size", type=int, default=64, help="bytes per message (64)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a measurement (1)")
    parser.add_argument("--peers", nargs="+", choices=POSSIBLE, default=["mantou"])
    parser.add_argument("--pin", action="store_true", help="servers on one CPU, loads on another")
    parser.add_argument("--limit", type=float, help="fail if mantou's ratio is above this")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.connections, options.size, options.seconds) <= 0:
        parser.error("--rounds, --connections, --size and --seconds must be above 0")
    if options.limit is not None and "mantou" not in options.peers:
        parser.error("--limit needs mantou among the --peers")
    return options


def main() -> int:
    options = parse()
    peers.build_load()
    wanted = [peers.BY_NAME[name] for name in ("floor", *options.peers)]
    missing = peers.prepare(wanted, tls=False)
    for name, why in missing.items():
        print(f"{peers.BY_NAME[name].label} is missing: {why}", file=sys.stderr)
    if "floor" in missing:
        return 2
    options.peers = [name for name in options.peers if name not in missing]
    try:
        ratio = compare(options).get("mantou")
    except ProgramError as error:
        print(error, file=sys.stderr)
        return 2
    if options.limit is not None and ratio is not None and ratio > options.limit:
        print(f"mantou's ratio {ratio:.3f} is above the limit {options.limit:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What does an echo cost? CPU time of the server per message, compared with a plain C epoll loop.

Every peer is measured in pairs with the C server (the floor), in alternating order, so that
whatever else the machine does falls on both. The result is the median of the pairs' ratios:

    python benchmarks/echo.py --peers mantou uvloop asyncio --limit 1.15

Only the server's CPU time counts, not the wall clock: the load is as busy as the server.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"
PEERS = ("mantou", "uvloop", "asyncio")


@dataclass
class Server:
    """A running server with the load that is connected to it."""

    name: str
    process: subprocess.Popen[str]
    load: subprocess.Popen[str]
    costs: list[float] = field(default_factory=list)

    def measure(self) -> float:
        """Run one round and return the server's CPU time per message in microseconds."""
        before = cpu_nanoseconds(self.process.pid)
        assert self.load.stdin is not None
        self.load.stdin.write("go\n")
        self.load.stdin.flush()
        messages = int(read_line(self.load, f"the load on {self.name}").split()[0])
        cost = (cpu_nanoseconds(self.process.pid) - before) / messages / 1000
        self.costs.append(cost)
        return cost


def cpu_nanoseconds(pid: int) -> int:
    """Return the CPU time a process has used, all its threads together."""
    with contextlib.suppress(FileNotFoundError):
        threads = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
    # A kernel without scheduler statistics counts ticks (usually 10 ms) only.
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(after_name[11]) + int(after_name[12])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def read_line(process: subprocess.Popen[str], name: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{name} ended unexpectedly (exit code {process.wait()})")
    return line


def compile_c(name: str) -> Path:
    """Compile `name`.c unless the program is newer than its source."""
    source, program = HERE / f"{name}.c", BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)], check=True
        )
    return program


@contextlib.contextmanager
def spawn(
    command: Sequence[str], stdin: int | IO[str], cpu: int | None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program, on one CPU if asked; it is ended on leaving."""
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True)
    try:
        if cpu is not None:
            os.sched_setaffinity(process.pid, {cpu})
        yield process
    finally:
        process.terminate()
        process.communicate()


def start(name: str, options: argparse.Namespace, stack: contextlib.ExitStack) -> Server:
    """Start a server and the load on it."""
    if name == "floor":
        command = [str(compile_c("floor"))]
    else:
        command = [sys.executable, str(HERE / "servers.py"), name]
    cpus = sorted(os.sched_getaffinity(0)) if options.pin else [None]
    process = stack.enter_context(spawn(command, subprocess.DEVNULL, cpus[0]))
    port = read_line(process, f"the {name} server").strip()
    amounts = ("127.0.0.1", port, options.connections, options.size, f"{options.seconds}s")
    load = stack.enter_context(
        spawn([str(compile_c("load")), *map(str, amounts)], subprocess.PIPE, cpus[-1])
    )
    read_line(load, f"the load on {name}")
    return Server(name, process, load)


def compare(options: argparse.Namespace) -> dict[str, float]:
    """Measure all peers, print the table and return each one's ratio to the floor."""
    ratios: dict[str, list[float]] = {name: [] for name in options.peers}
    with contextlib.ExitStack() as stack:
        floor = start("floor", options, stack)
        servers = [start(name, options, stack) for name in options.peers]
        for server in (floor, *servers):  # warm caches, allocators and the interpreter
            server.measure()
            server.costs.clear()
        for number in range(options.rounds):
            for server in servers:
                pair = (floor, server) if number % 2 == 0 else (server, floor)
                cost = {each.name: each.measure() for each in pair}
                ratios[server.name].append(cost[server.name] / cost["floor"])

    print(
        f"CPU time of the server, {options.connections} connections x {options.size} bytes, "
        f"{options.rounds} pairs of {options.seconds:g} s"
    )
    print(f"{'server':<10}{'us/message':>12}{'ratio':>9}{'lowest':>9}{'highest':>9}")
    print(f"{'C epoll':<10}{statistics.median(floor.costs):>12.3f}{1:>9.3f}")
    medians: dict[str, float] = {}
    for server in servers:
        pairs = ratios[server.name]
        medians[server.name] = statistics.median(pairs)
        print(
            f"{server.name:<10}{statistics.median(server.costs):>12.3f}"
            f"{medians[server.name]:>9.3f}{min(pairs):>9.3f}{max(pairs):>9.3f}"
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
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["mantou"])
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
    for name in list(options.peers):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed, left out", file=sys.stderr)
            options.peers.remove(name)
    if options.limit is not None and "mantou" not in options.peers:
        return 2
    ratio = compare(options).get("mantou")
    if options.limit is not None and ratio is not None and ratio > options.limit:
        print(f"mantou's ratio {ratio:.3f} is above the limit {options.limit:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The benchmark: mantou side by side with everything else, in interleaved rounds.

    python benchmarks/suite.py                                   everything (hours)
    python benchmarks/suite.py --scenarios 'echo-*-50' --peers mantou bun uvloop
    python benchmarks/suite.py --list

For each scenario all servers run at once, each with its own load, and are measured in turn:
A B C ... A B C ... What the machine does meanwhile falls on all of them. Figures are quoted as the
median of the rounds' ratios to the floor (the C server), with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import platform
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peers
import report
from processes import Program, ProgramError
from scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers import Peer

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Contestant:
    """A peer in a scenario: the program under test, and the one that drives it."""

    peer: Peer
    tested: Program
    driver: Program
    """Of a client under test it is the client itself that runs the rounds."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    def measure(self, seconds: float) -> dict[str, Any]:
        """Run one round and return its figures."""
        before = self.tested.cpu_seconds()
        figures = self.driver.ask(f"{seconds}s")
        cpu = self.tested.cpu_seconds() - before
        messages = max(figures.pop("messages"), 1)
        elapsed = figures.pop("seconds")
        return {
            "cpu_us": cpu / messages * 1e6,
            "per_second": messages / elapsed,
            "busy": cpu / elapsed,
            "load_busy": figures.pop("load_cpu") / elapsed,
            "resumed": figures.pop("resumed") / messages,
            **figures,
        }


class Runner:
    """Starts, measures and ends the contestants of one scenario after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.certificate = peers.certificate()
        cpus: list[int | None] = sorted(os.sched_getaffinity(0))
        self.cpus = (cpus[0], cpus[-1]) if options.pin else (None, None)

    def start(self, peer: Peer, scenario: Scenario, stack: contextlib.ExitStack) -> Contestant:
        """Start a peer and what drives it."""
        own, other = self.cpus
        files = self.certificate if scenario.tls else ()
        is_client = scenario.role == "connect"
        serving = peers.BY_NAME["floor"] if is_client else peer
        server = self.spawn(
            f"the {serving.label} server",
            peers.server_command(serving, "farewell" if is_client else scenario.role, files),
            other if is_client else own,
            stack,
        )
        try:
            port = int(server.line())
        except ValueError as error:
            raise ProgramError(f"no port: {error}") from None
        if is_client:
            command = peers.client_command(peer, port, scenario.connections)
        else:
            tls = ["--tls", files[0]] if files else []
            command = [str(peers.LOAD), *scenario.load_options(), "--port", str(port), *tls]
        load = self.spawn(f"the load on {peer.label}", command, own if is_client else other, stack)
        load.line()
        return Contestant(peer, load if is_client else server, load)

    @staticmethod
    def spawn(
        name: str, command: list[str], cpu: int | None, stack: contextlib.ExitStack
    ) -> Program:
        program = Program(name, command, cpu, peers.ENVIRONMENT)
        stack.callback(program.stop)
        return program

    def run(self, scenario: Scenario, taking_part: list[Peer]) -> dict[str, Any]:
        """Measure a scenario: a result for each peer, or the reason why there is none."""
        results: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            contestants = []
            for peer in taking_part:
                if scenario.role not in peer.roles(scenario.tls):
                    continue
                if peer.name == "blocking" and scenario.connections > 50:
                    continue  # a thread each makes no sense
                try:
                    contestants.append(self.start(peer, scenario, stack))
                except ProgramError as error:
                    results[peer.name] = {"error": str(error)}
            for number in range(-1, self.options.rounds):
                for each in contestants:
                    if each.error is None:
                        self.round(each, number)
            for each in contestants:
                if each.error is None:
                    rss = each.tested.rss()
                    results[each.peer.name] = {"rounds": each.rounds, "rss": rss}
                else:
                    results[each.peer.name] = {"error": each.error}
        return results

    def round(self, contestant: Contestant, number: int) -> None:
        """Run a round. The first one warms up caches, allocators and compilers, and is not kept."""
        try:
            figures = contestant.measure(self.options.seconds)
        except (ProgramError, OSError) as error:
            contestant.error = str(error)
            return
        if number >= 0:
            contestant.rounds.append(figures)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = "unknown"
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        model = next((x.partition(":")[2].strip() for x in lines if "model name" in x), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in peers.PEERS]
    parser.add_argument("--scenarios", nargs="+", default=["*"], help="names, or patterns")
    parser.add_argument("--peers", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=7, help="of each peer (7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round (1)")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let CPUs be shared")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--add", action="store_true", help="keep the scenarios it has already")
    parser.add_argument("--list", action="store_true", help="name the scenarios and peers")
    options = parser.parse_args(arguments)
    if options.rounds <= 0 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be above 0")
    return options


def main() -> int:
    options = parse()
    chosen = [s for s in SCENARIOS if any(fnmatch.fnmatch(s.name, p) for p in options.scenarios)]
    if options.list or not chosen:
        print("\n".join(f"{s.name:<20}{s.title}" for s in SCENARIOS))
        print("peers:", ", ".join(peer.name for peer in peers.PEERS))
        return 0 if options.list else 2
    peers.build_load()
    # The floor always takes part: all is quoted as a ratio to it.
    wanted = [p for p in peers.PEERS if p.name in options.peers or p.name == "floor"]
    missing = peers.prepare(wanted)
    for name, why in missing.items():
        print(f"{peers.BY_NAME[name].label} is missing: {why}", file=sys.stderr)

    file = options.output / "results.json"
    result: dict[str, Any] = {"scenarios": {}}
    if options.add and file.exists():
        result = json.loads(file.read_text())
    result |= {
        "command": shlex.join(["python", "benchmarks/suite.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "pinned": options.pin,
        "machine": machine(),
        "versions": peers.versions(),
        "missing": missing,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    runner = Runner(options)
    for number, scenario in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {scenario.title}", flush=True)
        taking_part = [peer for peer in wanted if peer.name not in missing]
        result["scenarios"][scenario.name] = runner.run(scenario, taking_part)
        print(report.table(scenario, result["scenarios"][scenario.name]), flush=True)
        file.write_text(json.dumps(result, indent=1) + "\n")  # so far: a long run may be broken off
    report.write(result, options.output)
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

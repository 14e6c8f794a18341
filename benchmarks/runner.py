"""Runs a scenario: starts who takes part, measures them in turn, ends them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import peers
from processes import Program, ProgramError

if TYPE_CHECKING:
    import argparse

    from peers import Peer
    from rows import Contender
    from scenarios import Scenario
    from wrk import Wrk

FAILURES = (ProgramError, OSError, subprocess.CalledProcessError)
THREADS = 100
"""So many connections at most for a peer that has a thread for each."""
WARM_UP = 500
"""Connections that are opened and closed first: what a process needs once is not counted."""
MEMORY_ROUNDS = 3
SETTLE = 0.5
"""Seconds until a garbage collector and delayed closing have had their turn."""


@dataclass
class Contestant:
    """A peer in a scenario: the program under test, and the one that drives it."""

    peer: Peer | Contender
    tested: Program
    driver: Program | Wrk
    """Of a client under test it is the client itself that runs the rounds."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    def measure(self, seconds: float) -> dict[str, Any]:
        """Run one round and return its figures."""
        before, split = self.tested.cpu_seconds(), self.tested.user_and_system()
        figures = self.driver.ask(f"{seconds:g}s")
        cpu = self.tested.cpu_seconds() - before
        user, system = (
            now - then for now, then in zip(self.tested.user_and_system(), split, strict=True)
        )
        messages = max(figures.pop("messages"), 1)
        elapsed = figures.pop("seconds")
        return {
            "cpu_us": cpu / messages * 1e6,
            "per_second": messages / elapsed,
            "system": system / max(user + system, 1e-9),
            "busy": cpu / elapsed,
            "load_busy": figures.pop("load_cpu") / elapsed,
            "resumed": figures.pop("resumed") / messages,
            **figures,
        }

    def hold(self, connections: int) -> dict[str, Any]:
        """Return what an idle connection adds to its resident memory."""
        resident = []
        for counts in ((WARM_UP, 0), (connections,)):
            for count in counts:
                self.driver.ask(str(count))
            time.sleep(SETTLE)
            resident.append(self.tested.rss())
        return {"bytes": (resident[1] - resident[0]) / connections}


class Runner:
    """Starts, measures and ends the contestants of one scenario after the other."""

    environment = peers.ENVIRONMENT

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.certificate = peers.certificate()
        cpus = sorted(os.sched_getaffinity(0))
        self.cpus = (cpus[0], cpus[-1]) if options.pin else (None, None)

    def run(self, scenario: Scenario, wanted: list[Peer]) -> dict[str, Any]:
        """Measure a scenario: a result for each peer, or the reason why there is none."""
        taking_part = [peer for peer in wanted if takes_part(peer, scenario)]
        if scenario.load == "hold":
            return self.memory(scenario, taking_part)
        return self.rounds(scenario, taking_part)

    def rounds(self, scenario: Scenario, taking_part: list[Peer]) -> dict[str, Any]:
        """All run at once and are measured in turn."""
        results: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            contestants = []
            for peer in taking_part:
                try:
                    contestants.append(self.start(peer, scenario, stack))
                except FAILURES as error:
                    results[peer.name] = {"error": peers.reason(error)}
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
            # What has failed may be spinning, and the others share its CPU.
            contestant.driver.stop()
            contestant.tested.stop()
            return
        if number >= 0:
            contestant.rounds.append(figures)

    def memory(self, scenario: Scenario, taking_part: list[Peer]) -> dict[str, Any]:
        """A new process for each round: memory that was used before would be used again."""
        results: dict[str, Any] = {peer.name: {"rounds": []} for peer in taking_part}
        for _ in range(min(self.options.rounds, MEMORY_ROUNDS)):
            for peer in taking_part:
                result = results[peer.name]
                if "error" in result:
                    continue
                try:
                    with contextlib.ExitStack() as stack:
                        contestant = self.start(peer, scenario, stack)
                        result["rounds"].append(contestant.hold(scenario.connections))
                except FAILURES as error:
                    results[peer.name] = {"error": peers.reason(error)}
        return results

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
        port = port_of(server)
        if is_client:
            command = peers.client_command(peer, port, scenario.connections, files[:1])
        else:
            tls = ["--tls", files[0]] if files else []
            command = [str(peers.LOAD), *scenario.load_options(), "--port", str(port), *tls]
        load = self.spawn(f"the load on {peer.label}", command, own if is_client else other, stack)
        load.line()
        return Contestant(peer, load if is_client else server, load)

    def spawn(
        self, name: str, command: list[str], cpu: int | None, stack: contextlib.ExitStack
    ) -> Program:
        program = Program(name, command, cpu, self.environment)
        stack.callback(program.stop)
        return program


def port_of(server: Program) -> int:
    """Return the port that a server prints when it listens."""
    try:
        return int(server.line())
    except ValueError as error:
        raise ProgramError(f"no port: {error}") from None


def takes_part(peer: Peer, scenario: Scenario) -> bool:
    """Whether it can; `Peer.limits` says why not."""
    if peer.name == "blocking" and scenario.connections + scenario.idle > THREADS:
        return False
    return scenario.role in peer.roles(scenario.tls)

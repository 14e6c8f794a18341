"""Starts an unchanged asyncio program on a loop, together with what drives it."""

from __future__ import annotations

import http.client
import ssl
import sys
from typing import TYPE_CHECKING, Any

import peers
from processes import ProgramError
from rows import BASE, CONTENDERS, ROWS
from runner import Contestant, Runner, port_of
from services import SERVICES
from wrk import Wrk

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence

    from rows import Contender, Row

PROGRAMS = peers.HERE / "programs"
SITE = peers.BUILD / "programs"
REQUIREMENTS = "programs-bench.txt"
BODY = b"Hello, world!"


class ProgramRunner(Runner):
    """Runs a row on its contenders; rounds are the suite's."""

    environment = peers.python_path(
        peers.SITE, SITE, PROGRAMS, peers.HERE / "servers", peers.HERE / "clients"
    )

    def run(self, scenario: Row, wanted: list[Contender]) -> dict[str, Any]:
        """Measure a row: a result for each contender, or the reason why there is none."""
        measure = self.memory if scenario.load == "hold" else self.rounds
        return measure(scenario, [each for each in wanted if each.name in scenario.contenders])

    def start(self, peer: Contender, scenario: Row, stack: contextlib.ExitStack) -> Contestant:
        """Start a program and what drives it."""
        own, other = self.cpus
        name = f"{scenario.name} on {peer.label}"
        if scenario.load == "own":
            served = [str(self.serve(scenario, other, stack))] if scenario.service else []
            program = self.spawn(name, command(peer, scenario, served), own, stack)
            program.line()
            return Contestant(peer, program, program)
        files = self.certificate if scenario.tls else ()
        server = self.spawn(name, command(peer, scenario, files), own, stack)
        port = port_of(server)
        if scenario.load == "wrk":
            look(port, files[0] if files else None)
            return Contestant(peer, server, Wrk(port, scenario.tls, scenario.connections, other))
        holding = [str(peers.LOAD), "hold", "--port", str(port), "--tls", self.certificate[0]]
        load = self.spawn(f"the load on {peer.label}", holding, other, stack)
        load.line()
        return Contestant(peer, server, load)

    def serve(self, row: Row, cpu: int | None, stack: contextlib.ExitStack) -> int:
        """Start what a client is served by; for HTTP the cheapest row on the base's loop."""
        if row.service in SERVICES:
            return SERVICES[row.service](cpu, stack)
        base = next(each for each in CONTENDERS if each.name == BASE)
        serving = next(each for each in ROWS if each.name == row.service)
        return port_of(self.spawn(serving.title, command(base, serving), cpu, stack))


def command(contender: Contender, row: Row, arguments: Sequence[str] = ()) -> list[str]:
    """Return what starts a row's program on a loop."""
    program = str(PROGRAMS / row.program)
    return [sys.executable, program, row.kind, contender.loop, contender.tls, *arguments]


def look(port: int, certificate: str | None) -> None:
    """Have a server answer once, and look at the answer: wrk counts answers, and reads none."""
    if certificate is None:
        connection = http.client.HTTPConnection("localhost", port, timeout=10)
    else:
        context = ssl.create_default_context(cafile=certificate)
        connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ProgramError(f"no answer: {error}") from None
    finally:
        connection.close()
    if (response.status, body) != (200, BODY):
        raise ProgramError(f"the answer is {response.status}, {body!r}")

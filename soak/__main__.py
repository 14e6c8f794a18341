"""Starts the server, the loads and the probe, and tells what they saw. Exits with 1 for a fault.

python -m soak --seconds 1800 --connections 5000 --idle 20000 --churn 100000
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trustme

from benchmarks.processes import Program, allow_descriptors
from soak.probe import Probe
from soak.report import faults, report

ROOT = Path(__file__).parents[1]
# What is under way at the end may still take.
PATIENCE = 300.0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Thousands of connections of every kind.")
    parser.add_argument("--seconds", type=float, default=180.0, help="how long (180)")
    parser.add_argument(
        "--connections", type=int, default=5000, help="at once, of all kinds (5000)"
    )
    parser.add_argument("--idle", type=int, default=20_000, help="besides, all the time (20000)")
    parser.add_argument("--churn", type=int, default=100_000, help="connects and closes (100000)")
    parser.add_argument("--pace", type=float, default=None, help="longest pause of a connection, s")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what happens")
    return parser.parse_args(arguments)


def certificates(folder: Path) -> Path:
    """Two for the server, by one authority, whose own is returned."""
    authority = trustme.CA()
    for number in range(2):
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(str(folder / f"{number}-key.pem"))
        for part in issued.cert_chain_pems:
            part.write_to_path(str(folder / f"{number}.pem"), append=True)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return folder / "ca.pem"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    allow_descriptors()
    # Five thousand are too many to be busy all the time: it is the loads that need the processor.
    pace = options.connections / 400 if options.pace is None else options.pace
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ca = certificates(folder)

        def start(name: str, *arguments: object) -> Program:
            command = [sys.executable, "-m", f"soak.{name}", *map(str, arguments)]
            program = Program(name, command, None, {"PYTHONPATH": str(ROOT)})
            stack.callback(program.stop)
            return program

        server = start("server", folder)
        ports = server.line()
        half = options.connections // 2
        shared = (options.seconds, pace, options.seed, ca, ports)
        loads = {
            "asyncio": start("load", "asyncio", half, 0, 0, *shared),
            "mantou": start("load", "mantou", half, 0, options.churn, *shared),
            # Two, for one may not have so many descriptors.
            "idle": start("load", "asyncio", 0, options.idle // 2, 0, *shared),
            "idle, too": start("load", "asyncio", 0, options.idle // 2, 0, *shared),
        }
        probe = Probe(json.loads(ports)["echo"])
        stack.callback(probe.stop)
        patience = options.seconds + PATIENCE
        told = {name: json.loads(load.line(patience)) for name, load in loads.items()}
        latency = probe.stop()
        os.kill(server.pid, signal.SIGTERM)
        return {
            "loads": told,
            "latency": latency,
            "server": json.loads(server.line(PATIENCE)),
            "options": {**vars(options), "pace": pace},
        }


def main() -> int:
    options = parse()
    figures = run(options)
    print(report(figures))
    found = faults(figures)
    for fault in found:
        print(f"FAULT {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a request costs the Redis server of the examples, beside one in Python and Redis itself.

    python benchmarks/redis_servers.py
    python benchmarks/redis_servers.py --requests 20000 --rounds 3 --output /tmp/trial

`redis-benchmark` with its 50 connections asks for GET and SET, alone and 16 at a time. CPU time of
the server, all servers in turn; the result is the median of the rounds, in results/redis.md. The
other one in Python is fakeredis's `TcpFakeServer`, the one on PyPI that is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import runs
from processes import Program, ProgramError

ROOT = Path(__file__).resolve().parent.parent
FAKEREDIS = "fakeredis==2.41.0"
PIPELINES = (1, 16)
TICKS = os.sysconf("SC_CLK_TCK")

FAKE = """
import sys
from fakeredis import TcpFakeServer
TcpFakeServer.request_queue_size = 128  # 50 connections come at once
server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])))
print("Ready", flush=True)
server.serve_forever()
"""
# What the line has in it that each prints when it listens.
READY = {"mantou": "listening", "fakeredis": "Ready", "redis": "Ready to accept connections"}


def fakeredis() -> str:
    """The Python of an environment that has it."""
    folder = ROOT / "build" / "bench" / "fakeredis"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", FAKEREDIS], check=True)
    return str(python)


def servers(folder: str) -> dict[str, tuple[str, list[str]]]:
    """What to call each, and how to start it but for its port."""
    own = [sys.executable, "-m", "examples.redis.server", "--port"]
    found = {"mantou": ("the example", own), "fakeredis": (FAKEREDIS, [fakeredis(), "-c", FAKE])}
    if shutil.which("redis-server"):
        real = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", folder, "--port"]
        found["redis"] = ("redis-server itself, in C", real)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(name: str, command: list[str]) -> Iterator[tuple[int, int]]:
    """Its port, which is another one each time, and its process."""
    port = free_port()
    program = Program(name, [*command, str(port)], None)
    try:
        while READY[name] not in program.line():
            pass
        yield port, program.pid
    finally:
        program.stop(signal.SIGTERM)


def spent(process: int) -> float:
    """The CPU seconds of a process, all its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(name: str, command: list[str], pipeline: int, requests: int) -> float:
    """Microseconds of CPU time a request."""
    with running(name, command) as (port, process):
        load = ["redis-benchmark", "-p", str(port), "-t", "get,set", "-n", str(requests)]
        before = spent(process)
        done = subprocess.run(
            [*load, "-P", str(pipeline), "-q"], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ProgramError(f"redis-benchmark failed for {name}: {done.stderr or done.stdout}")
        return (spent(process) - before) / (2 * requests) * 1e6


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=50_000, help="of each kind (50000)")
    parser.add_argument("--rounds", type=int, default=5, help="of each server (5)")
    parser.add_argument("--output", type=Path, default=runs.RESULTS, help="folder of the result")
    return parser.parse_args()


def main() -> None:
    options = parse()
    os.environ["PYTHONPATH"] = str(ROOT)
    costs: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        known = servers(folder)
        for _ in range(options.rounds):
            for name, (_, command) in known.items():
                for pipeline in PIPELINES:
                    cost = measure(name, command, pipeline, options.requests)
                    costs.setdefault((name, pipeline), []).append(cost)
    run = runs.this_run({}, f"{options.rounds} rounds of {options.requests:,} GET and SET each")
    machine = "Python {python}, {cpus} x {cpu}, {kernel}".format_map(
        {**run["machine"], **run["versions"]}
    )
    lines = [
        "# Redis servers",
        "",
        f"Written by `{run['command']}`, {run['date']}, {machine}.",
        f"{run['method']}, over 50 connections; CPU time of the server. Ratios are",
        "medians of those of the rounds.",
        "",
        "| | a request | to the example | 16 at a time | to the example |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, (label, _) in known.items():
        row = f"| {label} |"
        for pipeline in PIPELINES:
            own = costs[name, pipeline]
            ratios = [it / base for it, base in zip(own, costs["mantou", pipeline], strict=True)]
            row += f" {statistics.median(own):.2f} us | {statistics.median(ratios):.2f} |"
        print(row, flush=True)
        lines.append(row)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "redis.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

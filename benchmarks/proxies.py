"""What does a proxy cost? The examples' beside HAProxy, in the clear and where they end TLS.

    python benchmarks/proxies.py
    python benchmarks/proxies.py --rows '*short*' --rounds 5 --output /tmp/trial

Both proxies run on one core and have one thread; load and server are on the other. They are
measured in turn, in interleaved rounds, and the result is the median of the rounds' ratios. It is
written to results/proxies.md, with every round's figures in proxies.json beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import debian
import peers
import runs
from figures import median, ratios
from processes import Program, ProgramError, allow_descriptors
from services import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 10.0
GIB = 1024  # messages of 1 MiB
HEADING = """# Proxies

Written by `{command}`.
Commit {commit}, {date}, Python {python}, {haproxy}, {cpus} x {cpu}, {kernel}, load average
{load_average} at the start. {method}. CPU time of the proxy, user and system, as the median of the
rounds; ratios are medians of the rounds' ratios, with the quartiles behind them. Below 1 mantou is
cheaper.

| | HAProxy | mantou | mantou / HAProxy | |
|---|--:|--:|--:|--:|
"""
CONFIGURATION = """
global
    nbthread 1
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen proxy
    bind 127.0.0.1:{port}{tls}
    server upstream 127.0.0.1:{upstream}
"""


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    role: str
    """What the server behind the proxy does."""
    load: str
    tls: bool = False
    per: int = 1
    """So many messages are what the figure is about."""
    unit: str = "us"


def rows() -> list[Row]:
    bulk = "--connections 8 --size 1048576"
    plain = [
        Row("short", "connect, echo 64 B, close", "echo", "churn --connections 50"),
        Row("down", "1 GiB down, 8 connections", "source", f"source {bulk}", per=GIB, unit="ms"),
        Row("up", "1 GiB up, 8 connections", "sink", f"sink {bulk}", per=GIB, unit="ms"),
        Row("echo", "echo 64 B, 50 connections", "echo", "echo --connections 50"),
    ]
    secure = [
        Row(f"tls-{x.name}", f"TLS, {x.title}", x.role, x.load, True, x.per, x.unit) for x in plain
    ]
    return [*plain, *secure]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=["*"], help="names, or patterns")
    parser.add_argument("--rounds", type=int, default=11, help="of each proxy (11)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round (1)")
    return runs.parse(parser, arguments)


def haproxy(row: Row, upstream: int, files: tuple[str, str], folder: Path) -> tuple[list[str], int]:
    """Return what starts HAProxy, and the port that it will listen on."""
    port = free_port()
    tls = ""
    if row.tls:
        both = folder / "certificate-and-key.pem"
        both.write_text("".join(Path(file).read_text() for file in files))
        tls = f" ssl crt {both} ssl-min-ver TLSv1.3"
    configuration = folder / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(port=port, tls=tls, upstream=upstream))
    return [*debian.command("haproxy"), "-db", "-q", "-f", str(configuration)], port


def mantou(row: Row, upstream: int, files: tuple[str, str]) -> list[str]:
    """Return what starts the example, which says its port."""
    script = str(peers.ROOT / "examples" / ("tls_proxy.py" if row.tls else "tcp_proxy.py"))
    secrets = ["--cert", files[0], "--key", files[1]] if row.tls else []
    target = ["--port", "0", "--upstream", f"127.0.0.1:{upstream}"]
    return [sys.executable, script, *target, *secrets]


def await_listener(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port)).close()
        time.sleep(0.02)
    raise ProgramError(f"nobody listens on port {port}")


def measure(
    row: Row, options: argparse.Namespace, files: tuple[str, str]
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return the rounds of both proxies."""
    cpus = sorted(os.sched_getaffinity(0))
    own, other = (cpus[0], cpus[-1]) if options.pin else (None, None)
    with contextlib.ExitStack() as stack:

        def start(name: str, command: Sequence[str], cpu: int | None) -> Program:
            program = Program(name, command, cpu, peers.ENVIRONMENT)
            stack.callback(program.stop)
            return program

        server = start("server", [str(peers.BUILD / "floor"), row.role], other)
        upstream = int(server.line())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command, port = haproxy(row, upstream, files, folder)
        proxies = {
            "haproxy": start("HAProxy", command, own),
            "mantou": start("mantou", mantou(row, upstream, files), own),
        }
        await_listener(port)
        ports = {"haproxy": port, "mantou": int(proxies["mantou"].line().rpartition(":")[2])}
        loads = {}
        for name, number in ports.items():
            tls = ["--tls", files[0]] if row.tls else []
            command = [str(peers.LOAD), *row.load.split(), "--port", str(number), *tls]
            loads[name] = start("load", command, other)
            loads[name].line()
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in proxies}
        for number in range(options.rounds + 1):
            for name in sorted(proxies, reverse=number % 2 == 1):
                before = proxies[name].cpu_seconds()
                figures = loads[name].ask(f"{options.seconds}s")
                cpu = proxies[name].cpu_seconds() - before
                if number:  # the first one warms up caches and allocators
                    one = {"cpu": cpu * 1e6 / figures["messages"], **figures}
                    rounds[name].append(one)
        return {name: {"rounds": found} for name, found in rounds.items()}


def line(row: Row, results: dict[str, Any]) -> str:
    """Return a row of the table."""
    pairs = ratios(results, "mantou", "haproxy", "cpu")
    scale = row.per / (1000 if row.unit == "ms" else 1)
    costs = [median(results, name, "cpu") * scale for name in ("haproxy", "mantou")]
    shown = " | ".join(f"{cost:,.1f} {row.unit}" for cost in costs)
    low, _, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else pairs * 3
    ratio = f"**{statistics.median(pairs):.2f}** | {low:.2f} to {high:.2f}"
    return f"| {row.title} | {shown} | {ratio} |"


def main() -> int:
    options = parse()
    allow_descriptors()
    peers.build_load()
    peers.prepare([peers.BY_NAME["floor"]], tls=False)
    files = peers.certificate()
    version = subprocess.run(
        [*debian.command("haproxy"), "-v"], capture_output=True, text=True, check=True
    )
    release = " ".join(version.stdout.split()[:3])
    rounds = f"{options.rounds} rounds of {options.seconds:g} s"
    cores = "on another core" if options.pin else "not pinned"
    run = runs.this_run({}, f"{rounds}, load and server {cores}, the allocator's defaults")
    run["versions"]["haproxy"] = release
    name = "proxies.json"
    result = runs.read(options.output, name) if options.add else {"scenarios": {}}
    text = HEADING.format_map({**run, **run["machine"], **run["versions"]})
    for row in rows():
        if any(fnmatch.fnmatch(row.name, pattern) for pattern in options.rows):
            result["scenarios"][row.name] = {"run": run, "results": measure(row, options, files)}
        if row.name in result["scenarios"]:
            shown = line(row, result["scenarios"][row.name]["results"])
            print(shown, flush=True)
            text += shown + "\n"
    runs.write(result, options.output, name)
    (options.output / "proxies.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

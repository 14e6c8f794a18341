"""`mantou bench`: how fast a server answers that sends back what it gets."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import mantou

from .addresses import target
from .bench_load import Load, Rate, Turns
from .endings import Code, Failure, connecting
from .histogram import SHOWN
from .numbers import count, seconds, shown_bytes, shown_seconds
from .opening import PATIENCE
from .running import run
from .stdio import show
from .terminal import live
from .tls_flags import checked, client_tls, declare_client

if TYPE_CHECKING:
    from rich.console import RenderableType

DESCRIPTION = """\
Sends messages over many connections to a server that sends back what it gets (mantou listen --echo)
and measures how long each takes to come back.

Without --rate the loop is closed: a connection sends the next message when it has the answer, so a
server that stalls is asked less often just then, and the latencies leave out what others would have
waited (coordinated omission). With --rate the loop is open: messages are due at fixed times,
whatever the server does, and latency counts from when a message was due. Messages that have no
answer at the end count with the time that they have waited.
"""
EXAMPLES = """\
  mantou bench localhost:7000
  mantou bench localhost:7000 --connections 200 --size 1Ki --seconds 30
  mantou bench localhost:7000 --rate 20k --json > result.json
  mantou bench example.com:7443 --tls --ca ca.pem
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument("address", metavar="ADDRESS", type=target, help="HOST:PORT or unix:PATH")
    parser.add_argument(
        "--connections", type=count, default=50, metavar="N", help="at once (default: 50)"
    )
    parser.add_argument(
        "--size", type=count, default=64, metavar="BYTES", help="of a message (default: 64)"
    )
    parser.add_argument(
        "--seconds", type=seconds, default=10.0, metavar="SECONDS", help="how long (default: 10)"
    )
    parser.add_argument(
        "--rate", type=count, metavar="N", help="messages a second in all: an open loop"
    )
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    declare_client(parser, starttls=False)


def start(options: argparse.Namespace) -> Code:
    """Does it; the exit code."""
    return run(_bench(options))


async def _bench(options: argparse.Namespace) -> Code:
    tls = client_tls(options)
    load = Load(options.size)
    pace = Turns(load) if options.rate is None else Rate(load, options.rate)
    connect: dict[str, Any] = {
        **options.address.options(),
        "socket": load,
        "connect_timeout": PATIENCE,
        "handshake_timeout": PATIENCE,
    }
    if tls is not None:
        connect["tls"] = tls
    try:
        with connecting(options.address):
            for _ in range(options.connections):
                load.add(await mantou.connect(**connect))
        checked(tls, load.askers[0].socket, options.say)
        cpu, began = time.process_time(), time.perf_counter()
        pace.begin(time.perf_counter_ns())
        await _show_until(load, began + options.seconds)
        took = time.perf_counter() - began
        busy = (time.process_time() - cpu) / took
        pace.stop()
        await load.finished(2.0)
        result = _result(options, load, pace, took) | {"own_cpu": busy}
        await load.goodbye(1.0)
    finally:
        load.terminate()
    show(json.dumps(result, indent=2) if options.json else _text(result))
    if not load.answered:
        raise Failure(Code.BROKEN, f"{options.address}: no message came back")
    return Code.BROKEN if result["errors"] else Code.FINE


async def _show_until(load: Load, deadline: float) -> None:
    with live() as update:
        before, since = 0, time.perf_counter()
        while (left := deadline - time.perf_counter()) > 0 and load.alive:
            pause = 0.5 if update is not None else 1.0
            load.wake = asyncio.get_running_loop().create_future()
            await asyncio.wait({load.wake}, timeout=min(left, pause))
            now, total = time.perf_counter(), load.latencies.total
            rate, before, since = (total - before) / (now - since), total, now
            line = f"{max(0, deadline - now):.0f} s left, {rate:,.0f} messages/s"
            line += f", {load.alive} connections, {sum(load.errors.values())} errors"
            if update is not None:
                update(_picture(line, load))
            elif left > pause and sys.stderr.isatty():
                print(line, file=sys.stderr, flush=True)


def _picture(line: str, load: Load) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(expand=False)
    for name in ("percentile", "latency"):
        table.add_column(name, justify="right", no_wrap=True)
    for percent in SHOWN:
        table.add_row(f"{percent:g}", shown_seconds(load.latencies.percentile(percent) / 1e9))
    return Group(line, table)


def _result(
    options: argparse.Namespace, load: Load, pace: Turns | Rate, took: float
) -> dict[str, Any]:
    """All that was measured. Times are in microseconds, if not said otherwise."""
    # Before the latencies, which the waiting ones become part of.
    unanswered, unsent = load.unanswered(), pace.unsent()
    latencies = load.latencies
    measured: dict[str, float] = {
        "min": latencies.least / 1000 if latencies.total else 0.0,
        "mean": latencies.mean() / 1000,
        "stdev": latencies.deviation() / 1000,
        "max": latencies.most / 1000,
    }
    for percent in SHOWN:
        measured[f"p{percent:g}"] = latencies.percentile(percent) / 1000
    return {
        "mantou": mantou.__version__,
        "target": str(options.address),
        "tls": load.agreed(),
        "loop": "closed" if options.rate is None else "open",
        "coordinated_omission": options.rate is None,
        "connections": options.connections,
        "size": options.size,
        "seconds": took,
        "rate_asked": options.rate,
        "messages": load.answered,
        "rate": load.in_time / took,
        "bytes_per_second": load.in_time * options.size / took,
        "unanswered": unanswered,
        "unsent": unsent,
        "sent_late": pace.late,
        "errors": dict(load.errors),
        "latency_us": measured,
        "distribution": [
            {"percentile": percent, "latency_us": value / 1000, "messages": number}
            for percent, value, number in latencies.distribution()
        ],
    }


def _text(result: dict[str, Any]) -> str:
    measured = result["latency_us"]
    tls = result["tls"]
    over = f" over {tls['version']}, {tls['cipher']}" if tls else ""
    lines = [
        f"{result['target']}{over}: {result['connections']} connections, {result['size']} bytes,"
        f" {result['seconds']:.1f} s, {result['loop']} loop",
        f"  {result['messages']:,} messages, {result['rate']:,.0f}/s,"
        f" {shown_bytes(result['bytes_per_second'])}/s each way",
        "  latency" + (" from when a message was due" if result["loop"] == "open" else ""),
    ]
    for name, value in measured.items():
        lines.append(f"    {name:>6}  {shown_seconds(value / 1e6):>9}")
    lines += [f"  {number} x {error}" for error, number in result["errors"].items()]
    if result["unanswered"]:
        lines.append(f"  {result['unanswered']} messages had no answer within two more seconds")
    if result["unsent"]:
        lines.append(f"  {result['unsent']} messages were due and had to wait until the end:")
        lines.append("  the server is slower than was asked for")
    if result["sent_late"]:
        lines.append(f"  {result['sent_late']} messages were sent over 1 ms late by this process,")
        lines.append("  which was too busy: that counts as latency, too")
    if result["loop"] == "closed":
        lines.append("  closed loop: what a stall would have cost others is left out; see --rate")
    if result["loop"] == "closed" and result["own_cpu"] > 0.9:
        lines.append("  this process used its whole core: the server may be faster than it can ask")
    return "\n".join(lines)

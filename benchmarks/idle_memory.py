"""What does an idle connection cost a client? Resident memory of mantou.connect's end.

    python benchmarks/idle_memory.py --connections 10000 --limit 24

prints bytes per connection for plain TCP and for TLS, to the C server. The server's end, of every
peer, is measured by the suite: `suite.py --scenarios '*idle-memory'`. Some connections are opened
and closed first, so that what a process needs once is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
from pathlib import Path
from typing import Any

import peers
from processes import Program, ProgramError, allow_descriptors

import mantou

WARM_UP = 500
AT_ONCE = 100


class Idle(mantou.SocketHandler[Any]):
    """Neither sends nor keeps anything."""

    def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
        pass


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def connect(port: int, options: dict[str, Any], count: int) -> list[mantou.Socket[Any]]:
    handlers = Idle()
    sockets: list[mantou.Socket[Any]] = []
    while len(sockets) < count:
        batch = range(min(AT_ONCE, count - len(sockets)))
        connecting = (
            mantou.connect(hostname="127.0.0.1", port=port, socket=handlers, **options)
            for _ in batch
        )
        sockets += await asyncio.gather(*connecting)
    return sockets


async def hold(port: int, tls: bool, count: int) -> int:
    """Return what one of so many connections costs."""
    options: dict[str, Any] = {"tls": {"reject_unauthorized": False}} if tls else {}
    for socket in await connect(port, options, WARM_UP):
        socket.terminate()
    before = resident()
    sockets = await connect(port, options, count)
    cost = (resident() - before) // count
    for socket in sockets:
        socket.terminate()
    return cost


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--limit", type=float, help="KiB that a TLS connection may cost")
    arguments = parser.parse_args()
    allow_descriptors()
    floor, cost = peers.BY_NAME["floor"], 0
    if missing := peers.prepare([floor]):
        print(f"the C server is missing: {missing['floor']}", file=sys.stderr)
        return 2
    for kind, files in (("plain", ()), ("TLS", peers.certificate())):
        try:
            server = Program("the C server", peers.server_command(floor, "echo", files), None)
            try:
                port = int(server.line())
                found = mantou.run(hold(port, bool(files), arguments.connections))
                assert found is not None
                cost = found
            finally:
                server.stop()
        except ProgramError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"{kind}: {cost:,} bytes per idle connection of a client")
    if arguments.limit is not None and cost > arguments.limit * 1024:
        print(f"{cost / 1024:.1f} KiB: above the limit {arguments.limit:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

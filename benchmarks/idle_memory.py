"""What does an idle connection cost? Resident memory of either end, each in its own process.

    python benchmarks/idle_memory.py --connections 10000 --limit 24

prints bytes per connection for TLS and for plain TCP. With --limit it fails if an idle TLS
connection costs the server more KiB than that. Some connections are opened and closed first, so
that what a process needs once is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import trustme

import mantou

WARM_UP = 200
AT_ONCE = 100


class Idle(mantou.SocketHandler[Any]):
    """Neither sends nor keeps anything."""

    def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
        pass


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def allow_descriptors(count: int) -> None:
    """Raise the limit of open files where it is too low."""
    wanted = count + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            sys.exit(f"{wanted} descriptors are needed, the hard limit (ulimit -Hn) is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def serve(tls: bool) -> None:
    """The process that is measured: tells its port, then its memory whenever it is asked."""
    options: dict[str, Any] = {}
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    if tls:
        chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        options["tls"] = {"key": certificate.private_key_pem.bytes(), "cert": chain}
    asking = await lines()
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=Idle(), backlog=4096, **options
    ) as listener:
        print(listener.port, flush=True)
        while wanted := await asking.readline():
            while listener.connections != int(wanted):
                await asyncio.sleep(0.01)
            print(resident(), flush=True)
        listener.stop(True)


async def load(tls: bool, port: int, count: int, server: subprocess.Popen[str]) -> tuple[int, int]:
    """Opens the connections; returns what one costs the server and us."""
    options: dict[str, Any] = {"tls": {"reject_unauthorized": False}} if tls else {}
    handlers = Idle()

    async def connect(number: int) -> list[mantou.Socket[Any]]:
        sockets: list[mantou.Socket[Any]] = []
        while len(sockets) < number:
            batch = min(AT_ONCE, number - len(sockets))
            sockets += await asyncio.gather(
                *(
                    mantou.connect(hostname="127.0.0.1", port=port, socket=handlers, **options)
                    for _ in range(batch)
                )
            )
        return sockets

    def ask(number: int) -> int:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{number}\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        if not answer:
            sys.exit("the server ended unexpectedly")
        return int(answer)

    for socket in await connect(WARM_UP):
        socket.terminate()
    before = await asyncio.to_thread(ask, 0), resident()
    sockets = await connect(count)
    after = await asyncio.to_thread(ask, count), resident()
    for socket in sockets:
        socket.terminate()
    return (after[0] - before[0]) // count, (after[1] - before[1]) // count


def measure(tls: bool, count: int) -> int:
    """Prints one line; returns bytes per connection of the server."""
    kind = "tls" if tls else "tcp"
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, "--connections", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        ours = mantou.run(load(tls, port, count, server))
        server.stdin.close()
    assert ours is not None
    print(f"{kind}: {ours[0]:6} bytes per idle connection on the server, {ours[1]:6} on the client")
    return ours[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--limit", type=float, help="KiB that a TLS connection may cost the server")
    parser.add_argument("--serve", choices=["tls", "tcp"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    allow_descriptors(arguments.connections)
    if arguments.serve:
        mantou.run(serve(arguments.serve == "tls"))
        return
    measure(False, arguments.connections)
    cost = measure(True, arguments.connections)
    if arguments.limit is not None and cost > arguments.limit * 1024:
        sys.exit(f"too much: {cost / 1024:.1f} KiB, at most {arguments.limit} are allowed")


if __name__ == "__main__":
    main()

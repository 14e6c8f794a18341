"""A load: so many connections at once, each kind in its turn, until the time is over.

    python -m soak.load LOOP CONNECTIONS IDLE CHURN SECONDS PACE SEED CA PORTS

LOOP is asyncio or mantou; PORTS are the server's, as JSON. Tells in a line of JSON what it saw.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket as kernel
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import mantou
from soak.visits import KINDS, Place

# Addresses of ours to connect from: one has ports for no more than 28,000 connections.
PER_ADDRESS = 10_000
AT_ONCE = 100


class Load:
    """What is going on, and what went wrong."""

    def __init__(self, place: Place, seconds: float) -> None:
        self.place = place
        self.end = time.monotonic() + seconds
        self.faults: list[str] = []
        self.kinds: Iterator[str] = itertools.cycle(KINDS)
        self.idled = self.churned = 0

    async def visit_on(self) -> None:
        """One connection after the other."""
        await self.place.pause()
        while time.monotonic() < self.end and len(self.faults) < 100:
            kind = next(self.kinds)
            await self.guard(kind, KINDS[kind](self.place, kind))
            self.place.visits[kind] = self.place.visits.get(kind, 0) + 1

    async def guard(self, kind: str, visit: Awaitable[None], seconds: float = 120) -> None:
        try:
            async with asyncio.timeout(seconds):
                await visit
        except Exception as error:
            self.faults.append(f"{kind}: {type(error).__name__} {error}")

    async def idle(self, count: int) -> None:
        """Connections of which nothing is heard until the end, and then that they are there."""
        loop = asyncio.get_running_loop()
        sockets = []
        for number in range(count):
            sock = kernel.socket()
            sock.setblocking(False)
            sock.bind((f"127.0.1.{1 + number // PER_ADDRESS}", 0))
            await loop.sock_connect(sock, ("127.0.0.1", self.place.ports["worker"]))
            sockets.append(sock)
        self.idled = len(sockets)
        await asyncio.sleep(max(0, self.end - time.monotonic()))
        for sock in sockets:
            await loop.sock_sendall(sock, b"?")
        for sock in sockets:
            self.place.check(await loop.sock_recv(sock, 2), b"?")
            sock.close()

    async def churn(self, count: int) -> None:
        """Connects, and closes at once, by the client API of mantou."""
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                if len(self.faults) >= 100:
                    return
                await self.guard("churn", self.come_and_go())

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    async def come_and_go(self) -> None:
        # A port that was left is not to be had again for a minute.
        socket = await mantou.connect(
            hostname="127.0.0.1",
            port=self.place.ports["churn"],
            local_address=f"127.0.2.{1 + self.churned // PER_ADDRESS}",
            socket=_Nothing(),
        )
        socket.end()
        await socket.closed()
        self.churned += 1


class _Nothing(mantou.SocketHandler[None]):
    """A client that has nothing to say."""

    def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        raise AssertionError(f"{data!r} came, and nothing was sent")


async def main(connections: int, idle: int, churn: int, seconds: float, place: Place) -> None:
    load = Load(place, seconds)
    tasks: list[Awaitable[Any]] = [load.visit_on() for _ in range(connections)]
    if churn:
        tasks.append(load.churn(churn))
    if idle:
        tasks.append(load.guard("idle", load.idle(idle), seconds + 120))
    await asyncio.gather(*tasks)
    figures = {
        "carried": place.carried,
        "visits": place.visits,
        "idled": load.idled,
        "churned": load.churned,
        "faults": load.faults,
    }
    print(json.dumps(figures), flush=True)


def start(arguments: list[str]) -> None:
    loop, connections, idle, churn, seconds, pace, seed, ca, ports = arguments
    place = Place(
        json.loads(ports),
        asyncio.open_connection if loop == "asyncio" else mantou.open_connection,
        ssl.create_default_context(cafile=ca),
        random.Random(seed),
        float(pace),
    )
    runs: dict[str, Callable[[Any], None]] = {"asyncio": asyncio.run, "mantou": mantou.run}
    runs[loop](main(int(connections), int(idle), int(churn), float(seconds), place))


if __name__ == "__main__":
    start(sys.argv[1:])

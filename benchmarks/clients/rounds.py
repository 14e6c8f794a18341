"""What the Python clients share: rounds, and the figures of one.

A client prints "ready", then for each line on stdin (`1.5s`) connects, echoes a message and closes,
on so many connections at once, until the time is over, and prints the figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MESSAGE = bytes(range(64))


async def rounds(connections: int, visit: Callable[[], Awaitable[None]]) -> None:
    """Run a round for every line on stdin."""
    print("ready", flush=True)
    for line in sys.stdin:
        latencies: list[float] = []
        begin = time.perf_counter()
        deadline = begin + float(line.strip().removesuffix("s"))

        async def work(deadline: float = deadline, latencies: list[float] = latencies) -> None:
            while (since := time.perf_counter()) < deadline:
                await visit()
                latencies.append(time.perf_counter() - since)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())
        seconds = time.perf_counter() - begin
        latencies.sort()
        count = len(latencies)
        figures = {"messages": count, "seconds": seconds, "load_cpu": 0.0, "resumed": 0}
        for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)):
            figures[name] = latencies[min(int(count * share), count - 1)] * 1e6
        print(json.dumps(figures), flush=True)

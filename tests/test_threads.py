"""Threads beside a loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket as kernel
import time

import mantou


def test_a_busy_loop_lets_threads_work() -> None:
    """Each call lets go of the interpreter's lock and wants it back."""

    def work() -> float:
        ours, theirs = kernel.socketpair()
        with ours, theirs:
            began = time.perf_counter()
            for _ in range(10_000):
                ours.send(b"x")
                theirs.recv(1)
            return time.perf_counter() - began

    async def beside() -> float:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            while not working.done():
                await asyncio.sleep(0)
            return working.result()

    seconds, asyncios = mantou.run(beside()), asyncio.run(beside())
    assert seconds is not None
    assert seconds < 0.1 + 10 * asyncios

"""scheduling.py KIND LOOP TLS: what the loop itself costs, with no I/O in it.

Kinds: `call-soon` (a hundred callbacks a turn), `task-switch` (`sleep(0)` in ten tasks), `timer`
(call_later and cancel), `future` (a task that waits is woken by another's result). A visit is a
thousand of them: its cost in microseconds is that of one in nanoseconds.
"""

from __future__ import annotations

import asyncio

from rounds import rounds
from setting import run

MANY = 1000
A_TURN = 100
TASKS = 10
LATER = 60.0


def nothing() -> None:
    pass


async def call_soon() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(MANY // A_TURN):
        for _ in range(A_TURN):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def task_switch() -> None:
    async def switch() -> None:
        for _ in range(MANY // TASKS):
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(switch())


async def timer() -> None:
    """The loop has its turns between them, in which it clears away what was cancelled."""
    loop = asyncio.get_running_loop()
    for _ in range(MANY // A_TURN):
        for _ in range(A_TURN):
            loop.call_later(LATER, nothing).cancel()
        await asyncio.sleep(0)


async def future() -> None:
    """Two tasks wake each other in turn."""
    loop = asyncio.get_running_loop()
    waiting = [loop.create_future(), loop.create_future()]

    async def play(own: int) -> None:
        for _ in range(MANY // 2):
            await waiting[own]
            waiting[own] = loop.create_future()
            waiting[1 - own].set_result(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(play(0))
        group.create_task(play(1))
        waiting[0].set_result(None)


KINDS = {"call-soon": call_soon, "task-switch": task_switch, "timer": timer, "future": future}


async def main(kind: str) -> None:
    await rounds(1, KINDS[kind])


if __name__ == "__main__":
    run(main)

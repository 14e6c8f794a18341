"""scheduling.py KIND LOOP TLS: what the loop itself costs, with no I/O in it.

Each kind does a thousand of what its function says: that is a visit, whose cost in microseconds is
one's in nanoseconds.
"""

from __future__ import annotations

import asyncio
import threading

from rounds import rounds
from setting import run

MANY = 1000
A_TURN = 100
TASKS = 10
LATER = 60.0


def nothing() -> None:
    pass


async def call_soon() -> None:
    """A hundred callbacks a turn."""
    loop = asyncio.get_running_loop()
    for _ in range(MANY // A_TURN):
        for _ in range(A_TURN):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def call_soon_chain() -> None:
    """Each callback has the next one called: a turn for each."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = MANY

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def call_soon_threadsafe() -> None:
    """Another thread brings callbacks, each once the last one was called."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    called = threading.Semaphore(0)

    def bring() -> None:
        for _ in range(MANY):
            loop.call_soon_threadsafe(called.release)
            called.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=bring)
    thread.start()
    await done
    thread.join()


async def task_switch() -> None:
    """`sleep(0)` in ten tasks."""

    async def switch() -> None:
        for _ in range(MANY // TASKS):
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(switch())


async def task_switch_alone() -> None:
    """`sleep(0)` in one task: a turn for each."""
    for _ in range(MANY):
        await asyncio.sleep(0)


async def create_task() -> None:
    """A task that does nothing, and waiting for it."""

    async def work() -> None:
        pass

    loop = asyncio.get_running_loop()
    for _ in range(MANY):
        await loop.create_task(work())


async def timer() -> None:
    """What a timeout costs that is not needed; it is cleared away in the next turn."""
    loop = asyncio.get_running_loop()
    for _ in range(MANY // A_TURN):
        for _ in range(A_TURN):
            loop.call_later(LATER, nothing).cancel()
        await asyncio.sleep(0)


async def timer_fires() -> None:
    """Timers that are due at once, a hundred at a time."""
    loop = asyncio.get_running_loop()
    for _ in range(MANY // A_TURN):
        done = loop.create_future()
        for _ in range(A_TURN - 1):
            loop.call_later(0, nothing)
        loop.call_later(0, done.set_result, None)
        await done


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


KINDS = {
    "call-soon": call_soon,
    "call-soon-chain": call_soon_chain,
    "call-soon-threadsafe": call_soon_threadsafe,
    "task-switch": task_switch,
    "task-switch-alone": task_switch_alone,
    "create-task": create_task,
    "timer": timer,
    "timer-fires": timer_fires,
    "future": future,
}


async def main(kind: str) -> None:
    await rounds(1, KINDS[kind])


if __name__ == "__main__":
    run(main)

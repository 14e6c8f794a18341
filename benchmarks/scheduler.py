"""What scheduling costs: mantou's loop, uvloop and asyncio, without any socket.

Each operation is timed on each loop, round by round, one loop after the other, so that all of them
meet the same neighbours. Shown are nanoseconds of CPU per operation, and the median of the rounds'
ratios to uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import uvloop

import mantou

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "mantou": mantou.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


async def call_soon_chain(count: int) -> None:
    """Each callback has the next one called: a turn for each."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def call_soon_many(count: int) -> None:
    """A thousand callbacks in one turn."""
    loop = asyncio.get_running_loop()

    def step(_: object) -> None:
        pass

    for _ in range(count // 1000):
        for _ in range(1000):
            loop.call_soon(step, None)
        await asyncio.sleep(0)


async def task_switch(count: int) -> None:
    """`sleep(0)`: a turn for each."""
    for _ in range(count):
        await asyncio.sleep(0)


async def task_switch_many(count: int) -> None:
    """`sleep(0)` in a hundred tasks: a hundred steps in each turn."""

    async def work() -> None:
        for _ in range(count // 100):
            await asyncio.sleep(0)

    await asyncio.gather(*[work() for _ in range(100)])


async def call_later_cancel(count: int) -> None:
    """What a timeout costs that is not needed."""
    loop = asyncio.get_running_loop()

    def late() -> None:
        raise AssertionError

    for _ in range(count // 100):
        for _ in range(100):
            loop.call_later(30, late).cancel()
        await asyncio.sleep(0)


async def call_later_fires(count: int) -> None:
    """Timers that are due at once, a hundred at a time."""
    loop = asyncio.get_running_loop()
    for _ in range(count // 100):
        done = loop.create_future()
        for _ in range(99):
            loop.call_later(0, int)
        loop.call_later(0, done.set_result, None)
        await done


async def future_wake_up(count: int) -> None:
    """`set_result()` and the step of the task that waited for it."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def create_task(count: int) -> None:
    """A task that does nothing, and waiting for it."""

    async def nothing() -> None:
        pass

    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_task(nothing())


async def call_soon_threadsafe(count: int) -> None:
    """Another thread brings callbacks, each once the last one was called."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    called = threading.Semaphore(0)

    def bring() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(called.release)
            called.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=bring)
    thread.start()
    await done
    thread.join()


OPERATIONS: dict[str, tuple[Callable[[int], Awaitable[None]], int]] = {
    "call_soon chain": (call_soon_chain, 50_000),
    "call_soon x1000": (call_soon_many, 200_000),
    "sleep(0)": (task_switch, 50_000),
    "sleep(0) x100": (task_switch_many, 200_000),
    "call_later + cancel": (call_later_cancel, 100_000),
    "call_later fires": (call_later_fires, 100_000),
    "future wake-up": (future_wake_up, 30_000),
    "create_task + await": (create_task, 30_000),
    "call_soon_threadsafe": (call_soon_threadsafe, 3_000),
}


def measure(loop_name: str) -> dict[str, float]:
    """Nanoseconds of CPU per operation, in this process."""
    found = {}
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        for name, (operation, count) in OPERATIONS.items():
            runner.run(operation(1000))
            start = time.process_time_ns()
            runner.run(operation(count))
            found[name] = (time.process_time_ns() - start) / count
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--loop", choices=LOOPS, help="print one loop's figures once, as JSON")
    arguments = parser.parse_args()
    if arguments.loop:
        print(json.dumps(measure(arguments.loop)))
        return
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(arguments.rounds):
        figures = {}
        for loop_name in LOOPS:
            command = [sys.executable, __file__, "--loop", loop_name]
            figures[loop_name] = json.loads(subprocess.check_output(command))
        rounds.append(figures)
    columns = "".join(f"{name:>10}" for name in LOOPS)
    print(f"{'ns per operation':<22}{columns}   mantou/uvloop  mantou/asyncio")
    for name in OPERATIONS:
        row = f"{name:<22}"
        for loop_name in LOOPS:
            row += f"{statistics.median(figures[loop_name][name] for figures in rounds):10.0f}"
        for peer in ("uvloop", "asyncio"):
            ratios = [figures["mantou"][name] / figures[peer][name] for figures in rounds]
            row += f"{statistics.median(ratios):16.2f}"
        print(row)


if __name__ == "__main__":
    main()

"""How a loop winds up what asyncio runs beside callbacks: executors and asynchronous generators."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import LOOPS
from tests.support import run_turns

KINDS = ("mantou", "asyncio")


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_executor_does_is_waited_for(kind: str) -> None:
    begun, done = threading.Event(), []

    def work() -> None:
        begun.set()
        # Nobody lets it go on but the end of main().
        assert ended.wait(20)
        done.append(threading.current_thread())

    ended = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(None, work)
        await loop.run_in_executor(None, begun.wait)
        future.cancel()
        ended.set()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
    assert len(done) == 1
    assert not done[0].is_alive()


def test_an_executor_that_was_shut_down_takes_no_more(loop: Any) -> None:
    loop.run_until_complete(loop.run_in_executor(None, int))
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, int)


@pytest.mark.parametrize("kind", KINDS)
def test_generators_that_are_under_way_are_closed_at_the_end(kind: str) -> None:
    seen: list[str] = []

    async def count(name: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append(name)

    kept = []

    async def main() -> None:
        for name in ("one", "other"):
            generator = count(name)
            kept.append(generator)
            async for _ in generator:
                break

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
        assert seen == []
    assert sorted(seen) == ["one", "other"]


def test_a_generator_that_nobody_wants_any_more_is_closed_by_its_loop(loop: Any) -> None:
    seen: list[str] = []

    async def count() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def main() -> None:
        async for _ in count():
            break
        gc.collect()
        while not seen:
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 20))


def test_a_generator_that_fails_to_close_is_reported(loop: Any, told: list[dict[str, Any]]) -> None:
    async def count() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("no")

    generator = count()

    async def main() -> None:
        async for _ in generator:
            break

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert [report["message"] for report in told] == [
        f"an error occurred during closing of asynchronous generator {generator!r}"
    ]
    assert isinstance(told[0]["exception"], ValueError)


def test_a_generator_begun_after_the_end_is_warned_of(loop: Any) -> None:
    async def count() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        generator = count()
        async for _ in generator:
            break
        await generator.aclose()  # type: ignore[attr-defined]

    loop.run_until_complete(loop.shutdown_asyncgens())
    with pytest.warns(ResourceWarning, match=r"was scheduled after loop\.shutdown_asyncgens"):
        loop.run_until_complete(main())


def test_a_closed_loop_does_not_wait_for_its_executor(loop: Any) -> None:
    begun, ended = threading.Event(), threading.Event()
    future = loop.run_in_executor(None, lambda: begun.set() or ended.wait(20))
    assert begun.wait(20)
    executor = loop._default_executor
    loop.close()
    with warnings.catch_warnings():
        # What it comes to has nowhere to go.
        warnings.simplefilter("ignore")
        ended.set()
        executor.shutdown(wait=True)
    assert not future.done()


def test_stopping_is_no_end(loop: Any) -> None:
    loop.run_until_complete(loop.run_in_executor(None, int))
    loop.call_soon(loop.stop)
    loop.run_forever()
    run_turns(loop)
    assert loop.run_until_complete(loop.run_in_executor(None, int)) == 0
    loop.run_until_complete(loop.shutdown_default_executor())

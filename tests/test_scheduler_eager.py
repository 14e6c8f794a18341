"""Eager tasks (Python 3.12, `eager_start` 3.14): what they do at once is done in create_task()."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from typing import Any

import pytest

from tests.protocols import Plain, raw_pair
from tests.support import run_turns

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")

starts_eagerly = pytest.mark.skipif(
    "eager_start" not in inspect.signature(asyncio.Task).parameters or sys.version_info < (3, 14),
    reason="create_task(eager_start=) came with 3.14",
)


@pytest.fixture
def eager(loop: Any) -> Any:
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    return loop


def test_it_runs_up_to_its_first_wait(eager: Any) -> None:
    seen: list[str] = []

    async def work() -> str:
        seen.append("begun")
        await asyncio.sleep(0)
        seen.append("goes on")
        return "done"

    async def main() -> None:
        task = eager.create_task(work())
        seen.append("created")
        assert await task == "done"

    eager.run_until_complete(main())
    assert seen == ["begun", "created", "goes on"]


def test_one_that_never_waits_costs_no_turn(eager: Any) -> None:
    async def work() -> int:
        return 7

    async def main() -> None:
        called: list[str] = []
        eager.call_soon(called.append, "a turn")
        task = eager.create_task(work())
        assert task.done()
        assert await task == 7
        assert called == []

    eager.run_until_complete(main())


def test_it_is_the_current_task_while_it_runs(eager: Any) -> None:
    async def work() -> Any:
        return asyncio.current_task()

    async def main() -> None:
        outer = asyncio.current_task()
        task = eager.create_task(work())
        assert task.result() is task
        assert asyncio.current_task() is outer
        assert asyncio.all_tasks() == {outer}

    eager.run_until_complete(main())


def test_it_has_a_context_of_its_own(eager: Any) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="outer")

    async def work() -> None:
        name.set("inner")
        await asyncio.sleep(0)
        assert name.get() == "inner"

    async def main() -> None:
        task = eager.create_task(work())
        assert name.get() == "outer"
        await task

    eager.run_until_complete(main())


def test_what_it_raises_at_once_is_the_tasks(eager: Any) -> None:
    async def work() -> None:
        raise ValueError("at once")

    async def main() -> None:
        task = eager.create_task(work())
        assert task.done()
        with pytest.raises(ValueError, match="at once"):
            await task

    eager.run_until_complete(main())


def test_it_may_be_cancelled_where_it_waits(eager: Any) -> None:
    async def main() -> None:
        task = eager.create_task(asyncio.sleep(3600))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    eager.run_until_complete(main())


def test_a_protocol_answers_within_data_received(eager: Any) -> None:
    class Answering(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            eager.create_task(self.answer())
            self.calls.append("returned")

        async def answer(self) -> None:
            self.calls.append("answered")
            self.transport.write(b"bun")

    async def main() -> None:
        ours, theirs = raw_pair()
        theirs.setblocking(False)
        with theirs:
            _, protocol = await eager.create_connection(Answering, sock=ours)
            await eager.sock_sendall(theirs, b"steamed")
            assert await eager.sock_recv(theirs, 100) == b"bun"
            assert protocol.calls == ["made", "data", "answered", "returned"]
            protocol.transport.close()
            await protocol.lost

    eager.run_until_complete(main())


@starts_eagerly
def test_one_task_may_start_eagerly(loop: Any) -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        seen.append(name)

    async def main() -> None:
        loop.create_task(work("in a turn"))
        loop.create_task(work("at once"), eager_start=True)
        await asyncio.create_task(work("at once, too"), eager_start=True)  # type: ignore[call-arg]
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == ["at once", "at once, too", "in a turn"]


@starts_eagerly
def test_one_task_may_wait_for_its_turn(eager: Any) -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        seen.append(name)

    async def main() -> None:
        eager.create_task(work("in a turn"), eager_start=False)
        eager.create_task(work("at once"))
        await asyncio.sleep(0)

    eager.run_until_complete(main())
    assert seen == ["at once", "in a turn"]


@starts_eagerly
def test_a_loop_that_does_not_run_starts_nothing(loop: Any) -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append("begun")

    loop.create_task(work(), eager_start=True)
    assert seen == []
    run_turns(loop)
    assert seen == ["begun"]

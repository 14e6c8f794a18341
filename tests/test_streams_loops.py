"""Streams and their loops: contexts, threads, debug mode, the end of a loop."""

from __future__ import annotations

import asyncio
import contextvars
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS
from tests.streams import serving, streaming, waits
from tests.support import others_had_their_turn


async def test_context_variables_are_the_tasks() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    async with streaming("tcp") as (stream, peer):

        async def receive() -> None:
            variable.set("mine")
            for expected in (b"1", b"2"):
                assert await stream.receive() == expected
                assert variable.get() == "mine"
                assert asyncio.current_task() is task

        task = await waits(receive())
        await peer.send(b"1")
        await others_had_their_turn()
        await peer.send(b"2")
        await task
        assert variable.get(None) is None


async def test_a_task_in_the_context_of_its_connection(tmp_path: Path) -> None:
    async def echo(stream: mantou.Stream) -> None:
        context = contextvars.copy_context()

        async def inner() -> None:
            async for chunk in stream:
                await stream.send(chunk)

        await asyncio.get_running_loop().create_task(inner(), context=context)

    async with serving(echo, "tcp", tmp_path) as (_, dial):
        peer = await dial()
        for _ in range(3):
            await peer.send(b"x")
            assert await peer.receive(1) == b"x"


@pytest.mark.parametrize("kind", ["mantou", "asyncio", "uvloop"])
def test_ctrl_c_within_an_event_leaves_the_loop(kind: str, loop_errors: Any) -> None:
    # Raised by a task that goes on where its bytes arrive, not by a callback.
    async def interrupt() -> None:
        async with streaming("tcp") as (stream, peer):

            async def receive() -> None:
                await stream.receive()
                raise KeyboardInterrupt

            tasks.append(await waits(receive()))
            await peer.send(b"x")
            await asyncio.wait(tasks)

    tasks: list[asyncio.Future[Any]] = []
    with (
        pytest.raises(KeyboardInterrupt),
        asyncio.Runner(loop_factory=LOOPS[kind]) as runner,
    ):
        runner.run(interrupt())
    assert isinstance(tasks.pop().exception(), KeyboardInterrupt)


@pytest.mark.parametrize("kind", ["mantou", "asyncio", "uvloop"])
def test_a_loop_that_ends_takes_its_streams_along(kind: str, loop_errors: Any) -> None:
    ends: list[BaseException] = []

    async def receive(stream: mantou.Stream) -> None:
        try:
            await stream.receive()
        except BaseException as error:
            ends.append(error)
            raise

    async def leave() -> None:
        server = mantou.serve_streams(receive, hostname="127.0.0.1", port=0)
        stream = await mantou.connect_stream(hostname="127.0.0.1", port=server.port)
        await others_had_their_turn()
        stream.socket.ref()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(leave())
    (end,) = ends
    assert isinstance(end, asyncio.CancelledError)


async def test_another_thread_is_told_so() -> None:
    async with streaming("tcp") as (stream, _):

        def use(operation: Any) -> None:
            operation.send(None)

        loop = asyncio.get_running_loop()
        for operation in (stream.receive(), stream.send(b"x")):
            with pytest.raises(mantou.WrongThreadError):
                await loop.run_in_executor(None, use, operation)


async def test_another_thread_ends_nothing() -> None:
    async with streaming("tcp") as (stream, peer):

        def close() -> None:
            stream.aclose().send(None)

        def finish() -> None:
            stream.send_eof().send(None)

        loop = asyncio.get_running_loop()
        for end in (stream.abort, close, finish):
            with pytest.raises(mantou.WrongThreadError):
                await loop.run_in_executor(None, end)
        await stream.send(b"x")
        assert await peer.receive(1) == b"x"
        await peer.send(b"y")
        assert await stream.receive() == b"y"


async def test_debug_mode_sees_each_step() -> None:
    loop = asyncio.get_running_loop()
    async with streaming("tcp") as (stream, peer):
        loop.set_debug(True)
        try:
            for size in (10, 20_000):
                task = await waits(stream.receive_exactly(size))
                await peer.send(bytes(size))
                assert await task == bytes(size)
        finally:
            loop.set_debug(False)

"""Cancelling at any point loses no byte and doubles none: against a peer that is byte-exact."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mantou
from tests.chance import KERNEL_BUFFER, KIB, examples, stretch
from tests.conftest import LOOPS, LoopErrors, run_on
from tests.streams import make_small, streaming
from tests.support import Peer, every_path

# Less than what a stream keeps and a unix socket holds.
OUTSTANDING = 140 * KIB

sizes = st.one_of(st.integers(1, 100), st.integers(1, 40 * KIB), st.sampled_from([64 * KIB]))
reads = st.one_of(
    st.tuples(st.sampled_from(["receive", "receive_exactly", "receive_into"]), sizes),
    st.tuples(st.sampled_from(["receive_until", "line"]), st.just(0)),
)
# How the task waits: as the operation itself, within a coroutine, and with what asyncio has around.
# (Not what has the operation done by another task: that one's result may come too late.)
ways = st.sampled_from(["itself", "coroutine", "wait_for", "timeout"])
# (Nor what raises an exception of its own, which knows nothing of what was sent.)
ways_to_tell = st.sampled_from(["itself", "coroutine", "timeout"])
# When it is cancelled: before its first step, after so many turns, in the very turn that brings
# bytes, or not at all.
moments = st.one_of(
    st.tuples(st.just("turns"), st.integers(0, 4)),
    st.tuples(st.sampled_from(["with bytes", "never"]), st.just(0)),
)
receivings = st.lists(
    st.tuples(reads, ways, moments, st.lists(sizes, max_size=2)), min_size=1, max_size=10
)
sendings = st.lists(
    st.tuples(
        st.tuples(
            st.sampled_from(["send", "send_all"]),
            st.one_of(sizes, st.sampled_from([65 * KIB, 300 * KIB, 700 * KIB])),
        ),
        ways_to_tell,
        moments,
        st.integers(0, 400 * KIB),
    ),
    min_size=1,
    max_size=6,
)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def begin(way: str, operation: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
    """A task that carries out the operation in such a way."""

    async def coroutine() -> Any:
        return await operation()

    async def waited_for() -> Any:
        return await asyncio.wait_for(operation(), 60)

    async def within_timeout() -> Any:
        async with asyncio.timeout(60):
            return await operation()

    loop = asyncio.get_running_loop()
    if way == "itself":
        return asyncio.ensure_future(operation())
    if way == "wait_for":
        return loop.create_task(waited_for())
    if way == "timeout":
        return loop.create_task(within_timeout())
    return loop.create_task(coroutine())


async def cancelled(task: asyncio.Future[Any]) -> BaseException | None:
    """Cancels the task; returns with what it ended, or None if it has a result all the same."""
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        try:
            task.result()
        except asyncio.CancelledError as error:
            return error
    return task.exception()


class Reading:
    """What has been sent to a stream, and what it has handed over."""

    def __init__(self, stream: mantou.Stream, peer: Peer) -> None:
        self.stream, self.peer = stream, peer
        self.sent = 0
        self.taken = 0

    async def send(self, size: int) -> None:
        await self.peer.send(stretch(self.sent, size))
        self.sent += size

    def operation(self, name: str, size: int) -> Callable[[], Awaitable[bytes]]:
        """Each returns the very bytes that were on the wire."""
        if name == "receive_into":
            memory = bytearray(size)

            async def into() -> bytes:
                return bytes(memory[: await self.stream.receive_into(memory)])

            return into
        if name == "receive_until":

            async def until() -> bytes:
                return await self.stream.receive_until(b"\n", 1 << 20) + b"\n"

            return until
        if name == "line":

            async def line() -> bytes:
                async for found in self.stream.lines(1 << 20):
                    # Where it stood in the pattern, a line feed or two bytes have been left out.
                    if self.taken + len(found) == self.sent:
                        return found
                    end = stretch(self.taken + len(found), 2)
                    return found + (end if end == b"\r\n" else end[:1])
                raise mantou.EndOfStream

            return line
        return functools.partial(getattr(self.stream, name), size)

    def check(self, received: bytes) -> None:
        assert received == stretch(self.taken, len(received)), "not what comes next"
        self.taken += len(received)
        assert self.taken <= self.sent

    async def carry_out(self, read: Any, way: str, moment: Any, pieces: list[int]) -> None:
        task = begin(way, self.operation(*read))
        when, count = moment
        if when == "turns":
            await turns(count)
        for size in pieces:
            # What nobody reads must fit into what the stream keeps: else the peer waits for ever.
            if self.sent - self.taken + size <= OUTSTANDING:
                await self.send(size)
        if when == "never":
            await turns(3)
        ended = await cancelled(task)
        if ended is None:
            self.check(task.result())
        else:
            assert isinstance(ended, asyncio.CancelledError), repr(ended)

    async def finish(self) -> None:
        """All that is left comes, and then the end."""
        await self.send(7)
        self.peer.finish()
        async for chunk in self.stream:
            self.check(chunk)
        assert self.taken == self.sent
        with pytest.raises(mantou.EndOfStream):
            await self.stream.receive()


async def receive_all(link: str, program: list[Any]) -> None:
    async with streaming(link) as (stream, peer):
        reading = Reading(stream, peer)
        for step in program:
            await reading.carry_out(*step)
        await reading.finish()


@pytest.mark.parametrize("loop_kind", LOOPS)
@every_path
@examples(25)
@given(program=receivings)
def test_what_is_cancelled_while_receiving_loses_no_byte(
    link: str, loop_kind: str, program: list[Any], loop_errors: LoopErrors
) -> None:
    run_on(loop_kind, functools.partial(receive_all, link, program), loop_errors, {}, 10.0)


async def send_all(link: str, program: list[Any]) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, KERNEL_BUFFER)
        accepted = read = 0

        async def read_some(most: int) -> None:
            nonlocal read
            expected = stretch(read, min(most, accepted - read))
            assert await peer.receive(len(expected)) == expected
            read += len(expected)

        for (name, size), way, (when, count), most in program:
            data: Any = stretch(accepted, size)
            if name == "send_all":
                data = [data[: size // 3], memoryview(data)[size // 3 :]]
            task = begin(way, functools.partial(getattr(stream, name), data))
            await turns(count if when == "turns" else 3)
            if when != "turns":
                await read_some(most)
            error = await cancelled(task)
            if error is None:
                accepted += size
            else:
                assert isinstance(error, asyncio.CancelledError), repr(error)
                # One that was cancelled before its first step has sent nothing.
                accepted += getattr(error, "sent", 0)
            await read_some(most)
        await asyncio.gather(stream.send_eof(), read_some(1 << 30))
        assert await peer.receive_until_fin() == b""


@pytest.mark.parametrize("loop_kind", LOOPS)
@every_path
@examples(25)
@given(program=sendings)
def test_what_is_cancelled_while_sending_tells_what_was_sent(
    link: str, loop_kind: str, program: list[Any], loop_errors: LoopErrors
) -> None:
    run_on(loop_kind, functools.partial(send_all, link, program), loop_errors, {}, 10.0)


async def test_a_task_that_is_cancelled_by_its_waker_takes_no_byte() -> None:
    # The bytes have come and the task is about to go on when it is cancelled.
    async with streaming("tcp") as (stream, peer), streaming("tcp") as (other, other_peer):
        victim = asyncio.ensure_future(stream.receive())

        async def cancel() -> None:
            await other.receive()
            victim.cancel()

        killer = asyncio.ensure_future(cancel())
        await turns(2)
        for sender in (other_peer, peer):
            await sender.send(b"x")
        await asyncio.wait([victim, killer])
        if victim.cancelled():
            assert await stream.receive() == b"x"
        else:
            assert victim.result() == b"x"


async def test_a_coroutine_that_is_closed_leaves_the_stream_free() -> None:
    async with streaming("tcp") as (stream, peer):
        operation = stream.receive()
        waiter = operation.send(None)
        assert not waiter.done()
        operation.close()
        await peer.send(b"next")
        assert await stream.receive() == b"next"
        with pytest.raises(RuntimeError, match="already awaited"):
            await operation


async def test_what_is_thrown_into_an_operation() -> None:
    # As into any coroutine: also in the forms that Python 3.12 has deprecated.
    async with streaming("tcp") as (stream, peer):
        forms: list[tuple[Any, ...]] = [
            (ValueError("text"),),
            (ValueError, ValueError("text")),
            (ValueError, "text"),
            (ValueError, "text", None),
        ]
        for form in forms:
            operation = stream.receive()
            operation.send(None)
            with pytest.raises(ValueError, match=r"^text$"):
                operation.throw(*form)
        operation = stream.receive()
        operation.send(None)
        with pytest.raises(ValueError, match=r"^$"):
            operation.throw(ValueError)
        operation = stream.receive()
        with pytest.raises(TypeError):
            operation.throw(ValueError("text"), "another")
        operation.close()
        await peer.send(b"next")
        assert await stream.receive() == b"next"


async def test_timeouts_around_a_receive() -> None:
    async with streaming("tcp") as (stream, peer):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await stream.receive()
        await peer.send(b"late")
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            task = group.create_task(stream.receive())
        assert task.result() == b"late"

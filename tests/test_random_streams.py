"""A stream, by chance: a task that reads and one that writes, cancelled and ended at any moment.

Each byte is handed over once and in its place, an operation that fails has a reason, and whoever
is told what was sent is told the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mantou
from tests.chance import KERNEL_BUFFER, KIB, LIMIT, Step, examples, step, stretch
from tests.conftest import LOOPS, LoopErrors, run_on
from tests.stage import LINKS
from tests.streams import make_small, streaming
from tests.support import Peer, others_had_their_turn
from tests.test_streams_cancelling import (
    OUTSTANDING,
    Reading,
    begin,
    reads,
    turns,
    ways,
    ways_to_tell,
)
from tests.wire import unacknowledged

sizes = st.one_of(
    st.integers(0, 100), st.integers(1, 40 * KIB), st.sampled_from([65 * KIB, 300 * KIB])
)
operations = st.one_of(
    step("read", reads, ways),
    step("write", st.sampled_from(["send", "send_all"]), sizes, ways_to_tell),
)
peers = st.one_of(
    step("peer_sends", st.one_of(st.integers(1, 100), st.integers(1, 60 * KIB))),
    step("peer_reads", st.one_of(st.integers(1, 200 * KIB), st.just(1 << 30))),
)
endings = st.sampled_from(
    [("send_eof",), ("aclose",), ("abort",), ("peer_finishes",), ("peer_resets",)]
)
scripts = st.lists(
    st.one_of(
        operations,
        operations,
        peers,
        peers,
        step("cancel", st.sampled_from(["reader", "writer"])),
        step("turns", st.integers(0, 4)),
        endings,
    ),
    max_size=14,
)


class Play(Reading):
    """A script, carried out on a stream: what was sent, and what may come of each operation."""

    def __init__(self, stream: mantou.Stream, peer: Peer) -> None:
        super().__init__(stream, peer)
        self.reader: asyncio.Future[Any] | None = None
        self.writer: asyncio.Future[Any] | None = None
        self.closing: asyncio.Future[Any] | None = None
        # So many bytes were accepted, and perhaps some more: of what is being sent, or was cut off.
        self.accepted = self.perhaps = 0
        self.read_by_peer = 0
        self.finished = self.closed = self.aborted = False
        self.peer_finished = self.peer_gone = False
        self.all_arrived = True

    async def carry_out_all(self, script: list[Step]) -> None:
        for name, *arguments in script:
            await getattr(self, f"do_{name}")(*arguments)
            self.look()

    def look(self) -> None:
        """Takes the results of what is done."""
        if self.reader is not None and self.reader.done():
            self.reader = self.judge_reading(self.reader)
        if self.writer is not None and self.writer.done():
            self.writer = self.judge_writing(self.writer)

    # What the owner does.

    async def do_read(self, read: Any, way: str) -> None:
        operation = self.operation(*read)
        if self.reader is None:
            self.reader = begin(way, operation)
        else:
            await self.is_busy(self.reader, operation)

    async def do_write(self, name: str, size: int, way: str) -> None:
        data: Any = stretch(self.accepted + self.perhaps, size)
        if name == "send_all":
            data = [data[: size // 3], memoryview(data)[size // 3 :]]
        operation = functools.partial(getattr(self.stream, name), data)
        if self.writer is None:
            if self.perhaps:
                # Nobody knows what would come next.
                return
            self.perhaps = size
            self.writer = begin(way, operation)
        else:
            await self.is_busy(self.writer, operation)

    async def is_busy(
        self, other: asyncio.Future[Any], operation: Callable[[], Awaitable[Any]]
    ) -> None:
        # A task within wait_for() takes some to begin, or to end.
        await turns(5)
        if other.done():
            return
        with pytest.raises((mantou.BusyResourceError, mantou.ClosedResourceError)) as caught:
            await operation()
        assert self.closed or isinstance(caught.value, mantou.BusyResourceError), "two at a time"

    async def do_cancel(self, who: str) -> None:
        task = self.reader if who == "reader" else self.writer
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def do_turns(self, count: int) -> None:
        await turns(count)

    async def do_send_eof(self) -> None:
        if self.writer is None and not self.perhaps:
            self.finished = True
            self.writer = begin("itself", self.stream.send_eof)

    async def do_aclose(self) -> None:
        self.closed = True
        if self.closing is None:
            self.closing = begin("coroutine", self.stream.aclose)
            await turns(1)

    async def do_abort(self) -> None:
        self.closed = self.aborted = True
        self.stream.abort()

    # What the peer does.

    async def do_peer_sends(self, size: int) -> None:
        room = self.sent - self.taken + size <= OUTSTANDING
        if room and not (self.peer_finished or self.peer_gone or self.closed):
            await self.send(size)
            await others_had_their_turn()

    async def do_peer_reads(self, most: int) -> None:
        if not (self.peer_gone or self.aborted):
            await self.peer_receives(min(most, self.accepted - self.read_by_peer))

    async def peer_receives(self, size: int) -> None:
        received = await self.peer.receive(size)
        assert received == stretch(self.read_by_peer, size)
        self.read_by_peer += size

    async def do_peer_finishes(self) -> None:
        if not (self.peer_finished or self.peer_gone or self.aborted):
            self.peer_finished = True
            self.peer.finish()
            await others_had_their_turn()

    async def do_peer_resets(self) -> None:
        if not self.peer_gone:
            self.peer_gone = True
            self.all_arrived = unacknowledged(self.peer.sock) == 0
            self.peer.reset()
            await others_had_their_turn()

    # What may come of it.

    def judge_reading(self, task: asyncio.Future[Any]) -> None:
        try:
            self.check(task.result())
        except asyncio.CancelledError:
            pass
        except mantou.IncompleteRead as error:
            self.check(error.partial)
            self.is_at_the_end()
        except (mantou.EndOfStream, StopAsyncIteration):
            self.is_at_the_end()
        except (mantou.ClosedResourceError, mantou.BrokenResourceError) as error:
            self.has_reason(error)

    def is_at_the_end(self) -> None:
        assert self.peer_finished or self.peer_gone, "an end without a FIN"
        assert self.taken == self.sent or self.peer_gone or self.closed, "an end before the bytes"

    def judge_writing(self, task: asyncio.Future[Any]) -> None:
        size, self.perhaps = self.perhaps, 0
        try:
            task.result()
            self.accepted += size
        except asyncio.CancelledError as error:
            # One that was cancelled before its first step has sent nothing.
            self.accepted += getattr(error, "sent", 0)
        except (mantou.ClosedResourceError, mantou.BrokenResourceError) as error:
            self.has_reason(error, writing=True)
            # Some of it may have been taken.
            self.perhaps = size

    def has_reason(self, error: BaseException, writing: bool = False) -> None:
        if isinstance(error, mantou.ClosedResourceError):
            assert self.closed or (writing and self.finished), repr(error)
        else:
            # Only TCP has a RST: over a unix socket, TLS is cut off.
            assert self.peer_gone
            assert isinstance(error, (ConnectionError, ssl.SSLEOFError))

    async def conclude(self) -> None:
        """Both sides finish, and everything has come."""
        for who in ("reader", "writer"):
            await self.do_cancel(who)
        self.look()
        if self.peer_gone or self.aborted:
            await self.ends_broken()
            return
        await self.do_peer_finishes()
        rest = asyncio.ensure_future(self.peer.receive_until_fin())
        if not self.closed:
            async for chunk in self.stream:
                self.check(chunk)
            assert self.taken == self.sent
            with contextlib.suppress(mantou.ClosedResourceError):
                await self.stream.send_eof()
        await (self.closing or self.stream.aclose())
        received = await rest
        assert received == stretch(self.read_by_peer, len(received))
        least = self.accepted - self.read_by_peer
        assert least <= len(received) <= least + self.perhaps

    async def ends_broken(self) -> None:
        with contextlib.suppress(mantou.EndOfStream, mantou.ClosedResourceError):
            try:
                while True:
                    self.check(await self.stream.receive())
            except mantou.BrokenResourceError as error:
                self.has_reason(error)
        if not self.closed and self.all_arrived:
            assert self.taken == self.sent, "what had arrived is lost"
        await (self.closing or self.stream.aclose())


async def carried_out(link: str, script: list[Step]) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, KERNEL_BUFFER)
        play = Play(stream, peer)
        try:
            await play.carry_out_all(script)
            await play.conclude()
        finally:
            for task in (play.reader, play.writer, play.closing):
                if task is not None:
                    task.cancel()


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("link", LINKS)
@examples(15)
@given(script=scripts)
def test_whatever_is_awaited_no_byte_is_lost(
    link: str, loop_kind: str, script: list[Step], loop_errors: LoopErrors
) -> None:
    run_on(loop_kind, functools.partial(carried_out, link, script), loop_errors, {}, LIMIT)

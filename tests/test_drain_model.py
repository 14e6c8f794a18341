"""The promise of `drain`, against a model: any sequence of writing, looking, pausing and reading.

Whoever saw a short write, or that bytes are `buffered`, gets `drain` once when none are; whatever
was accepted arrives, in order; and nobody is told who did not ask.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket as kernel
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mantou
from tests.chance import KERNEL_BUFFER, KIB, examples, stretch
from tests.conftest import LOOPS, LoopErrors, run_on
from tests.support import Peer, Recorder, linked, others_had_their_turn

Action = tuple[Any, ...]

sizes = st.one_of(
    st.integers(0, 100),
    st.integers(1, 40 * KIB),
    # Around what a cork and a gathering hold, and more than the kernel takes.
    st.sampled_from([64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 300 * KIB, 600 * KIB]),
)
writes = st.tuples(st.sampled_from(["write", "write_all"]), sizes)
simple = st.sampled_from([("look",), ("flush",), ("pause",), ("resume",), ("reload",)])
held = st.just(("hold",))
corked = st.tuples(st.just("corked"), st.lists(st.one_of(writes, simple), max_size=4))
local = st.one_of(writes, writes, corked, simple, held)
# What is done between two waits: within a turn of the loop (in `data`) or outside of one.
batches = st.tuples(st.sampled_from(["inside", "outside"]), st.lists(local, min_size=1, max_size=5))
waits = st.one_of(
    st.tuples(st.just("peer reads"), st.integers(1, 200 * KIB)),
    st.just(("peer reads", 1 << 30)),
    st.just(("turn",)),
)
programs = st.lists(st.tuples(batches, waits), min_size=1, max_size=8)
half_closed = st.sampled_from(["no", "no", "by the peer", "by us"])


class Model:
    """What the owner of a socket was promised, and what it has to send."""

    def __init__(self) -> None:
        self.accepted = 0
        # Promised by what it saw, by a short write, or perhaps: by write_all() to one who did not
        # look whether the kernel took all.
        self.seen = self.short = self.perhaps = False
        self.full_at: int | None = None
        self.wrong: list[str] = []

    @property
    def owed(self) -> bool:
        return self.seen or self.short

    def next(self, size: int) -> bytes:
        return stretch(self.accepted, size)

    def on_drain(self, socket: mantou.Socket[Any]) -> None:
        if not (self.owed or self.perhaps):
            self.wrong.append("a drain that nobody was promised")
        if socket.buffered:
            self.wrong.append(f"a drain while {socket.buffered} bytes wait")
        self.seen = self.short = self.perhaps = False
        # The queue's last bytes may have filled the kernel anew: but then the next drain waits.
        taken = socket.write(self.next(1))
        if taken == 0 and self.accepted == self.full_at:
            self.wrong.append("drain after drain without room")
        self.full_at = self.accepted if taken == 0 else None
        self.short |= taken == 0
        self.accepted += max(taken, 0)

    def look(self, socket: mantou.Socket[Any]) -> None:
        self.seen |= socket.buffered > 0


class Run:
    """One program, carried out on a connection."""

    def __init__(self, socket: mantou.Socket[Any], peer: Peer, model: Model) -> None:
        self.socket, self.peer, self.model = socket, peer, model
        self.read = 0
        self.paused = False
        self.peer_speaks = True
        self.cork = contextlib.ExitStack()

    def handlers(self, batch: list[Action] | None = None) -> Recorder:
        """Handlers that carry out a batch when the peer asks for it."""
        return Recorder(
            data=lambda *_: self.carry_out(batch or []),
            drain=self.model.on_drain,
            error=lambda _, error: self.model.wrong.append(repr(error)),
        )

    def carry_out(self, actions: list[Action]) -> None:
        for name, *arguments in actions:
            getattr(self, name)(*arguments)

    def write(self, size: int) -> None:
        taken = self.socket.write(self.model.next(size))
        assert 0 <= taken <= size
        self.model.accepted += taken
        self.model.short |= taken < size

    def write_all(self, size: int) -> None:
        self.socket.write_all(self.model.next(size))
        self.model.accepted += size
        self.model.perhaps = True

    def corked(self, actions: list[Action]) -> None:
        with self.socket.cork():
            self.carry_out(actions)

    def hold(self) -> None:
        """A cork that stays on until the peer is to read."""
        self.cork.enter_context(self.socket.cork())

    def look(self) -> None:
        self.model.look(self.socket)

    def flush(self) -> None:
        self.socket.flush()

    def pause(self) -> None:
        self.socket.pause()
        self.paused = True

    def resume(self) -> None:
        self.socket.resume()
        self.paused = False

    def reload(self) -> None:
        self.socket.reload(self.handlers())

    async def batch(self, place: str, actions: list[Action]) -> None:
        if place == "outside" or self.paused or not self.peer_speaks:
            self.carry_out(actions)
            return
        handlers = self.handlers(actions)
        self.socket.reload(handlers)
        await self.peer.send(b"?")
        await handlers.until("data")

    async def wait(self, name: str, most: int = 0) -> None:
        if name == "turn":
            await others_had_their_turn()
            return
        self.cork.close()
        size = min(most, self.model.accepted - self.read)
        received = await self.peer.receive(size)
        expected = Model()
        expected.accepted = self.read
        assert received == expected.next(size)
        self.read += size

    async def peer_finishes(self) -> None:
        handlers = self.handlers()
        self.socket.reload(handlers)
        self.peer.finish()
        self.peer_speaks = False
        await handlers.until("end")

    def shut_down(self) -> None:
        self.socket.shutdown()
        if not self.paused:
            # Whoever has no more to write need not hear that it could.
            self.model.perhaps |= self.model.short
            self.model.short = False

    async def finish(self) -> None:
        """The peer reads everything: every promise is kept by then, and only once."""
        handlers = self.handlers()
        self.socket.reload(handlers)
        await self.wait("peer reads", 1 << 30)
        await handlers.until_true(lambda: not self.model.owed)
        await others_had_their_turn()
        assert self.model.wrong == []
        self.socket.terminate()
        await handlers.until("close")


async def carried_out(link: str, program: list[Any], half_closed: str) -> None:
    model = Model()
    first = Recorder(drain=model.on_drain)
    async with linked(link, first, allow_half_open=True, write_limit=1 << 30) as (socket, peer):
        make_small(socket, peer)
        run = Run(socket, peer, model)
        if half_closed == "by the peer":
            await run.peer_finishes()
        for batch, wait in program:
            await run.batch(*batch)
            await run.wait(*wait)
        if half_closed == "by us":
            run.shut_down()
        await run.finish()


def make_small(socket: mantou.Socket[Any], peer: Peer) -> None:
    with kernel.socket(fileno=os.dup(socket.fileno())) as ours:
        ours.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, KERNEL_BUFFER)
    peer.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, KERNEL_BUFFER)


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("link", ["tcp", "unix", "tls", "context"])
@examples(50)
@given(program=programs, half_closed=half_closed)
def test_every_promise_is_kept_once(
    link: str, loop_kind: str, program: list[Any], half_closed: str, loop_errors: LoopErrors
) -> None:
    test = functools.partial(carried_out, link, program, half_closed)
    run_on(loop_kind, test, loop_errors, {}, 5.0)

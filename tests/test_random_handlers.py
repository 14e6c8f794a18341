"""A socket with handlers, by chance: any calls, in any handler or outside, and any peer.

Whatever comes, what the contract says of each connection holds: one `open` first and one `close`
last, nothing that was not to come, each byte in its place, every `drain` that is owed, and the
reason of the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket as kernel
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mantou
from tests.chance import KERNEL_BUFFER, KIB, LIMIT, Step, examples, step, stretch
from tests.conftest import LOOPS, LoopErrors, run_on
from tests.stage import LINKS
from tests.support import Peer, Recorder, accepted, linked, others_had_their_turn
from tests.tls_support import CLIENT_OPTIONS, secured
from tests.wire import unacknowledged

# What the kernel holds for a socket that does not read, at the least.
OUTSTANDING = 100 * KIB

sizes = st.one_of(
    st.integers(0, 100),
    st.integers(1, 40 * KIB),
    st.sampled_from([64 * KIB, 64 * KIB + 1, 300 * KIB, 600 * KIB]),
)
writes = st.one_of(step("write", sizes), step("write_all", sizes))
flow = st.sampled_from([("flush",), ("pause",), ("resume",), ("reload",), ("look",)])
rare = st.sampled_from([("unref",), ("ref",), ("timeout", 0), ("timeout", 30), ("stop_reading",)])
endings = st.one_of(
    step("end", sizes), st.sampled_from([("shutdown",), ("close",), ("terminate",), ("leave",)])
)
plain_calls = st.one_of(writes, writes, flow, rare)
corked = step("corked", st.lists(st.one_of(writes, writes, flow, endings), max_size=3))
calls = st.lists(st.one_of(plain_calls, plain_calls, corked, endings), max_size=4)
# What a handler does the next time it is called: at once, or after so many turns as a coroutine;
# and whether it raises at its end.
reactions = step(
    "react",
    st.sampled_from(["data", "data", "drain", "end", "close", "timeout", "error"]),
    calls,
    st.one_of(st.none(), st.none(), st.integers(0, 3)),
    st.sampled_from([False, False, False, True]),
)
scripts = st.lists(
    st.one_of(
        step("call", st.lists(st.one_of(plain_calls, corked), min_size=1, max_size=4)),
        step("call", calls),
        reactions,
        step("peer_sends", st.one_of(st.integers(1, 100), st.integers(1, 60 * KIB))),
        step("peer_sends", st.integers(1, 100)),
        step("peer_reads", st.one_of(st.integers(1, 200 * KIB), st.just(1 << 30))),
        step("turn"),
        st.sampled_from([("peer_finishes",), ("peer_resets",), ("time_out",), ("upgrade",)]),
    ),
    max_size=12,
)
# What `open` does.
beginnings = st.lists(plain_calls, max_size=2)


class Raised(Exception):
    """What handlers of the script raise."""


class Life(Recorder):
    """One connection: what happened to it, what was done with it, and so what may come."""

    def __init__(self, opening: list[Step], half_open: bool, forgives: bool) -> None:
        super().__init__()
        self.half_open, self.forgives = half_open, forgives
        self.wrong: list[str] = []
        self.reactions: dict[str, list[Step]] = {"open": [("open", opening, None, False)]}
        self.socket: Any = None
        self.accepted = 0
        # What was called.
        self.ended = self.silent = self.paused = self.deaf = self.terminated = False
        self.raised: list[BaseException] = []
        self.kept_alive = self.upgraded = self.busy = False
        # Who is owed a `drain`: surely, or perhaps (a write_all() that did not look).
        self.owed = self.perhaps = False
        # What the peer did.
        self.sent = 0
        self.peer_finished = self.peer_gone = False
        self.timer = self.timed_out = False

    # What comes.

    @property
    def closed(self) -> bool:
        return "close" in self.names

    @property
    def unsure(self) -> bool:
        """Somebody may have ended our side, or is about to."""
        return bool(
            self.peer_gone
            or self.raised
            or self.timed_out
            or (self.peer_finished and not self.half_open)
        )

    def check(self, condition: object, what: str) -> None:
        if not condition:
            self.wrong.append(f"{what}, after {[name for name, *_ in self.events]}")

    def _note(self, name: str, socket: mantou.Socket[Any], *arguments: Any) -> object:
        if self.upgraded:
            self.check(name == "close", f"{name} of a socket that was upgraded")
            return super()._note(name, socket, *arguments)
        self.socket = socket
        self.judge(name, *arguments)
        result = super()._note(name, socket, *arguments)
        assert result is None
        waiting = self.reactions.get(name)
        if not waiting:
            return self.judged(name)
        _, calls, turns, raises = waiting.pop(0)
        if turns is None or name in ("close", "error", "timeout"):
            self.carry_out(calls)
            if raises and name not in ("close", "error"):
                self.fail()
            return self.judged(name)
        return self.later(calls, turns, raises)

    async def later(self, calls: list[Step], turns: int, raises: bool) -> None:
        self.busy = True
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            self.carry_out(calls)
            if raises:
                self.fail()
        finally:
            self.busy = False

    def fail(self) -> None:
        self.raised.append(Raised())
        raise self.raised[-1]

    def judged(self, name: str) -> bool | None:
        """What the handler returns."""
        if name == "timeout":
            return self.kept_alive
        return self.forgives if name == "error" else None

    def judge(self, name: str, *arguments: Any) -> None:
        before = [known for known, *_ in self.events]
        self.check(bool(before) is (name != "open"), f"{name} at the wrong time")
        self.check("close" not in before, f"{name} after close")
        self.check(not self.busy or name == "timeout", f"{name} while a coroutine runs")
        if name in ("data", "drain", "end", "timeout"):
            self.check(not self.silent, f"{name} after the end was asked for")
        if name in ("data", "end"):
            self.check(not self.paused, f"{name} while paused")
            self.check("end" not in before, f"{name} after end")
        if name == "data":
            self.check(not self.deaf, "data after reading was given up")
            (data,) = arguments
            at = len(self.received) - len(data)
            self.check(data == stretch(at, len(data)), "data that is not what comes next")
            self.check(len(self.received) <= self.sent, "more data than was sent")
        elif name == "end":
            self.check(self.peer_finished or self.peer_gone, "end without a FIN")
            self.check(self.deaf or self.peer_gone or len(self.received) == self.sent, "end early")
        elif name == "drain":
            self.check(self.owed or self.perhaps, "a drain that nobody was promised")
            self.check(self.socket.buffered == 0, "a drain while bytes wait")
            self.owed = self.perhaps = False
        elif name == "error":
            known = arguments[0] in self.raised or self.cut_off(arguments[0])
            self.check(known, f"error {arguments[0]!r}")
        elif name == "timeout":
            self.check(self.timer, "a timeout that was not set")
            self.timed_out |= not self.kept_alive
        elif name == "connect_error":
            self.check(False, "connect_error")

    def cut_off(self, error: BaseException) -> bool:
        """What is told of a peer that is gone. Only TCP has a RST."""
        return self.peer_gone and isinstance(error, (ConnectionError, ssl.SSLEOFError))

    # What is called.

    def carry_out(self, calls: list[Step]) -> None:
        for name, *arguments in calls:
            getattr(self, f"call_{name}")(*arguments)

    @property
    def is_over(self) -> bool:
        return self.ended or self.closed

    def call_write(self, size: int) -> None:
        taken = self.socket.write(stretch(self.accepted, size))
        if taken < 0 or self.is_over:
            self.check(taken == -1 and (self.is_over or self.unsure), f"write() gave {taken}")
            return
        self.check(taken <= size, f"write({size}) gave {taken}")
        self.owed |= taken < size
        self.accepted += taken

    def call_write_all(self, size: int) -> None:
        try:
            self.socket.write_all(stretch(self.accepted, size))
        except BrokenPipeError:
            self.check(self.is_over or self.unsure, "write_all() of an open socket failed")
            return
        self.check(not self.is_over, "write_all() after the end")
        self.accepted += size
        self.perhaps = True

    def call_end(self, size: int) -> None:
        taken = self.socket.end(stretch(self.accepted, size))
        if taken < 0 or self.is_over:
            self.check(taken == -1 and (self.is_over or self.unsure), f"end() gave {taken}")
        else:
            self.check(taken == size, f"end({size}) gave {taken}")
            self.accepted += size
        self.perhaps = True
        self.ended = True

    def call_corked(self, calls: list[Step]) -> None:
        with self.socket.cork():
            self.carry_out(calls)

    def call_look(self) -> None:
        self.owed |= self.socket.buffered > 0

    def call_flush(self) -> None:
        self.socket.flush()

    def call_pause(self) -> None:
        self.socket.pause()
        self.paused = True

    def call_resume(self) -> None:
        self.socket.resume()
        self.paused = False

    def call_reload(self) -> None:
        if not self.upgraded:
            self.socket.reload(self)

    def call_unref(self) -> None:
        self.socket.unref()

    def call_ref(self) -> None:
        self.socket.ref()

    def call_timeout(self, seconds: float) -> None:
        self.socket.timeout(seconds)
        self.timer = 0 < seconds < 1

    def call_stop_reading(self) -> None:
        self.socket.shutdown(True)
        self.deaf = True

    def call_shutdown(self) -> None:
        self.socket.shutdown()
        self.ended = self.perhaps = True

    def call_leave(self) -> None:
        with self.socket:
            pass
        self.ended = self.perhaps = True

    def call_close(self) -> None:
        self.socket.close()
        self.ended = self.silent = True

    def call_terminate(self) -> None:
        self.socket.terminate()
        self.terminated |= not self.closed
        self.ended = self.silent = True


class Play:
    """A script, carried out on a connection."""

    def __init__(self, life: Life, socket: mantou.Socket[Any], peer: Peer) -> None:
        self.life, self.peer = life, peer
        self.read = 0
        self.broken = False
        life.socket = socket
        self.socket = socket
        make_small(socket, peer)

    async def carry_out(self, script: list[Step]) -> None:
        for name, *arguments in script:
            await getattr(self, name)(*arguments)

    async def call(self, calls: list[Step]) -> None:
        self.life.carry_out(calls)

    async def react(self, *reaction: Any) -> None:
        self.life.reactions.setdefault(reaction[0], []).append(reaction)

    async def turn(self) -> None:
        await others_had_their_turn()

    async def peer_sends(self, size: int) -> None:
        life = self.life
        if life.peer_finished or life.peer_gone or self.broken:
            return
        if life.sent - len(life.received) + size > OUTSTANDING:
            return
        data = stretch(life.sent, size)
        life.sent += size
        try:
            await self.peer.send(data)
        except (ConnectionError, ssl.SSLError):
            self.lost()
        await others_had_their_turn()

    async def peer_reads(self, most: int) -> None:
        if self.life.peer_gone or self.broken:
            return
        size = min(most, self.life.accepted - self.read)
        try:
            received = await self.peer.receive(size)
        except (ConnectionError, ssl.SSLError):
            self.lost()
            return
        self.life.check(received == stretch(self.read, len(received)), "the peer got other bytes")
        self.read += len(received)
        if len(received) < size:
            self.lost()

    def lost(self) -> None:
        """What we send is cut off, which takes a reason."""
        life = self.life
        reason = life.terminated or life.raised or life.timed_out
        life.check(reason or life.closed, "the connection broke for the peer")
        life.check(reason or life.errors != [None], "a clean end that lost bytes")
        self.broken = True

    async def peer_finishes(self) -> None:
        if not (self.life.peer_finished or self.life.peer_gone or self.broken):
            self.life.peer_finished = True
            with contextlib.suppress(ConnectionError, BrokenPipeError, OSError):
                self.peer.finish()
            await others_had_their_turn()

    async def peer_resets(self) -> None:
        life = self.life
        if not (life.peer_gone or self.broken):
            life.peer_gone = True
            # What is not acknowledged is lost with the peer.
            self.arrived = unacknowledged(self.peer.sock) == 0
            self.peer.reset()
            await others_had_their_turn()

    async def time_out(self) -> None:
        life = self.life
        life.kept_alive = life.forgives
        life.call_timeout(0.002)
        if not (life.is_over or life.unsure):
            count = len(life.of("timeout"))
            await life.until_true(lambda: len(life.of("timeout")) > count or life.closed)
        if life.kept_alive and not life.closed:
            life.call_timeout(0)

    async def upgrade(self) -> None:
        life = self.life
        if life.is_over or life.unsure or life.paused or life.deaf or life.peer_finished:
            return
        if self.broken or self.socket.fileno() < 0 or self.socket.get_tls_version() is not None:
            return
        await self.peer_reads(1 << 30)
        await life.until_true(lambda: len(life.received) == life.sent or life.is_over)
        await others_had_their_turn()
        if life.is_over or life.unsure or life.paused or life.deaf or life.busy:
            return
        after = Life([], life.half_open, life.forgives)
        after.wrong = life.wrong
        tls: Any = CLIENT_OPTIONS | {"server_name": "localhost"}
        _, self.socket = life.socket.upgrade_tls(tls=tls, socket=after, server_side=False)
        life.upgraded = True
        after.sent = after.accepted = self.read = 0
        self.before, self.life = life, after
        self.peer = await secured(self.peer.sock, server_side=True)
        await after.until("open")
        after.socket = self.socket

    async def conclude(self) -> None:
        """Both sides have finished, or one is gone: everything has come by then."""
        life = self.life
        life.reactions.clear()
        if not life.is_over:
            life.call_timeout(0)
        if not life.closed:
            life.call_resume()
        if life.owed and not (life.is_over or life.unsure):
            await self.peer_reads(1 << 30)
            await life.until_true(lambda: not life.owed or life.is_over or life.unsure)
        rest = None
        if not (life.peer_gone or self.broken):
            rest = asyncio.ensure_future(self.peer.receive_until_fin())
            await self.peer_finishes()
        await life.until_true(lambda: life.of("end") or life.closed or life.ended or life.deaf)
        if life.half_open and not life.is_over:
            life.call_end(0)
        await life.until("close")
        received = await self.rest(rest) if rest else b""
        self.read += len(received)
        self.judge()

    async def rest(self, reading: asyncio.Future[bytes]) -> bytes:
        try:
            received = await reading
        except (ConnectionError, ssl.SSLError):
            self.lost()
            return b""
        self.life.check(received == stretch(self.read, len(received)), "the rest is other bytes")
        return received

    def judge(self) -> None:
        life = self.life
        error = life.errors[-1]
        ours = life.terminated or life.raised or life.timed_out
        if isinstance(error, TimeoutError):
            life.check(life.timed_out, f"closed by {error!r}")
        elif isinstance(error, Raised):
            life.check(error in life.raised, f"closed by {error!r}")
        elif error is not None:
            life.check(life.cut_off(error), f"closed by {error!r}")
        if error is None and not (ours or life.peer_gone or self.broken):
            life.check(self.read == life.accepted, f"{self.read} of {life.accepted} bytes came")
        if not (ours or life.silent or life.deaf or (life.peer_gone and not self.arrived)):
            life.check(
                len(life.received) == life.sent, f"{len(life.received)} of {life.sent} bytes"
            )
            life.check(self.socket.bytes_read == life.sent, "bytes_read")
        assert life.wrong == []


def make_small(socket: mantou.Socket[Any], peer: Peer) -> None:
    if socket.fileno() >= 0:
        with kernel.socket(fileno=os.dup(socket.fileno())) as ours:
            ours.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, KERNEL_BUFFER)
    peer.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, KERNEL_BUFFER)


async def carried_out(
    link: str, script: list[Step], opening: list[Step], half_open: bool, forgives: bool, ours: bool
) -> None:
    life = Life(opening, half_open, forgives)
    options: dict[str, Any] = {"allow_half_open": half_open, "write_limit": 1 << 30}
    if ours or link == "unix":
        connection = linked(link, life, **options)
    else:
        connection = accepted(life, link, **options)
    async with connection as (socket, peer):
        play = Play(life, socket, peer)
        try:
            await play.carry_out(script)
            await play.conclude()
        finally:
            play.peer.close()
            socket.terminate()


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("link", LINKS)
@examples(15)
@given(
    script=scripts,
    opening=beginnings,
    half_open=st.booleans(),
    forgives=st.booleans(),
    ours=st.booleans(),
)
def test_whatever_is_done_the_contract_holds(
    link: str, loop_kind: str, loop_errors: LoopErrors, **drawn: Any
) -> None:
    run_on(loop_kind, functools.partial(carried_out, link, **drawn), loop_errors, {}, LIMIT)

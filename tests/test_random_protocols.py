"""asyncio's transports, by chance: a script of calls and peers, on asyncio's loop and on mantou's.

Both are to tell the protocol the same, in the same order, and to answer each call alike. What data
comes in is compared as a whole: in how many pieces is the loop's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chance import KERNEL_BUFFER, KIB, LIMIT, Step, examples, step, stretch
from tests.conftest import LoopErrors, run_on
from tests.peers import Peer
from tests.protocols import raw_pair
from tests.tls_support import TlsPeer, context

LINKS = ("tcp", "unix", "tls")

# Far below what the kernel holds, or far above it and every limit: where the border is exactly
# depends on how much of the kernel's memory a send takes, and so on its size.
small = st.integers(0, 2 * KIB)
sizes = st.one_of(small, small, st.just(3 << 20))
calls = st.one_of(
    step("write", sizes),
    step("writelines", st.lists(small, max_size=3)),
    st.sampled_from(
        [
            ("pause_reading",),
            ("resume_reading",),
            ("write_eof",),
            ("close",),
            ("abort",),
            ("set_protocol", "Plain"),
            ("set_protocol", "Buffered"),
            ("ask",),
        ]
    ),
    step("set_write_buffer_limits", st.sampled_from([None, 0, 1, 100 * KIB, 1 << 20])),
)
gentle = st.one_of(
    step("write", sizes),
    step("writelines", st.lists(small, max_size=3)),
    st.sampled_from([("pause_reading",), ("resume_reading",), ("ask",)]),
)
peers = st.one_of(
    step("peer_sends", st.one_of(st.integers(1, 2 * KIB), st.integers(1, 60 * KIB))),
    st.sampled_from([("peer_reads",), ("peer_reads",), ("peer_finishes",), ("peer_resets",)]),
)
# What a method of the protocol does the next time it is called.
reactions = step(
    "react",
    st.sampled_from(["data", "eof", "pause", "resume", "lost"]),
    st.lists(calls, max_size=3),
    st.sampled_from([False, False, False, True]),
)
scripts = st.lists(st.one_of(gentle, gentle, calls, peers, peers, reactions), max_size=12)


class Raised(Exception):
    """What protocols of the script raise."""


class Story:
    """What a protocol is told and what its transport answers, in order."""

    def __init__(self, keeps_open: bool, over_tls: bool) -> None:
        self.keeps_open, self.over_tls = keeps_open, over_tls
        self.told: list[Any] = []
        self.received = bytearray()
        self.reactions: dict[str, list[Step]] = {}
        self.transport: Any = None
        self.sent = 0
        self.is_lost = self.paused = self.peer_finished = self.has_raised = False

    def tell(self, *event: Any) -> None:
        if event == ("data",) and self.told[-1:] == [event]:
            return
        self.told.append(event)

    def called(self, name: str, *arguments: Any) -> None:
        self.tell(name, *arguments)
        waiting = self.reactions.get(name)
        if waiting:
            _, _, calls, raises = waiting.pop(0)
            self.carry_out(calls)
            if raises:
                self.has_raised = True
                raise Raised

    def carry_out(self, calls: list[Step]) -> None:
        for name, *arguments in calls:
            self.call(name, *arguments)

    def call(self, name: str, *arguments: Any) -> None:
        if name == "pause_reading" and ("eof",) in self.told:
            # asyncio would tell of the same FIN again when reading is resumed.
            return
        if self.over_tls and (self.is_lost or (name == "close" and self.closes)):
            # asyncio's TLS has taken itself apart by then, or would: an AttributeError.
            return
        if self.over_tls and self.paused and name == "close":
            # asyncio's TLS would not end before somebody reads on, and tell of what came meanwhile.
            return
        if name in ("pause_reading", "resume_reading"):
            self.paused = name == "pause_reading"
        call = getattr(self, name, None) or getattr(self.transport, name)
        try:
            result = call(*arguments)
        except Exception as error:
            # asyncio's write_eof() lets out what the kernel says of a RST that nobody has read.
            is_habit = self.is_asyncios and name == "write_eof" and isinstance(error, OSError)
            result = None if is_habit else type(error)
        self.told.append((f"{name}()", result))

    @property
    def is_asyncios(self) -> bool:
        return type(self.transport).__module__.startswith("asyncio.")

    @property
    def closes(self) -> bool:
        # asyncio's TLS says so of an end that it has read only when all that waited is sent.
        ended = self.over_tls and ("eof",) in self.told
        return ended or self.transport.is_closing()

    @property
    def waits(self) -> bool:
        # To asyncio's TLS, what waits in the transport beneath is sent: it pauses nobody for that.
        return not self.over_tls and self.transport.get_write_buffer_size() > 0

    @property
    def loses_writes(self) -> bool:
        if self.over_tls and self.paused and self.peer_finished:
            # asyncio's TLS forgets what is written behind an end that it has read, and not told.
            return True
        # asyncio would send it all the same, because something waits; uvloop does not, either.
        return self.closes and (self.over_tls or self.transport.get_write_buffer_size() > 0)

    # The calls that take more than their arguments.

    def write(self, size: int) -> None:
        if self.loses_writes:
            return
        data = stretch(self.sent, size)
        self.sent += size
        self.transport.write(data)

    def writelines(self, pieces: list[int]) -> None:
        if self.loses_writes:
            return
        data = []
        for size in pieces:
            data.append(stretch(self.sent, size))
            self.sent += size
        self.transport.writelines(data)

    def set_protocol(self, kind: str) -> None:
        self.transport.set_protocol(KINDS[kind](self))

    def set_write_buffer_limits(self, high: int | None) -> Any:
        self.transport.set_write_buffer_limits(high)
        return self.transport.get_write_buffer_limits()

    def ask(self) -> Any:
        transport = self.transport
        # asyncio's TLS says that it reads on when it closes, of what nobody is told.
        reads = transport.is_reading() and not (self.over_tls and self.closes)
        return self.closes, reads, transport.can_write_eof()


class Protocol:
    """What the two kinds have in common."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def connection_made(self, transport: Any) -> None:
        self.story.transport = transport
        self.story.called("made")

    def connection_lost(self, error: BaseException | None) -> None:
        self.story.is_lost = True
        # Which call meets a RST first, and so with which errno, is the loop's business.
        kind = ConnectionError if isinstance(error, ConnectionError) else type(error)
        self.story.called("lost", kind)

    def pause_writing(self) -> None:
        if not self.story.over_tls:
            self.story.called("pause")

    def resume_writing(self) -> None:
        if not self.story.over_tls:
            self.story.called("resume")

    def eof_received(self) -> bool:
        if self.story.has_raised and self.story.over_tls and self.story.is_asyncios:
            # What it had read while reading was paused is told, whatever became of the rest.
            return False
        self.story.called("eof")
        return self.story.keeps_open


class Plain(Protocol, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.story.received += data
        self.story.called("data")


class Buffered(Protocol, asyncio.BufferedProtocol):
    def __init__(self, story: Story) -> None:
        super().__init__(story)
        # asyncio's TLS loses what did not fit if an end is behind it.
        self.buffer = bytearray((128 if story.over_tls else 64) * KIB)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.story.received += self.buffer[:nbytes]
        self.story.called("data")


KINDS: dict[str, Any] = {"Plain": Plain, "Buffered": Buffered}


class Play:
    """A script, carried out on a transport."""

    def __init__(self, story: Story, peer: Peer) -> None:
        self.story, self.peer = story, peer
        self.sent = 0
        self.received = bytearray()
        self.peer_is = "open"
        # How its reading ended.
        self.ends: list[Any] = []

    async def carry_out(self, script: list[Step]) -> None:
        for name, *arguments in script:
            if name == "react":
                self.story.reactions.setdefault(arguments[0], []).append((name, *arguments))
            elif name.startswith("peer"):
                getattr(self, name)(*arguments)
            else:
                self.story.call(name, *arguments)
            await quiet()
            self.story.told.append(f"after {name}: {self.story.waits}")

    def peer_sends(self, size: int) -> None:
        if self.story.over_tls and self.story.closes:
            # asyncio's TLS takes what is under way when it says goodbye for an error.
            return
        if self.peer_is == "open" and self.sent + size <= 100 * KIB:
            with contextlib.suppress(ConnectionError):
                assert self.peer.sock.send(self.sealed(stretch(self.sent, size))) >= size
                self.sent += size

    def sealed(self, data: bytes) -> bytes:
        return self.peer.seal(data) if isinstance(self.peer, TlsPeer) else data

    def peer_reads(self) -> None:
        """All that has come, and what comes while it is read."""
        while self.peer_is != "gone" and not self.ends:
            try:
                data = self.peer.receive_now(1 << 20)
            except BlockingIOError:
                return
            except OSError as error:
                self.ends.append(type(error))
                return
            if not data:
                self.ends.append("eof")
                return
            self.received += data

    def peer_finishes(self) -> None:
        if self.peer_is == "open":
            self.peer_is = "finished"
            self.story.peer_finished = True
            with contextlib.suppress(OSError):
                self.peer.finish()

    def peer_resets(self) -> None:
        if self.story.over_tls and self.story.paused:
            # asyncio's TLS reads on while it is paused, and hears of it at once.
            return
        if self.peer_is != "gone":
            self.peer_is = "gone"
            self.peer.reset()

    async def conclude(self) -> None:
        self.story.reactions.clear()
        self.story.call("resume_reading")
        await quiet()
        self.story.call("close")
        while not self.story.is_lost:
            self.peer_reads()
            if self.ends:
                # asyncio's TLS waits for the goodbye.
                self.peer_finishes()
            await asyncio.sleep(0)
        # What the kernel has of ours comes when there is room for it, and behind that the end.
        while self.peer_is != "gone" and not self.ends:
            self.peer_reads()
            await asyncio.sleep(0)
        self.peer_finishes()
        await quiet()


async def quiet() -> None:
    """Returns when nothing more happens: on loopback, what is sent is there when send() returns."""
    for _ in range(12):
        await asyncio.sleep(0)


async def acted(
    link: str, kind: str, keeps_open: bool, script: list[Step], told: dict[str, Any]
) -> None:
    story = Story(keeps_open, over_tls=link == "tls")
    if link == "unix":
        ours, theirs = kernel.socketpair()
    else:
        ours, theirs = raw_pair()
        # Small pieces do not wait for each other.
        theirs.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
    for sock in (ours, theirs):
        sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, KERNEL_BUFFER)
        sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, KERNEL_BUFFER)
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    peer = Peer(theirs)
    if link == "tls":
        options = {"ssl": context(server_side=False), "server_hostname": "localhost"}
        tls = TlsPeer(theirs, server_side=True)
        shaking = asyncio.ensure_future(tls.handshake())
        peer = tls
    await loop.create_connection(lambda: KINDS[kind](story), sock=ours, **options)
    if link == "tls":
        await shaking
    try:
        play = Play(story, peer)
        await quiet()
        await play.carry_out(script)
        await play.conclude()
    finally:
        theirs.close()
    expected = stretch(0, len(play.received))
    assert play.received == expected
    assert story.received == stretch(0, len(story.received))
    told["protocol"] = [*story.told, len(story.received)]
    told["peer"] = []
    if ("lost", type(None)) in story.told and ("abort()", None) not in story.told:
        # Otherwise it depends on what the kernel had taken by then.
        told["peer"] += [len(play.received), *play.ends]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kind", KINDS)
@examples(25)
@given(script=scripts, keeps_open=st.booleans())
def test_a_protocol_is_told_what_asyncio_tells_it(
    link: str, kind: str, keeps_open: bool, script: list[Step], loop_errors: LoopErrors
) -> None:
    stories: list[Any] = []
    for loop_kind in ("asyncio", "mantou"):
        told: dict[str, Any] = {}
        reported: LoopErrors = []
        arguments = {
            "link": link,
            "kind": kind,
            "keeps_open": keeps_open,
            "script": script,
            "told": told,
        }
        run_on(loop_kind, acted, reported, arguments, LIMIT)
        told["reported"] = [type(context.get("exception")) for context in reported]
        stories.append(told)
    theirs, ours = stories
    if {ConnectionResetError, ssl.SSLEOFError} & set(theirs["peer"]):
        # Unread input makes a RST of asyncio's close(); a FIN that came while reading was paused,
        # an end of its TLS without close_notify. With mantou, neither happens.
        del theirs["peer"], ours["peer"]
    assert ours == theirs

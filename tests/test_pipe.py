"""pipe(): two sockets joined. What one peer sends the other gets, and each end is carried over."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket as kernel
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import mantou
from tests.peers import Peer
from tests.support import Recorder, accepted, linked, others_had_their_turn
from tests.tls_support import CLIENT_OPTIONS, TlsPeer, secured

MIB = 1 << 20
LINKS = ("tcp", "unix", "tls", "context")

every_mix = pytest.mark.parametrize(("one", "other"), list(itertools.product(LINKS, LINKS)))
# For what only TCP has: a RST.
every_tcp_mix = pytest.mark.parametrize(
    ("one", "other"), list(itertools.product(("tcp", "tls", "context"), repeat=2))
)


class Ends(NamedTuple):
    """Two sockets, the peers at their other ends, and what their handlers were told."""

    a: mantou.Socket[Any]
    b: mantou.Socket[Any]
    left: Peer
    right: Peer
    told_a: Recorder
    told_b: Recorder

    def pipe(self) -> asyncio.Future[mantou.PipedBytes]:
        return mantou.pipe(self.a, self.b)

    async def stuck(self) -> int:
        """Returns how much was read from the first socket once no more is."""
        read = -1
        while read != self.a.bytes_read:
            read = self.a.bytes_read
            await others_had_their_turn()
        return read

    async def closed(self) -> None:
        await self.told_a.until("close")
        await self.told_b.until("close")


@contextlib.asynccontextmanager
async def ends(one: str, other: str, **options: Any) -> AsyncIterator[Ends]:
    told_a, told_b = Recorder(), Recorder()
    async with (
        linked(one, told_a, **options) as (a, left),
        linked(other, told_b, **options) as (b, right),
    ):
        yield Ends(a, b, left, right, told_a, told_b)
        a.terminate()
        b.terminate()
        await told_a.until("close")
        await told_b.until("close")
    for told in (told_a, told_b):
        assert len(told.of("close")) == 1


async def send_in_pieces(peer: Peer, data: bytes, chance: random.Random) -> None:
    position = 0
    while position < len(data):
        size = chance.choice((1, 7, 1000, 16_384, 65_536, 300_001))
        await peer.send(data[position : position + size])
        position += size


async def read_in_pieces(peer: Peer, size: int, chance: random.Random) -> bytes:
    """So many bytes, by a reader that now and then is slow."""
    received = bytearray()
    while len(received) < size:
        received += await peer.receive_some(chance.choice((1, 1000, 65_536, MIB)))
        for _ in range(chance.choice((0, 0, 0, 3))):
            await asyncio.sleep(0)
    return bytes(received)


@every_mix
async def test_every_byte_arrives_both_ways(one: str, other: str) -> None:
    chance = random.Random(f"{one} {other}")
    there, back = chance.randbytes(3 * MIB), chance.randbytes(2 * MIB + 77)
    async with ends(one, other) as it:
        piped = it.pipe()
        _, _, got_back, got_there = await asyncio.gather(
            send_in_pieces(it.left, there, chance),
            send_in_pieces(it.right, back, chance),
            read_in_pieces(it.left, len(back), chance),
            read_in_pieces(it.right, len(there), chance),
        )
        assert (got_there, got_back) == (there, back)
        it.left.finish()
        assert await it.right.receive_until_fin() == b""
        it.right.finish()
        assert await it.left.receive_until_fin() == b""
        assert await piped == (len(there), len(back))
        await it.closed()
        assert (it.told_a.names, it.told_b.names) == (["open", "close"], ["open", "close"])
        assert it.told_a.errors == it.told_b.errors == [None]


@every_mix
@pytest.mark.parametrize("half_open", [False, True])
async def test_who_has_finished_still_gets_the_answer(
    one: str, other: str, half_open: bool
) -> None:
    async with ends(one, other, allow_half_open=half_open, close_timeout=0.01) as it:
        piped = it.pipe()
        await it.left.send(b"question")
        it.left.finish()
        assert await it.right.receive_until_fin() == b"question"
        # The peer has finished, and has all the time it wants for the rest.
        for word in (b"an ", b"ans", b"wer"):
            await asyncio.sleep(0.02)
            await it.right.send(word)
            assert await it.left.receive(len(word)) == word
        assert not piped.done()
        it.right.finish()
        assert await it.left.receive_until_fin() == b""
        assert await piped == (len(b"question"), len(b"an answer"))
        await it.closed()


@every_mix
async def test_what_waits_already_goes_first(one: str, other: str) -> None:
    async with ends(one, other) as it:
        it.a.pause()
        await it.left.send(b"paused ")
        it.b.write_all(b"written ")
        piped = it.pipe()
        await it.left.send(b"piped")
        assert await it.right.receive(20) == b"written paused piped"
        piped.cancel()
        await it.closed()


@every_mix
async def test_a_reader_that_stops_stops_the_sender(one: str, other: str) -> None:
    """Until then the kernels' buffers are filled, and hardly more is held here."""
    async with ends(one, other) as it:
        piped = it.pipe()
        sending = asyncio.ensure_future(it.left.send(bytes(64 * MIB)))
        read = await it.stuck()
        assert not sending.done()
        assert it.b.buffered <= 256 * 1024
        assert read - it.b.bytes_written <= 256 * 1024
        total = 0
        while total < 64 * MIB:
            total += len(await it.right.receive_some(MIB))
        await sending
        assert total == 64 * MIB
        piped.cancel()
        await it.closed()


@every_tcp_mix
@pytest.mark.parametrize("turned", [False, True])
async def test_a_reset_resets_the_other_end(one: str, other: str, turned: bool) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        first, second = (it.right, it.left) if turned else (it.left, it.right)
        first.reset()
        with pytest.raises(ConnectionResetError):
            await second.receive_some()
        with pytest.raises(ConnectionResetError):
            await piped
        await it.closed()
        broken, followed = (it.told_b, it.told_a) if turned else (it.told_a, it.told_b)
        assert isinstance(broken.errors[0], ConnectionResetError)
        assert isinstance(followed.errors[0], ConnectionAbortedError)


@every_tcp_mix
async def test_a_reset_in_the_middle_of_a_transfer(one: str, other: str) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        sending = asyncio.ensure_future(it.left.send(bytes(64 * MIB)))
        await it.right.receive(MIB)
        it.right.reset()
        with pytest.raises(ConnectionError):
            await piped
        with pytest.raises(ConnectionError):
            await sending
        await it.closed()


@pytest.mark.parametrize("other", LINKS)
@pytest.mark.parametrize("one", ["tls", "context"])
async def test_truncation_is_not_carried_over_as_an_end(one: str, other: str) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        await it.left.send(b"half of")
        assert await it.right.receive(7) == b"half of"
        assert isinstance(it.left, TlsPeer)
        it.left.truncate()
        with pytest.raises(ssl.SSLEOFError):
            await piped
        await it.closed()
        # A unix socket knows no RST, but neither was there a `close_notify`.
        if other != "unix":
            with pytest.raises(ConnectionResetError):
                await it.right.receive_some()


@every_mix
async def test_sent_and_closed_over_a_unix_socket_arrives(one: str, other: str) -> None:
    """What is closed on a unix socket hangs up both ways at once."""
    async with ends(one, other) as it:
        piped = it.pipe()
        await it.left.send(b"last words")
        it.left.finish()
        it.left.close()
        assert await it.right.receive_until_fin() == b"last words"
        it.right.finish()
        assert await piped == (len(b"last words"), 0)
        await it.closed()


@every_mix
async def test_cancelling_it_ends_both(one: str, other: str) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        piped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await piped
        await it.closed()
        for peer, link in ((it.left, one), (it.right, other)):
            if link != "unix":
                with pytest.raises(ConnectionResetError):
                    await peer.receive_some()


@every_mix
async def test_closing_one_closes_the_other(one: str, other: str) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        it.a.close()
        for peer in (it.left, it.right):
            assert await peer.receive_until_fin() == b""
        with pytest.raises(ConnectionAbortedError):
            await piped
        await it.closed()
        assert it.told_a.errors == it.told_b.errors == [None]


@every_mix
async def test_idle_timeouts_are_in_force(one: str, other: str) -> None:
    async with ends(one, other) as it:
        it.b.timeout(0.05)
        piped = it.pipe()
        with pytest.raises(TimeoutError):
            await piped
        await it.closed()
        assert it.told_b.names == ["open", "timeout", "close"]
        assert it.told_a.names == ["open", "close"]


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_an_async_handler_may_wait_for_its_pipe(link: str) -> None:
    """Though its socket hears of nothing else while it waits."""
    outcome: list[Any] = []
    told = Recorder()
    async with linked("tcp", told) as (upstream, right):

        async def serve(socket: mantou.Socket[Any]) -> None:
            outcome.append(await mantou.pipe(socket, upstream))

        client = Recorder(open=serve)
        async with accepted(client, link) as (_, left):
            await left.send(b"hello")
            assert await right.receive(5) == b"hello"
            left.finish()
            right.finish()
            assert await left.receive_until_fin() == b""
            await client.until("close")
            await told.until("close")
        assert outcome == [(5, 0)]
        assert client.names == ["open", "close"]


async def test_an_async_handler_learns_from_its_pipe_what_broke() -> None:
    caught: list[BaseException] = []
    told = Recorder()
    async with linked("tcp", told) as (upstream, right):

        async def serve(socket: mantou.Socket[Any]) -> None:
            try:
                await mantou.pipe(socket, upstream)
            except OSError as error:
                caught.append(error)

        client = Recorder(open=serve)
        async with accepted(client) as (_, left):
            await left.send(b"hello")
            assert await right.receive(5) == b"hello"
            right.reset()
            await client.until("close")
            await told.until("close")
        assert [type(error) for error in caught] == [ConnectionResetError]


async def test_nobody_has_to_wait_for_it() -> None:
    """An error that nobody fetches is one that the `close` handlers were told."""
    async with ends("tcp", "tcp") as it:
        it.pipe()
        it.left.reset()
        await it.closed()


async def test_pause_and_resume_have_no_effect_on_a_piped_socket() -> None:
    async with ends("tcp", "tcp") as it:
        piped = it.pipe()
        it.a.pause()
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        piped.cancel()
        await it.closed()


async def test_a_broken_socket_cannot_be_piped_and_says_why() -> None:
    async with ends("unix", "tcp") as it:
        it.a.pause()
        it.left.close()
        assert it.a.write(b"lost") <= 0
        for pair in ((it.a, it.b), (it.b, it.a)):
            with pytest.raises(BrokenPipeError):
                mantou.pipe(*pair)


async def test_what_cannot_be_piped_is_refused() -> None:
    async with ends("tcp", "tcp") as it, ends("tcp", "tcp") as others:
        with pytest.raises(ValueError, match="same socket twice"):
            mantou.pipe(it.a, it.a)
        with pytest.raises(TypeError, match="two sockets, got 7"):
            mantou.pipe(it.a, 7)  # type: ignore[arg-type]
        piped = it.pipe()
        for pair in ((it.a, others.a), (others.a, it.b), (it.b, it.a)):
            with pytest.raises(ValueError, match="in another pipe"):
                mantou.pipe(*pair)
        with pytest.raises(ConnectionError):
            it.a.upgrade_tls(tls=True, socket=Recorder())
        piped.cancel()
        await it.closed()
        others.b.end()
        for pair in ((others.a, it.a), (others.a, others.b)):
            with pytest.raises(ConnectionError, match="open both ways"):
                mantou.pipe(*pair)
        # Nothing has become of the one that was left.
        await others.left.send(b"hello")
        assert await others.told_a.until_received(5) == b"hello"


async def test_sockets_with_packets_are_refused() -> None:
    async with ends("tcp", "tcp") as it:
        it.a.set_packet("line")
        for pair in ((it.a, it.b), (it.b, it.a)):
            with pytest.raises(ValueError, match=r"set_packet\('raw'\) ends them"):
                mantou.pipe(*pair)
        it.a.set_packet("raw")
        piped = it.pipe()
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        piped.cancel()
        await it.closed()


@pytest.mark.parametrize("when", ["at once", "later", "after it"])
@pytest.mark.parametrize("link", LINKS)
async def test_what_came_behind_the_lines_is_carried_over(link: str, when: str) -> None:
    """A proxy that is told by lines where to (CONNECT), and gets more than those in one segment."""
    told = Recorder()
    piped: list[asyncio.Future[mantou.PipedBytes]] = []
    async with linked("tcp", told) as (upstream, right):

        def go_on(socket: mantou.Socket[Any]) -> None:
            socket.set_packet("raw")
            piped.append(mantou.pipe(socket, upstream))

        async def wait_and_go_on(socket: mantou.Socket[Any]) -> None:
            await others_had_their_turn()
            go_on(socket)

        def last_line(socket: mantou.Socket[Any], line: bytes) -> object:
            if line:
                return None
            if when == "after it":
                return socket.pause()
            return go_on(socket) if when == "at once" else wait_and_go_on(socket)

        client = Recorder(data=last_line)
        async with linked(link, client, packet="line") as (socket, left):
            await left.send(b"CONNECT host\r\n\r\n" + b"early, \n" * 5000)
            await client.until("data", 2)
            if when == "after it":
                go_on(socket)
            await left.send(b"late")
            left.finish()
            assert await right.receive_until_fin() == b"early, \n" * 5000 + b"late"
            await right.send(b"answer")
            right.finish()
            assert await left.receive_until_fin() == b"answer"
            assert await piped[0] == (8 * 5000 + 4, 6)
            await client.until("close")
            await told.until("close")
    assert client.names == ["open", "data", "close"]


@pytest.mark.parametrize("how", ["end", "shutdown"])
@every_tcp_mix
async def test_whoever_ends_one_end_by_hand_leaves_nobody_in_the_belief_that_all_arrived(
    one: str, other: str, how: str
) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        getattr(it.b, how)()
        assert await it.right.receive_some() == b""
        await it.right.send(b"answer")
        assert await it.left.receive(6) == b"answer"
        await it.left.send(b"for nobody")
        with pytest.raises(ConnectionResetError):
            await it.left.receive_some()
        with pytest.raises(ConnectionAbortedError):
            await piped
        await it.closed()


@every_mix
async def test_the_last_fin_of_one_end_that_was_ended_by_hand_is_no_end_of_the_pipe(
    one: str, other: str
) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        it.b.end()
        it.right.finish()
        assert await it.right.receive_until_fin() == b""
        assert await it.left.receive_until_fin() == b""
        it.left.finish()
        with pytest.raises(ConnectionAbortedError):
            await piped
        await it.closed()


async def test_who_wants_to_receive_no_more_is_refused_and_a_pipe_receives_on() -> None:
    async with ends("tcp", "tcp") as it:
        piped = it.pipe()
        it.a.shutdown(True)
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        piped.cancel()
        await it.closed()
    async with ends("tcp", "tcp") as it:
        it.a.shutdown(True)
        for pair in ((it.a, it.b), (it.b, it.a)):
            with pytest.raises(ConnectionError, match="open both ways"):
                mantou.pipe(*pair)


async def test_sockets_of_two_loops_are_refused() -> None:
    async with ends("tcp", "tcp") as it:

        async def try_it() -> None:
            async with linked("tcp", Recorder()) as (socket, _):
                with pytest.raises((ValueError, mantou.WrongThreadError)):
                    mantou.pipe(socket, it.a)
                socket.terminate()

        await asyncio.to_thread(asyncio.run, try_it())


@every_mix
async def test_a_reader_that_stays_away_is_cut_by_its_idle_timeout(one: str, other: str) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        sending = asyncio.ensure_future(it.left.send(bytes(64 * MIB)))
        await it.stuck()
        it.b.timeout(0.2)
        with pytest.raises(TimeoutError):
            await piped
        await it.closed()
        with pytest.raises(ConnectionError):
            await sending


@every_mix
async def test_a_slow_reader_gets_all_though_both_have_finished(one: str, other: str) -> None:
    data = random.Random(3).randbytes(6 * MIB)
    async with ends(one, other, close_timeout=5) as it:
        piped = it.pipe()
        it.right.finish()
        assert await it.left.receive_until_fin() == b""
        sending = asyncio.ensure_future(it.left.send(data))
        received = bytearray()
        while len(received) < len(data):
            received += await it.right.receive_some(300_000)
            await asyncio.sleep(0)
        await sending
        it.left.finish()
        assert await it.right.receive_until_fin() == b""
        assert received == data
        assert await piped == (len(data), 0)


async def test_a_socket_that_was_upgraded_can_be_piped() -> None:
    plain, secure, told = Recorder(), Recorder(), Recorder()
    async with linked("tcp", plain) as (raw, left), linked("tcp", told) as (b, right):
        _, a = raw.upgrade_tls(tls=CLIENT_OPTIONS | {"server_name": "localhost"}, socket=secure)
        peer = await secured(left.sock, server_side=True)
        await secure.until("open")
        piped = mantou.pipe(a, b)
        await peer.send(b"hello")
        assert await right.receive(5) == b"hello"
        right.finish()
        assert await peer.receive_until_fin() == b""
        peer.finish()
        assert await right.receive_until_fin() == b""
        assert await piped == (5, 0)
        await secure.until("close")
        await told.until("close")
        assert plain.names == ["open", "close"]


@every_mix
async def test_inside_a_cork(one: str, other: str) -> None:
    async with ends(one, other) as it:
        with it.a.cork(), it.b.cork():
            it.b.write_all(b"written ")
            piped = it.pipe()
        await it.left.send(b"piped")
        assert await it.right.receive(13) == b"written piped"
        piped.cancel()
        await it.closed()


@every_mix
async def test_new_handlers_are_told_of_the_end(one: str, other: str) -> None:
    async with ends(one, other) as it:
        piped = it.pipe()
        new = Recorder()
        it.a.reload(new)
        await it.left.send(b"hello")
        assert await it.right.receive(5) == b"hello"
        piped.cancel()
        await new.until("close")
        assert new.names == ["close"]
        assert it.told_a.names == ["open"]
        # The stage expects of every recorder that it was told.
        it.told_a.close(it.a, None)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.alone
@pytest.mark.loops("mantou", "uvloop")
async def test_a_thousand_pipes_hold_little_and_keep_nothing() -> None:
    count = 1000
    told = Recorder()
    pipes: list[tuple[Peer, Peer]] = []
    futures = []
    for _ in range(count):
        (left, a), (b, right) = kernel.socketpair(), kernel.socketpair()
        sockets = [await mantou.connect(fd=sock.detach(), socket=told) for sock in (a, b)]
        futures.append(mantou.pipe(*sockets))
        pipes.append((Peer(left), Peer(right)))
    block = bytes(MIB)

    def fill_all() -> None:
        for left, _ in pipes:
            with contextlib.suppress(BlockingIOError):
                while True:
                    left.sock.send(block)

    before = resident()
    for _ in range(5):
        fill_all()
        await others_had_their_turn()
    # What waits for a thousand readers that do not read: a piece for each, and no more.
    assert resident() - before < count * 48 * 1024
    for _ in range(3):
        for _, right in pipes:
            with contextlib.suppress(BlockingIOError):
                while right.sock.recv(MIB):
                    pass
        await others_had_their_turn()
    emptied = resident()
    for left, right in pipes:
        left.close()
        right.close()
    await asyncio.gather(*futures, return_exceptions=True)
    assert emptied - before < 8 * MIB
    await told.until("close", 2 * count)

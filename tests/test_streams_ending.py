"""How streams end, by their peers and by us, over every link and loop."""

from __future__ import annotations

import asyncio
import errno
import ssl
from pathlib import Path

import anyio
import pytest

import mantou
from tests.streams import make_small, streaming, waits
from tests.support import every_path, every_stream
from tests.tls_support import TlsPeer

KIB = 1024


@every_path
async def test_what_is_missing_at_the_end(link: str) -> None:
    async with streaming(link) as (stream, peer):
        await peer.send(b"partial")
        peer.finish()
        with pytest.raises(mantou.IncompleteRead) as caught:
            await stream.receive_exactly(8)
        assert caught.value.partial == b"partial"
        with pytest.raises(mantou.IncompleteRead) as caught:
            await stream.receive_until(b"x", 8)
        assert caught.value.partial == b""


@every_path
async def test_the_last_line_may_be_too_long_as_well(link: str) -> None:
    async with streaming(link) as (stream, peer):
        await peer.send(b"1234\n1234\r\n12345")
        lines = stream.lines(4)
        assert [await anext(lines), await anext(lines)] == [b"1234", b"1234"]
        task = await waits(anext(lines))
        peer.finish()
        with pytest.raises(mantou.DelimiterNotFound):
            await task
        assert await stream.receive() == b"12345"
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


@every_stream
async def test_a_reset_is_told_as_what_it_is(link: str) -> None:
    async with streaming(link) as (stream, peer):
        task = await waits(stream.receive())
        peer.reset()
        with pytest.raises(mantou.BrokenResourceError) as caught:
            await task
        assert isinstance(caught.value, ConnectionResetError)
        assert isinstance(caught.value, anyio.BrokenResourceError)
        assert caught.value.errno == errno.ECONNRESET
        with pytest.raises(ConnectionResetError):
            await stream.send(b"x")


async def test_a_truncation_is_an_ssl_error() -> None:
    async with streaming("tls") as (stream, peer):
        assert isinstance(peer, TlsPeer)
        await peer.send(b"before")
        peer.truncate()
        assert await stream.receive() == b"before"
        with pytest.raises(mantou.BrokenResourceError) as caught:
            await stream.receive()
        assert isinstance(caught.value, ssl.SSLEOFError)


async def test_a_sender_hears_of_the_reset() -> None:
    async with streaming("tcp") as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        task = await waits(stream.send(bytes(3000 * KIB)))
        peer.reset()
        with pytest.raises(mantou.BrokenResourceError) as caught:
            await task
        assert isinstance(caught.value, ConnectionError)


@every_path
async def test_closing_tells_whoever_waits(link: str) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        reading = await waits(stream.receive())
        writing = await waits(stream.send(bytes(3000 * KIB)))
        stream.abort()
        for task in (reading, writing):
            with pytest.raises(mantou.ClosedResourceError):
                await task
        await stream.aclose()
        for operation in (stream.receive, lambda: stream.send(b"x"), stream.send_eof):
            with pytest.raises(mantou.ClosedResourceError):
                await operation()


@every_stream
@pytest.mark.parametrize("how", ["both have finished", "reset"])
async def test_what_is_closed_is_closed_whatever_came_before(link: str, how: str) -> None:
    async with streaming(link) as (stream, peer):
        if how == "reset":
            peer.reset()
            with pytest.raises(mantou.BrokenResourceError):
                await stream.receive()
        else:
            await stream.send_eof()
            await peer.receive_until_fin()
            peer.finish()
            with pytest.raises(mantou.EndOfStream):
                await stream.receive()
            await stream.socket.closed()
            with pytest.raises(mantou.EndOfStream):
                await stream.receive()
        await stream.aclose()
        for operation in (stream.receive, lambda: anext(stream), lambda: stream.send(b"x")):
            with pytest.raises(mantou.ClosedResourceError):
                await operation()


@every_path
async def test_aclose_delivers_everything_first(link: str) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        await stream.send(b"x" * 60 * KIB)
        # Unread input makes no RST of it.
        await peer.send(b"unread")
        closing = asyncio.ensure_future(stream.aclose())
        assert await peer.receive_until_fin() == b"x" * 60 * KIB
        await closing
        assert stream.socket.fileno() == -1


async def test_a_cancelled_aclose_closes_all_the_same() -> None:
    async with streaming("tcp", close_timeout=None) as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        sending = await waits(stream.send_all([bytes(3000 * KIB)]))
        task = await waits(stream.aclose())
        with pytest.raises(mantou.ClosedResourceError):
            await sending
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert set(await peer.receive_until_fin()) == {0}


async def test_abort_resets() -> None:
    async with streaming("tcp") as (stream, peer):
        stream.abort()
        with pytest.raises(ConnectionResetError):
            await peer.receive_some()


async def test_an_idle_timeout_breaks_it() -> None:
    async with streaming("tcp", idle_timeout=0.05) as (stream, _):
        with pytest.raises(mantou.BrokenResourceError) as caught:
            await stream.receive()
        assert isinstance(caught.value, TimeoutError)


async def test_half_open_is_an_option() -> None:
    async with streaming("tcp", allow_half_open=False) as (stream, peer):
        peer.finish()
        with pytest.raises(mantou.EndOfStream):
            await stream.receive()
        assert await peer.receive_until_fin() == b""


@every_path
@pytest.mark.parametrize("size", [KIB, 64 * KIB, 300 * KIB])
@pytest.mark.parametrize("turns", [-1, 0, 1, 3])
async def test_who_sends_to_a_peer_that_has_gone_hears_why(
    link: str, size: int, turns: int
) -> None:
    """Before the end comes, in the turn in which it does, and behind it."""

    async def keep_sending() -> None:
        while True:
            await stream.send(bytes(size))

    async with streaming(link) as (stream, peer):
        task = asyncio.create_task(keep_sending()) if turns < 0 else None
        peer.reset()
        for _ in range(turns):
            await asyncio.sleep(0)
        with pytest.raises(mantou.BrokenResourceError) as caught:
            await (task or keep_sending())
        assert isinstance(caught.value, ConnectionError)


async def test_who_sends_a_file_to_a_peer_that_has_just_gone_hears_why(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(KIB))
    async with streaming("unix") as (stream, peer):
        peer.close()
        with path.open("rb") as file, pytest.raises(mantou.BrokenResourceError) as caught:
            await stream.send_file(file)
        assert isinstance(caught.value, BrokenPipeError)


# A record of application data that nobody sealed.
FORGED = b"\x17\x03\x03\x00\x20" + bytes(32)


@pytest.mark.parametrize("link", ["tls", "context"])
@pytest.mark.parametrize("size", [KIB, 300 * KIB])
@pytest.mark.parametrize("turns", [-1, 0, 1, 3])
async def test_who_answers_what_came_before_bad_tls_hears_why(
    link: str, size: int, turns: int
) -> None:
    """Within the event, in the turn, and behind it."""

    async def answer() -> None:
        assert await stream.receive() == b"good"
        for _ in range(turns):
            await asyncio.sleep(0)
        while True:
            await stream.send(bytes(size))

    async with streaming(link) as (stream, peer):
        assert isinstance(peer, TlsPeer)
        task = await waits(answer()) if turns >= 0 else None
        peer.sock.send(peer.seal(b"good") + FORGED)
        with pytest.raises(mantou.BrokenResourceError) as caught:
            await (task or answer())
        assert isinstance(caught.value, ssl.SSLError)


@pytest.mark.parametrize("link", ["tls", "context"])
async def test_nobody_waits_to_hear_of_bad_tls_until_all_is_sent(link: str) -> None:
    async def keep_sending() -> None:
        while True:
            await stream.send(bytes(KIB))

    async with streaming(link) as (stream, peer):
        assert isinstance(peer, TlsPeer)
        task = await waits(stream.receive())
        peer.sock.send(peer.seal(b"good"))
        peer.truncate()
        assert await task == b"good"
        # Far less than `close_timeout`, within which a peer that reads again gets the rest.
        async with asyncio.timeout(10):
            with pytest.raises(ssl.SSLEOFError):
                await keep_sending()
            with pytest.raises(ssl.SSLEOFError):
                await stream.receive()
        stream.abort()

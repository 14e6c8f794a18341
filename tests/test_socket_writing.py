"""write(), write_all(), drained(), cork(), flush() and end(data): what leaves, and when."""

from __future__ import annotations

import array
import asyncio
import errno
import mmap
import socket as kernel
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.support import (
    Recorder,
    connected,
    every_link,
    every_stream,
    fill,
    linked,
    others_had_their_turn,
)

MIB = 1024 * 1024


def pattern(size: int) -> bytes:
    """Bytes in which every loss, repetition or swap shows."""
    return b"".join(index.to_bytes(4, "big") for index in range(size // 4))


def mapped(content: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(content))
    memory.write(content)
    return memory


# write()


@every_stream
@pytest.mark.parametrize(
    "form",
    [
        bytes,
        bytearray,
        memoryview,
        lambda content: memoryview(b"_" + content)[1:],
        lambda content: array.array("H", content),
        mapped,
        type("Bytes", (bytes,), {}),
    ],
    ids=["bytes", "bytearray", "memoryview", "slice", "array", "mmap", "subclass"],
)
@pytest.mark.parametrize("method", ["write", "write_all", "end"])
async def test_every_buffer_can_be_sent(
    link: str, form: Callable[[bytes], Any], method: str
) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        result = getattr(socket, method)(form(b"steamed!"))
        assert result == (None if method == "write_all" else 8)
        assert await peer.receive(8) == b"steamed!"


@every_stream
async def test_text_is_sent_as_utf8(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        assert socket.write("馒头") == 6
        socket.write_all("é")
        assert socket.end("ü") == 2
        assert (await peer.receive_until_fin()).decode() == "馒头éü"


@every_stream
@pytest.mark.parametrize("method", ["write", "write_all", "end"])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (7, TypeError),
        (None, TypeError),
        (["a"], TypeError),
        (memoryview(b"abcdef")[::2], TypeError),
        ("\ud800", UnicodeEncodeError),
    ],
    ids=["int", "None", "list", "strided", "surrogate"],
)
async def test_what_has_no_bytes_is_refused(
    link: str, method: str, data: Any, error: type[Exception]
) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        if not (method == "end" and data is None):
            with pytest.raises(error):
                getattr(socket, method)(data)
        # Neither sent nor ended.
        assert socket.end(b"still here") == 10
        assert await peer.receive_until_fin() == b"still here"


@every_stream
@pytest.mark.parametrize("method", ["write", "end"])
@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ((0,), b"0123456789"),
        ((3,), b"3456789"),
        ((3, 4), b"3456"),
        ((3, None), b"3456789"),
        ((10,), b""),
        ((10, 0), b""),
        ((0, 0), b""),
        ((0, 10), b"0123456789"),
    ],
)
async def test_a_part_is_chosen_by_offset_and_length(
    link: str, method: str, arguments: tuple[Any, ...], sent: bytes
) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        assert getattr(socket, method)(bytearray(b"0123456789"), *arguments) == len(sent)
        socket.end()
        assert await peer.receive_until_fin() == sent


@every_stream
@pytest.mark.parametrize("method", ["write", "end"])
@pytest.mark.parametrize("arguments", [(-1,), (11,), (0, 11), (5, 6), (0, -1), (10, 1)])
async def test_a_part_outside_the_data_is_refused(
    link: str, method: str, arguments: tuple[int, ...]
) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        with pytest.raises(ValueError, match="outside the 10 bytes"):
            getattr(socket, method)(b"0123456789", *arguments)
        assert socket.end(b"x") == 1
        assert await peer.receive_until_fin() == b"x"


@every_stream
async def test_offsets_count_bytes_not_characters_or_items(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        assert socket.write("éa", 2) == 1
        assert socket.write(array.array("I", b"wxyzabcd"), 4, 2) == 2
        assert await peer.receive(3) == b"aab"


@every_link
async def test_a_short_write_is_followed_by_one_drain(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        total = fill(socket)
        assert socket.write(b"more") == 0
        assert socket.write(b"more") == 0
        await others_had_their_turn()
        assert "drain" not in client.names
        assert len(await peer.receive(total)) == total
        await client.until("drain")
        assert socket.write(b"more") == 4
        assert await peer.receive(4) == b"more"
        await others_had_their_turn()
    assert client.names.count("drain") == 1


@every_stream
async def test_a_complete_write_is_not_followed_by_a_drain(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        assert socket.write(b"") == 0
        assert socket.write(b"all of it") == 9
        socket.write_all(b"all of it")
        assert await peer.receive(18) == b"all of it" * 2
        await others_had_their_turn()
    assert "drain" not in client.names


@every_stream
async def test_writing_in_drain_gets_everything_across(link: str) -> None:
    content = pattern(8 * MIB)
    position = 0

    def write_on(socket: mantou.Socket[Any]) -> None:
        nonlocal position
        position += socket.write(content, position)

    client = Recorder(open=write_on, drain=write_on)
    async with linked(link, client) as (_, peer):
        assert await peer.receive(len(content)) == content


# write_all()


@every_link
async def test_write_all_keeps_the_order_and_the_bytes(link: str) -> None:
    content = pattern(8 * MIB)
    sizes = [1, 70_000, 3, 300_000, 65_536, 5]
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        position = turn = 0
        while position < len(content):
            piece = bytearray(content[position : position + sizes[turn % len(sizes)]])
            socket.write_all(piece)
            position += len(piece)
            turn += 1
            # Whoever gave it may use it again.
            piece[:] = bytes(len(piece))
        assert socket.buffered > 0
        # Of TLS, it is records that wait.
        overhead = socket.bytes_written + socket.buffered - len(content)
        assert overhead == 0 if link != "tls" else overhead >= 0
        assert await peer.receive(len(content)) == content
        await client.until("drain")
        assert socket.buffered == 0
        assert socket.bytes_written == len(content)
        await others_had_their_turn()
    assert client.names.count("drain") == 1


@every_stream
async def test_over_the_limit_nothing_is_taken(link: str) -> None:
    client = Recorder()
    limit = 1_000_000
    async with linked(link, client, write_limit=limit) as (socket, peer):
        filled = fill(socket)
        # TLS has sealed more than the kernel takes.
        sealed = socket.buffered
        assert sealed == 0 or link == "tls"
        socket.write_all(b"a" * 600_000)
        queued = socket.buffered
        assert queued == 600_000 or (link == "tls" and queued >= sealed + 600_000)
        room = limit - queued
        for method in (socket.write_all, socket.end):
            with pytest.raises(BufferError, match=f"{room + 1} bytes on top of {queued}"):
                method(b"b" * (room + 1))
        assert socket.buffered == queued
        socket.write_all(b"c" * room)
        assert socket.ready_state == mantou.ReadyState.ESTABLISHED
        socket.end()
        content = await peer.receive_until_fin()
        assert content[filled:] == b"a" * 600_000 + b"c" * room


@every_stream
async def test_write_takes_nothing_behind_a_queue(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        filled = fill(socket)
        socket.write_all(b"queued")
        assert socket.write(b"overtaking") == 0
        assert len(await peer.receive(filled)) == filled
        await client.until("drain")
        assert socket.write(b"after") == 5
        assert await peer.receive(11) == b"queuedafter"


@every_link
async def test_end_delivers_its_data_under_backpressure(link: str) -> None:
    content = pattern(8 * MIB)
    client = Recorder()
    async with linked(link, client, write_limit=20 * MIB) as (socket, peer):
        filled = fill(socket)
        socket.write_all(content)
        assert socket.end(content) == len(content)
        assert socket.end(b"again") == -1
        assert await peer.receive_until_fin() == bytes(filled) + content * 2
        peer.finish()
        await client.until("close")
    assert client.errors == [None]
    assert "drain" not in client.names


# drained()


@every_stream
async def test_drained_waits_for_what_was_accepted_so_far(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        await socket.drained()
        filled = fill(socket)
        socket.write_all(b"one")
        first = asyncio.ensure_future(socket.drained())
        await others_had_their_turn()
        assert not first.done()
        assert len(await peer.receive(filled)) == filled
        await first
        assert socket.buffered == 0


@every_stream
async def test_drained_raises_when_the_bytes_are_lost(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        fill(socket)
        socket.write_all(b"lost")
        waiting = asyncio.ensure_future(socket.drained())
        await others_had_their_turn()
        peer.reset()
        with pytest.raises(ConnectionResetError if link == "tcp" else ConnectionError):
            await waiting
        await client.until("close")
        with pytest.raises(ConnectionError):
            await socket.drained()


@every_stream
async def test_drained_raises_after_terminate(link: str) -> None:
    async with linked(link, Recorder()) as (socket, _):
        fill(socket)
        socket.write_all(b"lost")
        waiting = asyncio.ensure_future(socket.drained())
        await asyncio.sleep(0)
        socket.terminate()
        with pytest.raises(ConnectionAbortedError) as lost:
            await waiting
        assert lost.value.errno == errno.ECONNABORTED


async def test_drained_says_what_broke_the_connection() -> None:
    client = Recorder()
    async with linked("unix", client) as (socket, peer):
        socket.pause()
        peer.close()
        assert socket.write(b"lost") <= 0
        with pytest.raises(BrokenPipeError):
            await socket.drained()
        socket.resume()
        await client.until("close")


@every_stream
async def test_who_waits_is_told_the_reason_that_close_is_told(link: str) -> None:
    client = Recorder()
    async with linked(link, client, close_timeout=0.05) as (socket, _):
        # However large the kernel lets its buffers become.
        socket.write_all(bytes(64 << 20))
        waiting = asyncio.ensure_future(socket.drained())
        await asyncio.sleep(0)
        socket.end()
        with pytest.raises(ConnectionAbortedError) as lost:
            await waiting
        assert lost.value.errno == errno.ECONNABORTED
        await client.until("close")
        assert isinstance(client.errors[0], TimeoutError)
        assert lost.value.__cause__ is client.errors[0]


@every_stream
async def test_a_cancelled_drained_does_no_harm(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        filled = fill(socket)
        socket.write_all(b"rest")
        waiting = asyncio.ensure_future(socket.drained())
        await asyncio.sleep(0)
        waiting.cancel()
        assert len(await peer.receive(filled + 4)) == filled + 4
        await client.until("drain")


# cork() and flush()

# A reader of a unix stream gets bytes of several sends in one read, but how many sends there
# were shows in TCP: without Nagle each makes a segment of its own.


def segments_received(peer: kernel.socket) -> int:
    """The kernel's count of data segments that came in (tcpi_data_segs_in)."""
    info = peer.getsockopt(kernel.IPPROTO_TCP, kernel.TCP_INFO, 256)
    return int.from_bytes(info[152:156], "little")


async def test_writes_under_a_cork_leave_together() -> None:
    async with connected(Recorder()) as (socket, peer):
        for _ in range(3):
            socket.write(b"x")
        assert await peer.receive(3) == b"xxx"
        assert segments_received(peer.sock) == 3
        with socket.cork():
            assert socket.write(b"one ") == 4
            socket.write_all(b"two ")
            assert socket.write("three") == 5
            # It leaves with the cork: nothing that a peer could hold up.
            assert socket.buffered == 0
            with pytest.raises(BlockingIOError):
                peer.receive_now(1)
        assert socket.buffered == 0
        assert await peer.receive(13) == b"one two three"
        assert segments_received(peer.sock) == 4


@every_stream
async def test_only_the_outermost_cork_counts(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        with socket.cork():
            with socket.cork():
                socket.write(b"a")
            with pytest.raises(BlockingIOError):
                peer.receive_now(10)
            socket.write(b"b")
        assert peer.receive_now(10) == b"ab"


@every_stream
async def test_flush_sends_what_a_cork_holds(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        with socket.cork():
            socket.write(b"now")
            socket.flush()
            assert peer.receive_now(10) == b"now"
            socket.write(b"later")
        assert peer.receive_now(10) == b"later"
        socket.flush()


@every_stream
async def test_a_cork_holds_64_kib_at_most(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        with socket.cork():
            for _ in range(5):
                assert socket.write(bytes(16 * 1024)) == 16 * 1024
            assert socket.buffered <= 64 * 1024
            assert len(await peer.receive(16 * 1024)) == 16 * 1024
        assert len(await peer.receive(64 * 1024)) == 64 * 1024


@every_stream
async def test_a_cork_says_how_much_the_kernel_took(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        with socket.cork():
            total = fill(socket)
        if link == "tls":
            # What the kernel did not take is sealed already.
            assert total == socket.bytes_written
        else:
            assert total == socket.bytes_written + socket.buffered
        assert socket.write(b"more") == 0
        assert len(await peer.receive(total)) == total
        await client.until("drain")
        with pytest.raises(BlockingIOError):
            peer.receive_now(1)
    assert client.names.count("drain") == 1


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_a_cork_holds_while_the_peer_speaks(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        with socket.cork():
            assert socket.write(b"one ") == 4
            await peer.send(b"?")
            await client.until_received(1)
            await others_had_their_turn()
            with pytest.raises(BlockingIOError):
                peer.receive_now(1)
            assert socket.write(b"two") == 3
        assert await peer.receive(7) == b"one two"


@every_stream
async def test_a_cork_is_taken_off_when_its_block_raises(link: str) -> None:
    async with linked(link, Recorder()) as (socket, peer):
        with pytest.raises(TypeError), socket.cork():
            assert socket.write(b"kept") + socket.write(None)  # type: ignore[arg-type]
        assert peer.receive_now(10) == b"kept"
        socket.write(b"at once")
        assert peer.receive_now(10) == b"at once"


@every_stream
@pytest.mark.parametrize("ending", ["end", "close", "shutdown"])
async def test_ending_under_a_cork_sends_everything(link: str, ending: str) -> None:
    content = pattern(8 * MIB)
    client = Recorder()
    async with linked(link, client, close_timeout=5.0) as (socket, peer):
        with socket.cork():
            socket.write_all(content)
            getattr(socket, ending)()
        assert await peer.receive_until_fin() == content
        peer.finish()
        await client.until("close")
    assert client.errors == [None]


async def test_closing_under_a_cork_sends_what_the_kernel_could_not_take_yet() -> None:
    client = Recorder()
    async with linked("unix", client, close_timeout=1.0) as (socket, peer):
        full = fill(socket)
        assert len(await peer.receive(full)) == full
        await client.until("drain")
        # Exactly as much as there is room for: nobody waits for a drain.
        assert socket.write(bytes(full)) == full
        with socket.cork():
            assert socket.write(b"x" * 1000) == 1000
            socket.close()
        assert (await peer.receive_until_fin())[full:] == b"x" * 1000
        await client.until("close")
    assert client.errors == [None]


# Afterwards


@every_stream
async def test_counters_count_the_bytes_of_the_application(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        assert (socket.bytes_written, socket.bytes_read) == (0, 0)
        socket.write(b"12345")
        await peer.send(b"abc")
        await client.until_received(3)
        assert (socket.bytes_written, socket.bytes_read) == (5, 3)
        socket.end(b"6")
        peer.finish()
        await client.until("close")
        assert (socket.bytes_written, socket.bytes_read) == (6, 3)


@every_stream
@pytest.mark.parametrize("ending", ["end", "close", "terminate", "shutdown"])
async def test_nothing_is_accepted_after_the_end(link: str, ending: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):

        def check() -> None:
            assert socket.write(b"x") == -1
            assert socket.write(b"") == -1
            assert socket.end(b"x") == -1
            assert socket.end() == -1
            with pytest.raises(BrokenPipeError):
                socket.write_all(b"x")
            with socket.cork():
                assert socket.write(b"x") == -1
            socket.flush()
            assert socket.buffered == 0

        getattr(socket, ending)()
        check()
        peer.close()
        await client.until("close")
        check()
        assert socket.bytes_written == 0
    assert client.names.count("close") == 1

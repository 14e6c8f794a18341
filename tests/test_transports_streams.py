"""asyncio's streams over native transports: what is fed natively, and what takes Python's way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket as kernel
import struct
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.conftest import LoopErrors
from tests.protocols import LINKS, Plain, connect, raw_pair, serving

pytestmark = pytest.mark.loops("mantou", "asyncio")

LIMIT = 4096  # the readers' own

BLOCK = bytes(range(256)) * 1024


@contextlib.asynccontextmanager
async def fed(
    link: str, reader: Any = None, protocol: Any = asyncio.StreamReaderProtocol
) -> AsyncIterator[tuple[Any, Plain]]:
    """A reader, and the protocol at the other end of its connection."""
    accepted: asyncio.Queue[Plain] = asyncio.Queue()

    def accept() -> Plain:
        peer = Plain()
        accepted.put_nowait(peer)
        return peer

    reader = reader or asyncio.StreamReader(LIMIT)
    async with serving(link, accept) as (_, address):
        ours = await connect(link, address, lambda: protocol(reader))
        transport = ours._transport
        peer = await accepted.get()
        await peer.made
        try:
            yield reader, peer
        finally:
            transport.abort()
            if not peer.lost.done():
                peer.transport.abort()
            await peer.lost


async def read_somehow(reader: asyncio.StreamReader, rest: int, choice: random.Random) -> bytes:
    """A part of what comes, by any of the methods there are."""
    size = choice.randint(1, min(rest, 3 * LIMIT))
    match choice.choice(["read", "exactly", "line"]):
        case "read":
            return await reader.read(size)
        case "exactly":
            return await reader.readexactly(size)
        case _:
            try:
                return await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                return error.partial


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("link", LINKS)
async def test_what_is_read_is_what_was_sent(link: str, seed: int) -> None:
    choice = random.Random(seed)
    sent = b"".join(choice.randbytes(255) + b"\n" for _ in range(2000))
    async with fed(link) as (reader, peer):
        rest = memoryview(sent)
        read = bytearray()
        while len(read) < len(sent):
            size = choice.randint(1, 4 * LIMIT)
            peer.transport.write(rest[:size])
            rest = rest[size:]
            if not rest and peer.transport.can_write_eof():
                peer.transport.write_eof()
            while len(read) < len(sent) - len(rest):
                left = len(sent) - len(rest) - len(read)
                # Over TLS there is no end that a line could wait for.
                if left < 300:
                    read += await reader.readexactly(left)
                else:
                    read += await read_somehow(reader, left - 256, choice)
        assert read == sent


@pytest.mark.parametrize("link", LINKS)
async def test_a_reader_that_nobody_reads_pauses_its_transport(link: str) -> None:
    async with fed(link) as (reader, peer):
        transport = reader._transport
        peer.transport.write(b"x" * 2 * LIMIT)
        while len(reader._buffer) < 2 * LIMIT:
            await asyncio.sleep(0)
        assert transport.is_reading()  # at the limit, not over it
        sent = 2 * LIMIT
        while not peer.paused:
            peer.transport.write(BLOCK)
            sent += len(BLOCK)
            await asyncio.sleep(0)
        while transport.is_reading():
            await asyncio.sleep(0)
        held = len(reader._buffer)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(reader._buffer) == held > 2 * LIMIT
        assert len(await reader.readexactly(sent)) == sent
        assert transport.is_reading()


@pytest.mark.parametrize("link", LINKS)
async def test_the_end_comes_behind_the_data(link: str) -> None:
    async with fed(link) as (reader, peer):
        peer.transport.write(BLOCK)
        peer.transport.close()
        assert await reader.read() == BLOCK
        assert reader.at_eof()


async def test_a_reset_is_told_to_whoever_reads() -> None:
    here, peer = raw_pair()
    reader, writer = await asyncio.open_connection(sock=here)
    waiting = asyncio.ensure_future(reader.readexactly(10))
    peer.send(b"part")
    while not reader._buffer:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    peer.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(ConnectionResetError):
        await waiting
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()


async def test_what_comes_for_a_cancelled_read_is_for_the_next() -> None:
    here, peer = raw_pair()
    reader, writer = await asyncio.open_connection(sock=here)
    for _ in range(3):
        waiting = asyncio.ensure_future(reader.readexactly(5))
        while reader._waiter is None:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        # The kernel has it before the task gets to know that it is cancelled.
        peer.send(b"later")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await reader.readexactly(5) == b"later"
    writer.close()
    await writer.wait_closed()
    peer.close()


# What is not asyncio's own is asked as asyncio would ask it


class Noting(asyncio.StreamReader):
    noted = b""

    def feed_data(self, data: bytes) -> None:
        self.noted += data
        super().feed_data(data)


class NotingProtocol(asyncio.StreamReaderProtocol):
    noted = b""

    def data_received(self, data: bytes) -> None:
        type(self).noted += data
        super().data_received(data)


async def test_a_reader_of_another_class_is_fed_by_its_own_method() -> None:
    reader = Noting()
    async with fed("tcp", reader) as (_, peer):
        peer.transport.write(b"data")
        assert await reader.readexactly(4) == reader.noted == b"data"


async def test_a_protocol_of_another_class_gets_its_data_itself() -> None:
    NotingProtocol.noted = b""
    async with fed("tcp", protocol=NotingProtocol) as (reader, peer):
        peer.transport.write(b"data")
        assert await reader.readexactly(4) == NotingProtocol.noted == b"data"


async def test_a_method_replaced_on_the_reader_is_called_from_then_on() -> None:
    """So do programs that decrypt what they read."""
    async with fed("tcp") as (reader, peer):
        peer.transport.write(b"before")
        assert await reader.readexactly(6) == b"before"
        feed = reader.feed_data
        reader.feed_data = lambda data: feed(data.upper())
        peer.transport.write(b"patched")
        assert await reader.readexactly(7) == b"PATCHED"
        del reader.feed_data
        peer.transport.write(b"after")
        assert await reader.readexactly(5) == b"after"


async def test_a_method_replaced_on_the_class_is_called_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = asyncio.StreamReader.feed_data

    def feed_upper(reader: asyncio.StreamReader, data: bytes) -> None:
        feed(reader, data.upper())

    async with fed("tcp") as (reader, peer):
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.StreamReader, "feed_data", feed_upper)
            peer.transport.write(b"patched")
            assert await reader.readexactly(7) == b"PATCHED"
        peer.transport.write(b"after")
        assert await reader.readexactly(5) == b"after"


async def test_a_limit_and_a_buffer_that_were_replaced_are_used() -> None:
    async with fed("tcp") as (reader, peer):
        reader._limit = 16 * LIMIT
        reader._buffer = bytearray(b"put ")
        peer.transport.write(b"x" * 20 * LIMIT)
        while len(reader._buffer) < 20 * LIMIT + 4:
            await asyncio.sleep(0)
        assert reader._transport.is_reading()
        assert await reader.readexactly(4) == b"put "


# What asyncio refuses


def _end(reader: Any) -> object:
    reader.feed_eof()
    return None


def _export(reader: Any) -> object:
    reader._buffer += b"x"
    return memoryview(reader._buffer)


def _answer_waiter(reader: Any) -> object:
    reader._waiter = asyncio.get_running_loop().create_future()
    reader._waiter.set_result(None)
    return None


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (_end, AssertionError),
        (_export, BufferError),
        (_answer_waiter, asyncio.InvalidStateError),
    ],
)
async def test_a_reader_that_cannot_be_fed_breaks_the_connection(
    prepare: Callable[[Any], object], kind: type[Exception], loop_errors: LoopErrors
) -> None:
    async with fed("tcp") as (reader, peer):
        held = prepare(reader)
        peer.transport.write(b"data")
        await peer.lost
        assert isinstance(reader.exception(), kind)
        context = loop_errors.pop()
        assert context["message"] == "Fatal error: protocol.data_received() call failed."
        assert context["exception"] is reader.exception()
        assert context["transport"].is_closing()
        del held


async def test_a_reader_that_nobody_holds_gets_nothing() -> None:
    here, peer = raw_pair()
    loop = asyncio.get_running_loop()
    readers = [asyncio.StreamReader()]
    transport, protocol = await loop.create_connection(
        lambda: asyncio.StreamReaderProtocol(readers[0]), sock=here
    )
    readers.clear()
    gc.collect()
    assert protocol._stream_reader is None  # type: ignore[attr-defined]
    for _ in range(3):
        peer.send(b"data")
        while kernel_has_unread(transport):
            await asyncio.sleep(0)
    assert not transport.is_closing()
    transport.abort()
    await asyncio.sleep(0)
    peer.close()


def kernel_has_unread(transport: Any) -> bool:
    """Whether something waits in its socket."""
    sock = transport.get_extra_info("socket")
    with kernel.socket(fileno=kernel.dup(sock.fileno())) as copy:
        copy.setblocking(False)
        try:
            return bool(copy.recv(1, kernel.MSG_PEEK))
        except BlockingIOError:
            return False


async def test_debug_mode_feeds_readers_too() -> None:
    asyncio.get_running_loop().set_debug(True)
    async with fed("tcp") as (reader, peer):
        peer.transport.write(BLOCK)
        assert await reader.readexactly(len(BLOCK)) == BLOCK


# Only mantou's


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("link", LINKS)
async def test_asyncios_own_reader_is_fed_without_a_python_frame(link: str) -> None:
    called: list[str] = []

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    async with fed(link) as (reader, peer):
        peer.transport.write(b"data")
        sys.setprofile(note)
        try:
            assert await reader.readexactly(4) == b"data"
        finally:
            sys.setprofile(None)
    assert "readexactly" in called
    assert not {"data_received", "feed_data", "_wakeup_waiter"} & set(called)

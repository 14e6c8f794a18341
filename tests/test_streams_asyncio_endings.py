"""How asyncio's streams end, and `open_connection()`'s: what is theirs, too, is asked of both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket as kernel
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import mantou
from tests.peers import Peer, RawListener
from tests.support import others_had_their_turn
from tests.tls_support import VERSIONS, context, secured

KIB = 1024

whose = pytest.mark.parametrize("module", [asyncio, mantou])


@contextlib.asynccontextmanager
async def opened(module: Any, **options: Any) -> AsyncIterator[tuple[Any, Any, Peer]]:
    """Reader, writer, and the peer at the other end."""
    with RawListener() as raw:
        reader, writer = await module.open_connection("127.0.0.1", raw.port, **options)
        peer = await raw.accept()
        try:
            yield reader, writer, peer
            if not writer.is_closing():
                writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        finally:
            peer.close()


def slow_down(writer: Any) -> None:
    """Has the kernel take little, and a drain wait for all of it."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, 64 * KIB)
    writer.transport.set_write_buffer_limits(high=0)


@whose
async def test_what_came_is_read_after_closing(module: Any) -> None:
    async with opened(module) as (reader, writer, peer):
        await peer.send(b"left")
        while not reader._buffer:
            await others_had_their_turn()
        writer.close()
        await writer.wait_closed()
        assert not reader.at_eof()
        assert await reader.read() == b"left"
        assert reader.at_eof()


@whose
async def test_a_reset_is_no_end(module: Any) -> None:
    async with opened(module) as (reader, writer, peer):
        peer.reset()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()
        # Whoever reads until the end is told that it has not come.
        assert not reader.at_eof()
        with pytest.raises(ConnectionResetError):
            await reader.read()


@whose
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_tls_end_without_goodbye_is_an_end(module: Any, version: str) -> None:
    with RawListener() as raw:
        opening = asyncio.ensure_future(
            module.open_connection(
                "127.0.0.1", raw.port, ssl=context(False), server_hostname="localhost"
            )
        )
        peer = await secured((await raw.accept()).sock, server_side=True, version=version)
        reader, writer = await opening
        await peer.send(b"all")
        peer.truncate()
        assert await reader.read() == b"all"
        assert reader.at_eof()
        assert reader.exception() is None
        writer.close()
        await writer.wait_closed()
        peer.close()


def rst(peer: Peer) -> None:
    peer.reset()


def fin(peer: Peer) -> None:
    peer.finish()


def nonsense(peer: Peer) -> None:
    peer.sock.send(b"220 try again\r\n")


def silence(peer: Peer) -> None:
    pass


FAILURES = [
    (rst, ConnectionResetError, "reset by peer"),
    (fin, ConnectionResetError, "^$"),
    (nonsense, ssl.SSLError, "WRONG_VERSION_NUMBER"),
    (silence, ConnectionAbortedError, r"SSL handshake is taking longer than 0\.2 seconds"),
]


# Behind the others whoever reads or closes waits for ever with asyncio's.
@pytest.mark.parametrize(
    "module, does, kind, text",
    [(mantou, *it) for it in FAILURES] + [(asyncio, *it) for it in FAILURES[1:3]],
)
async def test_tls_that_fails_to_begin(
    module: Any, does: Callable[[Peer], None], kind: type[OSError], text: str
) -> None:
    async with opened(module) as (reader, writer, peer):
        starting = asyncio.ensure_future(
            writer.start_tls(context(False), server_hostname="localhost", ssl_handshake_timeout=0.2)
        )
        await peer.receive(100)  # of its ClientHello
        does(peer)
        with pytest.raises(kind, match=text) as caught:
            await starting
        assert type(caught.value) is kind
        assert writer.is_closing()
        for later in (reader.read, lambda: reader.read(5), writer.drain, writer.wait_closed):
            with pytest.raises(kind, match=text):
                await later()
        assert isinstance(reader.exception(), kind)
        assert not reader.at_eof()


@pytest.mark.parametrize("does, kind, text", FAILURES)
async def test_a_connection_whose_tls_fails(
    does: Callable[[Peer], None], kind: type[OSError], text: str
) -> None:
    with RawListener() as raw:
        tls: Any = {"ssl": context(False), "server_hostname": "localhost"}
        tls["ssl_handshake_timeout"] = 0.2
        opening = asyncio.ensure_future(mantou.open_connection("127.0.0.1", raw.port, **tls))
        peer = await raw.accept()
        await peer.receive(100)
        does(peer)
        with pytest.raises(kind, match=text) as caught:
            await opening
        assert type(caught.value) is kind
        peer.close()


async def test_closing_tls_takes_as_long_as_start_tls_was_told() -> None:
    async with opened(mantou) as (_, writer, peer):
        starting = asyncio.ensure_future(
            writer.start_tls(context(False), server_hostname="localhost", ssl_shutdown_timeout=0.2)
        )
        secure = await secured(peer.sock, server_side=True)
        await starting
        slow_down(writer)
        writer.write(bytes(20_000 * KIB))
        writer.close()
        async with asyncio.timeout(5):
            await writer.wait_closed()
        secure.close()


@whose
async def test_reading_can_be_paused(module: Any) -> None:
    async with opened(module) as (reader, writer, peer):
        transport = writer.transport
        assert transport.is_reading()
        await peer.send(b"before")
        assert await reader.read(6) == b"before"
        for _ in range(2):
            transport.pause_reading()
            assert not transport.is_reading()
        # More than the kernel takes for both of us, if nobody reads.
        flood = bytes(20_000 * KIB)
        sending = asyncio.ensure_future(peer.send(flood))
        reading = asyncio.ensure_future(reader.readexactly(len(flood)))
        await others_had_their_turn()
        assert reader._buffer == b""
        assert not reading.done()
        assert not sending.done()
        transport.resume_reading()
        assert transport.is_reading()
        assert await reading == flood
        await sending
        writer.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()


async def test_a_pause_outlasts_what_the_reader_has_room_for() -> None:
    async with opened(mantou) as (reader, writer, peer):
        sending = asyncio.ensure_future(peer.send(bytes(20_000 * KIB)))
        # As much as it keeps of what nobody asks for.
        while writer.transport.is_reading():
            await others_had_their_turn()
        writer.transport.pause_reading()
        kept = len(reader._buffer)
        await reader.readexactly(kept)
        await others_had_their_turn()
        assert reader._buffer == b""
        writer.transport.resume_reading()
        await reader.readexactly(20_000 * KIB - kept)
        await sending


@whose
async def test_nothing_is_written_behind_the_end(module: Any) -> None:
    async with opened(module) as (_, writer, peer):
        writer.write(b"last")
        writer.write_eof()
        for write in (writer.write, lambda data: writer.writelines([data])):
            with pytest.raises(RuntimeError, match=r"Cannot call \w+\(\) after write_eof"):
                write(b"too late")
        assert await peer.receive_until_fin() == b"last"


@whose
async def test_draining_what_is_before_the_end(module: Any) -> None:
    async with opened(module) as (_, writer, peer):
        slow_down(writer)
        data = bytes(8000 * KIB)
        writer.write(data)
        before = asyncio.ensure_future(writer.drain())
        await others_had_their_turn()
        writer.write_eof()
        behind = asyncio.ensure_future(writer.drain())
        await others_had_their_turn()
        assert not before.done()
        assert not behind.done()
        assert await peer.receive(len(data)) == data
        await asyncio.gather(before, behind)
        assert await peer.receive_until_fin() == b""
        await writer.drain()


@whose
async def test_a_drain_that_is_cancelled_changes_nothing(module: Any) -> None:
    async with opened(module) as (_, writer, peer):
        slow_down(writer)
        data = bytes(8000 * KIB)
        writer.write(data)
        for _ in range(2):
            drain = asyncio.ensure_future(writer.drain())
            await others_had_their_turn()
            drain.cancel()
            with pytest.raises(asyncio.CancelledError):
                await drain
        drain = asyncio.ensure_future(writer.drain())
        assert await peer.receive(len(data)) == data
        await drain


@whose
async def test_closing_ends_a_drain(module: Any) -> None:
    async with opened(module) as (_, writer, peer):
        slow_down(writer)
        data = bytes(8000 * KIB)
        writer.write(data)
        drain = asyncio.ensure_future(writer.drain())
        await others_had_their_turn()
        writer.close()
        assert await peer.receive_until_fin() == data
        await asyncio.wait([drain])


@whose
@pytest.mark.parametrize("method", ["read", "readexactly", "readuntil", "readline"])
async def test_a_second_reader_is_refused(module: Any, method: str) -> None:
    async with opened(module) as (reader, _, peer):
        first = asyncio.ensure_future(reader.readexactly(5))
        await others_had_their_turn()
        name = "readuntil" if method == "readline" else method
        text = rf"{name}\(\) called while another coroutine is already waiting for incoming data"
        with pytest.raises(RuntimeError, match=text):
            await getattr(reader, method)(*[1] if method in {"read", "readexactly"} else [])
        await peer.send(b"first")
        assert await first == b"first"


@whose
async def test_a_limit_of_nothing_connects_to_nobody(module: Any) -> None:
    with RawListener() as raw:
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            await module.open_connection("127.0.0.1", raw.port, limit=0)
        with pytest.raises(BlockingIOError):
            raw.sock.accept()


async def test_a_server_with_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="Limit cannot be <= 0"):
        await mantou.start_server(print, "127.0.0.1", 0, limit=0)  # type: ignore[arg-type]


@whose
async def test_a_writer_that_is_forgotten_closes(module: Any) -> None:
    with RawListener() as raw:
        streams = [*await module.open_connection("127.0.0.1", raw.port)]
        peer = await raw.accept()
        with pytest.warns(ResourceWarning, match="unclosed"):
            streams.clear()
        assert await peer.receive_until_fin() == b""
        peer.close()


async def test_a_callback_need_not_keep_its_writer() -> None:
    # asyncio's need not until Python 3.12.
    readers: list[asyncio.StreamReader] = []
    writers: list[weakref.ref[asyncio.StreamWriter]] = []

    def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        readers.append(reader)
        writers.append(weakref.ref(writer))

    server: Any = await mantou.start_server(keep, "127.0.0.1", 0)  # type: ignore[arg-type]
    async with server:
        peer = await Peer.connect(server.sockets[0].getsockname())
        await peer.send(b"early")
        while not readers:
            await others_had_their_turn()
        gc.collect()
        await peer.send(b"later")
        assert await readers[0].readexactly(10) == b"earlylater"
        writer = writers[0]()
        assert writer is not None
        writer.close()
        await writer.wait_closed()
        peer.close()

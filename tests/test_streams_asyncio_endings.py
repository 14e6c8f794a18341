"""How asyncio's streams end, and `open_connection()`'s: what is theirs, too, is asked of both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket as kernel
import weakref
from collections.abc import AsyncIterator
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

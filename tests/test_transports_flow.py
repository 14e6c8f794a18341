"""asyncio's transports: writing, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
import socket as kernel
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LoopErrors
from tests.protocols import LINKS, Plain, paired, raw_pair

pytestmark = pytest.mark.loops("mantou", "asyncio")

BLOCK = bytes(range(256)) * 4096


@pytest.mark.parametrize("link", LINKS)
async def test_everything_is_taken_and_arrives_in_order(link: str) -> None:
    async with paired(link) as (client, server):
        for _ in range(8):
            client.transport.write(BLOCK)
        client.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b"", b"d" * 100])
        assert await server.wait_for(8 * len(BLOCK) + 103) == BLOCK * 8 + b"abc" + b"d" * 100


async def test_no_piece_waits_while_the_kernel_takes_more() -> None:
    pieces = [bytes([number]) * 2000 for number in range(50)]
    async with paired("tcp") as (client, server):
        client.transport.writelines(pieces)
        assert client.transport.get_write_buffer_size() == 0
        assert await server.wait_for(100_000) == b"".join(pieces)


@pytest.mark.parametrize("link", LINKS)
async def test_arguments_may_be_given_by_name(link: str) -> None:
    async with paired(link) as (client, server):
        client.transport.write(data=b"one ")
        client.transport.writelines(list_of_data=[b"two ", b"three"])
        assert await server.wait_for(13) == b"one two three"
        for wrong in ({}, {"text": b"x"}, {"data": b"x", "more": 1}):
            with pytest.raises(TypeError):
                client.transport.write(**wrong)
        for wrong in ((), (b"x", b"y")):
            with pytest.raises(TypeError):
                client.transport.write(*wrong)
        with pytest.raises(TypeError):
            client.transport.write(b"x", data=b"y")
        with pytest.raises(TypeError):
            client.transport.is_closing(1)
        with pytest.raises(TypeError):
            client.transport.write("text")


@pytest.mark.parametrize("link", LINKS)
async def test_a_protocol_is_paused_and_resumed(link: str) -> None:
    async with paired(link) as (client, server):
        server.transport.pause_reading()
        sent = 0
        while True:
            client.transport.write(BLOCK)
            sent += len(BLOCK)
            if client.paused:
                break
            await asyncio.sleep(0)
        _, high = client.transport.get_write_buffer_limits()
        assert client.transport.get_write_buffer_size() >= high
        server.transport.resume_reading()
        await client.until(lambda: not client.paused)
        low, _ = client.transport.get_write_buffer_limits()
        assert client.transport.get_write_buffer_size() <= low
        assert await server.wait_for(sent) == BLOCK * (sent // len(BLOCK))
        assert client.calls[0] == "made"
        assert client.calls[1::2].count("pause") == client.calls[2::2].count("resume")


@pytest.mark.parametrize("link", ["tcp", "unix"])
@pytest.mark.parametrize("high", [None, 1 << 20])
async def test_a_protocol_is_resumed_while_the_rest_goes_out_behind_close(
    link: str, high: int | None
) -> None:
    async with paired(link) as (client, server):
        server.transport.pause_reading()
        client.transport.set_write_buffer_limits(high)
        client.transport.write(b"x" * (16 << 20))
        assert client.paused
        client.transport.close()
        # A limit may still change.
        client.transport.set_write_buffer_limits()
        server.transport.resume_reading()
        await client.lost
        assert client.calls == ["made", "pause", "resume", "lost"]
        await server.lost
        assert len(server.received) == 16 << 20


@pytest.mark.parametrize("link", ["tcp", "unix"])
async def test_a_protocol_can_be_paused_behind_close(link: str) -> None:
    async with paired(link) as (client, server):
        server.transport.pause_reading()
        client.transport.set_write_buffer_limits(32 << 20)
        client.transport.write(b"x" * (16 << 20))
        client.transport.close()
        assert not client.paused
        client.transport.set_write_buffer_limits()
        assert client.paused
        server.transport.resume_reading()
        await client.lost
        assert client.calls == ["made", "pause", "resume", "lost"]
        client.transport.set_write_buffer_limits(0)
        assert client.calls[-1] == "lost"


@pytest.mark.parametrize("reading", [True, False])
async def test_a_reset_is_told_to_whoever_waits_to_write(reading: bool) -> None:
    """Nothing says that writing may go on: the connection is lost."""
    here, peer = raw_pair()
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(Plain, sock=here)
    if not reading:
        protocol.transport.pause_reading()
    protocol.transport.write(BLOCK * 32)
    assert protocol.paused
    peer.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await protocol.lost
    assert protocol.calls == ["made", "pause", "lost"]
    assert isinstance(protocol.error, ConnectionResetError)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, (16384, 65536)),
        ({"high": 0}, (0, 0)),
        ({"high": 400}, (100, 400)),
        ({"low": 100}, (100, 400)),
        ({"high": 10, "low": 10}, (10, 10)),
    ],
)
async def test_limits(given: dict[str, int], limits: tuple[int, int]) -> None:
    async with paired("tcp") as (client, _):
        client.transport.set_write_buffer_limits(**given)
        assert client.transport.get_write_buffer_limits() == limits


async def test_limits_of_tls_are_wider() -> None:
    async with paired("tls") as (client, _):
        assert client.transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)


async def test_wrong_limits_are_refused() -> None:
    async with paired("tcp") as (client, _):
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            client.transport.set_write_buffer_limits(1, 2)
        with pytest.raises(ValueError, match="must be >= 0"):
            client.transport.set_write_buffer_limits(high=-1)


async def test_a_limit_of_zero_pauses_as_soon_as_anything_waits() -> None:
    ours, theirs = raw_pair()
    with theirs:
        transport, protocol = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
        transport.set_write_buffer_limits(high=0)
        transport.write(b"small")
        assert not protocol.paused
        transport.write(BLOCK * 64)
        assert protocol.paused
        transport.abort()
        await protocol.lost


async def test_reading_pauses_at_once_and_nothing_is_lost() -> None:
    class Once(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with paired("tcp", Plain, Once) as (client, server):
        client.transport.write(BLOCK)
        await server.wait_for(1)
        assert not server.transport.is_reading()
        while len(server.received) < len(BLOCK):
            before = len(server.received)
            await asyncio.sleep(0)
            assert len(server.received) == before
            server.transport.resume_reading()
            assert server.transport.is_reading()
            await server.wait_for(before + 1)
        assert server.received == BLOCK


async def test_writes_in_one_event_leave_together() -> None:
    """The peer is a raw socket: it sees the segments."""
    loop = asyncio.get_running_loop()
    ours, theirs = raw_pair()
    with theirs:

        class Answering(Plain):
            def data_received(self, data: bytes) -> None:
                self.transport.write(b"head")
                self.transport.write(b"body")
                super().data_received(data)

        transport, protocol = await loop.create_connection(Answering, sock=ours)
        theirs.setblocking(False)
        await loop.sock_sendall(theirs, b"?")
        await protocol.wait_for(1)
        answer = b""
        while len(answer) < 8:
            answer += await loop.sock_recv(theirs, 100)
        assert answer == b"headbody"
        transport.close()
        await protocol.lost


@pytest.mark.parametrize("wrong", ["text", None, 1, [b"x"]])
async def test_what_is_not_bytes_is_refused(wrong: Any) -> None:
    async with paired("tcp") as (client, _):
        name = type(wrong).__name__
        with pytest.raises(TypeError, match=f"must be a .*object, not '{name}'"):
            client.transport.write(wrong)
        # Newer asyncios pass over what is false.
        if wrong is not None:
            with pytest.raises(TypeError):
                client.transport.writelines([b"x", wrong])


@pytest.mark.loops("mantou")  # asyncio sends what it has become, from Python 3.12 on
async def test_a_buffer_can_be_changed_once_it_was_written() -> None:
    async with paired("tcp") as (client, server):
        server.transport.pause_reading()
        data = bytearray(b"x" * (16 << 20))
        client.transport.write(data)
        data[:] = b"y" * len(data)
        server.transport.resume_reading()
        assert set(await server.wait_for(len(data))) == {ord("x")}


async def test_what_waits_keeps_its_order_whatever_it_is_in() -> None:
    """Pieces are kept or copied by their size and kind; the peer reads once all of them wait."""
    large, ours = bytes(range(251)) * 400, bytearray(b"changed later" * 4000)
    pieces = [
        BLOCK * 8,  # more than the kernel takes
        b"small",
        large,
        ours,
        memoryview(large)[7:],
        b"",
        large[: 16 * 1024 - 1],
        large[: 16 * 1024],
        large,
        b"last",
    ]
    expected = b"".join(pieces) * 2
    async with paired("tcp") as (client, server):
        server.transport.pause_reading()
        for piece in pieces:
            client.transport.write(piece)
        client.transport.writelines(pieces)
        assert client.transport.get_write_buffer_size() > len(expected) - len(BLOCK) * 8
        server.transport.resume_reading()
        assert await server.wait_for(len(expected)) == expected


@pytest.mark.loops("mantou")  # asyncio copies, before Python 3.12
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_bytes_that_wait_are_kept_and_not_copied(method: str) -> None:
    data = b"x" * (64 << 20)
    pieces: Any = data if method == "write" else [b"head", data]
    async with paired("tcp") as (client, server):
        server.transport.pause_reading()
        holders, memory = sys.getrefcount(data), resident_memory()
        getattr(client.transport, method)(pieces)
        assert client.transport.get_write_buffer_size() > len(data) // 2
        assert resident_memory() - memory < len(data) // 4
        assert sys.getrefcount(data) == holders + 1
        client.transport.abort()
        await client.lost
        assert sys.getrefcount(data) == holders


@pytest.mark.loops("mantou")
async def test_bytes_are_let_go_of_once_they_are_sent() -> None:
    data = BLOCK * 8
    async with paired("tcp") as (client, server):
        server.transport.pause_reading()
        holders = sys.getrefcount(data)
        client.transport.write(data)
        client.transport.write(b"behind it")
        assert sys.getrefcount(data) == holders + 1
        server.transport.resume_reading()
        await server.wait_for(len(data) + 9)
        await client.until(lambda: not client.paused)
        assert client.transport.get_write_buffer_size() == 0
        assert sys.getrefcount(data) == holders


def resident_memory() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_a_failing_pause_writing_is_reported_and_the_connection_goes_on(
    loop_errors: LoopErrors,
) -> None:
    class Failing(Plain):
        def pause_writing(self) -> None:
            super().pause_writing()
            raise LookupError("by the protocol")

    async with paired("tcp", Failing) as (client, server):
        server.transport.pause_reading()
        client.transport.write(BLOCK * 16)
        [error] = loop_errors
        loop_errors.clear()
        assert error["message"] == "protocol.pause_writing() failed"
        assert error["transport"] is client.transport
        assert error["protocol"] is client
        server.transport.resume_reading()
        await server.wait_for(len(BLOCK) * 16)


async def test_streams_pass_a_large_message_with_drain() -> None:
    done = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.set_result(await reader.read(-1))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(16):
            writer.write(BLOCK)
            await writer.drain()
        writer.write_eof()
        assert await done == BLOCK * 16
        writer.close()
        await writer.wait_closed()

"""`open_connection()` and `start_server()`: what programs for asyncio's streams rely on."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

import mantou
from tests.peers import Peer, RawListener
from tests.support import others_had_their_turn
from tests.tls_support import context, secured

KIB = 1024

every_way = pytest.mark.parametrize("way", ["plain", "tls"])


@contextlib.asynccontextmanager
async def opened(way: str = "plain", **options: Any) -> AsyncIterator[tuple[Any, Any, Peer]]:
    """Reader, writer, and the peer at the other end."""
    if way == "tls":
        options |= {"ssl": context(False), "server_hostname": "localhost"}
    with RawListener() as raw:
        opening = asyncio.ensure_future(mantou.open_connection("127.0.0.1", raw.port, **options))
        peer = await raw.accept()
        try:
            if way == "tls":
                peer = await secured(peer.sock, server_side=True)
            reader, writer = await opening
            yield reader, writer, peer
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        finally:
            peer.close()


@every_way
async def test_reading(way: str) -> None:
    async with opened(way) as (reader, _, peer):
        assert isinstance(reader, asyncio.StreamReader)
        await peer.send(b"one\ntwo--three==four\nrest")
        assert await reader.readline() == b"one\n"
        assert await reader.readuntil(b"--") == b"two--"
        assert await reader.readuntil((b"xx", b"==", b"=")) == b"three="
        assert await reader.read(1) == b"="
        assert await reader.read(0) == b""
        assert await reader.readexactly(3) == b"fou"
        assert await anext(reader) == b"r\n"
        assert not reader.at_eof()
        peer.finish()
        assert [line async for line in reader] == [b"rest"]
        assert reader.at_eof()
        assert await reader.read() == await reader.read(5) == await reader.readline() == b""
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(2)
        assert (caught.value.partial, caught.value.expected) == (b"", 2)


async def test_reading_all() -> None:
    async with opened() as (reader, _, peer):
        reading = asyncio.ensure_future(reader.read())
        await peer.send(bytes(300 * KIB))
        peer.finish()
        assert await reading == bytes(300 * KIB)


async def test_what_is_longer_than_the_limit() -> None:
    async with opened(limit=8) as (reader, _, peer):
        await peer.send(b"123456789\n12345678\nx")
        with pytest.raises(asyncio.LimitOverrunError, match="is found") as caught:
            await reader.readuntil()
        assert caught.value.consumed == 9
        with pytest.raises(ValueError, match="is found, but chunk is longer than limit"):
            await reader.readline()
        assert await reader.readline() == b"12345678\n"
        await peer.send(b"0123456789")
        with pytest.raises(asyncio.LimitOverrunError, match="is not found"):
            await reader.readuntil()
        peer.finish()
        with pytest.raises(asyncio.IncompleteReadError) as incomplete:
            await reader.readexactly(20)
        assert incomplete.value.partial == b"x0123456789"


@every_way
async def test_writing(way: str) -> None:
    async with opened(way) as (reader, writer, peer):
        assert isinstance(writer, asyncio.StreamWriter)
        writer.write(b"a")
        writer.writelines([b"b", bytearray(b"c"), memoryview(b"d")])
        await writer.drain()
        assert await peer.receive(4) == b"abcd"
        for write in (writer.write, lambda data: writer.writelines([b"x", data])):
            with pytest.raises(TypeError, match="bytes-like"):
                write("text")
        with pytest.raises(TypeError, match="sslcontext is expected to be"):
            await writer.start_tls(None)
        assert writer.can_write_eof() == (way == "plain")
        writer.write_eof()
        assert await peer.receive_until_fin() == b""
        await peer.send(b"answer")
        assert await reader.read(10) == b"answer"
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        # As asyncio's: nobody is told.
        writer.write(b"late")


async def test_draining_waits_for_the_peer() -> None:
    async with opened() as (_, writer, peer):
        writer.transport.set_write_buffer_limits(high=0)
        assert writer.transport.get_write_buffer_limits() == (0, 0)
        writer.write(bytes(20_000 * KIB))
        drains = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
        await others_had_their_turn()
        assert writer.transport.get_write_buffer_size() > 0
        assert not any(drain.done() for drain in drains)
        assert await peer.receive(20_000 * KIB) == bytes(20_000 * KIB)
        await asyncio.gather(*drains)
        assert writer.transport.get_write_buffer_size() == 0


async def test_a_reset_is_the_readers_and_the_writers() -> None:
    async with opened() as (reader, writer, peer):
        reading = asyncio.ensure_future(reader.read(1))
        await others_had_their_turn()
        peer.reset()
        with pytest.raises(ConnectionResetError):
            await reading
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


async def test_closing_is_an_end_for_the_reader() -> None:
    async with opened() as (reader, writer, peer):
        await peer.send(b"left")
        while writer._stream.socket.bytes_read < 4:
            await others_had_their_turn()
        writer.close()
        assert await reader.read(10) == b"left"
        assert await reader.read(10) == b""


@every_way
async def test_what_is_known_of_it(way: str) -> None:
    async with opened(way) as (_, writer, peer):
        assert writer.get_extra_info("peername") == peer.sock.getsockname()
        assert writer.get_extra_info("sockname") == peer.sock.getpeername()
        assert writer.get_extra_info("socket").family == kernel.AF_INET
        assert writer.get_extra_info("nothing", 7) == 7
        if way == "tls":
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert writer.get_extra_info("cipher")[1] == "TLSv1.3"
            assert writer.get_extra_info("peercert")["subjectAltName"]
        else:
            assert writer.get_extra_info("ssl_object") is None


async def test_start_tls() -> None:
    async with opened() as (reader, writer, peer):
        starting = asyncio.ensure_future(
            writer.start_tls(context(False), server_hostname="localhost")
        )
        secure = await secured(peer.sock, server_side=True)
        await starting
        await secure.send(b"hidden\n")
        assert await reader.readline() == b"hidden\n"
        writer.write(b"too")
        assert await secure.receive(3) == b"too"


async def test_a_server_with_plain_and_async_callbacks() -> None:
    tasks = []

    async def echo(reader: Any, writer: Any) -> None:
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    def plain(reader: Any, writer: Any) -> None:
        tasks.append(asyncio.ensure_future(echo(reader, writer)))

    for callback in (echo, plain):
        server: Any = await mantou.start_server(callback, "127.0.0.1", 0, backlog=5)
        async with server:
            assert server.is_serving()
            address = server.sockets[0].getsockname()
            reader, writer = await mantou.open_connection(*address)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await mantou.open_connection(*address)
    await asyncio.gather(*tasks)


async def test_a_callback_that_fails(loop_errors: list[dict[str, Any]]) -> None:
    async def fail(reader: Any, writer: Any) -> None:
        raise ValueError("no")

    server: Any = await mantou.start_server(fail, "127.0.0.1", 0)
    async with server:
        reader, writer = await mantou.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    (error,) = loop_errors
    assert error["message"] == "Unhandled exception in client_connected_cb"
    loop_errors.clear()


async def test_serving_for_ever_and_over_tls() -> None:
    async def greet(_: Any, writer: Any) -> None:
        writer.write(b"hello")
        writer.close()

    server: Any = await mantou.start_server(
        greet, ["127.0.0.1"], 0, ssl=context(True), start_serving=False
    )
    assert not server.is_serving()
    serving = asyncio.ensure_future(server.serve_forever())
    await others_had_their_turn()
    address = server.sockets[0].getsockname()
    reader, writer = await mantou.open_connection(
        *address, ssl=context(False), server_hostname="localhost"
    )
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    with pytest.raises(ssl.SSLCertVerificationError):
        await mantou.open_connection(*address, ssl=context(False), server_hostname="other.example")
    serving.cancel()
    await asyncio.wait([serving])
    assert not server.is_serving()


async def test_a_socket_that_is_connected_already() -> None:
    ours, theirs = kernel.socketpair()
    with theirs:
        reader, writer = await mantou.open_connection(sock=ours)
        theirs.send(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()
        assert theirs.recv(1) == b""


async def test_connecting_from_an_address() -> None:
    with RawListener() as raw:
        reader, writer = await mantou.open_connection(
            "localhost", raw.port, local_addr=("127.0.0.2", 0), family=kernel.AF_INET
        )
        peer = await raw.accept()
        assert peer.sock.getpeername()[0] == "127.0.0.2"
        peer.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "host and port was not specified and no sock specified"),
        ({"host": "x", "port": 1, "server_hostname": "y"}, "only meaningful with ssl"),
        ({"port": 1, "ssl": True}, "You must set server_hostname"),
        ({"host": "x", "port": 1, "ssl_handshake_timeout": 1}, "only meaningful with ssl"),
        ({"host": "x", "port": 1, "ssl_shutdown_timeout": 1}, "only meaningful with ssl"),
    ],
)
async def test_arguments_that_asyncio_refuses(arguments: dict[str, Any], text: str) -> None:
    for function in (asyncio.open_connection, mantou.open_connection):
        if not on_uvloop() or function is mantou.open_connection:
            with pytest.raises(ValueError, match=text):
                await function(**arguments)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
async def test_a_server_without_tls_has_no_times_for_it(name: str) -> None:
    for module in (asyncio, mantou):
        if not on_uvloop() or module is mantou:
            with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
                await module.start_server(print, "127.0.0.1", 0, **{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("port", [65536 + 80, -1, "65616"])
async def test_a_port_that_is_none_is_not_made_another(port: int | str) -> None:
    for module in (asyncio, mantou):
        if not on_uvloop() or module is mantou:
            with pytest.raises(OverflowError, match="port must be 0-65535"):
                await module.open_connection("127.0.0.1", port)
            with pytest.raises(OverflowError, match="port must be 0-65535"):
                await module.start_server(print, "127.0.0.1", port)  # type: ignore[arg-type]


async def test_an_address_of_another_family_to_connect_from() -> None:
    with RawListener() as raw:
        for module in (asyncio, mantou):
            with pytest.raises(OSError, match="family" if module is mantou else None):
                await module.open_connection("127.0.0.1", raw.port, local_addr=("::1", 0))


def on_uvloop() -> bool:
    """Whose own functions refuse other things."""
    return "uvloop" in type(asyncio.get_running_loop()).__module__

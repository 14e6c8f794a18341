"""What anyio builds on byte streams and listeners, on top of ours."""

from __future__ import annotations

import asyncio
import socket as kernel
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.stapled import MultiListener
from anyio.streams.text import TextStream
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream

import mantou
from tests.streams import client_tls, serving, streaming
from tests.support import Peer, every_path, others_had_their_turn
from tests.tls_support import context, secured


@every_path
async def test_buffered(link: str) -> None:
    async with streaming(link) as (stream, peer):
        buffered = BufferedByteStream(stream)
        await peer.send(b"one\ntwo")
        assert await buffered.receive_until(b"\n", 10) == b"one"
        assert await buffered.receive_exactly(3) == b"two"
        peer.finish()
        with pytest.raises(anyio.IncompleteRead):
            await buffered.receive_exactly(1)


@every_path
async def test_text(link: str) -> None:
    async with streaming(link) as (stream, peer):
        text = TextStream(stream)
        await text.send("Bäckerei")
        assert await peer.receive(9) == "Bäckerei".encode()
        await peer.send("ä".encode()[:1])
        receiving = asyncio.ensure_future(text.receive())
        await peer.send("ä".encode()[1:])
        assert await receiving == "ä"
        peer.finish()
        with pytest.raises(anyio.EndOfStream):
            await text.receive()


@pytest.mark.parametrize("link", ["tcp", "unix"])
async def test_tls(link: str) -> None:
    async with streaming(link) as (stream, peer):
        wrapping = asyncio.ensure_future(
            TLSStream.wrap(stream, hostname="localhost", ssl_context=context(False))
        )
        secure = await secured(peer.sock, server_side=True)
        wrapped = await wrapping
        await wrapped.send(b"hidden")
        assert await secure.receive(6) == b"hidden"
        await secure.send(b"too")
        assert await wrapped.receive() == b"too"
        secure.truncate()
        with pytest.raises(anyio.BrokenResourceError):
            await wrapped.receive()


async def test_what_is_known_of_tls() -> None:
    async with streaming("tls") as (stream, _):
        assert stream.extra(TLSAttribute.tls_version) == "TLSv1.3"
        assert stream.extra(TLSAttribute.server_side) is False
        der = stream.extra(TLSAttribute.peer_certificate_binary)
        assert ssl.DER_cert_to_PEM_cert(der)
    async with streaming("tcp") as (stream, _):
        with pytest.raises(anyio.TypedAttributeLookupError):
            stream.extra(TLSAttribute.tls_version)


async def never(_: mantou.Stream) -> None:
    raise AssertionError("serve() has taken over")


async def test_a_listener_serves_in_a_task_group(tmp_path: Path) -> None:
    async def echo(stream: anyio.abc.ByteStream) -> None:
        async for chunk in stream:
            await stream.send(chunk)

    async with serving(never, "tcp", tmp_path) as (server, dial):
        assert isinstance(server, anyio.abc.Listener)
        assert server.extra(anyio.abc.SocketAttribute.local_port) == server.port
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, echo, group)
            await anyio.wait_all_tasks_blocked()
            peer = await dial()
            await peer.send(b"x")
            assert await peer.receive(1) == b"x"
            group.cancel_scope.cancel()
        assert await peer.receive_until_fin() == b""


async def test_a_listener_serves_by_itself(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def wait(stream: mantou.Stream) -> None:
        try:
            await stream.send(b"hello")
            await stream.receive()
        finally:
            ended.set()

    async with serving(never, "tcp", tmp_path) as (server, dial):
        task = asyncio.ensure_future(server.serve(wait))
        await anyio.wait_all_tasks_blocked()
        peer = await dial()
        assert await peer.receive(5) == b"hello"
        task.cancel()
        await ended.wait()
        await asyncio.wait([task])
        assert await peer.receive_until_fin() == b""


async def test_who_serves_is_who_came_last_and_is_still_there(tmp_path: Path) -> None:
    def saying(name: bytes) -> asyncio.Future[None]:
        async def say(stream: mantou.Stream) -> None:
            await stream.send(name)

        return asyncio.ensure_future(server.serve(say))

    async def first(stream: mantou.Stream) -> None:
        await stream.send(b"first")

    async with serving(first, "tcp", tmp_path) as (server, dial):
        second, third = saying(b"second"), saying(b"third")
        await others_had_their_turn()
        for task, name in ((second, b"third"), (third, b"first")):
            task.cancel()
            await asyncio.wait([task])
            peer = await dial()
            assert await peer.receive_until_fin() == name


async def test_a_task_group_that_has_ended_serves_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(never, "tcp", tmp_path) as (server, dial):
        async with anyio.create_task_group() as group:
            pass
        task = asyncio.ensure_future(server.serve(never, group))
        await others_had_their_turn()
        peer = await dial()
        assert await peer.receive_until_fin() == b""
        task.cancel()
        await asyncio.wait([task])
    (record,) = (record for record in caplog.records if record.name == "mantou")
    assert "could not be served" in record.getMessage()
    # It has a traceback, and that the stream.
    caplog.clear()


async def test_listeners_of_anyio_around_ours(tmp_path: Path) -> None:
    async def greet(stream: Any) -> None:
        await stream.send(b"hello")
        await stream.aclose()

    server = mantou.serve_streams(never, hostname="127.0.0.1", port=0)
    listener = TLSListener(MultiListener([server]), context(True), standard_compatible=False)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, greet)
        await anyio.wait_all_tasks_blocked()
        async with await mantou.connect_stream(
            hostname="127.0.0.1", port=server.port, **client_tls("tls")
        ) as stream:
            assert await stream.receive() == b"hello"
        group.cancel_scope.cancel()


async def test_a_cancelled_scope_is_met_where_it_waits() -> None:
    async with streaming("tcp") as (stream, peer):
        with anyio.move_on_after(0.01) as scope:
            await stream.receive()
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.aclose()
        assert scope.cancelled_caught
        assert await peer.receive_until_fin() == b""


async def test_a_server_that_is_closed_in_a_cancelled_scope() -> None:
    server = mantou.serve_streams(never, hostname="127.0.0.1", port=0)
    address = ("127.0.0.1", server.port)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await server.aclose()
    assert scope.cancelled_caught
    with pytest.raises(ConnectionRefusedError):
        await Peer.connect(address)


async def test_anyio_knows_it() -> None:
    async with streaming("tcp") as (stream, peer):
        assert isinstance(stream, anyio.abc.ByteStream)
        attribute = anyio.abc.SocketAttribute
        assert stream.extra(attribute.remote_address) == peer.sock.getsockname()
        assert stream.extra(attribute.local_port) == peer.sock.getpeername()[1]
        assert stream.extra(attribute.family) == kernel.AF_INET
        raw = stream.extra(attribute.raw_socket)
        assert raw.getpeername() == peer.sock.getsockname()
    async with streaming("unix") as (stream, peer):
        assert stream.extra(attribute.family) == kernel.AF_UNIX
        assert stream.extra(attribute.remote_address) == peer.sock.getsockname()


def test_without_anyio() -> None:
    program = """
import sys
sys.modules["anyio"] = None
import asyncio, mantou
assert "mantou._streams" not in sys.modules

async def main():
    async def echo(stream):
        async for chunk in stream:
            await stream.send(chunk)
    async with mantou.serve_streams(echo, hostname="127.0.0.1", port=0) as server:
        async with await mantou.connect_stream(hostname="127.0.0.1", port=server.port) as stream:
            await stream.send(b"x")
            assert await stream.receive() == b"x"
            assert dict(stream.extra_attributes) == {} and stream.extra("x", 1) == 1
            await stream.send_eof()
            try:
                await stream.receive()
            except mantou.EndOfStream:
                print("fine")
mantou.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_importing_mantou_imports_no_anyio() -> None:
    program = "import mantou, sys; print('anyio' in sys.modules, hasattr(mantou, 'nothing'))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "False False\n"

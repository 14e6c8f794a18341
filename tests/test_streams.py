"""What a stream's members do, over every link and loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import os
import socket as kernel
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest

import mantou
from tests.conftest import LOOPS
from tests.streams import client_tls, closed, make_small, server_tls, serving, streaming
from tests.support import every_path, every_stream, others_had_their_turn
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, TlsPeer, secured

KIB = 1024


async def waits(operation: Any) -> asyncio.Future[Any]:
    """A task for the operation, which is waiting for something."""
    task = asyncio.ensure_future(operation)
    await others_had_their_turn()
    assert not task.done()
    return task


@every_path
async def test_receiving_in_every_way(link: str) -> None:
    async with streaming(link) as (stream, peer):
        await peer.send(b"one two\nthree\r\nrest")
        assert await stream.receive(3) == b"one"
        memory = bytearray(4)
        assert await stream.receive_into(memoryview(memory)[:2]) == 2
        assert memory == b" t\0\0"
        assert await stream.receive_exactly(1) == b"w"
        assert await stream.receive_exactly(0) == b""
        assert await stream.receive_until(b"\n", 10) == b"o"
        lines = stream.lines()
        assert await anext(lines) == b"three"
        task = await waits(stream.receive_exactly(11))
        await peer.send(b" later")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.01)
        task.cancel()
        await asyncio.wait([task])
        assert await stream.receive() == b"rest later"
        await peer.send(b"last")
        peer.finish()
        assert [line async for line in stream.lines()] == [b"last"]
        for _ in range(2):
            with pytest.raises(mantou.EndOfStream):
                await stream.receive()
            with pytest.raises(mantou.EndOfStream):
                await stream.receive_into(memory)
        assert [chunk async for chunk in stream] == []


@every_path
async def test_bytes_come_straight_to_who_waits(link: str) -> None:
    async with streaming(link) as (stream, peer):
        memory = bytearray(200 * KIB)
        for operation, expected in (
            (stream.receive, b"a" * 10),
            (lambda: stream.receive_exactly(5 * KIB), b"b" * 5 * KIB),
            (lambda: stream.receive_exactly(300 * KIB), b"c" * 300 * KIB),
            (lambda: stream.receive_until(b"--", 400 * KIB), b"d" * 300 * KIB),
        ):
            task = await waits(operation())
            await peer.send(expected + (b"--" if expected[:1] == b"d" else b""))
            assert await task == expected
        task = await waits(stream.receive_into(memory))
        await peer.send(b"e" * 20 * KIB)
        count = await task
        while count < 20 * KIB:
            count += await stream.receive_into(memoryview(memory)[count:])
        assert memory[: 20 * KIB] == b"e" * 20 * KIB
        assert memory[20 * KIB :] == bytes(180 * KIB)


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


async def test_a_delimiter_that_does_not_come() -> None:
    async with streaming("tcp") as (stream, peer):
        await peer.send(b"12345--6")
        for most in (1, 4):
            with pytest.raises(mantou.DelimiterNotFound):
                await stream.receive_until(b"--", most)
        assert await stream.receive_until(b"--", 5) == b"12345"
        task = await waits(stream.receive_until(b"--", 5))
        # Now it is certain: neither within five bytes nor right behind them.
        await peer.send(b"78901-")
        with pytest.raises(mantou.DelimiterNotFound):
            await task
        assert await stream.receive() == b"678901-"


async def test_a_delimiter_may_come_in_pieces() -> None:
    async with streaming("tcp") as (stream, peer):
        task = await waits(stream.receive_until(b"\r\n\r\n", 100))
        for piece in (b"head\r", b"\n", b"\r", b"\nbody"):
            await peer.send(piece)
            await others_had_their_turn()
        assert await task == b"head"
        assert await stream.receive() == b"body"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda stream: stream.receive(0),
        lambda stream: stream.receive_exactly(-1),
        lambda stream: stream.receive_until(b"", 1),
        lambda stream: stream.receive_until(b"x", 0),
        lambda stream: stream.receive_into(bytearray()),
        lambda stream: stream.lines(0),
    ],
)
async def test_values_that_mean_nothing_are_refused_at_once(wrong: Any) -> None:
    async with streaming("tcp") as (stream, _):
        with pytest.raises(ValueError, match=r"must|has no room"):
            wrong(stream)


async def test_what_is_no_buffer_is_refused() -> None:
    async with streaming("tcp") as (stream, _):
        with pytest.raises(TypeError, match="buffer must be a writable"):
            stream.receive_into(b"constant")  # type: ignore[arg-type]
        for send in (stream.send, lambda data: stream.send_all([b"x", data])):
            with pytest.raises(TypeError, match="data must be"):
                await send(1)
        await stream.send(b"still fine")


@every_path
async def test_sending_in_every_way(link: str) -> None:
    async with streaming(link) as (stream, peer):
        await stream.send("ä")
        await stream.send(bytearray(b"b"))
        await stream.send_all([b"c", memoryview(b"d"), "e"])
        await stream.send_all([])
        await stream.send(b"")
        assert await peer.receive(6) == "äbcde".encode()
        await stream.send_eof()
        await stream.send_eof()
        assert await peer.receive_until_fin() == b""
        with pytest.raises(mantou.ClosedResourceError, match="send_eof"):
            await stream.send(b"too late")
        await peer.send(b"still open")
        assert await stream.receive() == b"still open"


@every_path
async def test_a_send_waits_for_its_peer(link: str) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        data = os.urandom(3000 * KIB)
        task = await waits(stream.send(data))
        assert await peer.receive(len(data)) == data
        await task
        task = await waits(stream.send_all([data[:1000], data[1000:]]))
        assert await peer.receive(len(data)) == data
        await task


@every_path
async def test_reading_pauses_where_nobody_asks(link: str) -> None:
    async with streaming(link) as (stream, peer):
        sending = asyncio.ensure_future(peer.send(bytes(20_000 * KIB)))
        await others_had_their_turn()
        await others_had_their_turn()
        assert stream.socket.bytes_read <= 64 * KIB
        assert not sending.done()
        received = await stream.receive_exactly(20_000 * KIB)
        assert received == bytes(20_000 * KIB)
        await sending


@every_path
async def test_one_reads_and_one_writes(link: str) -> None:
    async with streaming(link) as (stream, peer):
        make_small(stream, peer, 64 * KIB)
        reading = await waits(stream.receive())
        for operation in (stream.receive, lambda: stream.receive_exactly(1), lambda: anext(stream)):
            with pytest.raises(mantou.BusyResourceError, match="reading from"):
                await operation()
        writing = await waits(stream.send(bytes(3000 * KIB)))
        for operation in (lambda: stream.send(b"x"), lambda: stream.send_all([b"x"])):
            with pytest.raises(mantou.BusyResourceError, match="writing to"):
                await operation()
        with pytest.raises(mantou.BusyResourceError):
            await stream.send_eof()
        await peer.send(b"x")
        assert await reading == b"x"
        assert await peer.receive(3000 * KIB) == bytes(3000 * KIB)
        await writing


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


@every_path
async def test_serving(link: str, tmp_path: Path) -> None:
    async def shout(stream: mantou.Stream) -> None:
        async for line in stream.lines():
            await stream.send_all([line.upper(), b"\n"])

    async with serving(shout, link, tmp_path) as (server, dial):
        peers = [await dial() for _ in range(3)]
        for peer in peers:
            await peer.send(b"hello\nwor")
        for peer in peers:
            assert await peer.receive(6) == b"HELLO\n"
            await peer.send(b"ld")
            peer.finish()
            assert await peer.receive_until_fin() == b"WORLD\n"
        server.stop()
        await server.closed()


async def test_a_handler_that_fails_ends_its_stream_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def picky(stream: mantou.Stream) -> None:
        async for chunk in stream:
            if chunk == b"bad":
                raise ValueError("I do not like that")
            await stream.send(chunk)

    async with serving(picky, "tcp", tmp_path) as (_, dial):
        good, bad = await dial(), await dial()
        await bad.send(b"bad")
        assert await bad.receive_until_fin() == b""
        await good.send(b"good")
        assert await good.receive(4) == b"good"
    (record,) = (record for record in caplog.records if record.name == "mantou")
    assert "I do not like that" in record.getMessage()
    # It has a traceback, and that the stream.
    caplog.clear()


async def test_closing_a_server_ends_its_handlers(tmp_path: Path) -> None:
    ended: list[str] = []

    async def patient(stream: mantou.Stream) -> None:
        await stream.send(b"hello")
        try:
            await stream.receive()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with serving(patient, "tcp", tmp_path) as (server, dial):
        peer = await dial()
        assert await peer.receive(5) == b"hello"
        await server.aclose()
        assert ended == ["cancelled"]
        assert await peer.receive_until_fin() == b""


@every_path
async def test_file(link: str) -> None:
    with tempfile.TemporaryFile() as file:
        data = os.urandom(1000 * KIB)
        file.write(data)
        file.flush()
        async with streaming(link) as (stream, peer):
            await stream.send(b"head")
            task = asyncio.ensure_future(stream.send_file(file))
            assert await peer.receive(4 + len(data)) == b"head" + data
            assert await task == len(data)
            assert await stream.send_file(file, 10, 20) == 20
            assert await stream.send_file(file, len(data) + 1) == 0
            assert await peer.receive(20) == data[10:30]
            with pytest.raises(ValueError, match="must be from 0"):
                await stream.send_file(file, -1)


@every_path
async def test_a_file_has_the_senders_place(link: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(20_000 * KIB)
        async with streaming(link) as (stream, peer):
            task = asyncio.ensure_future(stream.send_file(file))
            await others_had_their_turn()
            assert not task.done()
            for sending in (stream.send(b"x"), stream.send_file(file)):
                with pytest.raises(mantou.BusyResourceError):
                    await sending
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stream.abort()
            with pytest.raises(mantou.ClosedResourceError):
                await stream.send_file(file)
            peer.close()


@pytest.mark.parametrize("link", ["tls", "context"])
async def test_starttls_on_both_sides(link: str, tmp_path: Path) -> None:
    async def serve(stream: mantou.Stream) -> None:
        assert await stream.receive_until(b"\n", 100) == b"STARTTLS"
        await stream.send(b"go\n")
        secure = await stream.upgrade_tls(**server_tls(link))
        with pytest.raises(mantou.ClosedResourceError):
            await stream.receive()
        async for chunk in secure:
            await secure.send(chunk)
        await secure.aclose()

    async with mantou.serve_streams(serve, hostname="127.0.0.1", port=0) as server:
        stream = await mantou.connect_stream(hostname="127.0.0.1", port=server.port)
        await stream.send(b"STARTTLS\n")
        assert await stream.receive_until(b"\n", 100) == b"go"
        secure = await stream.upgrade_tls(**client_tls(link), server_name="localhost")
        assert secure.socket.get_tls_version() == "TLSv1.3"
        await secure.send(b"secret")
        assert await secure.receive() == b"secret"
        await secure.send_eof()
        with pytest.raises(mantou.EndOfStream):
            await secure.receive()
        await secure.aclose()
        server.stop()
        await server.closed()


async def test_what_was_received_goes_to_tls() -> None:
    async with streaming("tcp") as (stream, peer):
        # The peer, as a client, speaks TLS before it is asked to.
        shaking = asyncio.ensure_future(secured(peer.sock, server_side=False))
        while stream.socket.bytes_read == 0:
            await others_had_their_turn()
        secure = await stream.upgrade_tls(tls=SERVER_OPTIONS, server_side=True)
        other = await shaking
        await other.send(b"hello")
        assert await secure.receive() == b"hello"
        await closed(secure)


async def test_an_upgrade_that_is_refused() -> None:
    async with streaming("tcp") as (stream, peer):
        upgrade = asyncio.ensure_future(
            stream.upgrade_tls(tls=CLIENT_OPTIONS, server_name="other.example")
        )
        with contextlib.suppress(ssl.SSLError):
            await secured(peer.sock, server_side=True)
        with pytest.raises(ssl.SSLCertVerificationError):
            await upgrade


async def test_an_upgrade_with_nonsense() -> None:
    async with streaming("tcp") as (stream, _):
        with pytest.raises(TypeError, match="'tls' must be"):
            await stream.upgrade_tls(tls=False)  # type: ignore[arg-type]
        reading = await waits(stream.receive())
        with pytest.raises(mantou.BusyResourceError):
            await stream.upgrade_tls(tls=True)
        reading.cancel()
    async with streaming("tls") as (stream, _):
        with pytest.raises(ValueError, match="speaks TLS already"):
            await stream.upgrade_tls(tls=CLIENT_OPTIONS)


async def test_context_variables_are_the_tasks() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    async with streaming("tcp") as (stream, peer):

        async def receive() -> None:
            variable.set("mine")
            for expected in (b"1", b"2"):
                assert await stream.receive() == expected
                assert variable.get() == "mine"
                assert asyncio.current_task() is task

        task = await waits(receive())
        await peer.send(b"1")
        await others_had_their_turn()
        await peer.send(b"2")
        await task
        assert variable.get(None) is None


async def test_a_task_in_the_context_of_its_connection(tmp_path: Path) -> None:
    async def echo(stream: mantou.Stream) -> None:
        context = contextvars.copy_context()

        async def inner() -> None:
            async for chunk in stream:
                await stream.send(chunk)

        await asyncio.get_running_loop().create_task(inner(), context=context)

    async with serving(echo, "tcp", tmp_path) as (_, dial):
        peer = await dial()
        for _ in range(3):
            await peer.send(b"x")
            assert await peer.receive(1) == b"x"


async def test_options_of_handlers_are_refused() -> None:
    with pytest.raises(TypeError, match="'socket' is for handlers"):
        await mantou.connect_stream(hostname="127.0.0.1", port=1, socket={})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'data_factory' is for handlers"):
        mantou.serve_streams(print, hostname="127.0.0.1", port=0, data_factory=print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="handler must be"):
        mantou.serve_streams(None, hostname="127.0.0.1", port=0)  # type: ignore[call-overload]


async def test_a_connection_that_fails() -> None:
    with kernel.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await mantou.connect_stream(hostname="127.0.0.1", port=unused.getsockname()[1])


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


async def test_what_nobody_awaits_is_told() -> None:
    async with streaming("tcp") as (stream, _):
        stream.send(b"forgotten")
        with pytest.warns(RuntimeWarning, match="never awaited"):
            await stream.send(b"x")


@pytest.mark.parametrize("kind", ["mantou", "asyncio", "uvloop"])
def test_ctrl_c_within_an_event_leaves_the_loop(kind: str, loop_errors: Any) -> None:
    # Raised by a task that goes on where its bytes arrive, not by a callback.
    async def interrupt() -> None:
        async with streaming("tcp") as (stream, peer):

            async def receive() -> None:
                await stream.receive()
                raise KeyboardInterrupt

            tasks.append(await waits(receive()))
            await peer.send(b"x")
            await asyncio.wait(tasks)

    tasks: list[asyncio.Future[Any]] = []
    with (
        pytest.raises(KeyboardInterrupt),
        asyncio.Runner(loop_factory=LOOPS[kind]) as runner,
    ):
        runner.run(interrupt())
    assert isinstance(tasks.pop().exception(), KeyboardInterrupt)


@pytest.mark.parametrize("kind", ["mantou", "asyncio", "uvloop"])
def test_a_loop_that_ends_takes_its_streams_along(kind: str, loop_errors: Any) -> None:
    ends: list[BaseException] = []

    async def receive(stream: mantou.Stream) -> None:
        try:
            await stream.receive()
        except BaseException as error:
            ends.append(error)
            raise

    async def leave() -> None:
        server = mantou.serve_streams(receive, hostname="127.0.0.1", port=0)
        stream = await mantou.connect_stream(hostname="127.0.0.1", port=server.port)
        await others_had_their_turn()
        stream.socket.ref()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(leave())
    (end,) = ends
    assert isinstance(end, asyncio.CancelledError)


async def test_another_thread_is_told_so() -> None:
    async with streaming("tcp") as (stream, _):

        def use(operation: Any) -> None:
            operation.send(None)

        loop = asyncio.get_running_loop()
        for operation in (stream.receive(), stream.send(b"x")):
            with pytest.raises(mantou.WrongThreadError):
                await loop.run_in_executor(None, use, operation)


async def test_debug_mode_sees_each_step() -> None:
    loop = asyncio.get_running_loop()
    async with streaming("tcp") as (stream, peer):
        loop.set_debug(True)
        try:
            for size in (10, 20_000):
                task = await waits(stream.receive_exactly(size))
                await peer.send(bytes(size))
                assert await task == bytes(size)
        finally:
            loop.set_debug(False)

"""asyncio's transports: how they end, by whom, and what their protocols are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket as kernel
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LOOPS, LoopErrors
from tests.protocols import LINKS, Buffered, Events, Plain, paired, raw_pair
from tests.support import others_had_their_turn
from tests.tls_support import TlsPeer, context

pytestmark = pytest.mark.loops("mantou", "asyncio")


@contextlib.asynccontextmanager
async def secured_by_hand(factory: Any) -> AsyncIterator[tuple[Any, Any, TlsPeer]]:
    """A transport and its protocol, connected with a peer whose records the test sends."""
    ours, theirs = raw_pair()
    peer = TlsPeer(theirs, server_side=True)
    shaking = asyncio.ensure_future(peer.handshake())
    transport, protocol = await asyncio.get_running_loop().create_connection(
        factory, sock=ours, ssl=context(server_side=False), server_hostname="localhost"
    )
    await shaking
    with theirs:
        yield transport, protocol, peer


@pytest.mark.parametrize("link", LINKS)
async def test_close_sends_what_was_written_first(link: str) -> None:
    async with paired(link) as (client, server):
        client.transport.write(b"x" * 1_000_000)
        client.transport.close()
        assert client.transport.is_closing()
        assert link == "tls" or not client.transport.is_reading()
        assert client.calls[-1:] != ["lost"]
        await server.lost
        assert len(server.received) == 1_000_000
        assert server.error is None


@pytest.mark.loops("mantou")
async def test_what_is_written_while_the_peers_end_is_not_read_yet_is_sent() -> None:
    """The TLS of asyncio has read it in secret, and forgets what is written from then on."""
    async with secured_by_hand(Plain) as (transport, protocol, peer):
        transport.pause_reading()
        peer.finish()
        await others_had_their_turn()
        transport.write(b"last words")
        transport.resume_reading()
        await protocol.lost
        assert await peer.receive_until_fin() == b"last words"
    assert protocol.error is None
    assert protocol.calls == ["made", "eof", "lost"]


@pytest.mark.loops("mantou")
async def test_what_does_not_fit_into_a_buffer_is_not_lost_for_an_end_behind_it() -> None:
    """The TLS of asyncio forgets it."""
    async with secured_by_hand(Buffered) as (transport, protocol, peer):
        transport.pause_reading()
        sent = bytes(range(256)) * 20
        assert len(sent) > 2 * Buffered.size
        await peer.send(sent)
        peer.finish()
        await others_had_their_turn()
        transport.resume_reading()
        await protocol.lost
    assert protocol.received == sent
    assert protocol.error is None


@pytest.mark.parametrize("link", LINKS)
async def test_abort_drops_what_waits(link: str) -> None:
    async with paired(link) as (client, server):
        server.transport.pause_reading()
        client.transport.write(b"x" * (16 << 20))
        client.transport.abort()
        assert client.transport.is_closing()
        assert "lost" not in client.calls
        await client.lost
        assert client.error is None
        server.transport.resume_reading()
        await server.lost
        assert len(server.received) < 16 << 20


async def test_connection_lost_comes_in_a_callback_of_its_own_in_order() -> None:
    async with paired("tcp") as (client, _):
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        loop.call_soon(lambda: seen.append("before" if "lost" not in client.calls else "late"))
        client.transport.close()
        loop.call_soon(lambda: seen.append("after" if "lost" in client.calls else "early"))
        assert "lost" not in client.calls
        await asyncio.sleep(0)
        assert seen == ["before", "after"]


@pytest.mark.parametrize("link", ["tcp", "unix"])
async def test_a_side_can_finish_while_the_other_goes_on(link: str) -> None:
    async with paired(link) as (client, server):
        server.keeps_open = True
        assert client.transport.can_write_eof()
        client.transport.write(b"question")
        client.transport.write_eof()
        client.transport.write_eof()
        await server.eof
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            client.transport.write(b"more")
        server.transport.write(b"answer")
        assert await client.wait_for(6) == b"answer"
        server.transport.write_eof()
        await client.lost
        # Both sides have finished, but only close() closes.
        await asyncio.sleep(0)
        assert not server.transport.is_closing()
        server.transport.close()
        await server.lost
        assert server.calls == ["made", "data", "eof", "lost"]


async def test_tls_has_no_half_close() -> None:
    async with paired("tls") as (client, _):
        assert not client.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            client.transport.write_eof()


async def test_a_reset_is_told_as_what_it_is() -> None:
    ours, theirs = raw_pair()
    transport, protocol = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
    theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    await protocol.lost
    assert isinstance(protocol.error, ConnectionResetError)
    assert protocol.calls == ["made", "lost"]
    assert transport.is_closing()


async def test_a_write_that_fails_ends_a_connection_that_is_not_read_from() -> None:
    ours, theirs = raw_pair()
    transport, protocol = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
    transport.pause_reading()
    theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    while not transport.is_closing():
        transport.write(b"x")
        await asyncio.sleep(0)
    await protocol.lost
    assert isinstance(protocol.error, ConnectionError)


async def test_late_writes_are_ignored_and_the_sixth_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with paired("tcp") as (client, _):
        client.transport.close()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                client.transport.write(b"x")
            assert not caplog.records
            for _ in range(4):
                client.transport.write(b"x")
        assert {it.getMessage() for it in caplog.records} == {"socket.send() raised exception."}


METHODS = {
    "data_received": (Plain, b"x"),
    "get_buffer": (Buffered, b"x"),
    "buffer_updated": (Buffered, b"x"),
    "eof_received": (Plain, b""),
}


class Failed(BaseException):
    """As test frameworks have one, which no `except Exception` is to catch."""


@pytest.mark.parametrize("raised", [LookupError, Failed, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("method", METHODS)
async def test_what_a_protocol_raises_is_reported_and_ends_the_connection(
    method: str, raised: type[BaseException], loop_errors: LoopErrors
) -> None:
    base, data = METHODS[method]

    def fail(*_: object) -> None:
        raise raised("by the protocol")

    kind = type("Failing", (base,), {method: fail})
    async with paired("tcp", Plain, kind) as (client, server):
        if data:
            client.transport.write(data)
        else:
            client.transport.write_eof()
        await server.lost
        assert isinstance(server.error, raised)
        [error] = loop_errors
        loop_errors.clear()
        assert error["message"] == f"Fatal error: protocol.{method}() call failed."
        assert error["exception"] is server.error
        assert error["transport"] is server.transport
        assert error["protocol"] is server
        await client.lost


@pytest.mark.parametrize("size", [10, 1 << 20])
@pytest.mark.parametrize("method", ["data_received", "eof_received"])
async def test_a_write_that_fails_counts_before_what_is_raised_behind_it(
    method: str, size: int, loop_errors: LoopErrors
) -> None:
    def fail(protocol: Plain, *_: object) -> None:
        protocol.transport.write(b"x" * size)
        raise LookupError

    ours, theirs = kernel.socketpair()
    theirs.send(b"" if method == "eof_received" else b"something")
    theirs.close()
    failing = type("Failing", (Plain,), {method: fail})
    _, protocol = await asyncio.get_running_loop().create_connection(failing, sock=ours)
    await protocol.lost
    assert isinstance(protocol.error, BrokenPipeError)
    [error] = loop_errors
    loop_errors.clear()
    assert isinstance(error["exception"], LookupError)


async def test_a_protocol_that_cannot_take_data_is_told_when_some_comes(
    loop_errors: LoopErrors,
) -> None:
    class Deaf(Events, asyncio.BaseProtocol):
        pass

    async with paired("tcp", Plain, Deaf) as (client, server):
        assert server.calls == ["made"]
        client.transport.write(b"x")
        await server.lost
        assert isinstance(server.error, AttributeError)
        [error] = loop_errors
        loop_errors.clear()
        assert error["message"] == "Fatal error: protocol.data_received() call failed."


async def test_a_buffer_that_is_read_only_is_a_fatal_error(loop_errors: LoopErrors) -> None:
    class ReadOnly(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            return b"bytes"

    async with paired("tcp", Plain, ReadOnly) as (client, server):
        client.transport.write(b"x")
        await server.lost
        [error] = loop_errors
        loop_errors.clear()
        assert error["message"] == "Fatal read error on socket transport"
        assert error["exception"] is server.error


async def test_an_empty_buffer_is_a_fatal_error(loop_errors: LoopErrors) -> None:
    class Empty(Buffered):
        size = 0

    async with paired("tcp", Plain, Empty) as (client, server):
        client.transport.write(b"x")
        await server.lost
        assert str(server.error) == "get_buffer() returned an empty buffer"
        loop_errors.clear()


@pytest.mark.parametrize("link", LINKS)
async def test_set_protocol_takes_over_in_mid_stream(link: str) -> None:
    async with paired(link) as (client, server):
        client.transport.write(b"first")
        await server.wait_for(5)
        for kind in (Buffered, Plain, Buffered):
            other = kind()
            other.connection_made(server.transport)
            server.transport.set_protocol(other)
            assert server.transport.get_protocol() is other
            client.transport.write(b"x" * 3000)
            assert await other.wait_for(3000) == b"x" * 3000
        assert server.received == b"first"
        server.transport.set_protocol(server)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    ("offset", "count"), [(0, None), (1000, None), (10, 300_000), (10, 2**63 - 1)]
)
async def test_a_file_is_sent_between_writes(
    link: str, offset: int, count: int | None, tmp_path: Path
) -> None:
    content = os.urandom(500_000)
    path = tmp_path / "file"
    path.write_bytes(content)
    part = content[offset:][:count]
    async with paired(link) as (client, server):
        client.transport.write(b"head")
        with path.open("rb") as file:
            sent = await asyncio.get_running_loop().sendfile(client.transport, file, offset, count)
            assert sent == len(part)
            assert file.tell() == offset + sent
        client.transport.write(b"tail")
        assert await server.wait_for(len(part) + 8) == b"head" + part + b"tail"


@pytest.mark.loops("mantou")  # asyncio's transport refuses writes from then on
async def test_a_file_that_is_given_up_before_its_turn_leaves_the_transport_as_it_was(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"never sent")
    async with paired("tcp") as (client, server):
        server.transport.pause_reading()
        client.transport.write(b"x" * (16 << 20))
        loop = asyncio.get_running_loop()
        with path.open("rb") as file:
            sending = loop.create_task(loop.sendfile(client.transport, file))
            while client.transport.is_reading():
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        assert client.transport.is_reading()
        client.transport.write(b"tail")
        server.transport.resume_reading()
        assert (await server.wait_for((16 << 20) + 4))[-5:] == b"xtail"


@pytest.mark.loops("mantou")
async def test_the_loops_end_tells_no_protocol_but_warns() -> None:
    kept: list[Any] = []

    async def main() -> None:
        ours, theirs = raw_pair()
        kept.append(theirs)
        transport, protocol = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
        kept.extend([transport, protocol, ours])

    def run() -> None:
        from mantou import new_event_loop

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())

    with pytest.warns(ResourceWarning, match="unclosed transport <mantou.Transport"):
        await asyncio.to_thread(run)
    theirs, _, protocol, ours = kept
    assert protocol.calls == ["made"]
    assert ours.fileno() == -1
    assert theirs.recv(1) == b""
    theirs.close()


@pytest.mark.parametrize("kind", ["mantou", "asyncio"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_interrupts_a_protocol_leaves_the_loop_as_it_should_be(
    kind: str, error: type[BaseException]
) -> None:
    class Interrupted(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise error

    async def provoke() -> Any:
        transport, _ = await asyncio.get_running_loop().create_connection(Interrupted, sock=ours)
        theirs.send(b"x")
        # It is there when the loop looks next, which is when this coroutine is done, too.
        assert select.select([ours], [], [], 5)[0]
        return transport

    ours, theirs = raw_pair()
    with theirs, contextlib.closing(LOOPS[kind]()) as loop:
        task = loop.create_task(provoke())
        with pytest.raises(error):
            loop.run_until_complete(task)
        # What ended that run is not left for the next one.
        loop.run_until_complete(asyncio.sleep(0))
        task.result().abort()
        loop.run_until_complete(asyncio.sleep(0))

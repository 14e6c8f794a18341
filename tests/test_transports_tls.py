"""asyncio's transports over TLS, begun with the connection or by start_tls()."""

from __future__ import annotations

import asyncio
import socket as kernel
import ssl
import sys
import threading
from typing import Any

import pytest

import mantou
from mantou._transport import SocketTransport
from tests.conftest import LoopErrors
from tests.protocols import Buffered, Plain, connect, paired, raw_pair, serving
from tests.tls import authority, client_context, server_context

pytestmark = pytest.mark.loops("mantou", "asyncio")


@pytest.mark.parametrize("kind", [Plain, Buffered])
async def test_large_messages_pass_both_ways(kind: Any) -> None:
    data = bytes(range(256)) * 8192
    async with paired("tls", kind, kind) as (client, server):
        client.transport.write(data)
        server.transport.write(data)
        assert await server.wait_for(len(data)) == data
        assert await client.wait_for(len(data)) == data


async def test_a_write_of_more_records_than_one_system_call_takes() -> None:
    data = bytes(range(256)) * (80 << 10)
    async with paired("tls") as (client, server):
        client.transport.write(data)
        client.transport.close()
        await server.lost
        assert server.received == data
        assert (client.error, server.error) == (None, None)


async def test_what_a_transport_knows_of_its_session() -> None:
    async with paired("tls") as (client, server):
        info = client.transport.get_extra_info
        assert isinstance(info("ssl_object"), ssl.SSLObject)
        assert isinstance(info("sslcontext"), ssl.SSLContext)
        assert ("DNS", "localhost") in info("peercert")["subjectAltName"]
        assert info("cipher") == server.transport.get_extra_info("cipher")
        assert info("compression") is None
        assert server.transport.get_extra_info("peercert") is None
        client.transport.close()
        await client.lost
        assert info("cipher")
        assert info("peercert")


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("kind", [ssl.SSLContext, mantou.SSLContext])
async def test_a_session_is_known_beyond_its_end(kind: type[ssl.SSLContext], how: str) -> None:
    class Asking(Plain):
        def connection_lost(self, error: BaseException | None) -> None:
            names = ("ssl_object", "cipher", "peercert")
            self.known = [self.transport.get_extra_info(name) for name in names]
            super().connection_lost(error)

    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority().pem.decode())
    accepted: list[Plain] = []

    def accept() -> Plain:
        accepted.append(Plain())
        return accepted[-1]

    async with serving("tls", accept) as (_, address):
        client = await connect("tls", address, Asking, ssl=context)
        getattr(client.transport, how)()
        await client.lost
        assert all(client.known)
        assert client.known[0].getpeercert() == client.known[2]
        await asyncio.gather(*(protocol.lost for protocol in accepted))


async def test_an_untrusted_server_is_refused_on_both_sides() -> None:
    accepted: list[Plain] = []

    def accept() -> Plain:
        accepted.append(Plain())
        return accepted[-1]

    async with serving("tls", accept) as (server, address):
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await connect("tls", address, Plain, ssl=ssl.create_default_context())
        assert caught.value.verify_message
        server.close()
        await server.wait_closed()
        # It never came about.
        assert accepted[0].calls == []


async def test_a_peer_that_leaves_in_the_handshake() -> None:
    ours, theirs = raw_pair()
    loop = asyncio.get_running_loop()
    task = loop.create_task(
        loop.create_connection(Plain, sock=ours, ssl=client_context(), server_hostname="localhost")
    )
    theirs.setblocking(False)
    assert await loop.sock_recv(theirs, 1)
    theirs.shutdown(kernel.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        await task
    theirs.close()
    assert ours.fileno() == -1


async def test_a_peer_that_does_not_speak_is_given_up() -> None:
    ours, theirs = raw_pair()
    with (
        theirs,
        pytest.raises(
            ConnectionAbortedError, match=r"SSL handshake is taking longer than 0\.01 seconds"
        ),
    ):
        await asyncio.get_running_loop().create_connection(
            Plain,
            sock=ours,
            ssl=client_context(),
            server_hostname="localhost",
            ssl_handshake_timeout=0.01,
        )


@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
async def test_timeouts_must_be_positive(option: str) -> None:
    ours, theirs = raw_pair()
    with ours, theirs:
        options: dict[str, Any] = {option: 0}
        with pytest.raises(ValueError, match=f"{option} should be a positive number, got 0"):
            await asyncio.get_running_loop().create_connection(
                Plain, sock=ours, ssl=client_context(), server_hostname="localhost", **options
            )


@pytest.mark.loops("mantou")
async def test_a_context_that_no_server_can_use_costs_each_connection(
    loop_errors: LoopErrors,
) -> None:
    loop = asyncio.get_running_loop()
    async with serving("tls", Plain, ssl=client_context()) as (_, address):
        with kernel.socket() as peer:
            peer.setblocking(False)

            async def knock() -> None:
                await loop.sock_connect(peer, address)
                await loop.sock_recv(peer, 1)

            with pytest.raises(ConnectionResetError):
                await knock()
    [error] = loop_errors
    loop_errors.clear()
    assert error["message"] == "mantou: TLS could not begin"
    # The ssl module's own error: from 3.14 on it minds the missing name first.
    expected = ValueError if sys.version_info >= (3, 14) else ssl.SSLError
    assert isinstance(error["exception"], expected)


async def test_a_missing_close_notify_is_an_end_like_any_other() -> None:
    ours, theirs = raw_pair()
    loop = asyncio.get_running_loop()

    def serve() -> None:
        theirs.settimeout(10)
        with server_context().wrap_socket(theirs, server_side=True) as tls:
            tls.sendall(b"cut")
            tls.shutdown(kernel.SHUT_WR)
            while tls.recv(100):
                pass

    served = loop.run_in_executor(None, serve)
    _, protocol = await loop.create_connection(
        Plain, sock=ours, ssl=client_context(), server_hostname="localhost"
    )
    await protocol.lost
    assert protocol.calls == ["made", "data", "eof", "lost"]
    assert protocol.received == b"cut"
    assert protocol.error is None
    await asyncio.gather(served, return_exceptions=True)


@pytest.mark.parametrize("kind", [Plain, Buffered])
@pytest.mark.parametrize("link", ["tcp", "unix"])
async def test_start_tls_on_both_sides(link: str, kind: Any) -> None:
    loop = asyncio.get_running_loop()
    async with paired(link) as (client, server):
        client.transport.write(b"STARTTLS")
        await server.wait_for(8)
        inner_client, inner_server = kind(), kind()
        old = client.transport, server.transport
        accepting = loop.create_task(
            loop.start_tls(server.transport, inner_server, server_context(), server_side=True)
        )
        inner_client.transport = await loop.start_tls(
            client.transport, inner_client, client_context(), server_hostname="localhost"
        )
        inner_server.transport = await accepting
        assert inner_client.calls == inner_server.calls == []
        inner_client.transport.write(b"x" * 100_000)
        assert await inner_server.wait_for(100_000) == b"x" * 100_000
        inner_server.transport.write(b"answer")
        assert await inner_client.wait_for(6) == b"answer"
        assert inner_client.transport.get_extra_info("cipher")
        inner_client.transport.close()
        await inner_server.lost
        await inner_client.lost
        assert "lost" not in client.calls + server.calls
        client.lost, server.lost = inner_client.lost, inner_server.lost
        del old


@pytest.mark.loops("mantou")
async def test_tls_inside_tls_is_asyncios_own() -> None:
    loop = asyncio.get_running_loop()
    async with paired("tls") as (client, server):
        inner_client, inner_server = Plain(), Plain()
        accepting = loop.create_task(
            loop.start_tls(server.transport, inner_server, server_context(), server_side=True)
        )
        transport = await loop.start_tls(
            client.transport, inner_client, client_context(), server_hostname="localhost"
        )
        assert transport is not None
        assert type(transport) is not SocketTransport
        await accepting
        transport.write(b"deep")
        assert await inner_server.wait_for(4) == b"deep"
        transport.close()
        await inner_client.lost
        await inner_server.lost
        client.lost, server.lost = inner_client.lost, inner_server.lost


async def test_start_tls_gives_up_a_peer_that_does_not_speak() -> None:
    ours, theirs = raw_pair()
    loop = asyncio.get_running_loop()
    plain, _ = await loop.create_connection(Plain, sock=ours)
    with theirs, pytest.raises(ConnectionAbortedError, match=r"longer than 0\.01 seconds"):
        await loop.start_tls(
            plain,
            Plain(),
            client_context(),
            server_hostname="localhost",
            ssl_handshake_timeout=0.01,
        )
    assert plain.is_closing()
    assert ours.fileno() == -1


async def test_after_start_tls_a_peer_that_does_not_read_is_given_up() -> None:
    ours, theirs = raw_pair()
    loop = asyncio.get_running_loop()
    done = threading.Event()

    def serve() -> None:
        theirs.settimeout(10)
        with server_context().wrap_socket(theirs, server_side=True):
            assert done.wait(10)

    served = loop.run_in_executor(None, serve)
    plain, _ = await loop.create_connection(Plain, sock=ours)
    inner = Plain()
    secure = await loop.start_tls(
        plain, inner, client_context(), server_hostname="localhost", ssl_shutdown_timeout=0.01
    )
    assert secure is not None
    secure.write(b"x" * (32 << 20))
    secure.close()
    await inner.lost
    assert isinstance(inner.error, TimeoutError)
    done.set()
    await served


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_plain_transport_ends_what_start_tls_took_over(end: str) -> None:
    loop = asyncio.get_running_loop()
    async with paired("tcp") as (client, server):
        inner = {side: Plain() for side in (client, server)}
        accepting = loop.create_task(
            loop.start_tls(server.transport, inner[server], server_context(), server_side=True)
        )
        secure = await loop.start_tls(
            client.transport, inner[client], client_context(), server_hostname="localhost"
        )
        await accepting
        assert secure is not None
        assert not client.transport.is_closing()
        getattr(client.transport, end)()
        for side in (client, server):
            await inner[side].lost
            side.lost = inner[side].lost
        assert inner[client].error is None
        assert client.transport.is_closing()
        assert server.transport.is_closing()


async def test_the_plain_transport_is_closed_where_start_tls_is_given_up() -> None:
    ours, theirs = raw_pair()
    loop = asyncio.get_running_loop()
    plain, _ = await loop.create_connection(Plain, sock=ours)
    upgrade = loop.create_task(
        loop.start_tls(plain, Plain(), client_context(), server_hostname="localhost")
    )
    theirs.setblocking(False)
    with theirs:
        assert await loop.sock_recv(theirs, 1)
        upgrade.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrade
        assert plain.is_closing()
        while await loop.sock_recv(theirs, 1000):
            pass


async def test_start_tls_refuses_what_is_no_context() -> None:
    async with paired("tcp") as (client, _):
        wrong: Any = object()
        with pytest.raises(TypeError, match="sslcontext is expected to be an instance"):
            await asyncio.get_running_loop().start_tls(client.transport, client, wrong)


def test_what_callbacks_write_is_sealed_before_the_loop_stops() -> None:
    loop = mantou.EventLoop()
    asyncio.set_event_loop(loop)
    both = paired("tls")
    client, server = loop.run_until_complete(both.__aenter__())
    native = client.transport._socket
    before = native.bytes_written
    loop.call_soon(client.transport.write, b"last words")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert native.bytes_written == before + 10
    assert loop.run_until_complete(server.wait_for(10)) == b"last words"
    loop.run_until_complete(both.__aexit__(None, None, None))
    asyncio.set_event_loop(None)
    loop.close()

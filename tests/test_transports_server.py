"""asyncio's servers, and what transports tell of their sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket as kernel
import sys
from typing import Any

import pytest

import mantou
from tests.conftest import LoopErrors
from tests.protocols import LINKS, Plain, connect, paired, raw_pair, serving

pytestmark = pytest.mark.loops("mantou", "asyncio")


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
@pytest.mark.parametrize("link", LINKS)
async def test_a_server_ends_its_connections(link: str, how: str) -> None:
    async with serving(link, Plain) as (server, address):
        assert isinstance(server, asyncio.Server)
        clients = [await connect(link, address, Plain) for _ in range(3)]
        server.close()
        getattr(server, how)()
        for client in clients:
            await client.lost
        await server.wait_closed()


@pytest.mark.parametrize("link", LINKS)
async def test_wait_closed_waits_for_what_it_does_on_this_python(link: str) -> None:
    loop = asyncio.get_running_loop()
    accepted: list[Plain] = []

    def accept() -> Plain:
        accepted.append(Plain())
        return accepted[-1]

    async with serving(link, accept) as (server, address):
        early = loop.create_task(server.wait_closed())
        client = await connect(link, address, Plain)
        while not accepted:
            await asyncio.sleep(0)
        await accepted[0].made
        server.close()
        late = loop.create_task(server.wait_closed())
        await asyncio.sleep(0)
        # Whoever asked in time waits for the connection as well; so does the other since 3.12.
        assert not early.done()
        assert late.done() == (sys.version_info < (3, 12))
        client.transport.close()
        await asyncio.gather(early, late)
        assert accepted[0].lost.done()
        await client.lost
        await server.wait_closed()


async def test_a_server_that_is_to_wait_serves_nobody() -> None:
    async with serving("tcp", Plain, start_serving=False) as (server, address):
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await connect("tcp", address, Plain)
        await server.start_serving()
        assert server.is_serving()
        client = await connect("tcp", address, Plain)
        client.transport.close()
        await client.lost


async def test_serve_forever_ends_with_its_task() -> None:
    async with serving("tcp", Plain) as (server, address):
        task = asyncio.get_running_loop().create_task(server.serve_forever())
        client = await connect("tcp", address, Plain)
        client.transport.close()
        await client.lost
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await connect("tcp", address, Plain)


async def test_connections_outlive_their_server() -> None:
    accepted: list[Plain] = []

    def accept() -> Plain:
        accepted.append(Plain())
        return accepted[-1]

    async with serving("tcp", accept) as (server, address):
        client = await connect("tcp", address, Plain)
        await asyncio.sleep(0)
        while not accepted:
            await asyncio.sleep(0)
        server.close()
        client.transport.write(b"still")
        assert await accepted[0].wait_for(5) == b"still"
        client.transport.close()
        await accepted[0].lost
        await client.lost


@pytest.mark.parametrize("link", LINKS)
async def test_names_are_those_of_the_kernel_and_stay(link: str) -> None:
    async with paired(link) as (client, server):
        names = []
        for protocol in (client, server):
            info = protocol.transport.get_extra_info
            socket = info("socket")
            assert socket.fileno() > 0
            assert info("sockname") == socket.getsockname()
            assert info("peername") == socket.getpeername()
            names.append((info("sockname"), info("peername")))
        assert names[0] == names[1][::-1]
        assert client.transport.get_extra_info("no such thing") is None
        assert client.transport.get_extra_info("no such thing", 7) == 7
        client.transport.close()
        await client.lost
        if link == "tls":
            # asyncio's TLS has forgotten them.
            return
        info = client.transport.get_extra_info
        assert (info("sockname"), info("peername")) == names[0]
        assert info("socket").fileno() == -1


async def test_names_that_nobody_asked_for_in_time() -> None:
    async with paired("tcp") as (client, server):
        ours = server.transport.get_extra_info("peername")
        client.transport.close()
        await client.lost
        assert client.transport.get_extra_info("sockname") == ours


async def test_ipv6_names_have_four_parts() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Plain, "::1", 0)
    async with server:
        _, client = await loop.create_connection(Plain, "::1", server.sockets[0].getsockname()[1])
        socket = client.transport.get_extra_info("socket")
        assert client.transport.get_extra_info("peername") == socket.getpeername()
        client.transport.close()
        await client.lost


@pytest.mark.loops("mantou")
async def test_a_descriptor_in_use_names_its_transport() -> None:
    async with paired("tcp") as (client, _):
        socket = client.transport.get_extra_info("socket")
        with pytest.raises(RuntimeError, match=r"is used by transport <mantou\.Transport fd="):
            asyncio.get_running_loop().add_reader(socket.fileno(), print)


@pytest.mark.loops("mantou", "asyncio")
@pytest.mark.parametrize("name", ["remove_reader", "remove_writer"])
async def test_a_transports_descriptor_is_nobody_elses_to_unwatch(name: str) -> None:
    loop = asyncio.get_running_loop()
    async with paired("tcp") as (client, _):
        socket = client.transport.get_extra_info("socket")
        for fd in (socket, socket.fileno()):
            with pytest.raises(RuntimeError, match=r"File descriptor .* is used by transport"):
                getattr(loop, name)(fd)
        number = socket.fileno()
        client.transport.abort()
        assert getattr(loop, name)(number) is False


@pytest.mark.loops("mantou", "asyncio")
async def test_a_transports_descriptor_is_nobody_elses_to_read() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = raw_pair()
    with theirs:
        ours.setblocking(False)
        _, protocol = await loop.create_connection(Plain, sock=ours)
        for use in (loop.sock_recv(ours, 1), loop.sock_recv_into(ours, bytearray(1))):
            with pytest.raises(RuntimeError, match=r"File descriptor .* is used by transport"):
                await use
        protocol.transport.abort()
        await protocol.lost


async def test_a_transport_shows_what_it_is_doing() -> None:
    async with paired("tcp") as (client, _):
        assert "read=polling write=<idle, bufsize=0>>" in repr(client.transport)
        client.transport.pause_reading()
        assert "read=idle" in repr(client.transport)
        client.transport.close()
        assert "clos" in repr(client.transport)
        await client.lost
        assert "closed" in repr(client.transport)


def test_a_server_of_a_loop_that_was_closed_is_gone() -> None:
    loop = mantou.new_event_loop()
    server: Any = loop.run_until_complete(loop.create_server(Plain, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    server.close()
    loop.close()
    with kernel.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect(("127.0.0.1", port))


async def test_a_socket_that_is_not_connected_fails_as_asyncios_own_transport_does() -> None:
    ours = kernel.socket()
    ours.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().create_connection(Plain, sock=ours)
    assert type(transport).__module__ == "asyncio.selector_events"
    await protocol.lost
    assert protocol.calls == ["made", "lost"]
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.ENOTCONN


@pytest.mark.loops("mantou")
async def test_a_server_that_can_listen_nowhere_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(OSError, match="192\\.0\\.2\\.1") as no_such_address:
        await loop.create_server(Plain, "192.0.2.1", 0)
    assert no_such_address.value.errno == errno.EADDRNOTAVAIL

    made = 0

    def refuse(*_: Any, **__: Any) -> Any:
        nonlocal made
        made += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as short:
        short.setattr(kernel, "socket", refuse)
        for host in ("127.0.0.1", ["127.0.0.1", "::1"], None, ""):
            with pytest.raises(OSError, match=r"cannot listen on .* many open") as none_left:
                await loop.create_server(Plain, host, 0)
            assert none_left.value.errno == errno.EMFILE
    assert made


@pytest.mark.loops("mantou")
async def test_a_server_asks_again_when_a_shortage_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, refused = kernel.socket, []

    def refuse_once(*kinds: Any, **more: Any) -> Any:
        if refused:
            return make(*kinds, **more)
        refused.append(kinds)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    loop = asyncio.get_running_loop()
    with monkeypatch.context() as short:
        short.setattr(kernel, "socket", refuse_once)
        server = await loop.create_server(Plain, "127.0.0.1", 0)
    assert refused
    async with server:
        client = await connect("tcp", server.sockets[0].getsockname(), Plain)
        client.transport.close()
        await client.lost


async def test_a_shortage_of_descriptors_is_told_to_the_exception_handler(
    loop_errors: LoopErrors,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving("tcp", Plain) as (_, address):
        first = await connect("tcp", address, Plain)
        with kernel.socket() as late:
            late.setblocking(False)
            resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
            filler = []
            try:
                with contextlib.suppress(OSError):
                    while True:
                        filler.append(os.dup(late.fileno()))
                with contextlib.suppress(BlockingIOError):
                    late.connect(address)
                while not loop_errors:
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in filler:
                    os.close(fd)
        error = loop_errors[0]
        loop_errors.clear()
        assert error["message"] == "socket.accept() out of system resource"
        assert isinstance(error["exception"], OSError)
        first.transport.close()
        await first.lost


@pytest.mark.loops("mantou")
async def test_a_forked_child_does_not_close_what_is_not_its_own() -> None:
    async with paired("tcp") as (client, server):
        socket = client.transport.get_extra_info("socket")
        child = os.fork()
        if child == 0:
            os._exit(0 if socket.fileno() == -1 else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        client.transport.write(b"still")
        assert await server.wait_for(5) == b"still"

"""asyncio's transports: how they begin. What is expected is what asyncio's own loop does."""

from __future__ import annotations

import asyncio
import contextvars
import socket as kernel
import ssl
import sys
from typing import Any

import pytest

from mantou._transport import SocketTransport
from tests.conftest import LoopErrors
from tests.protocols import LINKS, Buffered, Plain, connect, paired, raw_pair, serving
from tests.tls import client_context

pytestmark = pytest.mark.loops("mantou", "asyncio")


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kind", [Plain, Buffered])
async def test_both_sides_are_told_and_bytes_pass(link: str, kind: Any) -> None:
    async with paired(link, kind, kind) as (client, server):
        client.transport.write(b"to the server")
        assert await server.wait_for(13) == b"to the server"
        server.transport.write(b"and back")
        assert await client.wait_for(8) == b"and back"
        client.transport.close()
        await server.lost
        await client.lost
        # asyncio's TLS tells of the peer's close_notify, ours has closed by then.
        assert [call for call in client.calls if call != "eof"] == ["made", "data", "lost"]
        assert server.calls == ["made", "data", "eof", "lost"]
        assert client.error is server.error is None


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("link", LINKS)
async def test_they_are_native_on_our_loop_and_asyncios_to_isinstance(link: str) -> None:
    async with paired(link) as pair:
        for protocol in pair:
            assert type(protocol.transport) is SocketTransport
            assert isinstance(protocol.transport, asyncio.Transport)


async def test_connection_made_comes_before_create_connection_returns_and_before_any_data() -> None:
    def greet() -> Plain:
        class Greeter(Plain):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"hello")

        return Greeter()

    async with serving("tcp", greet) as (_, address):
        client = await connect("tcp", address, Plain)
        assert client.calls == ["made"]
        assert await client.wait_for(5) == b"hello"
        client.transport.close()
        await client.lost


async def test_each_connection_has_a_context_of_its_own() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    class Noting(Plain):
        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())
            variable.set("changed by data_received")
            super().data_received(data)

    variable.set("of the creator")
    async with paired("tcp", Noting) as (client, server):
        variable.set("later")
        server.transport.write(b"x")
        await client.wait_for(1)
        assert variable.get() == "later"
        assert seen == ["of the creator"]


async def test_an_exception_in_connection_made_is_reported_and_the_connection_stays(
    loop_errors: LoopErrors,
) -> None:
    class Failing(Plain):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("by the protocol")

    async with paired("tcp", Failing) as (client, server):
        [error] = loop_errors
        loop_errors.clear()
        assert isinstance(error["exception"], LookupError)
        assert error["message"].startswith("Exception in callback ")
        server.transport.write(b"x")
        assert await client.wait_for(1) == b"x"


@pytest.mark.loops("mantou")  # asyncio leaves the connection to the garbage collector
async def test_a_factory_that_raises_costs_its_connection_only(loop_errors: LoopErrors) -> None:
    loop = asyncio.get_running_loop()
    protocols: list[Plain] = []

    def factory() -> Plain:
        protocols.append(Plain())
        if len(protocols) == 1:
            raise LookupError("by the factory")
        return protocols[-1]

    loop.set_debug(True)
    async with serving("tcp", factory) as (_, address):
        refused = await connect("tcp", address, Plain)
        await refused.lost
        loop.set_debug(False)
        [error] = loop_errors
        loop_errors.clear()
        assert error["message"] == "Error on transport creation for incoming connection"
        served = await connect("tcp", address, Plain)
        await protocols[1].made
        served.transport.close()
        await protocols[1].lost


async def test_a_socket_of_the_users_belongs_to_the_transport_until_it_is_closed() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = raw_pair()
    with theirs:
        ours.setblocking(False)
        transport, protocol = await loop.create_connection(Plain, sock=ours)
        assert transport.get_extra_info("socket").fileno() == ours.fileno()
        theirs.sendall(b"x")
        assert await protocol.wait_for(1) == b"x"
        transport.close()
        await protocol.lost
        assert ours.fileno() == -1


@pytest.mark.loops("mantou")
@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="asyncio closes a socket that it has no transport for"
)
async def test_a_socket_is_not_for_two_transports() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = raw_pair()
    with theirs:
        _, protocol = await loop.create_connection(Plain, sock=ours)
        for second in (
            loop.create_connection(Plain, sock=ours),
            loop.connect_accepted_socket(Plain, ours),
        ):
            with pytest.raises(RuntimeError, match="is used by transport"):
                await second
        theirs.send(b"fine")
        assert await protocol.wait_for(4) == b"fine"
        protocol.transport.abort()
        await protocol.lost


async def test_an_accepted_socket_becomes_a_server_side_transport() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = raw_pair()
    with theirs:
        transport, protocol = await loop.connect_accepted_socket(Plain, ours)
        transport.write(b"hello")
        theirs.settimeout(5)
        assert await asyncio.to_thread(theirs.recv, 5) == b"hello"
        transport.close()
        await protocol.lost


async def test_small_writes_are_not_delayed() -> None:
    async with paired("tcp") as pair:
        for protocol in pair:
            socket = protocol.transport.get_extra_info("socket")
            assert socket.getsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY)


async def test_a_cancelled_create_connection_leaves_nothing() -> None:
    ours, theirs = raw_pair()
    with theirs:
        protocols: list[Plain] = []

        def factory() -> Plain:
            protocols.append(Plain())
            return protocols[-1]

        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(factory, sock=ours))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocols[0].lost
        assert protocols[0].calls == ["made", "lost"]
        assert ours.fileno() == -1


# Several addresses


def resolve_to(patch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Has the loop find such addresses for any name."""

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        kind = (kernel.AF_INET, kernel.SOCK_STREAM, kernel.IPPROTO_TCP, "")
        return [(*kind, address) for address in addresses]

    patch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


def refusing() -> kernel.socket:
    """A bound socket that does not listen: its port is nobody else's, and refuses."""
    sock = kernel.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.loops("mantou")
@pytest.mark.parametrize(
    "options", [{}, {"happy_eyeballs_delay": 0.25}], ids=["one by one", "race"]
)
async def test_all_errors_are_told_on_every_python(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    with refusing() as one, refusing() as other:
        addresses = [one.getsockname(), other.getsockname()]
        resolve_to(monkeypatch, *addresses)
        with pytest.raises(ExceptionGroup) as caught:
            await loop.create_connection(Plain, "bun.test", 1, all_errors=True, **options)
        errors = caught.value.exceptions
        assert caught.value.message == "create_connection failed"
        assert [type(error) for error in errors] == [ConnectionRefusedError] * 2
        for error, address in zip(errors, addresses, strict=True):
            assert str(address) in str(error)
        # Without it they are one error.
        with pytest.raises(OSError, match="Multiple exceptions: ") as single:
            await loop.create_connection(Plain, "bun.test", 1, **options)
        assert all(str(error) in str(single.value) for error in errors)


@pytest.mark.loops("mantou")
async def test_all_errors_of_a_single_address_are_a_group_as_well() -> None:
    with refusing() as sock, pytest.raises(ExceptionGroup) as caught:
        await asyncio.get_running_loop().create_connection(
            Plain, *sock.getsockname(), all_errors=True
        )
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError]


@pytest.mark.loops("mantou")
async def test_all_errors_are_those_of_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    async with serving("tls", Plain) as (_, address):
        with refusing() as sock:
            resolve_to(monkeypatch, sock.getsockname(), address)
            # The first attempt failed; the second has got so far that it is about TLS.
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(
                    Plain, "bun.test", 1, ssl=ssl.create_default_context(), all_errors=True
                )
            transport, protocol = await loop.create_connection(
                Plain, "localhost", 1, ssl=client_context(), all_errors=True
            )
            transport.close()
            await protocol.lost
        resolve_to(monkeypatch)
        with pytest.raises(OSError, match="returned empty list"):
            await loop.create_connection(Plain, "bun.test", 1, all_errors=True)

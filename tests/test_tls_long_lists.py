"""Lists whose lengths have 16 or 24 bits on the wire: served, or refused when called."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import mantou
from tests.odd_certificates import BASIC_CONSTRAINTS, Odd, extension, odd
from tests.support import Recorder
from tests.tls import (
    VERSIONS,
    authority,
    client_context,
    client_credential,
    client_options,
    echo_once,
    foreign_client,
    foreign_server,
    server_context,
    server_credential,
    server_options,
)
from tests.tls_pairs import pair

versions = pytest.mark.parametrize("version", VERSIONS)


@functools.cache
def authorities(count: int) -> tuple[Odd, ...]:
    """So many authorities; 80 bytes of each would be told to clients."""
    is_ca = extension(BASIC_CONSTRAINTS, b"\x30\x03\x01\x01\xff", critical=True)
    return tuple(odd([is_ca], name=f"{i:064}", by="itself") for i in range(count))


def talk(tls: Any) -> bytes:
    tls.sendall(b"bun")
    answer: bytes = tls.recv(3)
    tls.unwrap()
    return answer


@versions
@pytest.mark.parametrize("count", [700, 1000], ids=["names that fit", "names that do not"])
async def test_a_server_may_trust_many(count: int, version: str) -> None:
    bundle = b"".join(one.cert_pem for one in authorities(count)) + authority().pem
    assert (len(authorities(count)[0].subject.public_bytes()) + 2) * count > 55_000
    server = Recorder(data=lambda socket, data: socket.write(data))
    tls = server_options(ca=bundle, request_cert=True, min_version=version, max_version=version)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=tls) as listener:
        address = ("127.0.0.1", listener.port)
        assert await foreign_client(client_context(client_credential()), address, talk) == b"bun"
        client = Recorder(open=lambda socket: socket.write(b"bun"))
        options = client_options(server_name="localhost", **client_credential().options)
        socket = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=client, tls=options
        )
        await client.until_received(3)
        socket.end()
        await client.until("close")
        assert [socket.authorized for socket in server.sockets] == [True, True]
        await server.until("close", 2)


async def test_as_many_protocols_as_are_allowed_reach_the_server() -> None:
    protocols = ["x" * 255] * 127 + ["steamed"]
    offered = client_options(alpn_protocols=protocols, server_name="localhost")
    context = server_context()
    context.set_alpn_protocols(["steamed"])
    async with foreign_server(context, echo_once) as server:
        client = Recorder()
        socket = await mantou.connect(
            hostname="127.0.0.1", port=server.port, socket=client, tls=offered
        )
        assert socket.alpn_protocol == "steamed"
        socket.write(b"bun")
        await client.until_received(3)
        socket.end()
        assert await server.result() == b"bun"
        await client.until("close")
    own = server_options(alpn_protocols=[*protocols[1:], "x"])
    async with pair(Recorder(), Recorder(), own, offered) as (_, socket):
        assert socket.alpn_protocol == "x" * 255


@pytest.mark.loops("mantou")
async def test_what_no_handshake_can_carry_is_refused_when_called() -> None:
    for options, why in [
        ({"alpn_protocols": ["x" * 255] * 129}, "'alpn_protocols'.*33024 bytes.*32768"),
        ({"cert": server_credential().cert_pem + authority().pem * 42_000}, "'cert'.*16 MiB"),
    ]:
        with pytest.raises(ValueError, match=why):
            mantou.listen(
                hostname="127.0.0.1", port=0, socket=Recorder(), tls=server_options(**options)
            )

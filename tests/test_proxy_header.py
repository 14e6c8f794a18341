"""connect() that says for whom it comes, and what can be said."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket as kernel
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.proxies import FULL, UNIX_HEADER, V1, Echo, door
from tests.support import Peer, RawListener, Recorder, every_path, listen
from tests.tls_support import CERTIFICATE, CLIENT_OPTIONS, KEY, context, secured

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = mantou.ProxyHeader(
    version=1,
    source_address="192.0.2.1",
    source_port=56324,
    destination_address="198.51.100.2",
    destination_port=443,
)


def client_options(link: str) -> dict[str, Any]:
    """What connect() is told to speak over such a link."""
    if link == "tls":
        return {"tls": CLIENT_OPTIONS}
    return {"tls": context(server_side=False)} if link == "context" else {}


# What is sent


@every_path
@pytest.mark.parametrize(
    "given, sent",
    [
        (True, SIGNATURE + b"\x20\0\0\0"),
        (LINE, V1),
        (FULL, bytes(FULL)),
        (UNIX_HEADER, bytes(UNIX_HEADER)),
        (mantou.ProxyHeader(version=1, command="LOCAL"), b"PROXY UNKNOWN\r\n"),
    ],
    ids=["True", "v1", "v2", "unix", "unknown"],
)
async def test_the_header_comes_first_and_counts_as_nothing(
    link: str, given: Any, sent: bytes, tmp_path: Path
) -> None:
    recorder = Recorder(open=lambda socket: socket.write(b"hello"))
    way: dict[str, Any] = {"hostname": "127.0.0.1"}
    if link == "unix":
        raw = RawListener(str(tmp_path / "door"), kernel.AF_UNIX)
        way = {"unix": tmp_path / "door"}
    else:
        raw = RawListener()
        way["port"] = raw.port
    with raw:
        connecting = asyncio.ensure_future(
            mantou.connect(socket=recorder, proxy_header=given, **way, **client_options(link))
        )
        peer = await raw.accept()
        # Not one byte more: what follows is TLS's.
        assert await peer.receive(len(sent)) == sent
        if link in ("tls", "context"):
            peer = await secured(peer.sock, server_side=True)
        socket = await connecting
        assert await peer.receive(5) == b"hello"
        assert socket.bytes_written == 5
        assert socket.proxy is None
        if link != "unix":
            assert socket.remote_port == raw.port
        socket.end(b"bye")
        assert await peer.receive_until_fin() == b"bye"
        assert socket.bytes_written == 8
        peer.finish()
        await recorder.until("close")
        peer.close()


async def test_a_descriptor_is_introduced_as_well() -> None:
    ours, theirs = kernel.socketpair()
    socket = await mantou.connect(fd=os.dup(ours.fileno()), socket=Recorder(), proxy_header=LINE)
    peer = Peer(theirs)
    assert await peer.receive(len(V1)) == V1
    socket.terminate()
    ours.close()
    peer.close()


async def test_without_the_option_nothing_is_said() -> None:
    recorder = Recorder()
    with RawListener() as raw:
        for options in ({}, {"proxy_header": False}):
            socket = await mantou.connect(
                hostname="127.0.0.1", port=raw.port, socket=recorder, **options
            )
            peer = await raw.accept()
            socket.end(b"!")
            assert await peer.receive_until_fin() == b"!"
            peer.finish()
            peer.close()
        await recorder.until("close", 2)


@every_path
@pytest.mark.parametrize("header", [LINE, FULL, UNIX_HEADER])
async def test_a_listener_hears_what_connect_says(
    link: str, header: mantou.ProxyHeader, tmp_path: Path
) -> None:
    server, client = Echo(), Recorder()
    async with door(server, link, tmp_path) as entrance:
        way: dict[str, Any] = (
            {"unix": entrance.listener.unix}
            if link == "unix"
            else {"hostname": "127.0.0.1", "port": entrance.listener.port}
        )
        payload = os.urandom(300_000)
        socket = await mantou.connect(
            socket=client, proxy_header=header, **way, **client_options(link)
        )
        socket.write_all(payload)
        assert await client.until_received(len(payload)) == payload
        assert server.sockets[0].proxy == header
        socket.end()
        await client.until("close")
    assert server.errors == client.errors == [None]


# On behalf of a socket


async def passed_on(server: Recorder, **options: Any) -> Any:
    """The header that a connection on behalf of the server's first socket begins with."""
    target = Recorder()
    async with door(target, "tcp") as entrance:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=entrance.listener.port, socket=Recorder(), **options
        )
        await target.until("open")
        header = target.sockets[0].proxy
        socket.end()
        await target.until("close")
    return header


async def test_a_client_is_introduced_by_its_socket() -> None:
    server = Recorder()
    with listen(server) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        await server.until("open")
        own = peer.sock.getsockname()
        expected = mantou.ProxyHeader(
            source_address=own[0],
            source_port=own[1],
            destination_address="127.0.0.1",
            destination_port=listener.port,
        )
        client = server.sockets[0]
        assert await passed_on(server, proxy_header=client) == expected
        line = mantou.ProxyHeader.of(client, version=1)
        assert bytes(line) == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (own[1], listener.port)
        peer.close()
        await server.until("close")
        # Its addresses are known after its end.
        assert mantou.ProxyHeader.of(client) == expected


async def test_what_another_proxy_has_said_is_passed_on() -> None:
    server = Recorder()
    async with door(server, "tcp") as entrance:
        for header in (FULL, UNIX_HEADER, LINE):
            peer = await entrance.enter(bytes(header))
            await server.until("open", len(server.sockets) + 1)
            passed = await passed_on(server, proxy_header=server.sockets[-1])
            assert passed == dataclasses.replace(header, version=2)
            peer.close()
        assert mantou.ProxyHeader.of(server.sockets[2], version=1) == LINE
        assert bytes(mantou.ProxyHeader.of(server.sockets[1], version=1)) == b"PROXY UNKNOWN\r\n"


async def test_a_proxy_that_spoke_for_itself_is_the_client() -> None:
    server = Recorder()
    async with door(server, "tcp") as entrance:
        peer = await entrance.enter(bytes(mantou.ProxyHeader(command="LOCAL")))
        await server.until("open")
        header = mantou.ProxyHeader.of(server.sockets[0])
        assert (header.source_address, header.source_port) == peer.sock.getsockname()
        assert header.command == "PROXY"
        peer.close()


async def test_a_unix_client_has_no_addresses(tmp_path: Path) -> None:
    server = Recorder()
    with mantou.listen(unix=tmp_path / "door", socket=server) as listener:
        peer = Peer.connect_at_once(listener.unix, kernel.AF_UNIX)
        await server.until("open")
        header = await passed_on(server, proxy_header=server.sockets[0])
        assert header.family is None
        assert header.command == "PROXY"
        peer.close()
        await server.until("close")


@pytest.mark.parametrize("link", ["tls", "context"])
@pytest.mark.parametrize("certificate", [False, True])
async def test_tls_that_ends_here_is_told_of(link: str, certificate: bool) -> None:
    server = Recorder()
    options: Any = {"tls": {"request_cert": True, "ca": CLIENT_OPTIONS["ca"]}}
    if link == "context":
        made = context(server_side=True)
        made.verify_mode = made.verify_mode.CERT_OPTIONAL
        made.load_verify_locations(cadata=CLIENT_OPTIONS["ca"])
        made.set_alpn_protocols(["echo"])
        options = {"tls": made}
    else:
        options["tls"] |= {"alpn_protocols": ["echo"], "reject_unauthorized": False}
    with listen(server, link, **options) as listener:
        tls = CLIENT_OPTIONS | {"server_name": "localhost", "alpn_protocols": ["echo"]}
        if certificate:
            tls |= {"cert": CERTIFICATE, "key": KEY}
        socket = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=Recorder(), tls=tls
        )
        await server.until("open")
        header = await passed_on(server, proxy_header=server.sockets[0])
        assert header.alpn == "echo"
        assert header.authority == "localhost"
        assert header.ssl.ssl
        assert header.ssl.version == socket.get_tls_version()
        assert header.ssl.cipher == (socket.get_cipher() or {})["name"]
        assert header.ssl.cert_conn is header.ssl.cert_sess is certificate
        assert header.ssl.verified is certificate
        assert (header.source_address, header.source_port) == ("127.0.0.1", socket.local_port)
        socket.end()
        await server.until("close")


# What cannot be said


ADDRESSES: Any = {
    "source_address": "192.0.2.1",
    "source_port": 1,
    "destination_address": "192.0.2.2",
    "destination_port": 2,
}


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"version": 3}, "got 3"),
        ({"command": "local"}, "got 'local'"),
        ({**ADDRESSES, "transport": "tcp"}, "got 'tcp'"),
        ({"source_address": "192.0.2.1", "source_port": 1}, "both ends or none"),
        ({**ADDRESSES, "destination_port": None}, "both ends or none"),
        ({"source_port": 1, "destination_port": 2}, "both ends or none"),
        ({**ADDRESSES, "source_port": 65536}, "from 0 to 65535"),
        ({**ADDRESSES, "source_port": -1}, "from 0 to 65535"),
        ({**ADDRESSES, "source_address": "localhost"}, "localhost"),
        ({**ADDRESSES, "source_address": "2001:db8::1"}, "one family"),
        (
            {**ADDRESSES, "source_address": "fe80::1%eth0", "destination_address": "::1"},
            "zone",
        ),
        ({**ADDRESSES, "transport": None}, "belong together"),
        ({**ADDRESSES, "version": 1, "alpn": "h2"}, "version 1"),
        ({**ADDRESSES, "version": 1, "crc32c": True}, "version 1"),
        ({**ADDRESSES, "version": 1, "transport": "datagram"}, "version 1"),
        ({"version": 1, "source_address": "/a", "destination_address": "/b"}, "version 1"),
        ({"source_address": "/" * 109, "destination_address": "/b"}, "108 bytes"),
        ({"unique_id": bytes(129)}, "128 bytes"),
        ({"tlvs": {0x01: b"h2"}}, "has a name"),
        ({"tlvs": {0x03: b"1234"}}, "another place"),
        ({"tlvs": {256: b""}}, "one byte"),
        ({"tlvs": {0xE0: bytes(16 * 1024)}}, "16 KiB"),
        ({"tlvs": {0xE0: bytes(1 << 16)}}, "16 KiB"),
        ({"ssl": mantou.ProxySSL(verify=-1)}, "32 bits"),
        ({"ssl": mantou.ProxySSL(verify=1 << 32)}, "32 bits"),
    ],
)
def test_what_cannot_be_said_is_a_value_error(fields: Any, words: str) -> None:
    with pytest.raises(ValueError, match="ProxyHeader") as caught:
        mantou.ProxyHeader(**fields)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {**ADDRESSES, "source_port": "1"},
        {**ADDRESSES, "source_port": True},
        {"alpn": 5},
        {"unique_id": 5},
        {"tlvs": {0xE0: 5}},
        {"tlvs": [(0xE0, b"")]},
        {"tlvs": None},
        {"ssl": True},
        {"ssl": {}},
        {"ssl": mantou.ProxySSL(verify="0")},  # type: ignore[arg-type]
        {**ADDRESSES, "source_address": 0},
        {**ADDRESSES, "source_address": True},
    ],
)
def test_what_is_of_another_type_is_a_type_error(fields: Any) -> None:
    with pytest.raises(TypeError, match="ProxyHeader"):
        mantou.ProxyHeader(**fields)


@pytest.mark.parametrize("given", ["yes", 1, b"PROXY UNKNOWN\r\n", {}])
async def test_misuse_is_named(given: Any) -> None:
    with pytest.raises(TypeError, match="proxy_header"):
        await mantou.connect(hostname="127.0.0.1", port=1, socket=Recorder(), proxy_header=given)


def test_text_that_is_no_utf_8_comes_back_as_it_was() -> None:
    header = mantou.ProxyHeader(authority=b"\xff\xfe".decode("utf-8", "surrogateescape"))
    assert b"\x02\x00\x02\xff\xfe" in bytes(header)


def test_headers_are_values() -> None:
    assert hash(FULL) == hash(dataclasses.replace(FULL))
    assert dataclasses.replace(FULL) == FULL
    assert mantou.ProxySSL(cert_conn=True, verify=20).verified is False
    assert mantou.ProxySSL().verified is False
    assert mantou.ProxySSL(cert_sess=True).verified is True
    assert (FULL.family, LINE.family, UNIX_HEADER.family) == ("IPv6", "IPv4", "unix")

"""What a socket tells of its TLS session: before, during and after it, on both ends."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from typing import Any

import pytest
import trustme
from cryptography import x509

import mantou
from tests.support import RawListener, Recorder
from tests.tls import (
    VERSIONS,
    Authority,
    HandshakeRecorder,
    authority,
    client_context,
    client_credential,
    client_options,
    echo_once,
    foreign_client,
    foreign_server,
    part,
    server_context,
    server_credential,
    server_options,
)
from tests.tls_pairs import listener_is_empty, pair
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS

versions = pytest.mark.parametrize("version", VERSIONS)


# Members in time

# What each member is before the handshake, and after the connection is gone.
IDLE: dict[str, tuple[Any, Any]] = {
    "get_authorization_error": (None, None),
    "get_cipher": (None, None),
    "get_tls_version": (None, None),
    "get_peer_certificate": ({}, None),
    "get_certificate": ({}, None),
    "get_peer_x509_certificate": (None, None),
    "get_x509_certificate": (None, None),
    "is_session_reused": (False, False),
    "get_ephemeral_key_info": (None, None),
    "get_shared_sigalgs": ([], []),
    "get_tls_finished_message": (None, None),
    "get_tls_peer_finished_message": (None, None),
    "get_tls_ticket": (None, None),
    "disable_renegotiation": (None, None),
}


def snapshot(socket: mantou.Socket[Any]) -> dict[str, Any]:
    return {name: getattr(socket, name)() for name in IDLE}


@versions
async def test_members_before_during_and_after(version: str) -> None:
    early: list[Any] = []

    def look(socket: mantou.Socket[Any]) -> None:
        early.append((snapshot(socket), socket.authorized, socket.alpn_protocol))
        assert socket.channel_binding("tls-exporter") is None
        assert socket.channel_binding("tls-server-end-point") is None
        with pytest.raises(ssl.SSLError, match="handshake is not done"):
            socket.export_keying_material(32, "EXPORTER-x")
        assert socket.write(b"too early") == 0

    server, client = HandshakeRecorder(open=look), HandshakeRecorder(open=look)
    tls = server_options(ca=authority().pem, request_cert=True, alpn_protocols=["bun"])
    mine = client_options(
        alpn_protocols=["bun", "h2"],
        min_version=version,
        max_version=version,
        server_name="localhost",
        **client_credential().options,
    )
    async with pair(server, client, tls, mine) as (accepted, connected):
        for socket in (accepted, connected):
            assert socket.authorized is True
            assert socket.alpn_protocol == "bun"
            assert socket.get_tls_version() == version
            assert socket.get_authorization_error() is None
            assert socket.get_servername() == "localhost"
            cipher = socket.get_cipher()
            assert cipher is not None
            assert cipher["version"] == version
            assert cipher == accepted.get_cipher()
            assert socket.get_shared_sigalgs() == []
            with pytest.raises(NotImplementedError, match="renegotiation"):
                socket.renegotiate()
            assert socket.disable_renegotiation() is None
        described = connected.get_peer_certificate(detailed=True)
        assert described is not None
        assert described["raw"] == server_credential().der
        assert described["issuer_certificate"] is None
        own = accepted.get_certificate()
        assert own is not None
        assert own["raw"] == server_credential().der
        theirs = accepted.get_peer_certificate()
        assert theirs is not None
        assert theirs["raw"] == client_credential().der
        assert connected.get_certificate() == theirs
        assert connected.get_x509_certificate() == client_credential().certificate
        assert accepted.get_peer_x509_certificate() == client_credential().certificate
        assert isinstance(connected.get_peer_x509_certificate(), x509.Certificate)
    assert len(early) == 2
    for before, authorized, alpn in early:
        assert before == {name: value for name, (value, _) in IDLE.items()}
        assert authorized is False
        assert alpn is None
    for socket in (accepted, connected):
        assert snapshot(socket) == {name: value for name, (_, value) in IDLE.items()}
        # Attributes keep what they were.
        assert socket.authorized is True
        assert socket.alpn_protocol == "bun"
        assert socket.get_servername() is None
        assert socket.get_session() is None
        assert socket.channel_binding("tls-exporter") is None
        assert socket.export_keying_material(32, "EXPORTER-x") is None
        assert socket.set_max_send_fragment(1024) is False


async def test_members_after_a_context_are_those_after_a_session() -> None:
    server, client = Recorder(), Recorder()
    context = server_context(server_credential())
    async with pair(server, client, context, client_context()) as both:
        for socket in both:
            assert socket.get_cipher() is not None
    for socket in both:
        assert snapshot(socket) == {name: value for name, (_, value) in IDLE.items()}
        assert socket.alpn_protocol is False
        for kind in ("tls-exporter", "tls-server-end-point", "tls-unique"):
            assert socket.channel_binding(kind) is None  # type: ignore[arg-type]
        assert socket.export_keying_material(32, "EXPORTER-x") is None


@pytest.mark.parametrize("engine", ["rustls", "ssl"])
async def test_what_only_a_beginning_can_change_does_nothing_at_the_end(engine: str) -> None:
    def change(socket: mantou.Socket[Any], *_: object) -> None:
        assert socket.set_servername("localhost") is None
        assert socket.set_verify_mode(True, True) is None

    server, client = Recorder(close=change), Recorder(close=change)
    context = None if engine == "rustls" else server_context(server_credential())
    async with pair(server, client, context) as both:
        pass
    for socket in both:
        change(socket)


async def test_a_change_that_is_refused_leaves_the_beginning_as_it_is() -> None:
    """Also that of a connection that is upgraded, which no listener knows."""
    done: list[str] = []

    def on_open(socket: mantou.Socket[Any]) -> None:
        with pytest.raises(ValueError, match="server"):
            socket.set_servername("localhost")
        socket.set_verify_mode(False, False)
        done.append("set")

    secure = HandshakeRecorder(open=on_open)
    plain = Recorder(
        data=lambda socket, data: socket.upgrade_tls(tls=SERVER_OPTIONS, socket=secure)
    )
    with mantou.listen(hostname="127.0.0.1", port=0, socket=plain) as listener:
        client = Recorder()
        raw = await mantou.connect(hostname="localhost", port=listener.port, socket=Recorder())
        raw.write(b"STARTTLS")
        await plain.until("data")
        _, socket = raw.upgrade_tls(tls=CLIENT_OPTIONS, socket=client)
        await client.until("open")
        socket.end()
        await client.until("close")
        await secure.until("close")
    assert done == ["set"]


async def test_plain_sockets_know_nothing_of_tls() -> None:
    server, client = Recorder(), Recorder()
    async with pair(server, client, False, False) as (_, connected):
        assert connected.authorized is False
        assert connected.get_cipher() is None
        assert connected.get_tls_version() is None
        assert connected.get_peer_certificate() is None
        assert connected.get_session() is None
        assert connected.is_session_reused() is False
        assert connected.export_keying_material(32, "EXPORTER-x") is None
        assert connected.channel_binding("tls-exporter") is None


@versions
async def test_a_server_sees_what_the_ssl_module_sees(version: str) -> None:
    """Certificates as dicts, the cipher, the protocol: the same as from Python's ssl."""
    seen: dict[str, Any] = {}
    recorder = Recorder(open=lambda socket: seen.update(peer=socket.get_peer_certificate()))
    intermediate = Authority("between", authority())
    credential = intermediate.issue("localhost", "127.0.0.1", "*.mantou.test")

    def look(tls: ssl.SSLSocket) -> Any:
        said = tls.getpeercert(), tls.getpeercert(binary_form=True), tls.cipher(), tls.version()
        part(tls)
        return said

    async with foreign_server(server_context(credential, VERSIONS[version]), echo_once) as server:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=server.port, socket=recorder, tls=client_options()
        )
        cipher = socket.get_cipher()
        detailed = socket.get_peer_certificate(detailed=True)
        socket.end(b"bun")
        await server.result()
        await recorder.until("close")
    with mantou.listen(
        hostname="127.0.0.1",
        port=0,
        socket=Recorder(data=lambda socket, data: socket.end(), open=lambda socket: socket.end()),
        tls=credential.options,
    ) as listener:
        context = client_context(version=VERSIONS[version])
        said, der, foreign_cipher, foreign_version = await foreign_client(
            context, ("127.0.0.1", listener.port), look
        )
        await listener_is_empty(listener)
    peer = seen["peer"]
    assert {name: peer[name] for name in said} == said
    assert peer["raw"] == der
    assert peer["fingerprint256"].replace(":", "") == hashlib.sha256(der).hexdigest().upper()
    assert cipher is not None
    assert (cipher["name"], cipher["version"]) == (foreign_cipher[0], foreign_version)
    assert detailed is not None
    assert detailed["issuer_certificate"]["subject"] == peer["issuer"]


# SNI


@pytest.mark.parametrize(
    "hostname, server_name, wire",
    [
        ("127.0.0.1", None, None),
        ("localhost", None, "localhost"),
        ("127.0.0.1", "a.mantou.test", "a.mantou.test"),
        ("127.0.0.1", "127.0.0.1", None),
        ("127.0.0.1", "::1", None),
        ("localhost", "127.0.0.1", None),
    ],
)
async def test_addresses_are_never_asked_for_by_name(
    hostname: str, server_name: str | None, wire: str | None
) -> None:
    asked: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _, name, __: asked.append(name)
    tls = client_options(reject_unauthorized=False)
    if server_name is not None:
        tls["server_name"] = server_name
    client = Recorder()
    async with foreign_server(context, echo_once) as server:
        socket = await mantou.connect(hostname=hostname, port=server.port, socket=client, tls=tls)
        assert socket.get_servername() == (server_name or hostname)
        socket.end(b"bun")
        await server.result()
        await client.until("close")
    assert asked == [wire]


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1"])
async def test_the_first_message_holds_no_address(literal: str) -> None:
    with RawListener() as raw:
        connecting = asyncio.ensure_future(
            mantou.connect(
                hostname="127.0.0.1",
                port=raw.port,
                socket=Recorder(),
                tls=client_options(server_name=literal),
            )
        )
        peer = await raw.accept()
        header = await peer.receive(5)
        hello = await peer.receive(int.from_bytes(header[3:5], "big"))
        assert literal.encode() not in hello
        assert b"mantou" not in hello
        peer.close()
        with pytest.raises(ssl.SSLEOFError):
            await connecting


async def test_a_server_learns_the_name_it_is_asked_for() -> None:
    names: list[str | None] = []
    recorder = Recorder(open=lambda socket: (names.append(socket.get_servername()), socket.end()))
    context = client_context()
    context.check_hostname = False
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=server_options()
    ) as listener:
        address = ("127.0.0.1", listener.port)
        for name in ("other.test", "127.0.0.1", None):
            await foreign_client(context, address, part, name=name)
        await listener_is_empty(listener)
    assert names == ["other.test", None, None]


async def test_the_name_can_be_set_until_the_handshake_begins() -> None:
    asked: list[str | None] = []
    context = server_context(authority().issue("xn--bcher-kva.test"))
    context.sni_callback = lambda _, name, __: asked.append(name)

    def rename(socket: mantou.Socket[Any]) -> None:
        with pytest.raises(ValueError, match="'name'"):
            socket.set_servername("not a name")
        socket.set_servername("bücher.test")

    client = HandshakeRecorder(open=rename)
    async with foreign_server(context, echo_once) as server:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=server.port, socket=client, tls=client_options()
        )
        assert socket.authorized
        with pytest.raises(ValueError, match="before the handshake"):
            socket.set_servername("late.test")
        socket.end(b"bun")
        await server.result()
        await client.until("close")
    assert asked == ["xn--bcher-kva.test"]


# Decided in `open`


class Shaking(Recorder):
    """Has a `handshake` handler, so that `open` comes before the handshake."""

    def handshake(self, socket: Any, success: bool, error: BaseException | None) -> object:
        return self._note("handshake", socket, success, error)


async def test_a_client_decides_in_open_to_accept_anybody() -> None:
    client = Shaking(open=lambda socket: socket.set_verify_mode(False, False))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), tls=SERVER_OPTIONS) as own:
        socket = await mantou.connect(
            hostname="localhost", port=own.port, socket=client, tls={"ca": stranger()}
        )
        assert not socket.authorized
        assert isinstance(client.of("handshake")[0][2], ssl.SSLCertVerificationError)
        with pytest.raises(ValueError, match="before the handshake"):
            socket.set_verify_mode(True, True)
        socket.end()


async def test_a_server_decides_in_open_to_ask_for_certificates() -> None:
    server = Shaking(open=lambda socket: socket.set_verify_mode(True, True))
    options = {**SERVER_OPTIONS, **CLIENT_OPTIONS}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=options) as listener:
        client = Recorder()
        socket = await mantou.connect(
            hostname="localhost", port=listener.port, socket=client, tls=CLIENT_OPTIONS
        )
        await server.until("close")
        await client.until("close")
        assert server.of("handshake")[0][1] is False
        assert isinstance(client.errors[0], ssl.SSLError)
        other = await mantou.connect(
            hostname="localhost", port=listener.port, socket=Recorder(), tls=options
        )
        await server.until("handshake", 2)
        assert server.of("handshake")[1] == ("handshake", True, None)
        assert server.sockets[1].authorized
        assert not socket.authorized or other.authorized
        other.end()


async def test_an_ssl_context_decides_by_itself() -> None:
    client = Shaking(open=lambda socket: socket.set_verify_mode(False, False))
    context = ssl.create_default_context(cadata=CLIENT_OPTIONS["ca"])
    with (
        mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), tls=SERVER_OPTIONS) as own,
        pytest.raises(NotImplementedError, match="verify_mode"),
    ):
        await mantou.connect(hostname="localhost", port=own.port, socket=client, tls=context)


def stranger() -> str:
    """A certificate authority that has issued nothing here."""
    return trustme.CA().cert_pem.bytes().decode()

"""What a socket tells of its TLS session: before, during and after it, on both ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import shutil
import socket as kernel
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
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
    command,
    echo_once,
    foreign_client,
    foreign_server,
    part,
    read_all,
    read_until,
    server_context,
    server_credential,
    server_options,
)
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS

versions = pytest.mark.parametrize("version", VERSIONS)
Pair = tuple[mantou.Socket[Any], mantou.Socket[Any]]


@contextlib.asynccontextmanager
async def pair(
    server: Recorder, client: Recorder, server_tls: Any = None, client_tls: Any = None
) -> AsyncIterator[Pair]:
    """Both ends of a connection, established; the accepted one first."""
    server_tls = server_options() if server_tls is None else server_tls
    client_tls = client_options() if client_tls is None else client_tls
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=server_tls) as listener:
        async with joined(listener, server, client, client_tls) as both:
            yield both


@contextlib.asynccontextmanager
async def joined(
    listener: mantou.TCPSocketListener[Any], server: Recorder, client: Recorder, client_tls: Any
) -> AsyncIterator[Pair]:
    """One more connection to a listener."""
    before = len(server.of("open"))
    socket = await mantou.connect(
        hostname="127.0.0.1", port=listener.port, socket=client, tls=client_tls
    )
    # What the client says arrives behind its handshake.
    assert socket.write(b"!") == 1
    await server.until("data", before + 1)
    accepted = server.sockets[-1]
    try:
        yield accepted, socket
    finally:
        socket.end()
        await client.until("close", len(client.of("open")))
        await server.until("close", before + 1)


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


async def listener_is_empty(listener: mantou.TCPSocketListener[Any]) -> None:
    listener.stop()
    await listener.closed()


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


# Sessions


@versions
async def test_sessions_are_resumed(version: str) -> None:
    server, client = Recorder(data=lambda socket, data: socket.write(data)), Recorder()
    tls = client_options(min_version=version, max_version=version)
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, tls=server_options()
    ) as listener:
        async with joined(listener, server, client, tls) as (accepted, first):
            await client.until_received(1)
            session = first.get_session()
            assert session is not None
            assert not first.is_session_reused()
            assert not accepted.is_session_reused()
            assert accepted.get_session() is None
        for mine in (
            tls | {"session": session},
            client_options(session=session, max_version=version),
        ):
            async with joined(listener, server, client, mine) as (accepted, again):
                assert again.is_session_reused()
                assert accepted.is_session_reused()
                assert again.authorized
                # The server's certificate is remembered along with it.
                described = again.get_peer_certificate()
                assert described is not None
                assert described["raw"] == server_credential().der
        restored = HandshakeRecorder(open=lambda socket: socket.set_session(session))
        async with joined(listener, server, restored, tls) as (accepted, third):
            assert third.is_session_reused()
            assert accepted.is_session_reused()
            with pytest.raises(ValueError, match="before the handshake"):
                third.set_session(session)


@versions
async def test_sessions_are_resumed_with_the_ssl_module(version: str) -> None:
    recorder = Recorder(data=lambda socket, data: socket.end(data))

    def talk(tls: ssl.SSLSocket) -> tuple[Any, bool | None]:
        tls.sendall(b"bun")
        read_all(tls)
        session = tls.session, tls.session_reused
        tls.unwrap()
        return session

    context = client_context(version=VERSIONS[version])
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=server_options()
    ) as listener:
        address = ("127.0.0.1", listener.port)
        session, reused = await foreign_client(context, address, talk)
        assert reused is False
        _, reused = await foreign_client(context, address, talk, session=session)
        assert reused is True
        await listener_is_empty(listener)
    # And the other way round: a server of OpenSSL's and tickets from it.
    context = server_context(version=VERSIONS[version])
    tls = client_options()
    for reused in (False, True):
        client = Recorder(open=lambda socket: socket.write_all(b"bun"))
        async with foreign_server(context, echo_and_tell) as server:
            socket = await mantou.connect(
                hostname="127.0.0.1", port=server.port, socket=client, tls=tls
            )
            await client.until_received(3)
            assert socket.is_session_reused() is reused
            tls["session"] = socket.get_session()
            socket.end()
            assert await server.result() is reused
            await client.until("close")


def echo_and_tell(tls: ssl.SSLSocket) -> bool | None:
    reused = tls.session_reused
    echo_once(tls)
    return reused


async def test_a_session_with_another_server_is_not_used() -> None:
    server, client = Recorder(data=lambda socket, data: socket.write(data)), Recorder()
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, tls=server_options()
    ) as listener:
        async with joined(listener, server, client, client_options()) as (_, first):
            await client.until_received(1)
            session = first.get_session()
        other = client_options(session=session, server_name="localhost")
        async with joined(listener, server, client, other) as (_, again):
            assert not again.is_session_reused()
        untrusting = client_options(session=session, ca=Authority("another").pem)
        with pytest.raises(ssl.SSLCertVerificationError):
            await mantou.connect(
                hostname="127.0.0.1", port=listener.port, socket=Recorder(), tls=untrusting
            )


# A listener's configuration


async def test_set_tls_is_for_new_connections() -> None:
    server = Recorder(data=lambda socket, data: socket.write(data))
    first, second = Recorder(), Recorder()
    fresh = authority().issue("127.0.0.1")
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, tls=server_options()
    ) as listener:
        old = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=first, tls=client_options()
        )
        with pytest.raises(ValueError, match="'cert'"):
            listener.set_tls({"cert": "nonsense", "key": fresh.key_pem})
        listener.set_tls(fresh.options)
        new = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=second, tls=client_options()
        )
        for socket, client, credential in [
            (old, first, server_credential()),
            (new, second, fresh),
        ]:
            described = socket.get_peer_certificate()
            assert described is not None
            assert described["raw"] == credential.der
            assert socket.write(b"bun") == 3
            assert await client.until_received(3) == b"bun"
            socket.end()
            await client.until("close")
        await listener_is_empty(listener)


# Keying material


@versions
@pytest.mark.parametrize("context", [None, b"", b"steamed"])
async def test_keying_material_is_the_same_on_both_ends(
    version: str, context: bytes | None
) -> None:
    tls = client_options(max_version=version)
    async with pair(Recorder(), Recorder(), client_tls=tls) as (accepted, connected):
        exported = connected.export_keying_material(48, "EXPORTER-mantou", context)
        assert exported is not None
        assert len(exported) == 48
        assert exported == accepted.export_keying_material(48, "EXPORTER-mantou", context)
        assert exported != connected.export_keying_material(48, "EXPORTER-other", context)
        without = connected.export_keying_material(48, "EXPORTER-mantou")
        # TLS 1.2 tells an empty context from none.
        same = context is None or (context == b"" and version == "TLSv1.3")
        assert (exported == without) is same
        for kind in ("tls-exporter", "tls-server-end-point"):
            binding = connected.channel_binding(kind)
            assert binding is not None
            assert binding == accepted.channel_binding(kind)
        digest = hashlib.sha256(server_credential().der).digest()
        assert connected.channel_binding("tls-server-end-point") == digest
        for bad in (0, -1, 255 * 32 + 1):
            with pytest.raises((ValueError, OverflowError)):
                connected.export_keying_material(bad, "EXPORTER-mantou")
        with pytest.raises(ValueError, match="tls-unique"):
            connected.channel_binding("tls-unique")


@versions
async def test_keying_material_is_that_of_openssl(version: str) -> None:
    """`openssl s_client -keymatexport`, and with the label of RFC 9266 the channel binding."""
    flag = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}[version]
    for label in ("EXPORTER-mantou", "EXPORTER-Channel-Binding"):
        recorder = Recorder()
        with mantou.listen(
            hostname="127.0.0.1", port=0, socket=recorder, tls=server_options()
        ) as listener:
            asked = ("-keymatexport", label, "-keymatexportlen", "32")
            address = f"127.0.0.1:{listener.port}"
            with command("openssl", "s_client", flag, "-connect", address, *asked) as process:
                said = await read_until(process, b"Keying material: ")
                await recorder.until("open")
                socket = recorder.sockets[0]
                found = re.search(rb"Keying material: ([0-9A-F]{64})", said)
                assert found is not None, said
                material = bytes.fromhex(found[1].decode())
                assert socket.export_keying_material(32, label) == material
                if "Binding" in label and version == "TLSv1.3":
                    assert socket.channel_binding("tls-exporter") == material
                socket.terminate()
            await listener_is_empty(listener)


_NODE = """
const tls = require("tls");
const [port, version, ca] = process.argv.slice(1);
const socket = tls.connect({port, host: "127.0.0.1", ca: Buffer.from(ca, "base64"),
                            minVersion: version, maxVersion: version,
                            ALPNProtocols: ["bun"], servername: "localhost"}, () => {
  const material = (label, ...context) =>
    socket.exportKeyingMaterial(32, label, ...context).toString("hex");
  console.log(JSON.stringify({
    authorized: socket.authorized, alpn: socket.alpnProtocol, cipher: socket.getCipher(),
    exported: material("EXPORTER-mantou", Buffer.from("steamed")),
    binding: material("EXPORTER-Channel-Binding", Buffer.alloc(0)),
  }));
  socket.end("bun");
});
"""


@versions
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_node_agrees_on_everything(version: str) -> None:
    """It exports with a context too, which `openssl s_client` cannot."""
    found: dict[str, Any] = {}

    def look(socket: mantou.Socket[Any], data: bytes) -> None:
        exported = socket.export_keying_material(32, "EXPORTER-mantou", b"steamed")
        binding = socket.channel_binding("tls-exporter")
        assert exported is not None
        assert binding is not None
        found.update(exported=exported.hex(), binding=binding.hex())
        found.update(alpn=socket.alpn_protocol, cipher=socket.get_cipher())

    recorder = Recorder(data=look)
    tls = server_options(alpn_protocols=["h2", "bun"])
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        ca = base64.b64encode(authority().pem).decode()
        asked = ("-e", _NODE, str(listener.port), version, ca)
        with command("node", *asked) as process:
            said = json.loads(await read_until(process, b"\n"))
            await recorder.until("close")
    assert recorder.received == b"bun"
    assert recorder.errors == [None]
    cipher = found.pop("cipher")
    described = {"name": "name", "standard_name": "standardName"}
    theirs = said.pop("cipher")
    assert {name: cipher[name] for name in described} == {
        name: theirs[node_name] for name, node_name in described.items()
    }
    assert said == {"authorized": True, **found}


# The key log


@versions
async def test_the_key_log_is_that_of_openssl(version: str, tmp_path: Path) -> None:
    """Line for line what OpenSSL writes down for the same connection."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    context = client_context(version=VERSIONS[version])
    context.keylog_filename = str(theirs)
    recorder = Recorder(open=lambda socket: socket.end())
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=server_options(key_log_file=ours)
    ) as listener:
        await foreign_client(context, ("127.0.0.1", listener.port), part)
        await listener_is_empty(listener)

    def lines(path: Path) -> dict[str, tuple[str, str]]:
        found = {}
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                label, random, secret = line.split(" ")
                found[label] = (random, secret)
        return found

    expected = lines(theirs)
    assert ("CLIENT_RANDOM" in expected) is (version == "TLSv1.2")
    assert len(expected) in (1, 5)
    got = lines(ours)
    assert {label: got.get(label) for label in expected} == expected


# Records


@pytest.mark.parametrize("size", [512, 1000, 16384])
async def test_records_are_as_large_as_asked_for(size: int) -> None:
    with RawListener() as raw:
        sizes: list[int] = []
        ready = asyncio.get_running_loop().run_in_executor(None, records, raw.sock.dup(), sizes)
        client = Recorder()
        socket = await mantou.connect(
            hostname="127.0.0.1", port=raw.port, socket=client, tls=client_options()
        )
        assert socket.set_max_send_fragment(size) is True
        assert socket.set_max_send_fragment(511) is False
        assert socket.set_max_send_fragment(16385) is False
        socket.end(bytes(40_000))
        assert await ready == 40_000
        await client.until("close")
    assert max(sizes) <= size + 17 + 5
    assert max(sizes) > size - 1


def records(listening: kernel.socket, sizes: list[int]) -> int:
    """Serves one client in memory, and notes how large its records are on the wire."""
    listening.settimeout(10)
    with listening:
        sock, _ = listening.accept()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server_context(version=ssl.TLSVersion.TLSv1_3).wrap_bio(
        incoming, outgoing, server_side=True
    )
    received, wire = 0, bytearray()
    with sock:
        sock.settimeout(10)
        handshaken = False
        while True:
            try:
                if not handshaken:
                    tls.do_handshake()
                    handshaken = True
                piece = tls.read(65536)
                if not piece:
                    break
                received += len(piece)
                continue
            except ssl.SSLZeroReturnError:
                break
            except ssl.SSLWantReadError:
                pass
            if outgoing.pending:
                sock.sendall(outgoing.read())
            data = sock.recv(65536)
            assert data
            incoming.write(data)
            wire += data
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        sock.sendall(outgoing.read())
    while len(wire) >= 5:
        size = 5 + int.from_bytes(wire[3:5], "big")
        if wire[0] == 23:
            sizes.append(size)
        del wire[:size]
    return received


async def test_a_listener_has_no_session_to_resume() -> None:
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=Recorder(), tls=SERVER_OPTIONS
    ) as listener:
        socket = await mantou.connect(
            hostname="localhost", port=listener.port, socket=Recorder(), tls=CLIENT_OPTIONS
        )
        with pytest.raises(ValueError, match="'session'"):
            mantou.listen(
                hostname="127.0.0.1",
                port=0,
                socket=Recorder(),
                tls={**SERVER_OPTIONS, "session": socket.get_session()},
            )
        socket.end()


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

"""An `ssl.SSLContext` as `tls`: the same behaviour, driven by OpenSSL."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import sys
import tracemalloc
from typing import Any

import pytest
import trustme

import mantou
from tests.support import Peer, Recorder
from tests.tls import HandshakeRecorder

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost", "127.0.0.1")
PEM = b"".join(blob.bytes() for blob in CERTIFICATE.cert_chain_pems)
NATIVE = {"cert": PEM, "key": CERTIFICATE.private_key_pem.bytes()}
TRUST = {"ca": AUTHORITY.cert_pem.bytes()}
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def server_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = version
    CERTIFICATE.configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def listen(recorder: Recorder, **options: Any) -> Any:
    options = {"tls": server_context(), **options}
    return mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, **options)


async def connect(listener: Any, recorder: Recorder, **options: Any) -> mantou.Socket[Any]:
    options = {"tls": client_context(), **options}
    return await mantou.connect(
        hostname="localhost", port=listener.port, socket=recorder, **options
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client_tls", [client_context(), TRUST], ids=["context", "native"])
async def test_both_drivers_understand_each_other(version: ssl.TLSVersion, client_tls: Any) -> None:
    server = Recorder(data=lambda socket, data: socket.write(data), end=lambda s: s.end("bye"))
    client = Recorder()
    with listen(server, tls=server_context(version)) as listener:
        socket = await connect(listener, client, tls=client_tls)
        assert socket.authorized
        assert socket.get_tls_version() == version.name.replace("_", ".")
        assert socket.get_peer_certificate()["subjectAltName"][0] == ("DNS", "localhost")
        assert socket.write("hello") == 5
        await client.until_received(5)
        socket.end()
        await client.until("close")
        await server.until("close")
    # The answer came after the client's close_notify: half-closed, and read to the end.
    assert client.received == b"hellobye"
    assert client.names == ["open", "data", "end", "close"]
    assert server.names == ["open", "data", "end", "close"]
    assert client.errors == server.errors == [None]


@pytest.mark.parametrize("client_tls", [client_context(), TRUST], ids=["context", "native"])
async def test_a_large_transfer_waits_for_the_reader(client_tls: Any) -> None:
    size = 24 * 1024 * 1024
    server = Recorder()
    rest = [memoryview(bytes(range(256)) * (size // 256))]

    def go_on(socket: mantou.Socket[Any]) -> None:
        while rest[0]:
            taken = socket.write(rest[0])
            rest[0] = rest[0][taken:]
            if taken == 0:
                return
        socket.end()

    client = Recorder(open=go_on, drain=go_on)
    with listen(server) as listener:
        await connect(listener, client, tls=client_tls)
        await client.until("close")
    assert client.of("drain")
    assert bytes(server.received) == bytes(range(256)) * (size // 256)


async def test_a_server_that_cannot_be_verified_is_refused() -> None:
    server, client = Recorder(), Recorder()
    with listen(server) as listener:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await connect(listener, client, tls=ssl.create_default_context())
        await server.until("connect_error")
    assert client.events == [("connect_error", caught.value)]
    assert isinstance(server.events[0][1], ssl.SSLError)
    assert server.names == ["connect_error"]


async def test_a_name_that_does_not_fit_is_refused() -> None:
    elsewhere = AUTHORITY.issue_cert("elsewhere.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    elsewhere.configure_cert(context)
    server, client = Recorder(), Recorder()
    with listen(server, tls=context) as listener:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await connect(listener, client)
        await server.until("connect_error")


async def test_a_handshake_handler_comes_between_open_and_data() -> None:
    class Shaking(Recorder):
        def handshake(
            self, socket: mantou.Socket[Any], success: bool, error: BaseException | None
        ) -> None:
            self._note("handshake", socket, success, error)

    server = Shaking()
    client = Shaking(open=lambda socket: socket.write_all("held until then"))
    with listen(server) as listener:
        socket = await connect(listener, client)
        await server.until_received(15)
        socket.end()
        await client.until("close")
    assert client.names[:2] == server.names[:2] == ["open", "handshake"]
    assert client.of("handshake") == server.of("handshake") == [("handshake", True, None)]


async def test_what_is_cut_off_is_no_clean_end() -> None:
    server = Recorder()
    with listen(server) as listener:
        peer = await Peer.connect(("127.0.0.1", listener.port))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                await peer.send(outgoing.read())
                incoming.write(await peer.receive_some())
        await peer.send(outgoing.read())
        await server.until("open")
        peer.finish()
        await server.until("close")
        peer.close()
    assert isinstance(server.errors[0], ssl.SSLEOFError)


async def test_garbage_is_a_clear_error() -> None:
    server = Recorder()
    with listen(server) as listener:
        peer = await Peer.connect(("127.0.0.1", listener.port))
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await peer.receive_until_fin()
        peer.close()
        _, error = await server.until("connect_error")
    assert isinstance(error, ssl.SSLError)


async def test_a_callback_of_the_context_that_raises_breaks_its_connection_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The ssl module itself reports what its callbacks raise.
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))

    def refuse(*_: object) -> None:
        raise RuntimeError("no such name")

    context = server_context()
    context.sni_callback = refuse
    server = Recorder()
    with listen(server, tls=context) as listener:
        with pytest.raises(ssl.SSLError):
            await connect(listener, Recorder())
        await server.until("connect_error")
        context.sni_callback = None
        socket = await connect(listener, Recorder())
        socket.end()
        await server.until("close")
    assert reported == [RuntimeError]


async def test_open_connections_keep_their_context_when_the_listener_gets_another() -> None:
    server, client = Recorder(data=lambda socket, data: socket.write(data)), Recorder()
    with listen(server) as listener:
        first = await connect(listener, client)
        listener.set_tls(NATIVE)
        second = await connect(listener, Recorder())
        first.write("still there")
        await client.until_received(11)
        first.end()
        second.end()
        await server.until("close", 2)


async def test_a_plain_connection_is_upgraded_with_contexts() -> None:
    secure_server = Recorder(data=lambda socket, data: socket.end(data))
    secure_client = Recorder(open=lambda socket: socket.write("over TLS"))

    def start_tls(socket: mantou.Socket[Any], data: bytes) -> None:
        assert data == b"STARTTLS\n"
        socket.write("go\n")
        socket.upgrade_tls(tls=server_context(), socket=secure_server)

    def go(socket: mantou.Socket[Any], data: bytes) -> None:
        assert data == b"go\n"
        socket.upgrade_tls(tls=client_context(), socket=secure_client)

    server, client = Recorder(data=start_tls), Recorder(data=go)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server) as listener:
        socket = await mantou.connect(hostname="localhost", port=listener.port, socket=client)
        socket.write("STARTTLS\n")
        await secure_client.until("close")
        await secure_server.until("close")
    assert secure_client.received == b"over TLS"
    assert client.names == ["open", "data", "close"]
    assert secure_client.names == ["open", "data", "end", "close"]


async def test_what_speaks_tls_already_is_not_upgraded() -> None:
    with listen(Recorder()) as listener:
        socket = await connect(listener, Recorder())
        with pytest.raises(ValueError, match="TLS already"):
            socket.upgrade_tls(tls=client_context(), socket=Recorder())


async def hello(name: str | None) -> bytes:
    """What a client of OpenSSL says first."""
    context = client_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records(handshake: bytes, size: int) -> bytes:
    """The same handshake message in records of this size."""
    message = handshake[5:]
    pieces = [message[i : i + size] for i in range(0, len(message), size)]
    return b"".join(handshake[:3] + len(one).to_bytes(2, "big") + one for one in pieces)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_knows_which_name_was_asked_for(version: ssl.TLSVersion) -> None:
    context = server_context(version)
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    server = Recorder()
    with listen(server, tls=context) as listener:
        for host in ("localhost", "127.0.0.1"):
            client = Recorder()
            socket = await mantou.connect(
                hostname=host, port=listener.port, socket=client, tls=client_context()
            )
            socket.end()
            await client.until("close")
        await server.until("close", 2)
    assert [socket.get_servername() for socket in server.sockets] == asked == ["localhost", None]


@pytest.mark.parametrize("size", [1, 50, 16_384])
async def test_the_name_is_found_however_it_comes(size: int) -> None:
    server = HandshakeRecorder()
    with listen(server) as listener:
        peer = await Peer.connect(("127.0.0.1", listener.port))
        wire = in_records(await hello("steamed.test"), size)
        await peer.send(wire[:77])
        await server.until("open")
        assert server.sockets[0].get_servername() is None
        await peer.send(wire[77:])
        # The server's answer: it has understood.
        assert (await peer.receive_some())[0] == 22
        assert server.sockets[0].get_servername() == "steamed.test"
        peer.close()
        await server.until("close")


async def test_the_name_is_found_in_what_was_read_before() -> None:
    secure = Recorder(data=lambda socket, data: socket.end(data))

    def upgrade(socket: mantou.Socket[Any], data: bytes) -> None:
        socket.upgrade_tls(tls=server_context(), socket=secure, initial=data)

    client = Recorder(open=lambda socket: socket.write("over TLS"))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(data=upgrade)) as listener:
        await connect(listener, client)
        await client.until("close")
        await secure.until("close")
    assert client.received == b"over TLS"
    assert secure.sockets[0].get_servername() == "localhost"


async def test_what_is_no_client_hello_asks_for_nothing() -> None:
    good = await hello("steamed.test")
    too_short = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
    another = b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"
    for wire in (too_short, another, good[:5] + good[6:]):
        server = HandshakeRecorder()
        with listen(server) as listener:
            peer = await Peer.connect(("127.0.0.1", listener.port))
            await peer.send(wire + bytes(100))
            await server.until("close")
            assert server.sockets[0].get_servername() is None
            peer.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("request_cert", [False, True])
async def test_both_sides_have_the_same_end_point(
    version: ssl.TLSVersion, request_cert: bool
) -> None:
    context = server_context(version)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL if request_cert else ssl.CERT_NONE
    der = ssl.PEM_cert_to_DER_cert(CERTIFICATE.cert_chain_pems[0].bytes().decode())
    server, client, native = Recorder(), Recorder(), Recorder()
    with listen(server, tls=context) as listener:
        for recorder, tls in ((client, client_context()), (native, TRUST)):
            socket = await connect(listener, recorder, tls=tls)
            binding = socket.channel_binding("tls-server-end-point")
            assert binding == hashlib.sha256(der).digest()
            await server.until("open", 1 + (recorder is native))
            accepted = server.sockets[-1]
            assert accepted.channel_binding("tls-server-end-point") == binding
            assert accepted.get_certificate()["raw"] == der
            socket.end()
            await recorder.until("close")
        await server.until("close", 2)


async def test_what_the_ssl_module_does_not_tell_is_said_with_the_way_out() -> None:
    context = server_context()
    # A second certificate, for those who cannot do with the first.
    AUTHORITY.issue_cert("localhost", key_type=trustme.KeyType.RSA).configure_cert(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    server, client = Recorder(), Recorder()
    with listen(server, tls=context) as listener:
        socket = await connect(listener, client)
        await server.until("open")
        for each in (socket, server.sockets[0]):
            with pytest.raises(NotImplementedError, match=r"TLSOptions as 'tls'"):
                each.export_keying_material(32, "EXPORTER-mantou")
            with pytest.raises(NotImplementedError, match=r"tls-exporter.*TLSOptions as 'tls'"):
                each.channel_binding("tls-exporter")
            with pytest.raises(ValueError, match="tls-steamed"):
                each.channel_binding("tls-steamed")  # type: ignore[arg-type]
        with pytest.raises(NotImplementedError, match=r"which of .* TLSOptions as 'tls'"):
            server.sockets[0].channel_binding("tls-server-end-point")
        assert server.sockets[0].get_certificate() == {}
        assert socket.channel_binding("tls-server-end-point") is not None
        socket.end()
        await client.until("close")
        await server.until("close")


@pytest.mark.parametrize("size", [64, 16_384])
async def test_messages_take_no_more_memory_than_they_need(size: int) -> None:
    missing, arrived = 0, asyncio.Event()

    def count(socket: mantou.Socket[Any], data: bytes) -> None:
        nonlocal missing
        missing -= len(data)
        if missing == 0:
            arrived.set()

    async def there_and_back(socket: mantou.Socket[Any]) -> None:
        nonlocal missing
        missing = size
        arrived.clear()
        socket.write(bytes(size))
        await arrived.wait()

    echo = {"data": lambda socket, data: socket.write(data)}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=echo, tls=server_context()) as listener:
        socket = await mantou.connect(
            hostname="localhost", port=listener.port, socket={"data": count}, tls=client_context()
        )
        await there_and_back(socket)
        tracemalloc.start()
        try:
            for _ in range(10):
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                await there_and_back(socket)
                _, peak = tracemalloc.get_traced_memory()
                # Copies on their way, and no buffers of a size of their own.
                assert peak - before < 128 * 1024
        finally:
            tracemalloc.stop()
            socket.terminate()
        listener.stop()
        await listener.closed()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the ssl module has no chains")
async def test_the_chain_of_the_peer_is_known() -> None:
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Of a chain, what the peer shows: the root is not part of that.
    AUTHORITY.create_child_ca().issue_cert("localhost").configure_cert(shown)
    with listen(Recorder(), tls=shown) as listener:
        client = Recorder()
        socket = await connect(listener, client)
        described = socket.get_peer_certificate(detailed=True)
        assert described["issuer_certificate"]["subject"] == described["issuer"]
        socket.end()
        await client.until("close")


@pytest.mark.parametrize(
    ("function", "context"),
    [
        (mantou.listen, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
        (mantou.connect, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
    ],
)
async def test_a_context_for_the_other_side_is_refused(
    function: Any, context: ssl.SSLContext
) -> None:
    async def call() -> None:
        await function(hostname="127.0.0.1", port=1, socket=Recorder(), tls=context)

    with pytest.raises(ValueError, match="'tls'"):
        await call()

"""Who is let in and who is refused, on both sides, and what the handlers get to know of it."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import mantou
from tests.support import Recorder
from tests.tls import (
    CLIENT_AUTH,
    EXPIRED,
    NOT_YET_VALID,
    SERVER_AUTH,
    VERSIONS,
    Authority,
    Credential,
    HandshakeRecorder,
    authority,
    client_context,
    client_credential,
    client_options,
    foreign_client,
    foreign_server,
    part,
    read,
    read_all,
    self_signed,
    server_context,
    server_credential,
    server_options,
    stranger,
)

OF_ONE = "checked against the 1 certificate of ca"


@functools.cache
def intermediate() -> Authority:
    return Authority("mantou test intermediate", authority())


@functools.cache
def revoked() -> Credential:
    return authority().issue("localhost")


@dataclass(frozen=True)
class Case:
    """A certificate and what is wrong with it."""

    make: Callable[[], Credential]
    code: int = 0
    """OpenSSL's number for the failure; 0 for none."""
    words: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    """What the verifying side is told besides `ca`."""
    with_crl: bool = False

    def verifier_options(self, **more: Any) -> dict[str, Any]:
        crl = {"crl": authority().revoke(revoked())} if self.with_crl else {}
        return self.options | crl | more


LOCALHOST = {"server_name": "localhost"}
MISMATCH = "mismatch, certificate is not valid for"

SERVERS: dict[str, Case] = {
    "valid": Case(server_credential, options=LOCALHOST),
    "self-signed": Case(lambda: self_signed("localhost"), 18, "self-signed", LOCALHOST),
    "unknown CA": Case(
        lambda: stranger().issue("localhost"), 20, "unable to get local issuer", LOCALHOST
    ),
    "unknown CA in the chain": Case(
        lambda: Credential(
            (made := stranger().issue("localhost")).certificate, made.key, (stranger().certificate,)
        ),
        19,
        "self-signed certificate in certificate chain",
        LOCALHOST,
    ),
    "with intermediate": Case(lambda: intermediate().issue("localhost"), options=LOCALHOST),
    "missing intermediate": Case(
        lambda: intermediate().issue("localhost").alone(),
        20,
        "unable to get local issuer",
        LOCALHOST,
    ),
    "expired": Case(
        lambda: authority().issue("localhost", validity=EXPIRED), 10, "expired", LOCALHOST
    ),
    "not yet valid": Case(
        lambda: authority().issue("localhost", validity=NOT_YET_VALID),
        9,
        "not yet valid",
        LOCALHOST,
    ),
    "wrong name": Case(
        lambda: authority().issue("other.test"), 62, f"Hostname {MISMATCH} 'localhost'", LOCALHOST
    ),
    "right address": Case(lambda: authority().issue("127.0.0.1")),
    "wrong address": Case(
        lambda: authority().issue("127.0.0.2"), 64, f"IP address {MISMATCH} '127.0.0.1'"
    ),
    "address as a name only": Case(
        lambda: authority().issue("localhost"), 64, f"IP address {MISMATCH} '127.0.0.1'"
    ),
    "wrong key usage": Case(
        lambda: authority().issue("localhost", usage=CLIENT_AUTH), 26, "purpose", LOCALHOST
    ),
    "right key usage": Case(
        lambda: authority().issue("localhost", usage=SERVER_AUTH), options=LOCALHOST
    ),
    "revoked": Case(revoked, 23, "certificate revoked", LOCALHOST, with_crl=True),
    "not revoked": Case(server_credential, options=LOCALHOST, with_crl=True),
    "wildcard": Case(
        lambda: authority().issue("*.mantou.test"), options={"server_name": "a.mantou.test"}
    ),
    "wildcard, two labels": Case(
        lambda: authority().issue("*.mantou.test"),
        62,
        "Hostname mismatch",
        {"server_name": "a.b.mantou.test"},
    ),
    "wildcard, no label": Case(
        lambda: authority().issue("*.mantou.test"),
        62,
        "Hostname mismatch",
        {"server_name": "mantou.test"},
    ),
    "no SAN": Case(
        lambda: authority().issue(common_name="localhost"), 62, "Hostname mismatch", LOCALHOST
    ),
}

CLIENTS: dict[str, Case] = {
    "valid": Case(client_credential),
    "without usage": Case(lambda: authority().issue("localhost")),
    "self-signed": Case(lambda: self_signed("me"), 18, "self-signed"),
    "unknown CA": Case(lambda: stranger().issue("me"), 20, "unable to get local issuer"),
    "with intermediate": Case(lambda: intermediate().issue("me")),
    "missing intermediate": Case(lambda: intermediate().issue("me").alone(), 20, "unable to get"),
    "expired": Case(lambda: authority().issue("me", validity=EXPIRED), 10, "expired"),
    "not yet valid": Case(
        lambda: authority().issue("me", validity=NOT_YET_VALID), 9, "not yet valid"
    ),
    "wrong key usage": Case(lambda: authority().issue("me", usage=SERVER_AUTH), 26, "purpose"),
    "revoked": Case(revoked, 23, "certificate revoked", with_crl=True),
}

strictness = pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
handlers = pytest.mark.parametrize(
    "make_recorder", [Recorder, HandshakeRecorder], ids=["plain", "handshake"]
)
versions = pytest.mark.parametrize("version", VERSIONS)


def check(error: object, case: Case, store: str = OF_ONE) -> None:
    """The error is that of the case, and says so."""
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == case.code
    assert case.words in error.verify_message
    assert store in error.verify_message
    assert error.verify_message in str(error)
    assert error.reason == "CERTIFICATE_VERIFY_FAILED"


def ping(tls: ssl.SSLSocket) -> bytes:
    """A server that speaks first, and gets an answer."""
    tls.sendall(b"steamed")
    answer = read(tls, 3)
    part(tls)
    return answer


@pytest.mark.loops("mantou")
@versions
@handlers
@strictness
@pytest.mark.parametrize("name", SERVERS)
async def test_a_client_judges_servers(
    name: str, strict: bool, make_recorder: type[Recorder], version: str
) -> None:
    case = SERVERS[name]
    # Accepted in `open` already, where that comes first: nobody must get it but a good server.
    recorder = make_recorder(open=lambda socket: socket.write_all(b"bun"))
    with_handshake = make_recorder is HandshakeRecorder
    context = server_context(case.make(), VERSIONS[version])
    async with foreign_server(context, ping) as server:
        connecting = mantou.connect(
            hostname="127.0.0.1",
            port=server.port,
            socket=recorder,
            tls=client_options(**case.verifier_options(reject_unauthorized=strict)),
        )
        if case.code and strict:
            with pytest.raises(ssl.SSLCertVerificationError) as raised:
                await connecting
            check(raised.value, case)
            if with_handshake:
                assert recorder.events == [
                    ("open",),
                    ("handshake", False, raised.value),
                    ("close", raised.value),
                ]
            else:
                assert recorder.events == [("connect_error", raised.value)]
            assert recorder.sockets[0].authorized is False
            assert recorder.sockets[0].ready_state != mantou.ReadyState.ESTABLISHED
            refusal = await server.failure()
            assert isinstance(refusal, ssl.SSLError)
            assert refusal.reason is not None
            assert "ALERT" in refusal.reason
        else:
            socket = await connecting
            assert socket.authorized is not bool(case.code)
            error = socket.get_authorization_error()
            if case.code:
                check(error, case)
            else:
                assert error is None
            await recorder.until_received(7)
            assert recorder.received == b"steamed"
            socket.end()
            assert await server.result() == b"bun"
            await recorder.until("close")
            assert (
                recorder.names[: 1 + with_handshake] == ["open", "handshake"][: 1 + with_handshake]
            )
            assert recorder.names.count("open") == 1
            for _, success, reported in recorder.of("handshake"):
                assert success is True
                assert (reported is None) is not bool(case.code)
                if case.code:
                    check(reported, case)
            assert recorder.errors == [None]


def pong(tls: ssl.SSLSocket) -> bytes:
    """A client that speaks first, and reads what it gets."""
    tls.sendall(b"steamed")
    answer = read(tls, 3)
    tls.unwrap()
    return answer


@pytest.mark.loops("mantou")
@versions
@handlers
@strictness
@pytest.mark.parametrize("name", [*CLIENTS, "none"])
async def test_a_server_judges_clients(
    name: str, strict: bool, make_recorder: type[Recorder], version: str
) -> None:
    case = CLIENTS.get(name, Case(client_credential, 1, "did not return a certificate"))
    credential = None if name == "none" else case.make()
    recorder = make_recorder(open=lambda socket: socket.write_all(b"bun"))
    with_handshake = make_recorder is HandshakeRecorder
    options = case.verifier_options(
        ca=authority().pem, request_cert=True, reject_unauthorized=strict
    )
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=server_options(**options)
    ) as listener:
        context = client_context(credential, VERSIONS[version])
        address = ("127.0.0.1", listener.port)
        talking = foreign_client(context, address, pong)
        if case.code and strict:
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
                await talking
            if with_handshake:
                await recorder.until("close")
                error = recorder.errors[0]
                assert recorder.events == [
                    ("open",),
                    ("handshake", False, error),
                    ("close", error),
                ]
            else:
                _, error = await recorder.until("connect_error")
                assert recorder.names == ["connect_error"]
            check(error, case)
            assert recorder.sockets[0].authorized is False
            assert recorder.sockets[0].bytes_read == 0
        else:
            assert await talking == b"bun"
            await recorder.until("close")
            assert recorder.received == b"steamed"
            assert (
                recorder.names[: 1 + with_handshake] == ["open", "handshake"][: 1 + with_handshake]
            )
            assert recorder.names.count("open") == 1
            socket = recorder.sockets[0]
            assert socket.authorized is not bool(case.code)
            for _, success, reported in recorder.of("handshake"):
                assert success is True
                assert (reported is None) is not bool(case.code)
                if case.code:
                    check(reported, case)
            assert recorder.errors == [None]


@versions
async def test_a_server_that_asks_for_no_certificate_authorizes_nobody(version: str) -> None:
    recorder = HandshakeRecorder(open=lambda socket: socket.write_all(b"bun"))
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=server_options()
    ) as listener:
        context = client_context(client_credential(), VERSIONS[version])
        assert await foreign_client(context, ("127.0.0.1", listener.port), pong) == b"bun"
        await recorder.until("close")
    assert recorder.of("handshake") == [("handshake", True, None)]
    socket = recorder.sockets[0]
    assert socket.authorized is False
    assert socket.get_authorization_error() is None


@versions
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_refused_server_does_not_get_our_certificate(version: str, trusted: bool) -> None:
    context = server_context(None if trusted else self_signed("localhost"), VERSIONS[version])
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority().pem.decode())

    def subject(tls: ssl.SSLSocket) -> bool:
        return bool(tls.getpeercert())

    async with foreign_server(context, subject) as server:
        connecting = mantou.connect(
            hostname="127.0.0.1",
            port=server.port,
            socket=Recorder(),
            tls=client_options(server_name="localhost", **client_credential().options),
        )
        if trusted:
            socket = await connecting
            assert await server.result() is True
            socket.terminate()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connecting
            await server.failure()
    # With the right server it is seen: so it would be with the wrong one.
    assert (("read", "CERTIFICATE") in server.messages) is trusted
    assert ("write", "CERTIFICATE_REQUEST") in server.messages


@versions
@handlers
async def test_tls_13_tells_a_client_late_that_it_is_refused(
    version: str, make_recorder: type[Recorder]
) -> None:
    recorder = make_recorder()
    context = server_context(version=VERSIONS[version])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority().pem.decode())
    async with foreign_server(context, read_all) as server:
        connecting = mantou.connect(
            hostname="127.0.0.1", port=server.port, socket=recorder, tls=client_options()
        )
        if version == "TLSv1.2":
            with pytest.raises(ssl.SSLError, match=r"(?i)alert handshake failure") as raised:
                await connecting
            assert not isinstance(raised.value, ssl.SSLCertVerificationError)
            last = "close" if make_recorder is HandshakeRecorder else "connect_error"
            assert recorder.events[-1] == (last, raised.value)
        else:
            # Its side of the handshake was done before the server looked.
            await connecting
            _, error = await recorder.until("close")
            assert isinstance(error, ssl.SSLError)
            assert error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
            shaken = [("handshake", True, None)] * (make_recorder is HandshakeRecorder)
            assert recorder.events == [("open",), *shaken, ("error", error), ("close", error)]
        assert isinstance(await server.failure(), ssl.SSLError)


async def test_without_ca_the_store_of_the_system_counts(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.pem"
    store.write_bytes(authority().pem)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    async with foreign_server(server_context(), ping) as server:
        recorder = Recorder(open=lambda socket: socket.write_all(b"bun"))
        socket = await mantou.connect(
            hostname="127.0.0.1", port=server.port, socket=recorder, tls=True
        )
        assert socket.authorized
        await recorder.until_received(7)
        socket.end()
        assert await server.result() == b"bun"
        await recorder.until("close")
    store.write_bytes(stranger().pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "." / ".." / tmp_path.name / "store.pem"))
    for tls in (True, {}):
        async with foreign_server(server_context(), ping) as server:
            with pytest.raises(ssl.SSLCertVerificationError) as raised:
                await mantou.connect(
                    hostname="127.0.0.1", port=server.port, socket=Recorder(), tls=tls
                )
        assert raised.value.verify_code == 20
        assert "the system's trust store, 1 certificate" in raised.value.verify_message


async def test_the_name_checked_is_the_hostname() -> None:
    credential = authority().issue("localhost")
    recorder = Recorder(open=lambda socket: socket.write_all(b"bun"))
    async with foreign_server(server_context(credential), ping) as server:
        socket = await mantou.connect(
            hostname="localhost", port=server.port, socket=recorder, tls=client_options()
        )
        await recorder.until_received(7)
        socket.end()
        assert await server.result() == b"bun"
        await recorder.until("close")


async def test_a_self_signed_certificate_can_be_trusted_itself() -> None:
    mine = self_signed("localhost")
    for name, code in [("localhost", 0), ("other.test", 62)]:
        recorder = Recorder(open=lambda socket: socket.write_all(b"bun"))
        async with foreign_server(server_context(mine), ping) as server:
            connecting = mantou.connect(
                hostname="127.0.0.1",
                port=server.port,
                socket=recorder,
                tls={"ca": mine.cert_pem, "server_name": name},
            )
            if code:
                with pytest.raises(ssl.SSLCertVerificationError) as raised:
                    await connecting
                assert raised.value.verify_code == code
            else:
                socket = await connecting
                await recorder.until_received(7)
                socket.end()
                assert await server.result() == b"bun"
                await recorder.until("close")


@pytest.mark.parametrize(
    "make_crl, code",
    [
        (lambda: stranger().revoke(), 3),
        (lambda: authority().revoke(validity=EXPIRED), 12),
    ],
    ids=["of another CA", "expired"],
)
async def test_without_a_fitting_revocation_list_nobody_is_trusted(
    make_crl: Callable[[], bytes], code: int
) -> None:
    tls = client_options(server_name="localhost", crl=make_crl())
    async with foreign_server(server_context(), ping) as server:
        with pytest.raises(ssl.SSLCertVerificationError) as raised:
            await mantou.connect(hostname="127.0.0.1", port=server.port, socket=Recorder(), tls=tls)
    assert raised.value.verify_code == code
    assert "CRL" in raised.value.verify_message


async def test_many_refused_clients_leave_a_server_as_it_was() -> None:
    recorder = Recorder()
    options = server_options(ca=authority().pem, request_cert=True)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=options) as listener:
        address = ("127.0.0.1", listener.port)
        refused = await asyncio.gather(
            *(foreign_client(client_context(), address, pong) for _ in range(8)),
            return_exceptions=True,
        )
        assert all(isinstance(error, OSError) for error in refused)
        await recorder.until("connect_error", 8)
        assert listener.connections == 0
    await listener.closed()

"""What a session of a `mantou.SSLContext` agrees on and says is what OpenSSL would."""

from __future__ import annotations

import socket as kernel
import ssl
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou._core import tls_facts
from mantou._ssl_object import SSLObject
from tests.faithful import SetUp, by_mantou, by_openssl, differences, make
from tests.faithful_certificates import issue, key_pem, load, shown
from tests.support import Recorder
from tests.tls import (
    PEER_TIMEOUT,
    TLS12,
    TLS13,
    Authority,
    Credential,
    authority,
    client_credential,
    foreign_client,
    new_key,
    read_all,
    server_credential,
)

pytestmark = [
    pytest.mark.loops("mantou"),
    # OpenSSL's bits for versions are old, not gone.
    pytest.mark.filterwarnings("ignore:ssl.OP_NO:DeprecationWarning"),
]


def owning(context: ssl.SSLContext) -> None:
    server_credential().load_into(context)


def trusting(context: ssl.SSLContext) -> None:
    context.load_verify_locations(cadata=authority().pem.decode())


def having(**attributes: Any) -> SetUp:
    def set_up(context: ssl.SSLContext) -> None:
        for name, value in attributes.items():
            setattr(context, name, value)

    return set_up


def ciphers(text: str) -> SetUp:
    return lambda context: context.set_ciphers(text)


def alpn(*protocols: str) -> SetUp:
    return lambda context: context.set_alpn_protocols(list(protocols))


def both(*set_ups: SetUp) -> SetUp:
    def set_up(context: ssl.SSLContext) -> None:
        for one in set_ups:
            one(context)

    return set_up


def nothing(_: ssl.SSLContext) -> None:
    pass


AES128 = "ECDHE-ECDSA-AES128-GCM-SHA256"
CHACHA = "ECDHE-ECDSA-CHACHA20-POLY1305"

# Ours, and the peer's.
AGREEMENTS: dict[str, tuple[SetUp, SetUp]] = {
    "nothing said": (nothing, nothing),
    "ours up to TLS 1.2": (having(maximum_version=TLS12), nothing),
    "the peer's up to TLS 1.2": (nothing, having(maximum_version=TLS12)),
    "TLS 1.3 by an option": (nothing, having(options=ssl.OP_NO_TLSv1_2)),
    "TLS 1.2 by an option": (having(options=ssl.OP_NO_TLSv1_3), nothing),
    "no version in common": (having(maximum_version=TLS12), having(minimum_version=TLS13)),
    "one cipher": (both(ciphers(AES128), having(maximum_version=TLS12)), nothing),
    "the peer's only cipher": (nothing, both(ciphers(CHACHA), having(maximum_version=TLS12))),
    "ciphers in our order": (
        both(ciphers(f"{CHACHA}:{AES128}"), having(maximum_version=TLS12)),
        both(ciphers(f"{AES128}:{CHACHA}")),
    ),
    "ciphers in the client's order": (
        both(
            ciphers(f"{CHACHA}:{AES128}"),
            having(maximum_version=TLS12, options=ssl.OP_ALL),
        ),
        both(ciphers(f"{AES128}:{CHACHA}"), having(options=ssl.OP_ALL)),
    ),
    "no cipher in common": (
        both(ciphers(AES128), having(maximum_version=TLS12)),
        both(ciphers(CHACHA), having(maximum_version=TLS12)),
    ),
    "a protocol": (alpn("h2", "http/1.1"), alpn("http/1.1")),
    "our first protocol": (alpn("h2", "http/1.1"), alpn("http/1.1", "h2")),
    "no protocol in common": (alpn("h2"), alpn("http/1.1")),
    "protocols of one side": (alpn("h2"), nothing),
    "protocols of the other": (nothing, alpn("h2")),
}


@pytest.mark.parametrize("server_side", [True, False], ids=["server", "client"])
@pytest.mark.parametrize("name", AGREEMENTS)
async def test_both_agree_on_what_openssl_would(name: str, server_side: bool) -> None:
    ours, peer = AGREEMENTS[name]
    own, other = (owning, trusting) if server_side else (trusting, owning)
    truth = by_openssl(both(own, ours), both(other, peer), server_side=server_side)
    if server_side and (truth.failure or name == "no protocol in common"):
        # What rustls has no answer to is answered by OpenSSL itself.
        assert await answered_by_openssl(both(own, ours), both(other, peer)) == (
            truth.failure and truth.failure.reason
        )
        return
    done = await by_mantou(both(own, ours), both(other, peer), server_side=server_side)
    assert differences(truth, done) == {}


async def answered_by_openssl(ours: SetUp, peer: SetUp) -> str | None:
    """The reason of our failure, or None, in a session that rustls has left to OpenSSL."""
    context = make(mantou.SSLContext, True, ours)
    assert isinstance(context, mantou.SSLContext)
    assert context.tls_engine == "rustls"
    driven: list[object] = []

    def answer(socket: mantou.Socket[Any], _: bytes) -> None:
        driven.append(tls_facts(socket))
        socket.end(b"bun")

    recorder = Recorder(data=answer)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=context) as listener:
        theirs = make(ssl.SSLContext, False, peer)
        try:
            talked = await foreign_client(theirs, ("127.0.0.1", listener.port), greet)
        except ssl.SSLError:
            _, error = await recorder.until("connect_error")
            assert isinstance(error, ssl.SSLError)
            return error.reason
        assert talked == b"bun"
        await recorder.until("close")
    assert driven == [None]
    return None


def greet(tls: ssl.SSLSocket) -> bytes:
    tls.sendall(b"steamed")
    return read_all(tls)


# Clients for whom rustls has nothing, and OpenSSL has.
LEFT_TO_OPENSSL: dict[str, tuple[SetUp, SetUp]] = {
    "CBC": (
        nothing,
        both(ciphers("ECDHE-ECDSA-AES256-SHA384"), having(maximum_version=TLS12)),
    ),
    "a server of CBC and TLS 1.3": (
        ciphers("ECDHE-ECDSA-AES256-SHA"),
        both(ciphers("ECDHE-ECDSA-AES256-SHA"), having(maximum_version=TLS12)),
    ),
    "another curve": (
        nothing,
        lambda context: context.set_ecdh_curve("secp521r1"),
    ),
    "another protocol": (alpn("h2"), alpn("http/1.1")),
}


@pytest.mark.parametrize("name", LEFT_TO_OPENSSL)
async def test_a_client_that_rustls_cannot_serve_is_served(name: str) -> None:
    ours, peer = LEFT_TO_OPENSSL[name]
    assert await answered_by_openssl(both(owning, ours), both(trusting, peer)) is None


@pytest.mark.parametrize(
    "said, reason",
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP_REQUEST"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "WRONG_VERSION_NUMBER"),
    ],
)
async def test_what_is_not_tls_has_openssls_reason(said: bytes, reason: str) -> None:
    context = make(mantou.SSLContext, True, owning)
    recorder = Recorder()
    with (
        mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=context) as listener,
        kernel.create_connection(("127.0.0.1", listener.port), PEER_TIMEOUT) as peer,
    ):
        peer.sendall(said)
        _, error = await recorder.until("connect_error")
    assert isinstance(error, ssl.SSLError)
    assert error.reason == reason


async def test_of_two_certificates_the_one_is_shown_that_the_client_can_check() -> None:
    def two(context: ssl.SSLContext) -> None:
        for kind in ("rsa", "ec"):
            authority().issue("localhost", key=KEYS[kind]).load_into(context)

    for suites, kind in [("aRSA", "RSA"), ("aECDSA", "ECDSA"), ("DEFAULT", "ECDSA")]:
        peer = both(trusting, ciphers(suites), having(maximum_version=TLS12))
        truth = by_openssl(both(two), peer, server_side=True)
        ours = await by_mantou(both(two), peer, server_side=True)
        assert truth.facts is not None
        assert kind in truth.facts["cipher"][0]
        assert differences(truth, ours) == {}


KEYS = {"rsa": new_key("rsa"), "ec": new_key("ec")}


async def test_a_lone_certificate_is_shown_with_what_the_store_has_above_it() -> None:
    middle = Authority("in the middle", authority())
    alone = middle.issue("localhost").alone()

    def own(context: ssl.SSLContext) -> None:
        alone.load_into(context)
        context.load_verify_locations(cadata=(middle.pem + authority().pem).decode())

    def chain_of(context: ssl.SSLContext) -> list[Any]:
        seen: list[Any] = []

        def look(tls: ssl.SSLSocket) -> bytes:
            sslobj: Any = tls._sslobj  # type: ignore[attr-defined]
            seen.extend(one.public_bytes() for one in sslobj.get_unverified_chain())
            return greet(tls)

        context.look = look  # type: ignore[attr-defined]
        return seen

    shown_by: list[list[Any]] = []
    for cls in (ssl.SSLContext, mantou.SSLContext):
        client = make(ssl.SSLContext, False, trusting)
        seen = chain_of(client)
        recorder = Recorder(data=lambda socket, data: socket.end())
        tls = make(cls, True, own)
        with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
            look = client.look  # type: ignore[attr-defined]
            await foreign_client(client, ("127.0.0.1", listener.port), look)
            await recorder.until("close")
        shown_by.append(seen)
    assert len(shown_by[0]) == 3
    assert shown_by[0] == shown_by[1]


@pytest.mark.parametrize("version", [TLS12, TLS13])
async def test_secrets_are_logged_in_the_same_form(tmp_path: Path, version: ssl.TLSVersion) -> None:
    labels: list[set[str]] = []
    for cls in (ssl.SSLContext, mantou.SSLContext):
        log = tmp_path / cls.__module__

        def own(context: ssl.SSLContext, log: Path = log) -> None:
            owning(context)
            context.keylog_filename = str(log)

        context = make(cls, True, own)
        recorder = Recorder(data=lambda socket, data: socket.end())
        with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=context) as listener:
            client = make(ssl.SSLContext, False, trusting, having(maximum_version=version))
            await foreign_client(client, ("127.0.0.1", listener.port), greet)
            await recorder.until("close")
        lines = [line for line in log.read_text().splitlines() if not line.startswith("#")]
        assert all(len(line.split()) == 3 for line in lines)
        labels.append({line.split()[0] for line in lines})
    assert labels[0]
    assert labels[0] - {"EXPORTER_SECRET"} == labels[1] - {"EXPORTER_SECRET"}


@pytest.mark.parametrize("version", [TLS12, TLS13])
async def test_a_client_may_resume_its_session(version: ssl.TLSVersion) -> None:
    context = make(mantou.SSLContext, True, owning)
    client = make(ssl.SSLContext, False, trusting, having(maximum_version=version))
    recorder = Recorder(data=lambda socket, data: socket.end(b"bun"))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=context) as listener:
        address = ("127.0.0.1", listener.port)

        def talk(tls: ssl.SSLSocket) -> tuple[bool | None, Any]:
            assert greet(tls) == b"bun"
            return tls.session_reused, tls.session

        reused, session = await foreign_client(client, address, talk)
        assert reused is False
        reused, _ = await foreign_client(client, address, talk, session=session)
        assert reused is True
        await recorder.until("close", 2)


async def test_a_change_counts_for_the_next_connection() -> None:
    context = make(mantou.SSLContext, True, owning)
    assert isinstance(context, mantou.SSLContext)
    client = make(ssl.SSLContext, False, trusting)
    other = Credential(*vars(authority().issue("localhost", "other.test")).values())
    seen: list[Any] = []

    def look(tls: ssl.SSLSocket) -> None:
        seen.append((tls.version(), tls.getpeercert(True)))
        greet(tls)

    recorder = Recorder(data=lambda socket, data: socket.end())
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=context) as listener:
        address = ("127.0.0.1", listener.port)
        await foreign_client(client, address, look)
        context.maximum_version = TLS12
        await foreign_client(client, address, look)
        other.load_into(context)
        await foreign_client(client, address, look)
        await recorder.until("close", 3)
    own = server_credential().der
    assert seen == [("TLSv1.3", own), ("TLSv1.2", own), ("TLSv1.2", other.der)]
    assert context.tls_engine == "rustls"


async def test_a_change_of_what_is_verified_counts_for_tls_13_alone_as_well() -> None:
    context = make(mantou.SSLContext, False, trusting, having(minimum_version=TLS13))
    other = authority().issue("other.test")
    server = make(ssl.SSLContext, True, other.load_into)
    recorder = Recorder(data=lambda socket, data: socket.end())
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=server) as listener:

        async def connect() -> None:
            client = Recorder()
            socket = await mantou.connect(
                hostname="localhost", port=listener.port, socket=client, tls=context
            )
            assert tls_facts(socket) is not None
            socket.write(b"steamed")
            await client.until("close")

        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await connect()
        context.check_hostname = False
        await connect()
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get certificate CRL"):
            await connect()
        context.verify_mode = ssl.CERT_NONE
        await connect()


async def test_an_encrypted_key_and_a_password_that_is_asked_for(tmp_path: Path) -> None:
    made = authority().issue("localhost")
    pem = tmp_path / "own.pem"
    pem.write_bytes(made.cert_pem + key_pem(made.key, passphrase=b"steam"))
    asked: list[str] = []

    def password() -> str:
        asked.append("once")
        return "steam"

    for given in ("steam", b"steam", password):
        context = make(
            mantou.SSLContext,
            True,
            lambda context, given=given: context.load_cert_chain(pem, password=given),
        )
        assert isinstance(context, mantou.SSLContext)
        assert context.tls_engine == "rustls", context.tls_engine_reason
    assert asked == ["once"]
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(pem, password="bun")
    assert context.tls_engine == "rustls"


async def test_a_client_shows_its_certificate() -> None:
    def own(context: ssl.SSLContext) -> None:
        trusting(context)
        client_credential().load_into(context)

    def asking(context: ssl.SSLContext) -> None:
        owning(context)
        trusting(context)
        context.verify_mode = ssl.CERT_REQUIRED

    for version in (TLS12, TLS13):
        peer = both(asking, having(maximum_version=version))
        truth = by_openssl(own, peer, server_side=False)
        ours = await by_mantou(own, peer, server_side=False)
        assert truth.failure is None
        assert differences(truth, ours) == {}


async def test_a_server_that_is_refused_does_not_get_our_certificate() -> None:
    def own(context: ssl.SSLContext) -> None:
        trusting(context)
        client_credential().load_into(context)

    def asking(context: ssl.SSLContext) -> None:
        load(shown(issue(Authority("nobody"), "localhost")))(context)
        trusting(context)
        context.verify_mode = ssl.CERT_OPTIONAL

    for version in (TLS12, TLS13):
        peer = both(asking, having(maximum_version=version))
        truth = by_openssl(own, peer, server_side=False)
        ours = await by_mantou(own, peer, server_side=False)
        assert truth.failure is not None
        assert differences(truth, ours) == {}


async def test_the_object_of_a_session_is_closed_to_what_is_the_transports() -> None:
    context = make(mantou.SSLContext, True, owning)
    objects: list[SSLObject] = []

    def answer(socket: mantou.Socket[Any], _: bytes) -> None:
        facts = tls_facts(socket)
        assert facts is not None
        objects.append(SSLObject(context, facts, True, None))
        socket.end()

    recorder = Recorder(data=answer)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=context) as listener:
        client = make(ssl.SSLContext, False, trusting)
        await foreign_client(client, ("127.0.0.1", listener.port), greet)
        await recorder.until("close")
    told = objects[0]
    assert isinstance(told, ssl.SSLObject)
    assert told.context is context
    assert told.shared_ciphers() == [told.cipher()]
    assert told.get_channel_binding() is None
    told.do_handshake()
    for refused in (lambda: told.read(1), lambda: told.write(b"x"), told.unwrap):
        with pytest.raises(NotImplementedError):
            refused()
    with pytest.raises(ValueError, match="not implemented"):
        told.get_channel_binding("tls-bun")
    with pytest.raises(ValueError, match="Cannot set session"):
        told.session = None

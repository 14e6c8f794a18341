"""Which engine a `mantou.SSLContext` gets and why, and `inject_into_ssl()`."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket as kernel
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.faithful_certificates import issue, load, shown
from tests.tls import PEER_TIMEOUT, TLS12, TLS13, authority, new_key, server_credential, stranger

# They are old, not gone.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")

CLIENT, SERVER = ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER


def context(protocol: int = CLIENT, **attributes: Any) -> mantou.SSLContext:
    made = mantou.SSLContext(protocol)
    if protocol == SERVER:
        server_credential().load_into(made)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_what_is_usual_is_rustls() -> None:
    for usual in (
        context(),
        context(SERVER),
        context(SERVER, verify_mode=ssl.CERT_REQUIRED),
        context(SERVER, minimum_version=TLS13),
        context(minimum_version=TLS13),
        context(SERVER, maximum_version=TLS12),
        context(verify_flags=ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF),
    ):
        assert usual.tls_engine == "rustls", usual.tls_engine_reason
        assert usual.tls_engine_reason is None


def with_old_versions(made: ssl.SSLContext) -> None:
    made.minimum_version = ssl.TLSVersion.TLSv1


class OtherObject(ssl.SSLObject):
    pass


REASONS: dict[str, tuple[int, Callable[[Any], object], str]] = {
    "old versions": (CLIENT, with_old_versions, "minimum_version is below TLS 1.2"),
    "ciphers of others": (
        CLIENT,
        lambda made: made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA"),
        "set_ciphers() allows AES256-SHA",
    ),
    "no cipher of its": (
        CLIENT,
        lambda made: made.set_ciphers("AES256-SHA"),
        "rustls has none of the ciphers",
    ),
    "security level": (
        CLIENT,
        lambda made: made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=1"),
        "security_level is 1",
    ),
    "curve": (
        CLIENT,
        lambda made: made.set_ecdh_curve("prime256v1"),
        "set_ecdh_curve('prime256v1')",
    ),
    "post-handshake authentication": (
        CLIENT,
        lambda made: setattr(made, "post_handshake_auth", True),
        "post_handshake_auth",
    ),
    "name callback": (
        SERVER,
        lambda made: setattr(made, "sni_callback", lambda *_: None),
        "sni_callback",
    ),
    "tickets": (SERVER, lambda made: setattr(made, "num_tickets", 1), "num_tickets is 1"),
    "no tickets": (
        SERVER,
        lambda made: setattr(made, "options", made.options | ssl.OP_NO_TICKET),
        "options has bits that rustls cannot honour: 0x4000",
    ),
    "messages": (
        CLIENT,
        lambda made: setattr(made, "_msg_callback", lambda *_: None),
        "_msg_callback",
    ),
    "another object": (
        CLIENT,
        lambda made: setattr(made, "sslobject_class", OtherObject),
        "sslobject_class",
    ),
    "weak keys are let in": (
        SERVER,
        load(shown(issue(authority(), "localhost", key=new_key("rsa")))),
        "security_level is 0",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_rustls_cannot_honour_is_openssls_and_it_says_why(name: str) -> None:
    protocol, change, reason = REASONS[name]
    made = context(protocol)
    assert made.tls_engine == "rustls"
    change(made)
    assert made.tls_engine == "openssl"
    assert made.tls_engine_reason is not None
    assert reason in made.tls_engine_reason


def test_a_server_with_nothing_to_show_is_openssls() -> None:
    assert mantou.SSLContext(SERVER).tls_engine_reason == "no certificate was loaded"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the ssl module has no pre-shared keys")
def test_pre_shared_keys_are_openssls() -> None:
    for protocol, method in ((CLIENT, "client"), (SERVER, "server")):
        made = context(protocol)
        getattr(made, f"set_psk_{method}_callback")(lambda *_: (None, b"key"))
        assert f"set_psk_{method}_callback" in (made.tls_engine_reason or "")


def test_several_certificates_for_different_names_are_openssls() -> None:
    made = context(SERVER)
    authority().issue("other.test", key=new_key("rsa")).load_into(made)
    assert "certificates for different names" in (made.tls_engine_reason or "")


def test_what_has_changed_on_the_disk_is_not_trusted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.pem"
    store.write_bytes(authority().pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    made = context()
    made.load_default_certs()
    store.write_bytes(stranger().pem)
    made.minimum_version = TLS13
    assert "the trust store's files have changed" in (made.tls_engine_reason or "")
    made.minimum_version = TLS12
    assert made.tls_engine == "rustls"


def test_a_file_of_certificates_is_read_once_only(tmp_path: Path) -> None:
    store = tmp_path / "store.pem"
    store.write_bytes(authority().pem + authority().revoke())
    made = context(minimum_version=TLS13)
    made.load_verify_locations(store)
    store.unlink()
    assert made.tls_engine == "rustls", made.tls_engine_reason
    os.mkfifo(store)
    writer = threading.Thread(target=lambda: store.write_bytes(stranger().pem))
    writer.start()
    made.load_verify_locations(store)
    writer.join()
    assert "is no regular file" in (made.tls_engine_reason or "")


def test_its_attributes_are_those_that_were_set() -> None:
    made = context(SERVER, verify_mode=ssl.CERT_OPTIONAL, maximum_version=TLS12)
    made.set_ciphers("ECDHE+AESGCM")
    made.set_alpn_protocols(iter(["h2"]))
    plain = ssl.SSLContext(SERVER)
    plain.set_ciphers("ECDHE+AESGCM")
    plain.maximum_version = TLS12
    assert made.verify_mode is ssl.CERT_OPTIONAL
    assert made.maximum_version is TLS12
    assert made.get_ciphers() == plain.get_ciphers()
    assert made.options == plain.options


@pytest.mark.parametrize("side", ["client", "server"])
async def test_over_openssl_it_works_as_well(side: str) -> None:
    done = asyncio.Event()

    class Echo(mantou.SocketHandler):
        def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
            socket.end(data)

        def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
            if socket.listener is None:
                done.set()

    own, other = context(SERVER), context()
    other.load_verify_locations(cadata=authority().pem.decode())
    (own if side == "server" else other).set_ecdh_curve("prime256v1")
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Echo(), tls=own) as listener:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=Echo(), tls=other
        )
        assert socket.authorized
        socket.end(b"steamed")
        await done.wait()


@pytest.fixture
def injected() -> Iterator[None]:
    mantou.inject_into_ssl()
    yield
    mantou.extract_from_ssl()


def test_injection_reaches_everybody_who_makes_contexts(injected: None) -> None:
    mantou.inject_into_ssl()
    unverified: Any = ssl._create_unverified_context  # type: ignore[attr-defined]
    for make in (
        ssl.create_default_context,
        lambda: ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        unverified,
        lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    ):
        made = make()
        assert type(made) is mantou.SSLContext
        assert isinstance(made, ssl.SSLContext)
    mantou.extract_from_ssl()
    mantou.extract_from_ssl()
    assert type(ssl.create_default_context()) is ssl.SSLContext
    assert type(mantou.SSLContext(CLIENT)) is mantou.SSLContext


def test_what_was_made_before_goes_on_working(injected: None) -> None:
    mantou.extract_from_ssl()
    before = ssl.SSLContext(CLIENT)

    class Derived(ssl.SSLContext):
        pass

    mantou.inject_into_ssl()
    for made in (before, Derived(CLIENT), ssl.SSLContext(CLIENT)):
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        made.options |= ssl.OP_NO_TICKET
        made.minimum_version = made.maximum_version = TLS13
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        assert made.verify_mode is ssl.CERT_NONE
        assert made.options & ssl.OP_NO_TICKET
        assert made.minimum_version is made.maximum_version is TLS13
    assert type(before) is ssl.SSLContext
    assert type(Derived(CLIENT)) is Derived


@contextlib.contextmanager
def serving_http() -> Iterator[int]:
    """A server of one answer, of Python's ssl, in a thread."""
    own = ssl.SSLContext(SERVER)
    server_credential().load_into(own)
    with kernel.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PEER_TIMEOUT)

        def serve() -> None:
            accepted, _ = listening.accept()
            accepted.settimeout(PEER_TIMEOUT)
            with own.wrap_socket(accepted, server_side=True) as tls:
                tls.recv(4096)
                tls.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nbun")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_blocking_clients_are_openssls_as_before(injected: None) -> None:
    made = ssl.create_default_context(cadata=authority().pem.decode())
    with serving_http() as port:
        connection = http.client.HTTPSConnection("localhost", port, context=made, timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"bun"
        connection.close()
    with serving_http() as port:
        url = f"https://localhost:{port}/"
        with urllib.request.urlopen(url, context=made, timeout=20) as answer:
            assert answer.read() == b"bun"


PROGRAM = """
import asyncio, ssl, sys
import mantou
mantou.inject_into_ssl()

async def main(port):
    context = ssl.create_default_context(cafile=sys.argv[2])
    assert context.tls_engine == "rustls"
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    assert type(writer.get_extra_info("ssl_object")) is ssl.SSLObject
    writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print((await reader.read()).endswith(b"bun"))
    writer.close()

asyncio.run(main(int(sys.argv[1])))
"""


def test_asyncios_own_loop_is_openssls_as_before(tmp_path: Path) -> None:
    store = tmp_path / "store.pem"
    store.write_bytes(authority().pem)
    with serving_http() as port:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(port), str(store)],
            capture_output=True,
            check=True,
            timeout=PEER_TIMEOUT,
        )
    assert done.stdout == b"True\n"

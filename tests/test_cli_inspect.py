"""`mantou inspect`: what OpenSSL's server shows, of each kind."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import socket as kernel
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from mantou._cli import inspect
from tests.cli import BARE, Server, documented, files, mantou, openssl_server, read_all
from tests.test_cli_starttls import SCRIPTS, play
from tests.tls import EXPIRED, Authority, authority, server_context, server_credential

VERSIONS = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]


def looked_at(port: int, *flags: Any, code: int = 0) -> dict[str, Any]:
    done = mantou("inspect", f"localhost:{port}", *flags, "--json")
    assert (done.returncode, done.stderr) == (code, b"")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def spoken(result: dict[str, Any]) -> list[str]:
    return [version for version in VERSIONS if result["versions"][version]["spoken"]]


def test_a_server_as_it_should_be(tmp_path: Path) -> None:
    ca, cert, key = files(tmp_path)
    with openssl_server("-cert", cert, "-key", key, "-alpn", "h2,http/1.1") as port:
        result = looked_at(port, "--ca", ca, "--alpn", "h2")
        text = mantou("inspect", f"localhost:{port}", "--ca", ca).stdout.decode()
        bare = mantou("inspect", f"localhost:{port}", "--ca", ca, command=BARE)
    assert {*result, *result["certificates"][0]} == documented("inspect --json")
    assert (result["verified"], result["verification"]) == (True, "accepted")
    assert (result["protocol"], result["alpn"]) == ("TLSv1.3", "h2")
    assert result["cipher"].startswith("TLS_")
    assert result["group"] is not None
    assert spoken(result) == ["TLSv1.2", "TLSv1.3"]
    assert result["ocsp"]["stapled"] is False
    [own] = result["certificates"]
    assert own["names"] == ["localhost", "127.0.0.1", "0:0:0:0:0:0:0:1"]
    assert own["days_left"] in (29, 30)
    assert own["key"] == "EC secp256r1"
    parsed = x509.load_pem_x509_certificate(cert.read_bytes())
    assert own["sha256"] == parsed.fingerprint(hashes.SHA256()).hex(":").upper()
    for words in ("trusted   yes", "CN=steamed bun", "days left", "TLSv1.3   yes"):
        assert words in text
    # Without the extra only what the ssl module cannot tell is missing.
    assert bare.returncode == 0
    assert text.replace(next(x for x in text.splitlines() if "key  " in x) + "\n", "") == (
        bare.stdout.decode()
    )


def test_what_is_not_accepted_and_why(tmp_path: Path) -> None:
    ca, cert, key = files(tmp_path)
    with openssl_server("-cert", cert, "-key", key) as port:
        result = looked_at(port, code=4)
        assert "authority" in result["verification"] or "issuer" in result["verification"]
        result = looked_at(port, "--ca", ca, "--sni", "other.example", code=4)
        assert "other.example" in result["verification"]
    late = authority().issue("localhost", validity=EXPIRED)
    (tmp_path / "late").write_bytes(late.cert_pem + late.key_pem)
    with openssl_server("-cert", tmp_path / "late", "-key", tmp_path / "late") as port:
        done = mantou("inspect", f"localhost:{port}", "--ca", ca)
    assert done.returncode == 4
    assert b"trusted   NO: certificate has expired" in done.stdout
    assert b"expired 1 days ago" in done.stdout or b"expired 2 days ago" in done.stdout


def test_a_chain_is_shown_whole(tmp_path: Path) -> None:
    ca, _, _ = files(tmp_path)
    leaf = Authority("between", authority()).issue("localhost")
    (tmp_path / "leaf").write_bytes(leaf.alone().cert_pem + leaf.key_pem)
    (tmp_path / "chain").write_bytes(leaf.cert_pem)
    options = ["-cert", tmp_path / "leaf", "-key", tmp_path / "leaf"]
    with openssl_server(*options, "-cert_chain", tmp_path / "chain") as port:
        result = looked_at(port, "--ca", ca)
    assert [each["subject"] for each in result["certificates"]][-1] == "CN=between"
    assert result["certificates"][0]["issuer"] == "CN=between"


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"])
def test_each_version_is_found_alone(tmp_path: Path, version: str) -> None:
    ca, cert, key = files(tmp_path)
    flag = "-" + version.lower().replace("tlsv", "tls").replace(".", "_")
    options = ["-cert", cert, "-key", key, flag, "-cipher", "ALL:@SECLEVEL=0"]
    with openssl_server(*options) as port:
        known = version in ("TLSv1.2", "TLSv1.3")
        result = looked_at(port, "--ca", ca, code=0 if known else 4)
    assert spoken(result) == [version]
    # Also of a server that connect() cannot speak with.
    assert result["certificates"][0]["subject"] == "CN=steamed bun"
    if version == "TLSv1.3":
        assert result["ocsp"]["stapled"] is None


def test_a_stapled_response(tmp_path: Path) -> None:
    ca, cert, key = files(tmp_path)
    own = x509.load_pem_x509_certificate(cert.read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=own,
            issuer=authority().certificate,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + datetime.timedelta(days=3),
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, authority().certificate)
        .sign(authority().key, hashes.SHA256())
    )
    (tmp_path / "ocsp").write_bytes(response.public_bytes(serialization.Encoding.DER))
    options = ["-cert", cert, "-key", key, "-status_file", tmp_path / "ocsp"]
    with openssl_server(*options) as port:
        result = looked_at(port, "--ca", ca)
        bare = mantou("inspect", f"localhost:{port}", "--ca", ca, command=BARE)
    assert result["ocsp"]["stapled"] is True
    assert result["ocsp"]["note"] == "good"
    assert b"pip install 'mantou[cli]'" in bare.stdout


def test_a_version_that_gets_no_answer_is_no_more_than_that(tmp_path: Path) -> None:
    ca, _, _ = files(tmp_path)
    context = server_context()

    def talk(sock: Any) -> None:
        with contextlib.suppress(OSError):
            if sock.recv(3, kernel.MSG_PEEK) == b"\x16\x03\x00":
                read_all(sock)
            context.wrap_socket(sock, server_side=True).close()

    with Server(talk) as server:
        result = looked_at(server.port, "--ca", ca, "--timeout", 1)
        text = mantou("inspect", f"localhost:{server.port}", "--ca", ca, "--timeout", 1).stdout
    assert result["versions"]["SSLv3"]["spoken"] is None
    assert spoken(result) == ["TLSv1.2", "TLSv1.3"]
    assert b"SSLv3     ?    the time was up" in text


def certificate_messages(chain: bytes) -> bytes:
    """What a server of TLS 1.2 says that has this list of certificates."""
    hello = b"\x03\x03" + bytes(32) + b"\0" + b"\xc0\x2f" + b"\0"
    messages = b"\x02" + len(hello).to_bytes(3, "big") + hello
    body = len(chain).to_bytes(3, "big") + chain
    messages += b"\x0b" + len(body).to_bytes(3, "big") + body + b"\x16\0\0\x01\x01\x0e\0\0\0"
    return b"\x16\x03\x03" + len(messages).to_bytes(2, "big") + messages


@pytest.mark.parametrize(
    "answer",
    [
        certificate_messages(b"\0\0\x03abc"),
        certificate_messages(b"\xff\xff\xffabc"),
        certificate_messages(b"\0\0\0" * 100),
        certificate_messages(b""),
        certificate_messages(b"\0\0\x03abc")[:-4] + b"\x15\x03\x03\0\x01\x02",
        b"\x16\x03\x03\0\x04\x02\0\0\0",
        b"\x15\x03\x03\0\0",
        b"\x16\x03\x03\xff\xff",
    ],
)
def test_malformed_answers_are_told(answer: bytes) -> None:
    def talk(sock: kernel.socket) -> None:
        with contextlib.suppress(OSError):
            sock.recv(65536)
            sock.sendall(answer)
            sock.shutdown(kernel.SHUT_WR)
            read_all(sock)

    with Server(talk) as server:
        done = mantou("inspect", f"localhost:{server.port}")
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == (0 if done.stdout else 1)


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 2000), st.integers(0, 255), max_size=3), st.integers(0, 2000))
def test_any_certificate_can_be_shown(changes: dict[int, int], length: int) -> None:
    der = bytearray(server_credential().der)
    for place, value in changes.items():
        der[place % len(der)] = value
    [known] = inspect._certificates([bytes(der[: length or None])])
    assert json.loads(json.dumps(known)) == known
    assert len(inspect._certificate_lines(0, known)) >= 4


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    """OpenSSL serves them; the ssl module cannot read them."""
    _, cert, key = files(tmp_path)
    der = server_credential().der.replace(b"localhost", b"\xffocalhost", 1)
    cert.write_text(ssl.DER_cert_to_PEM_cert(der))
    with openssl_server("-cert", cert, "-key", key) as port:
        result = looked_at(port, code=4)
    [own] = result["certificates"]
    assert (own["names"], own["days_left"]) == ([], None)
    assert own["sha256"] == hashlib.sha256(der).digest().hex(":").upper()


def test_behind_starttls(tmp_path: Path) -> None:
    ca, _, _ = files(tmp_path)
    context = server_context()

    def talk(sock: Any) -> None:
        try:
            play(sock, SCRIPTS["smtp"].words)
            context.wrap_socket(sock, server_side=True).close()
        except OSError:
            pass  # a hello that is looked at ends in the middle

    with Server(talk) as server:
        result = looked_at(server.port, "--starttls", "smtp", "--ca", ca)
    assert result["verified"] is True
    assert spoken(result) == ["TLSv1.2", "TLSv1.3"]


def test_what_is_no_tls_is_told() -> None:
    def talk(sock: Any) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with Server(talk) as server:
        done = mantou("inspect", f"localhost:{server.port}")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (4, b"", 1)
    assert mantou("inspect", "localhost:1").returncode == 3
    assert mantou("inspect", "::1").returncode == 2

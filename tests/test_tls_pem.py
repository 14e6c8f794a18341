"""PEM as editors and tools leave it: what OpenSSL reads is read, what nobody reads is named."""

from __future__ import annotations

import base64
import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

import mantou
from tests.support import Recorder
from tests.tls import (
    authority,
    client_credential,
    client_options,
    key_pem,
    new_key,
    server_credential,
    stranger,
)
from tests.tls_pairs import pair

Dressing = Callable[[bytes], bytes]

MARK = "\ufeff".encode()
CERTIFICATE = server_credential().cert_pem
KEY = server_credential().key_pem
CA = authority().pem
CRL = authority().revoke(client_credential())
PASSPHRASE = b"steamed"
REMARK = "Bag Attributes\n    friendlyName: pain cuit à la vapeur\nsubject=CN = x\n\n".encode()
OTHER = b"-----BEGIN DH PARAMETERS-----\nMAYCAQICAQI=\n-----END DH PARAMETERS-----\n"


def edge(pem: bytes, begin: bytes = b"", end: bytes = b"") -> bytes:
    """More behind the dashes of the BEGIN and the END lines."""
    pem = re.sub(rb"(-----BEGIN [A-Z0-9 ]+-----)", rb"\1" + begin, pem)
    return re.sub(rb"(-----END [A-Z0-9 ]+-----)", rb"\1" + end, pem)


def rewrapped(pem: bytes, width: int) -> bytes:
    """With lines of another length; the headers of an encrypted key stay."""

    def wrap(match: re.Match[bytes]) -> bytes:
        body = match[2].replace(b"\n", b"")
        lines = [body[i : i + width] for i in range(0, len(body), width)]
        return match[1] + b"\n".join(lines) + b"\n" + match[3]

    body = rb"(-----BEGIN [A-Z0-9 ]+-----\n(?:(?:.*:.*\n)+\n)?)([^-:]+)(-----END)"
    return re.sub(body, wrap, pem)


DRESSED: dict[str, Dressing] = {
    "as it is": lambda pem: pem,
    "a byte order mark": lambda pem: MARK + pem,
    "a byte order mark before each file": lambda pem: MARK + OTHER + MARK + pem,
    "CRLF": lambda pem: pem.replace(b"\n", b"\r\n"),
    "a mark and CRLF": lambda pem: MARK + pem.replace(b"\n", b"\r\n"),
    "CR only": lambda pem: pem.replace(b"\n", b"\r"),
    "a blank behind BEGIN": lambda pem: edge(pem, begin=b" "),
    "a tab behind BEGIN": lambda pem: edge(pem, begin=b"\t"),
    "blanks behind END": lambda pem: edge(pem, end=b" \t "),
    "something behind END": lambda pem: edge(pem, end=b" # the end"),
    "something behind BEGIN": lambda pem: edge(pem, begin=b" # the beginning"),
    "blanks at line ends": lambda pem: pem.replace(b"\n", b" \t \n"),
    "no-break spaces at line ends": lambda pem: pem.replace(b"\n", "\u00a0\n".encode()),
    "NULs at line ends": lambda pem: pem.replace(b"\n", b"\0\n"),
    "vertical tabs at line ends": lambda pem: pem.replace(b"\n", b"\v\f\n"),
    "indented": lambda pem: pem.replace(b"\n", b"\n  "),
    "indented but for the dashes": lambda pem: re.sub(rb"\n(?=[^-\n])", b"\n  ", pem),
    "remarks before": lambda pem: REMARK + pem,
    "remarks behind": lambda pem: pem + REMARK,
    "remarks without BEGIN": lambda pem: b"-----\n-----BEGIN\n----- BEGIN X -----\n" + pem,
    "other blocks around": lambda pem: OTHER + pem + OTHER,
    "no newline at the end": lambda pem: pem.rstrip(b"\n"),
    "empty lines at the end": lambda pem: pem + b"\n \n\n",
    "empty lines at the beginning": lambda pem: b"\n\n" + pem,
    "an empty line behind BEGIN": lambda pem: edge(pem, begin=b"\n"),
    "a blank line behind BEGIN": lambda pem: edge(pem, begin=b"\n \t"),
    "an empty line before END": lambda pem: pem.replace(b"-----END", b"\n-----END"),
    "an empty line within": lambda pem: rewrapped(pem, 60).replace(b"\n", b"\n\n", 3),
    "short lines": lambda pem: rewrapped(pem, 5),
    "lines of 76": lambda pem: rewrapped(pem, 76),
    "one line": lambda pem: rewrapped(pem, 1 << 20),
    "lines of 253": lambda pem: rewrapped(pem, 253),
    "lines of 254": lambda pem: rewrapped(pem, 254),
    "X509 CERTIFICATE": lambda pem: pem.replace(b" CERTIFICATE--", b" X509 CERTIFICATE--"),
    "TRUSTED CERTIFICATE": lambda pem: pem.replace(b" CERTIFICATE--", b" TRUSTED CERTIFICATE--"),
    "small letters": lambda pem: pem.replace(b"BEGIN", b"begin"),
    "four dashes": lambda pem: pem.replace(b"-----", b"----"),
    "six dashes": lambda pem: pem.replace(b"-----", b"------"),
    "another END": lambda pem: re.sub(rb"END [A-Z0-9 ]+-", b"END ANYTHING-", pem),
    "no END": lambda pem: pem[: pem.rindex(b"-----END")],
    "cut off": lambda pem: pem[:-60],
    "cut off in base64": lambda pem: re.sub(rb"....\n-----END", b"\n-----END", pem),
    "a star in base64": lambda pem: re.sub(rb"(\n[A-Za-z0-9+/]{20})", rb"\1*", pem),
    "more base64 behind the padding": lambda pem: pem.replace(b"\n-----END", b"\nAAAA\n-----END"),
    "a dash in base64": lambda pem: pem.replace(b"\n-----END", b"\n-\n-----END"),
    "begun twice": lambda pem: pem[:100] + b"\n" + pem,
    "UTF-16": lambda pem: pem.decode().encode("utf-16"),
    "DER": lambda pem: base64.b64decode(b"".join(re.findall(rb"^[^-:]+$", pem, re.M))),
    "nothing": lambda pem: b"",
}


def keys() -> dict[str, tuple[bytes, bytes]]:
    """Certificates and keys in all forms that keys have."""
    found = {"pkcs8": (CERTIFICATE, KEY)}
    for kind in ("ec", "rsa"):
        one = authority().issue("localhost", key=new_key(kind))
        for form in ("pkcs8", "traditional"):
            plain, locked = key_pem(one.key, form), key_pem(one.key, form, PASSPHRASE)
            found[f"{kind}, {form}"] = (one.cert_pem, plain)
            found[f"{kind}, {form}, encrypted"] = (one.cert_pem, locked)
    return found


KEYS = keys()


def openssl_reads(load: Callable[[], object]) -> bool:
    try:
        load()
    except (ssl.SSLError, ValueError):
        return False
    return True


def refusal(**tls: Any) -> str | None:
    """Why mantou refuses it, if it does."""
    base: Any = {"cert": CERTIFICATE, "key": KEY, "passphrase": PASSPHRASE}
    if "cert_file" in tls:
        del base["cert"], base["key"]
    try:
        with mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), tls=base | tls):
            return None
    except ValueError as error:
        return str(error)


def check(path: Path, option: str, openssl: bool, why: str | None) -> None:
    """Whatever OpenSSL reads, mantou reads; what it refuses it says with option and file."""
    if openssl:
        assert why is None
    elif why is not None:
        assert f"option '{option}' ({path})" in why


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("dressing", DRESSED.values(), ids=list(DRESSED))
async def test_certificates_are_read_as_openssl_reads_them(
    dressing: Dressing, tmp_path: Path
) -> None:
    path, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    key.write_bytes(KEY)
    path.write_bytes(dressing(CERTIFICATE))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    openssl = openssl_reads(lambda: context.load_cert_chain(path, key))
    check(path, "cert_file", openssl, refusal(cert_file=path, key_file=key))


@pytest.mark.parametrize("form", KEYS)
@pytest.mark.loops("mantou")
@pytest.mark.parametrize("dressing", DRESSED.values(), ids=list(DRESSED))
async def test_keys_are_read_as_openssl_reads_them(
    dressing: Dressing, form: str, tmp_path: Path
) -> None:
    cert, path = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(KEYS[form][0])
    path.write_bytes(dressing(KEYS[form][1]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    openssl = openssl_reads(lambda: context.load_cert_chain(cert, path, PASSPHRASE))
    check(path, "key_file", openssl, refusal(cert_file=cert, key_file=path))


@pytest.mark.parametrize("option", ["ca", "crl"])
@pytest.mark.loops("mantou")
@pytest.mark.parametrize("dressing", DRESSED.values(), ids=list(DRESSED))
async def test_authorities_and_revocation_lists_are_read_as_openssl_reads_them(
    dressing: Dressing, option: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.pem"
    path.write_bytes(dressing(CA if option == "ca" else CRL))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    openssl = openssl_reads(lambda: context.load_verify_locations(path))
    check(path, option, openssl, refusal(**{option: path}))


@pytest.mark.parametrize(
    "dressing", ["a mark and CRLF", "no-break spaces at line ends", "one line"]
)
async def test_what_was_dressed_up_works(dressing: str) -> None:
    dress = DRESSED[dressing]
    locked = key_pem(server_credential().key, "traditional", PASSPHRASE)
    server_tls = {
        "cert": REMARK + dress(CERTIFICATE),
        "key": dress(locked).decode(),
        "passphrase": PASSPHRASE,
        "ca": [dress(stranger().pem), dress(CA)],
        "crl": dress(CRL),
        "request_cert": True,
    }
    mine = {"cert": dress(client_credential().cert_pem), "key": dress(client_credential().key_pem)}
    revoked = client_options(server_name="localhost", **mine)
    other = authority().issue(common_name="another client")
    good = revoked | {"cert": dress(other.cert_pem), "key": dress(other.key_pem)}
    async with pair(Recorder(), Recorder(), server_tls, good) as (accepted, socket):
        assert accepted.authorized
        assert accepted.get_peer_certificate()["raw"] == other.der
        assert socket.get_peer_certificate()["raw"] == server_credential().der
    server = Recorder()
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=server_tls) as listener:
        client = Recorder()
        await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=client, tls=revoked)
        _, error = await server.until("connect_error")
        assert "certificate revoked" in error.verify_message
        await client.until("close")


async def test_the_first_of_several_keys_counts(tmp_path: Path) -> None:
    own = server_credential()
    for text, fits in [(KEY + key_pem(new_key()), True), (key_pem(new_key()) + KEY, False)]:
        path = tmp_path / "all.pem"
        path.write_bytes(own.cert_pem + text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert openssl_reads(lambda: context.load_cert_chain(path)) is fits  # noqa: B023
        assert (refusal(cert_file=path, key_file=path) is None) is fits


@pytest.mark.parametrize(
    "settings, trusted",
    [
        ([], True),
        (["-addtrust", "serverAuth"], True),
        (["-addtrust", "clientAuth"], False),
        (["-addreject", "serverAuth"], False),
        (["-addreject", "clientAuth"], True),
    ],
)
async def test_trust_is_as_openssl_has_set_it(
    settings: list[str], trusted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    command = ["openssl", "x509", "-trustout", *settings, "-setalias", "mine", "-out", path]
    subprocess.run(command, input=CA, check=True, capture_output=True)
    assert b"BEGIN TRUSTED CERTIFICATE" in path.read_bytes()
    server = {"cert": CERTIFICATE, "key": KEY}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), tls=server) as listener:
        context = ssl.create_default_context(cafile=path)
        assert (await accepts(listener.port, context)) is trusted
        assert (await accepts(listener.port, {"ca_file": path})) is trusted


async def accepts(port: int, tls: Any) -> bool:
    client = Recorder()
    try:
        socket = await mantou.connect(hostname="localhost", port=port, socket=client, tls=tls)
    except ssl.SSLCertVerificationError:
        return False
    socket.end()
    await client.until("close")
    return True


def block(kind: str, contents: bytes = b"mantou") -> bytes:
    body = base64.encodebytes(contents).decode()
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n".encode()


SSH = client_credential().key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.OpenSSH,
    serialization.NoEncryption(),
)
UNREADABLE: list[tuple[str, Any, str]] = [
    ("cert", KEY, r"holds no certificate, only PRIVATE KEY$"),
    ("cert", OTHER + KEY, r"holds no certificate, only DH PARAMETERS, PRIVATE KEY$"),
    ("cert", block("PKCS7"), r"only PKCS7: openssl pkcs7 -print_certs"),
    ("cert", CERTIFICATE + block("CERTIFICATE"), r"block 2 \(CERTIFICATE, line \d+\) does not"),
    ("cert", CERTIFICATE[:-30], r"block 1 \(CERTIFICATE, line 1\) has no END line.*cut off"),
    ("cert", CERTIFICATE.replace(b"M", b"*", 1), r"block 1 \(CERTIFICATE, line 1\) is not base64"),
    ("cert", CERTIFICATE.decode().encode("utf-16"), r"no text in ASCII or UTF-8"),
    ("cert", server_credential().der, r"in DER"),
    ("cert", b" " + CERTIFICATE, r"line 1 is more"),
    ("key", CERTIFICATE, r"holds no private key, only CERTIFICATE$"),
    ("key", SSH, r"only OPENSSH PRIVATE KEY: ssh-keygen"),
    ("key", block("PRIVATE KEY"), r"block 1 \(PRIVATE KEY, line 1\) does not hold a key"),
    ("ca", [CA, CA + block("X509 CERTIFICATE")], r"'ca' \(item 2\) is not usable: block 2"),
    ("ca", CA.replace(b"END CERT", b"END SERT"), r"ends with '?\"?-----END SERTIFICATE"),
    ("crl", CA, r"holds no certificate revocation list, only CERTIFICATE$"),
    ("crl", block("X509 CRL"), r"block 1 \(X509 CRL, line 1\) does not hold a revocation list"),
]


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("option, text, why", UNREADABLE)
async def test_what_nobody_reads_is_named(option: str, text: Any, why: str) -> None:
    said = refusal(**{option: text})
    assert said is not None
    assert f"option '{option}" in said
    assert re.search(why, said), said


@pytest.mark.parametrize("dressing", ["a byte order mark", "a tab behind BEGIN", "as it is"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_the_systems_store_is_read_the_same_way(
    dressing: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(DRESSED[dressing](CA) + CA[:-40])
    (tmp_path / "link.0").symlink_to(path)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(path if variable == "SSL_CERT_FILE" else tmp_path))
    server = {"cert": CERTIFICATE, "key": KEY}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), tls=server) as listener:
        assert await accepts(listener.port, True)

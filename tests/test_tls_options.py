"""Every field of TLSOptions, on connect() and listen(), seen by Python's ssl.

And every bad value: how it is refused.
"""

from __future__ import annotations

import os
import socket as kernel
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa

import mantou
from tests.support import RawListener, Recorder
from tests.tls import (
    VERSIONS,
    Authority,
    authority,
    client_context,
    client_credential,
    client_options,
    echo_once,
    files,
    foreign_client,
    foreign_server,
    key_pem,
    part,
    read,
    read_all,
    server_context,
    server_credential,
    server_options,
    stranger,
)

WAY_OUT = r"ssl\.SSLContext"
Options = dict[str, Any]


async def served(tls: Options, context: ssl.SSLContext, talk: Any, **client: Any) -> Any:
    """What a client of Python's ssl has to say of a listener with these options."""
    echo = Recorder(data=lambda socket, data: socket.end(data))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=echo, tls=tls) as listener:
        said = await foreign_client(context, ("127.0.0.1", listener.port), talk, **client)
        await echo.until("close")
        assert echo.errors == [None]
    return said


async def requested(tls: Options, context: ssl.SSLContext, talk: Any) -> Any:
    """What a server of Python's ssl has to say of a connection with these options."""
    client = Recorder(open=lambda socket: socket.end(b"bun"))
    async with foreign_server(context, talk) as server:
        await mantou.connect(hostname="127.0.0.1", port=server.port, socket=client, tls=tls)
        said = await server.result()
        await client.until("close")
        assert client.errors == [None]
    return said


def told(look: Callable[[ssl.SSLSocket], Any]) -> Callable[[ssl.SSLSocket], Any]:
    """A client that looks at the connection, and has something echoed."""

    def talk(tls: ssl.SSLSocket) -> Any:
        seen = look(tls)
        tls.sendall(b"bun")
        assert read(tls, 3) == b"bun"
        part(tls)
        return seen

    return talk


def heard(look: Callable[[ssl.SSLSocket], Any]) -> Callable[[ssl.SSLSocket], Any]:
    """A server that looks at the connection once it has got something."""

    def talk(tls: ssl.SSLSocket) -> Any:
        assert read(tls, 3) == b"bun"
        seen = look(tls)
        part(tls)
        return seen

    return talk


def certificate_of(tls: ssl.SSLSocket) -> bytes | None:
    return tls.getpeercert(binary_form=True)


def asking_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = server_context(version=version)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority().pem.decode())
    return context


# Keys

KEYS = [
    *((kind, form) for kind in ("ec", "p384", "rsa") for form in ("pkcs8", "traditional")),
    ("ed25519", "pkcs8"),
]


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("passphrase", [None, b"wei\xc3\x9fbrot", "weißbrot"], ids=repr)
@pytest.mark.parametrize("kind, form", KEYS)
async def test_keys_of_every_kind_serve_both_sides(
    kind: str, form: str, passphrase: str | bytes | None
) -> None:
    credential = authority().issue("localhost", kind=kind)
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    key = key_pem(credential.key, form, secret)
    assert (b"ENCRYPTED" in key) is (secret is not None)
    own: Options = {"cert": credential.cert_pem, "key": key}
    if passphrase is not None:
        own["passphrase"] = passphrase
    assert await served(own, client_context(), told(certificate_of)) == credential.der
    mutual = client_options(server_name="localhost", **own)
    assert await requested(mutual, asking_context(), heard(certificate_of)) == credential.der


async def test_a_passphrase_for_a_plain_key_does_no_harm() -> None:
    tls = server_options(passphrase="not needed")
    assert await served(tls, client_context(), told(certificate_of)) == server_credential().der


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("shape", ["str", "bytes", "path", "list", "list of paths", "files"])
async def test_pem_comes_in_many_shapes(shape: str) -> None:
    intermediate = Authority("in between", authority())
    credential = intermediate.issue("localhost", "127.0.0.1")
    leaf, above = credential.alone().cert_pem, intermediate.pem
    texts = {"key": credential.key_pem, "cert": leaf + above, "ca": authority().pem}
    with files(**texts, leaf=leaf, above=above) as paths:
        own: Options
        match shape:
            case "str":
                own = {name: text.decode() for name, text in texts.items()}
            case "bytes":
                own = dict(texts)
            case "path":
                own = {name: paths[name] for name in texts}
            case "list":
                own = {"key": [texts["key"]], "cert": [leaf.decode(), above], "ca": [texts["ca"]]}
            case "list of paths":
                own = {"key": paths["key"], "cert": [paths["leaf"], paths["above"]]}
                own["ca"] = (stranger().pem, paths["ca"])
            case _:
                own = {"key_file": str(paths["key"]), "cert_file": paths["cert"]}
                own["ca_file"] = str(paths["ca"])
        listening = own | {"request_cert": True}
        context = client_context(client_credential())
        assert await served(listening, context, told(certificate_of)) == credential.der
        server = server_context(credential)
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(cadata=authority().pem.decode())
        assert await requested(own, server, heard(certificate_of)) == credential.der


async def test_key_and_certificate_may_share_a_text() -> None:
    credential = server_credential()
    both = b"# of the server\n" + credential.key_pem + b"\n# and\n" + credential.cert_pem
    tls = {"key": both, "cert": both}
    assert await served(tls, client_context(), told(certificate_of)) == credential.der


@pytest.mark.loops("mantou")
async def test_of_several_certificates_the_fitting_one_is_shown() -> None:
    rsa_one = authority().issue("localhost", kind="rsa")
    ec_one = authority().issue("localhost")
    named = authority().issue("other.test")
    all_of_them = [rsa_one, ec_one, named]
    tls = {
        "cert": [one.cert_pem for one in all_of_them],
        "key": [one.key_pem for one in all_of_them],
    }
    for ciphers, wanted in [("ECDHE-RSA-AES128-GCM-SHA256", rsa_one), ("ECDHE+ECDSA", ec_one)]:
        context = client_context(version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(ciphers)
        assert await served(tls, context, told(certificate_of)) == wanted.der
    shown = await served(tls, client_context(), told(certificate_of), name="other.test")
    assert shown == named.der
    mutual = client_options(server_name="localhost", **tls)
    assert await requested(mutual, asking_context(), heard(certificate_of)) == rsa_one.der


# Links


@pytest.mark.parametrize("link", ["tcp", "unix", "fd"])
async def test_listeners_of_every_kind_speak_tls(link: str, tmp_path: Path) -> None:
    echo = Recorder(data=lambda socket, data: socket.end(data))
    path = str(tmp_path / "socket")
    where: Options = {"hostname": "127.0.0.1", "port": 0}
    if link == "unix":
        where = {"unix": path}
    if link == "fd":
        listening = kernel.socket(kernel.AF_UNIX, kernel.SOCK_STREAM)
        listening.bind(path)
        listening.listen()
        where = {"fd": listening.detach()}
    with mantou.listen(**where, socket=echo, tls=server_options()) as listener:
        address = ("127.0.0.1", listener.port) if link == "tcp" else path
        talk = told(certificate_of)
        assert await foreign_client(client_context(), address, talk) == server_credential().der
        await echo.until("close")
    assert echo.names == ["open", "data", "end", "close"]


@pytest.mark.parametrize("link", ["tcp", "unix", "fd"])
async def test_connections_of_every_kind_speak_tls(link: str, tmp_path: Path) -> None:
    client = Recorder()
    family = kernel.AF_INET if link == "tcp" else kernel.AF_UNIX
    path = str(tmp_path / "socket")
    address: Any = ("127.0.0.1", 0) if link == "tcp" else path
    async with foreign_server(
        server_context(), echo_once, address=address, family=family
    ) as server:
        where: Options = {"unix": path}
        if link == "tcp":
            where = {"hostname": "127.0.0.1", "port": server.port}
        if link == "fd":
            connected = kernel.socket(kernel.AF_UNIX, kernel.SOCK_STREAM)
            connected.connect(path)
            where = {"fd": connected.detach()}
        # Without a hostname it is "localhost" that is checked.
        socket = await mantou.connect(**where, socket=client, tls=client_options())
        assert socket.authorized
        assert socket.write(b"bun") == 3
        assert await client.until_received(3) == b"bun"
        socket.end()
        assert await server.result() == b"bun"
        await client.until("close")
    assert client.names == ["open", "data", "end", "close"]


# What is agreed on


@pytest.mark.parametrize("given", [["h2", "bun"], b"\x02h2\x03bun", "\x02h2\x03bun"], ids=repr)
async def test_alpn_protocols_in_all_their_forms(given: Any) -> None:
    context = client_context()
    context.set_alpn_protocols(["bun", "h2"])
    agreed = told(ssl.SSLSocket.selected_alpn_protocol)
    # The order of the server counts.
    assert await served(server_options(alpn_protocols=given), context, agreed) == "h2"
    context = server_context()
    context.set_alpn_protocols(["bun"])
    agreed = heard(ssl.SSLSocket.selected_alpn_protocol)
    tls = client_options(alpn_protocols=given, server_name="localhost")
    assert await requested(tls, context, agreed) == "bun"


async def test_no_protocol_in_common_fails_the_handshake() -> None:
    context = client_context()
    context.set_alpn_protocols(["steamed"])
    recorder = Recorder()
    tls = server_options(alpn_protocols=["h2"])
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert no application protocol"):
            await foreign_client(context, ("127.0.0.1", listener.port), read_all)
        _, error = await recorder.until("connect_error")
    assert isinstance(error, ssl.SSLError)
    assert error.reason == "NO_APPLICATION_PROTOCOL"


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("how", ["versions", "secure_options"])
async def test_versions_can_be_chosen(name: str, how: str) -> None:
    other = ssl.OP_NO_TLSv1_3 if name == "TLSv1.2" else ssl.OP_NO_TLSv1_2
    chosen: Options = {"min_version": name, "max_version": name}
    if how == "secure_options":
        chosen = {"secure_options": int(other | ssl.OP_ALL | ssl.OP_NO_SSLv3)}
    agreed = await served(server_options(**chosen), client_context(), told(ssl.SSLSocket.version))
    assert agreed == name
    tls = client_options(server_name="localhost", **chosen)
    assert await requested(tls, server_context(), heard(ssl.SSLSocket.version)) == name


async def test_without_a_version_in_common_there_is_no_connection() -> None:
    async with foreign_server(server_context(version=VERSIONS["TLSv1.2"]), read_all) as server:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
            await mantou.connect(
                hostname="127.0.0.1",
                port=server.port,
                socket=Recorder(),
                tls=client_options(min_version="TLSv1.3"),
            )
        failure = await server.failure()
    assert isinstance(failure, ssl.SSLError)
    assert failure.reason == "UNSUPPORTED_PROTOCOL"


@pytest.mark.loops("mantou")
@pytest.mark.parametrize(
    "ciphers, version, agreed",
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("ECDHE+CHACHA20:!aNULL", "TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("AES128-SHA:ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("TLS_AES_128_GCM_SHA256", "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        ("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    ],
)
async def test_ciphers_can_be_chosen(ciphers: str, version: str, agreed: str) -> None:
    def cipher(tls: ssl.SSLSocket) -> str:
        described = tls.cipher()
        assert described is not None
        return described[0]

    chosen = {"ciphers": ciphers, "max_version": version}
    assert await served(server_options(**chosen), client_context(), told(cipher)) == agreed
    tls = client_options(server_name="localhost", **chosen)
    assert await requested(tls, server_context(), heard(cipher)) == agreed


async def test_options_without_effect_are_taken() -> None:
    for side_options in (
        {"low_memory_mode": True},
        {"client_renegotiation_limit": 3, "client_renegotiation_window": 600},
    ):
        tls = server_options(**side_options)
        assert await served(tls, client_context(), told(certificate_of))
        tls = client_options(server_name="localhost", **side_options)
        assert await requested(tls, server_context(), heard(lambda tls: True))


@pytest.mark.parametrize("name", ["server_name", "servername"])
async def test_the_server_name_is_asked_for_and_checked(name: str) -> None:
    asked: list[str | None] = []
    context = server_context(authority().issue("xn--bcher-kva.test", "plain.test"))
    context.sni_callback = lambda _, name, __: asked.append(name)
    for given in ("plain.test", "Plain.Test.", "bücher.test"):
        tls = client_options(**{name: given})
        assert await requested(tls, context, heard(lambda tls: True))
    assert [str(one).lower() for one in asked] == ["plain.test", "plain.test", "xn--bcher-kva.test"]


async def test_a_server_takes_only_a_name_that_its_certificate_has() -> None:
    tls = server_options(server_name="localhost")
    assert await served(tls, client_context(), told(certificate_of))
    with pytest.raises(ValueError, match="'server_name'"):
        mantou.listen(
            hostname="127.0.0.1",
            port=0,
            socket=Recorder(),
            tls=server_options(server_name="other.test"),
        )


async def test_the_key_log_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    tls = server_options(key_log_file=path)
    await served(tls, client_context(), told(certificate_of))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"EXPORTER_SECRET " in path.read_bytes()


# Bad values


def own(**changes: Any) -> Options:
    """A certificate and its key, but for the changes."""
    return client_credential().options | changes


def broken(kind: str) -> bytes:
    """PEM that is well-formed and holds no such thing."""
    return f"-----BEGIN {kind}-----\nbWFudG91\n-----END {kind}-----\n".encode()


def unusable(key: Any) -> Options:
    return {"cert": client_credential().cert_pem, "key": key_pem(key)}


LOCKED = key_pem(client_credential().key, "pkcs8", b"right")
LOCKED_OLD = key_pem(client_credential().key, "traditional", b"right")

BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: 5, TypeError, "'tls'"),
    (lambda: "tls", TypeError, "'tls'"),
    (lambda: [], TypeError, "'tls'"),
    (lambda: {"rejectUnauthorized": True}, TypeError, "'reject_unauthorized'"),
    (lambda: {"serverName": "a.test"}, TypeError, "'server_?name'"),
    (lambda: {"chiphers": "HIGH"}, TypeError, "'chiphers'.*'ciphers'"),
    (lambda: {"key": client_credential().key_pem}, ValueError, "'key' needs 'cert'"),
    (lambda: {"cert": client_credential().cert_pem}, ValueError, "'cert' needs 'key'"),
    (lambda: own(key=5), TypeError, "'key'.*int"),
    (lambda: own(key=[5]), TypeError, "'key'.*int"),
    (lambda: own(key=[]), ValueError, "'key'"),
    (lambda: own(key=""), ValueError, "'key'.*PEM"),
    (lambda: own(key="/etc/key.pem"), ValueError, "'key'.*'key_file'"),
    (lambda: own(key=broken("PRIVATE KEY")), ValueError, "'key'"),
    (lambda: own(key=client_credential().cert_pem), ValueError, "'key'.*private key"),
    (lambda: own(key=server_credential().key_pem), ValueError, "'key'.*does not belong"),
    (lambda: own(key=[client_credential().key_pem] * 2), ValueError, "'cert'.*2 keys.*1"),
    (lambda: own(key_file="/nowhere"), ValueError, "'key'.*'key_file'"),
    (lambda: own(key=LOCKED), ValueError, "'key'.*'passphrase'"),
    (lambda: own(key=LOCKED_OLD), ValueError, "'key'.*'passphrase'"),
    (lambda: own(key=LOCKED, passphrase="wrong"), ValueError, "'key'.*'passphrase'"),
    (lambda: own(key=LOCKED_OLD, passphrase="wrong"), ValueError, "'key'.*'passphrase'"),
    (lambda: own(key=LOCKED, passphrase=""), ValueError, "'key'.*'passphrase'"),
    (lambda: own(passphrase=5), TypeError, "'passphrase'.*int"),
    (lambda: unusable(dsa.generate_private_key(1024)), ValueError, f"'key'.*{WAY_OUT}"),
    (lambda: unusable(ed448.Ed448PrivateKey.generate()), ValueError, f"'key'.*{WAY_OUT}"),
    (
        lambda: unusable(ec.generate_private_key(ec.SECP256K1())),
        ValueError,
        f"'key'.*{WAY_OUT}",
    ),
    (lambda: unusable(rsa.generate_private_key(65537, 1024)), ValueError, f"'key'.*{WAY_OUT}"),
    (lambda: own(cert=5), TypeError, "'cert'.*int"),
    (lambda: own(cert=[]), ValueError, "'cert'"),
    (lambda: own(cert="cert.pem"), ValueError, "'cert'.*'cert_file'"),
    (lambda: own(cert=broken("CERTIFICATE")), ValueError, "'cert'"),
    (lambda: own(cert=client_credential().key_pem), ValueError, "'cert'.*certificate"),
    (lambda: own(cert=client_credential().cert_pem[:-40]), ValueError, "'cert'.*PEM"),
    (lambda: own(ca=5), TypeError, "'ca'.*int"),
    (lambda: own(ca=""), ValueError, "'ca'.*PEM"),
    (lambda: own(ca=[]), ValueError, "'ca'"),
    (lambda: own(ca=[authority().pem, "ca.pem"]), ValueError, "'ca'.*'ca_file'"),
    (lambda: own(ca=broken("CERTIFICATE")), ValueError, "'ca'"),
    (lambda: own(ca=authority().pem, ca_file="/nowhere"), ValueError, "'ca'.*'ca_file'"),
    (lambda: own(crl=5), TypeError, "'crl'.*int"),
    (lambda: own(crl="none"), ValueError, "'crl'.*PEM"),
    (lambda: own(crl=broken("X509 CRL")), ValueError, "'crl'"),
    (lambda: own(crl=authority().pem), ValueError, "'crl'.*revocation list"),
    (lambda: own(alpn_protocols=5), TypeError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols=[b"h2"]), TypeError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols=[""]), ValueError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols=["x" * 256]), ValueError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols=["x" * 255] * 257), ValueError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols="h2"), ValueError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols="h2,http/1.1"), ValueError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols=b"\x00"), ValueError, "'alpn_protocols'"),
    (lambda: own(alpn_protocols="\u9992"), ValueError, "'alpn_protocols'"),
    (lambda: own(reject_unauthorized=0), TypeError, "'reject_unauthorized'.*0"),
    (lambda: own(reject_unauthorized=None), TypeError, "'reject_unauthorized'.*None"),
    (lambda: own(request_cert="yes"), TypeError, "'request_cert'.*yes"),
    (lambda: own(ciphers=5), TypeError, "'ciphers'.*5"),
    (lambda: own(ciphers=""), ValueError, "'ciphers'"),
    (lambda: own(ciphers="STEAMED-BUN"), ValueError, "'ciphers'.*STEAMED-BUN"),
    (lambda: own(ciphers="AES128-SHA"), ValueError, f"'ciphers'.*AES128-SHA.*{WAY_OUT}"),
    (lambda: own(ciphers="DHE-RSA-AES256-GCM-SHA384"), ValueError, f"'ciphers'.*{WAY_OUT}"),
    (lambda: own(min_version="TLSv1"), ValueError, f"'min_version'.*TLSv1.*{WAY_OUT}"),
    (lambda: own(max_version="TLSv1.1"), ValueError, f"'max_version'.*TLSv1.1.*{WAY_OUT}"),
    (lambda: own(min_version=0x0303), TypeError, "'min_version'.*771"),
    (lambda: own(max_version="TLSv1.4"), ValueError, "'max_version'.*TLSv1.4"),
    (
        lambda: own(min_version="TLSv1.3", max_version="TLSv1.2"),
        ValueError,
        "'min_version'.*'max_version'",
    ),
    (
        lambda: own(secure_options=int(ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3)),
        ValueError,
        "'secure_options'",
    ),
    (
        lambda: own(min_version="TLSv1.3", secure_options=int(ssl.OP_NO_TLSv1_3)),
        ValueError,
        "'secure_options'",
    ),
    (lambda: own(session=b"ticket"), TypeError, "'session'.*get_session"),
    (lambda: own(secure_options=-1), ValueError, "'secure_options'.*-1"),
    (lambda: own(secure_options=2**32), ValueError, "'secure_options'"),
    (lambda: own(secure_options=1.5), TypeError, "'secure_options'.*1.5"),
    (lambda: own(secure_options=int(ssl.OP_NO_TICKET)), ValueError, f"'secure_options'.*{WAY_OUT}"),
    (lambda: own(low_memory_mode=1), TypeError, "'low_memory_mode'.*1"),
    (lambda: own(dh_params_file="dh.pem"), ValueError, f"'dh_params_file'.*{WAY_OUT}"),
    (lambda: own(client_renegotiation_limit=-1), ValueError, "'client_renegotiation_limit'.*-1"),
    (lambda: own(client_renegotiation_window="1"), TypeError, "'client_renegotiation_window'"),
    (lambda: own(server_name=5), TypeError, "'server_name'.*5"),
    (lambda: own(server_name=""), ValueError, "'server_name'"),
    (lambda: own(servername="a\0b"), ValueError, "'servername'"),
    (lambda: own(server_name="a b"), ValueError, "'server_name'.*a b"),
    (lambda: own(server_name="-.test!"), ValueError, "'server_name'"),
    (lambda: own(server_name="a", servername="a"), TypeError, "'server_name'.*'servername'"),
    (lambda: own(key_log_file=5), TypeError, "'key_log_file'.*5"),
]


def bad_values() -> list[Any]:
    return [
        pytest.param(make, kind, words, id=f"{index}-{words[:30]}")
        for index, (make, kind, words) in enumerate(BAD)
    ]


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("make, kind, words", bad_values())
async def test_bad_values_are_refused_before_anything_is_opened(
    make: Callable[[], Any], kind: type[Exception], words: str
) -> None:
    recorder = Recorder()
    with RawListener() as raw:
        with pytest.raises(kind, match=words) as raised:
            await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder, tls=make())
        assert type(raised.value) is kind
        with pytest.raises(BlockingIOError):
            raw.sock.accept()
    with pytest.raises(kind, match=words) as raised:
        mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=make())
    assert type(raised.value) is kind
    assert recorder.events == []


@pytest.mark.parametrize("tls", [True, {}, {"ca": authority().pem}], ids=["True", "{}", "ca"])
async def test_a_server_needs_a_certificate(tls: Any) -> None:
    with pytest.raises(ValueError, match=r"'tls'.*certificate"):
        mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), tls=tls)
    with (
        mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder()) as listener,
        pytest.raises(ValueError, match=r"'tls'.*certificate"),
    ):
        listener.set_tls(tls)


async def test_secrets_stay_out_of_messages() -> None:
    key = client_credential().key_pem.decode()
    line = key.splitlines()[1]
    for tls in (own(key=key[:-40]), own(key=[key, bytearray(5)]), own(key=LOCKED, passphrase=line)):
        with pytest.raises((TypeError, ValueError)) as raised:
            await mantou.connect(hostname="127.0.0.1", port=1, socket=Recorder(), tls=tls)
        assert line not in str(raised.value)


FILES = ["key_file", "cert_file", "ca_file", "key", "cert", "ca", "crl"]


@pytest.mark.parametrize("option", FILES)
@pytest.mark.parametrize(
    "what, kind",
    [("missing", FileNotFoundError), ("directory", ValueError), ("pipe", ValueError)],
)
async def test_files_that_cannot_be_read_are_named(
    option: str, what: str, kind: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if what == "directory":
        path.mkdir()
    if what == "pipe":
        os.mkfifo(path)
    base = {name: value for name, value in own().items() if not option.startswith(name)}
    with pytest.raises(kind, match=f"'{option}'") as raised:
        await mantou.connect(
            hostname="127.0.0.1", port=1, socket=Recorder(), tls=base | {option: path}
        )
    if isinstance(raised.value, OSError):
        assert raised.value.filename == str(path)


@pytest.mark.parametrize("option", ["key_file", "cert_file", "ca_file"])
async def test_names_of_files_are_checked(option: str) -> None:
    base = {name: value for name, value in own().items() if not option.startswith(name)}
    for bad, kind in [(5, TypeError), (b"key.pem", TypeError), ("a\0b", ValueError)]:
        with pytest.raises(kind, match=f"'{option}'"):
            await mantou.connect(
                hostname="127.0.0.1", port=1, socket=Recorder(), tls=base | {option: bad}
            )


async def test_a_key_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for path, kind in [
        (tmp_path / "no" / "keys", FileNotFoundError),
        (tmp_path, IsADirectoryError),
    ]:
        with pytest.raises(kind, match="'key_log_file'") as raised:
            mantou.listen(
                hostname="127.0.0.1",
                port=0,
                socket=Recorder(),
                tls=server_options(key_log_file=path),
            )
        assert raised.value.filename == str(path)


async def test_a_hostname_that_tls_cannot_check_is_refused_at_once() -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match=r"'hostname'.*'server_name'"):
        await mantou.connect(hostname="a_b!c.test", port=1, socket=recorder, tls=True)
    assert recorder.events == []


async def test_an_address_may_have_a_zone() -> None:
    context = server_context(authority().issue("::1"))
    async with foreign_server(
        context, echo_once, address=("::1", 0), family=kernel.AF_INET6
    ) as server:
        client = Recorder(open=lambda socket: socket.write_all(b"bun"))
        socket = await mantou.connect(
            hostname="[::1%lo]", port=server.port, socket=client, tls=client_options()
        )
        await client.until_received(3)
        socket.end()
        assert await server.result() == b"bun"
        await client.until("close")

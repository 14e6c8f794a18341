"""Certificates that verification stumbles over: off means off, and on it says what is wrong."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

import mantou
from tests.odd_certificates import (
    BASIC_CONSTRAINTS,
    INHIBIT_ANY_POLICY,
    POLICY_CONSTRAINTS,
    POLICY_MAPPINGS,
    UNKNOWN,
    Odd,
    constrained,
    extension,
    names,
    odd,
    policies,
    tlv,
)
from tests.support import Recorder
from tests.tls import (
    VERSIONS,
    authority,
    client_context,
    client_options,
    echo_once,
    foreign_client,
    foreign_server,
    server_options,
)

NAMES = names("localhost")
LOCALHOST = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
NULL = b"\x05\x00"


def authority_of(above: Odd) -> Odd:
    is_ca = extension(BASIC_CONSTRAINTS, b"\x30\x03\x01\x01\xff", critical=True)
    return odd([is_ca], name="below", by=above)


@dataclass(frozen=True)
class Case:
    make: Callable[[], Odd]
    code: int = 1
    """OpenSSL's number for the failure, as mantou tells it."""
    words: str = ""
    openssl_reads: bool = True
    openssl_verifies: bool = False


CASES: dict[str, Case] = {
    "version 1, self-signed": Case(
        lambda: odd(version=1, by="itself"), 18, "self-signed certificate"
    ),
    "version 1": Case(lambda: odd(version=1), words="X.509 version 1", openssl_verifies=True),
    "version 2": Case(lambda: odd(version=2), words="X.509 version 1", openssl_verifies=True),
    "an unknown critical extension": Case(
        lambda: odd([NAMES, extension(UNKNOWN, NULL, critical=True)]),
        34,
        "unhandled critical extension 1.2.3.4",
    ),
    "two of them": Case(
        lambda: odd(
            [NAMES, *(extension(UNKNOWN + end, NULL, critical=True) for end in ("", ".5"))]
        ),
        34,
        "unhandled critical extension 1.2.3.4, 1.2.3.4.5",
    ),
    "critical policies": Case(
        lambda: odd([NAMES, policies()]),
        34,
        "unhandled critical extension 2.5.29.32",
        openssl_verifies=True,
    ),
    "critical constraints of policies": Case(
        lambda: odd([NAMES, extension(POLICY_CONSTRAINTS, b"\x30\x03\x80\x01\x00", critical=True)]),
        34,
        "unhandled critical extension 2.5.29.36",
        openssl_verifies=True,
    ),
    "no policy but named ones": Case(
        lambda: odd([NAMES, extension(INHIBIT_ANY_POLICY, b"\x02\x01\x00", critical=True)]),
        34,
        "unhandled critical extension 2.5.29.54",
        openssl_verifies=True,
    ),
    "critical mappings of policies": Case(
        lambda: odd(
            [
                NAMES,
                extension(
                    POLICY_MAPPINGS, bytes.fromhex("300a300806022a0306022a04"), critical=True
                ),
            ]
        ),
        34,
        "unhandled critical extension 2.5.29.33",
        openssl_verifies=True,
    ),
    "an extension twice": Case(
        lambda: odd([NAMES, NAMES]), words="malformed, or there twice", openssl_reads=False
    ),
    "an extension that is none": Case(
        lambda: odd([b"\x05\x00"]), words="not correctly encoded", openssl_reads=False
    ),
    "nonsense behind the key": Case(
        lambda: odd(behind=b"\xff\xff\xff\xff"), words="", openssl_reads=False
    ),
    "constraints that are none": Case(
        lambda: odd([NAMES, extension(BASIC_CONSTRAINTS, b"\x02\x01\x07")]),
        words="not correctly encoded",
        openssl_reads=False,
    ),
    "a name that its issuer must not vouch for": Case(
        lambda: odd([NAMES], by=constrained(tlv(0x82, b"other.test"))),
        47,
        "permitted subtree violation",
    ),
    "an issuer with constraints of the subject": Case(
        lambda: odd([NAMES], by=constrained(tlv(0xA4, LOCALHOST.public_bytes()))),
        47,
        "permitted subtree violation",
        openssl_verifies=True,
    ),
    "an issuer that must have none below": Case(
        lambda: odd([NAMES], by=authority_of(constrained(path_length=0))),
        25,
        "path length constraint exceeded",
    ),
}

cases = pytest.mark.parametrize("name", CASES)
versions = pytest.mark.parametrize("version", VERSIONS)


def load(context: ssl.SSLContext, own: Odd) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(own.cert_pem + own.key_pem)
        file.flush()
        context.load_cert_chain(file.name)


def check(error: object, case: Case) -> None:
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == case.code
    assert case.words in error.verify_message


@contextlib.asynccontextmanager
async def server_with(case: Case, version: str) -> AsyncIterator[int]:
    """OpenSSL's server, or ours where OpenSSL does not read the certificate. Its port."""
    own = case.make()
    if case.openssl_reads:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load(context, own)
        context.minimum_version = context.maximum_version = VERSIONS[version]
        async with foreign_server(context, echo_once) as server:
            yield server.port
        return
    server = Recorder(data=lambda socket, data: socket.write(data))
    tls = own.options | {"min_version": version, "max_version": version}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=tls) as listener:
        yield listener.port


@pytest.mark.loops("mantou")
@versions
@cases
async def test_a_client_takes_any_certificate_if_it_is_told_to(name: str, version: str) -> None:
    case = CASES[name]
    client = Recorder()
    async with server_with(case, version) as port:
        socket = await mantou.connect(
            hostname="127.0.0.1",
            port=port,
            socket=client,
            tls=client_options(reject_unauthorized=False, server_name="localhost"),
        )
        assert socket.get_tls_version() == version
        assert socket.authorized is False
        check(socket.get_authorization_error(), case)
        assert socket.get_peer_certificate()["raw"][:1] == b"\x30"
        socket.write(b"bun")
        await client.until_received(3)
        socket.end()
        await client.until("close")


@pytest.mark.loops("mantou")
@versions
@cases
async def test_a_client_refuses_it_otherwise_and_says_why(name: str, version: str) -> None:
    case = CASES[name]
    async with server_with(case, version) as port:
        with pytest.raises(ssl.SSLCertVerificationError) as raised:
            await mantou.connect(
                hostname="127.0.0.1",
                port=port,
                socket=Recorder(),
                tls=client_options(server_name="localhost"),
            )
        check(raised.value, case)


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("strict", [False, True])
@versions
@cases
async def test_a_server_takes_any_certificate_if_it_is_told_to(
    name: str, version: str, strict: bool
) -> None:
    case = CASES[name]
    errors: list[BaseException | None] = []
    server = Recorder(
        open=lambda socket: errors.append(socket.get_authorization_error()),
        data=lambda socket, data: socket.write(data),
    )
    tls = server_options(
        ca=authority().pem,
        request_cert=True,
        reject_unauthorized=strict,
        min_version=version,
        max_version=version,
    )
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=tls) as listener:
        if case.openssl_reads:
            context = client_context()
            load(context, case.make())
            talk = foreign_client(context, ("127.0.0.1", listener.port), exchange)
        else:
            talk = exchange_with_mantou(listener.port, case.make(), refused=strict)
        if strict:
            with contextlib.suppress(OSError):
                await talk
            _, error = await server.until("connect_error")
            check(error, case)
            return
        assert await talk == b"bun"
        (accepted,) = server.sockets
        assert accepted.authorized is False
        check(errors[0], case)
        await server.until("close")


def exchange(tls: ssl.SSLSocket) -> bytes:
    tls.sendall(b"bun")
    answer = tls.recv(3)
    tls.unwrap()
    return answer


async def exchange_with_mantou(port: int, own: Odd, *, refused: bool) -> bytes:
    client = Recorder(open=lambda socket: socket.write(b"bun"))
    tls = client_options(server_name="localhost", **own.options)
    socket = await mantou.connect(hostname="127.0.0.1", port=port, socket=client, tls=tls)
    if not refused:
        await client.until_received(3)
        socket.end()
    # With TLS 1.3 a client is told only after it thinks to be connected.
    await client.until("close")
    return bytes(client.received)


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.openssl_reads])
async def test_an_ssl_context_is_the_way_out_where_openssl_verifies(name: str) -> None:
    case = CASES[name]
    client = Recorder()
    async with server_with(case, "TLSv1.3") as port:
        connecting = mantou.connect(
            hostname="127.0.0.1", port=port, socket=client, tls=lenient_about_the_name()
        )
        if not case.openssl_verifies:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connecting
            return
        socket = await connecting
        assert socket.authorized
        socket.write(b"bun")
        await client.until_received(3)
        socket.end()
        await client.until("close")


def lenient_about_the_name() -> ssl.SSLContext:
    context = client_context()
    context.check_hostname = False
    return context


@versions
async def test_what_is_allowed_by_constraints_is_verified(version: str) -> None:
    case = Case(lambda: odd([NAMES], by=constrained(tlv(0x82, b"localhost"))))
    await verified_echo(case, version, client_options(server_name="localhost"))


async def test_an_old_root_may_be_trusted() -> None:
    root = odd(version=1, name="old root", by="itself")
    case = Case(lambda: Odd((leaf := odd([NAMES], by=root)).der, leaf.key, leaf.subject))
    await verified_echo(case, "TLSv1.3", {"ca": root.cert_pem, "server_name": "localhost"})


async def verified_echo(case: Case, version: str, tls: mantou.TLSOptions) -> None:
    client = Recorder()
    async with server_with(case, version) as port:
        socket = await mantou.connect(hostname="127.0.0.1", port=port, socket=client, tls=tls)
        assert socket.authorized
        socket.write(b"bun")
        await client.until_received(3)
        socket.end()
        await client.until("close")


async def test_an_old_certificate_that_is_trusted_itself_needs_no_more() -> None:
    own = odd(version=1, by="itself")
    server = Recorder(data=lambda socket, data: socket.write(data))
    tls = server_options(ca=own.cert_pem, request_cert=True)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=tls) as listener:
        context = client_context()
        load(context, own)
        assert await foreign_client(context, ("127.0.0.1", listener.port), exchange) == b"bun"
        assert server.sockets[0].authorized
        await server.until("close")
    # A name it has not, so for a client it is still none.
    async with server_with(Case(lambda: own), "TLSv1.3") as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await mantou.connect(
                hostname="127.0.0.1",
                port=port,
                socket=Recorder(),
                tls={"ca": own.cert_pem, "server_name": "localhost"},
            )


async def test_an_old_certificate_of_ones_own_is_refused_with_the_way_out() -> None:
    own = odd(version=1, by="itself")
    with pytest.raises(ValueError, match=r"'cert'.*X\.509 version 1.*openssl.*ssl\.SSLContext"):
        mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), tls=own.options)


async def test_policies_in_ones_own_certificate_are_no_matter() -> None:
    own = odd([NAMES, policies()])
    server = Recorder(data=lambda socket, data: socket.write(data))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=own.options) as listener:
        address = ("127.0.0.1", listener.port)
        assert await foreign_client(client_context(), address, exchange) == b"bun"
        await server.until("close")


@versions
async def test_a_key_that_cannot_be_checked_is_refused_and_named(version: str) -> None:
    small = authority().issue("localhost", key=rsa.generate_private_key(65537, 1024))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = VERSIONS[version]
    small.load_into(context)
    async with foreign_server(context, echo_once) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match="RSA below 2048 bits"):
            await mantou.connect(
                hostname="127.0.0.1",
                port=server.port,
                socket=Recorder(),
                tls=client_options(reject_unauthorized=False),
            )
        assert isinstance(await server.failure(), ssl.SSLError)

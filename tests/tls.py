"""What tests of TLS need: certificates of every kind, and peers that are not mantou.

The peers are Python's `ssl`, in a thread with blocking sockets, and commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import ipaddress
import socket as kernel
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import mantou
from tests.support import Recorder

T = TypeVar("T")

# Bounds what a foreign peer waits for; far more than it needs.
PEER_TIMEOUT = 20.0

_DAY = datetime.timedelta(days=1)
_NOW = datetime.datetime.now(datetime.UTC)
VALID = (_NOW - _DAY, _NOW + 30 * _DAY)
EXPIRED = (_NOW - 30 * _DAY, _NOW - _DAY)
NOT_YET_VALID = (_NOW + _DAY, _NOW + 30 * _DAY)

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS: dict[str, ssl.TLSVersion] = {"TLSv1.2": TLS12, "TLSv1.3": TLS13}

SERVER_AUTH, CLIENT_AUTH = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

_PEM = serialization.Encoding.PEM
_PLAIN = serialization.NoEncryption()


# Certificates


def new_key(kind: str = "ec") -> Any:
    match kind:
        case "rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Any, form: str = "pkcs8", passphrase: bytes | None = None) -> bytes:
    """A private key as PKCS#8, or in the older form of its algorithm (PKCS#1, SEC1)."""
    formats = serialization.PrivateFormat
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase is not None else _PLAIN
    )
    chosen = formats.PKCS8 if form == "pkcs8" else formats.TraditionalOpenSSL
    return bytes(key.private_bytes(_PEM, chosen, encryption))


@dataclass(frozen=True)
class Credential:
    """A certificate, its key, and the chain that goes with it."""

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def cert_pem(self) -> bytes:
        """The certificate and its chain."""
        return b"".join(one.public_bytes(_PEM) for one in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def options(self) -> dict[str, Any]:
        """As mantou's TLSOptions."""
        return {"cert": self.cert_pem, "key": self.key_pem}

    def alone(self) -> Credential:
        """Without its chain."""
        return Credential(self.certificate, self.key)

    def load_into(self, context: ssl.SSLContext) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.cert_pem + self.key_pem)
            file.flush()
            context.load_cert_chain(file.name)


class Authority:
    """Issues certificates."""

    def __init__(self, name: str, parent: Authority | None = None, kind: str = "ec") -> None:
        self.key = new_key(kind)
        self.parent = parent
        self.certificate = _sign(name, [], self.key, parent, VALID, None, is_ca=True)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    def issue(
        self,
        *names: str,
        common_name: str = "steamed bun",
        validity: tuple[datetime.datetime, datetime.datetime] = VALID,
        usage: x509.ObjectIdentifier | None = None,
        key: Any = None,
        kind: str = "ec",
    ) -> Credential:
        """A certificate for these names and addresses, with the intermediates above it."""
        key = key or new_key(kind)
        certificate = _sign(common_name, list(names), key, self, validity, usage)
        chain = (self.certificate,) if self.parent is not None else ()
        return Credential(certificate, key, chain)

    def revoke(
        self,
        *credentials: Credential,
        validity: tuple[datetime.datetime, datetime.datetime] = VALID,
    ) -> bytes:
        """A revocation list with these certificates."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(validity[0])
            .next_update(validity[1])
        )
        for credential in credentials:
            revoked = x509.RevokedCertificateBuilder().serial_number(
                credential.certificate.serial_number
            )
            builder = builder.add_revoked_certificate(revoked.revocation_date(VALID[0]).build())
        number = builder.add_extension(x509.CRLNumber(1), critical=False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
            critical=False,
        )
        return number.sign(self.key, hashes.SHA256()).public_bytes(_PEM)


def self_signed(*names: str) -> Credential:
    key = new_key()
    return Credential(_sign("myself", list(names), key, None, VALID, None), key)


def _sign(
    name: str,
    names: list[str],
    key: Any,
    issuer: Authority | None,
    validity: tuple[datetime.datetime, datetime.datetime],
    usage: x509.ObjectIdentifier | None,
    *,
    is_ca: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if is_ca:
        signs = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(signs, critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(one) for one in names])
        builder = builder.add_extension(alternatives, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    is_edwards = isinstance(signer, ed25519.Ed25519PrivateKey)
    return builder.sign(signer, None if is_edwards else hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@functools.cache
def authority() -> Authority:
    """The one that tests trust."""
    return Authority("mantou test root")


@functools.cache
def stranger() -> Authority:
    """One that nobody trusts."""
    return Authority("unknown root")


@functools.cache
def server_credential() -> Credential:
    """For localhost and its addresses."""
    return authority().issue("localhost", "127.0.0.1", "::1")


@functools.cache
def client_credential() -> Credential:
    return authority().issue(common_name="a client", usage=CLIENT_AUTH)


def server_options(**options: Any) -> dict[str, Any]:
    """TLSOptions of a listener."""
    return server_credential().options | options


def client_options(**options: Any) -> dict[str, Any]:
    """TLSOptions of a client that trusts the authority."""
    return {"ca": authority().pem} | options


# Handlers


class HandshakeRecorder(Recorder):
    """A recorder that also has a `handshake` handler, so that `open` does not wait for it."""

    def handshake(
        self, socket: mantou.Socket[Any], success: bool, error: BaseException | None
    ) -> object:
        return self._note("handshake", socket, success, error)


# Peers of Python's ssl


def server_context(
    credential: Credential | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (credential or server_credential()).load_into(context)
    _only(context, version)
    return context


def client_context(
    credential: Credential | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Trusts the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority().pem.decode())
    if credential is not None:
        credential.load_into(context)
    _only(context, version)
    return context


def _only(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> None:
    if version is not None:
        context.minimum_version = context.maximum_version = version


@dataclass
class ForeignServer:
    """A server of Python's ssl that talks to one client, in a thread."""

    address: Any
    outcome: asyncio.Future[Any]
    """What the talk returned, or why the handshake or the talk failed."""
    messages: list[tuple[str, str]] = field(default_factory=list)
    """Handshake messages as OpenSSL saw them, decrypted: ("read", "CERTIFICATE")."""

    @property
    def port(self) -> int:
        port: int = self.address[1]
        return port

    async def result(self) -> Any:
        return await self.outcome

    async def failure(self) -> BaseException:
        """Why the talk failed."""
        try:
            result = await self.outcome
        except OSError as error:
            return error
        raise AssertionError(f"the peer did not fail, it has {result!r}")


@contextlib.asynccontextmanager
async def foreign_server(
    context: ssl.SSLContext,
    talk: Callable[[ssl.SSLSocket], T],
    *,
    address: Any = ("127.0.0.1", 0),
    family: int = kernel.AF_INET,
) -> AsyncIterator[ForeignServer]:
    """Listens; accepts one connection, shakes hands and talks."""
    listening = kernel.socket(family, kernel.SOCK_STREAM)
    listening.bind(address)
    listening.listen(4)
    listening.settimeout(PEER_TIMEOUT)
    messages: list[tuple[str, str]] = []

    def note(_: Any, direction: str, __: Any, content: Any, kind: Any, ___: bytes) -> None:
        messages.append((direction, getattr(kind, "name", str(kind))))

    context._msg_callback = note  # type: ignore[attr-defined]

    def serve() -> T:
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(PEER_TIMEOUT)
            with context.wrap_socket(accepted, server_side=True) as tls:
                return talk(tls)

    future = asyncio.get_running_loop().run_in_executor(None, serve)
    try:
        yield ForeignServer(listening.getsockname(), future, messages)
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(kernel.SHUT_RDWR)
        await asyncio.wait([future])
        # Whoever did not ask does not want to know.
        future.exception()
        listening.close()


async def foreign_client(
    context: ssl.SSLContext,
    address: Any,
    talk: Callable[[ssl.SSLSocket], T],
    *,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
) -> T:
    """Connects with Python's ssl, shakes hands and talks, in a thread."""

    def run() -> T:
        family = kernel.AF_UNIX if isinstance(address, str | bytes) else kernel.AF_INET
        with kernel.socket(family, kernel.SOCK_STREAM) as sock:
            sock.settimeout(PEER_TIMEOUT)
            sock.connect(address)
            with context.wrap_socket(sock, server_hostname=name, session=session) as tls:
                return talk(tls)

    return await asyncio.get_running_loop().run_in_executor(None, run)


def read_all(tls: ssl.SSLSocket) -> bytes:
    """Everything up to the peer's close_notify. A bare FIN is an error."""
    received = bytearray()
    while piece := tls.recv(65536):
        received += piece
    return bytes(received)


def read(tls: ssl.SSLSocket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size and (piece := tls.recv(size - len(received))):
        received += piece
    return bytes(received)


def part(tls: ssl.SSLSocket) -> None:
    """Waits for the peer's close_notify, with nothing before it, and answers it."""
    assert read_all(tls) == b""
    tls.unwrap()


def echo_once(tls: ssl.SSLSocket) -> bytes:
    """Sends back what comes first, and waits for the goodbye."""
    received = tls.recv(65536)
    tls.sendall(received)
    part(tls)
    return received


# Commands


@contextlib.contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command; ends it on leaving. What it says on stderr is in its stdout."""
    pipe = subprocess.PIPE
    # Not asyncio's: the thread that waits for such a process outlives the loop for a moment.
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


async def read_until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    """What a process says up to these words, and the rest of their line."""
    assert process.stdout is not None
    said = bytearray()
    while words not in said or not said.endswith(b"\n"):
        line = await asyncio.to_thread(process.stdout.readline)
        assert line, f"ended without {words!r}: {bytes(said)!r}"
        said += line
    return bytes(said)


@contextlib.contextmanager
def files(**contents: bytes) -> Iterator[dict[str, Path]]:
    """Files with these contents, by name."""
    with tempfile.TemporaryDirectory() as directory:
        paths = {name: Path(directory) / name for name in contents}
        for name, content in contents.items():
            paths[name].write_bytes(content)
        yield paths

"""What each verifier makes of a chain: mantou, OpenSSL within it and alone, cryptography."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509 import verification

import mantou
from tests.certificates.showing import (
    HELLO_DONE,
    ShowingServer,
    Wire,
    client_flight,
    client_hello,
    in_records,
    server_flight,
    show_to_server,
)
from tests.support import Recorder
from tests.tls import server_credential


@dataclass(frozen=True)
class Shown:
    """What a peer shows (DER, its own first), and whom the other side trusts."""

    chain: Sequence[bytes]
    key: Any
    roots: Sequence[bytes]
    asked: str
    """The name that a client asks for."""


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    words: str = ""

    def __str__(self) -> str:
        return "accepted" if self.accepted else f"refused: {self.words}"


ACCEPTED = Verdict(True)
ONE_IN_OTHERS_PLACE = ("OpenSSL's in mantou", "mantou.SSLContext")
"""Columns that must be as OpenSSL's own."""


def pem(ders: Sequence[bytes]) -> str:
    return "".join(map(ssl.DER_cert_to_PEM_cert, ders))


def context_of(kind: type[ssl.SSLContext], shown: Shown, *, server_side: bool) -> ssl.SSLContext:
    return _context(kind, tuple(shown.roots), server_side)


@functools.lru_cache(16)
def _context(
    kind: type[ssl.SSLContext], roots: tuple[bytes, ...], server_side: bool
) -> ssl.SSLContext:
    made = kind(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    if server_side:
        made.verify_mode = ssl.CERT_REQUIRED
        server_credential().load_into(made)
    made.load_verify_locations(cadata=pem(roots))
    return made


def refusal(error: BaseException | None) -> Verdict:
    """The verdict behind an error of a handshake; a peer that has gone away has been accepted."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Verdict(False, error.verify_message)
    if error is None or isinstance(error, ssl.SSLEOFError | ConnectionError):
        return ACCEPTED
    if isinstance(error, ssl.SSLError):
        return Verdict(False, error.reason or str(error))
    raise error


# As a client


@contextlib.asynccontextmanager
async def judging_servers() -> AsyncIterator[ClientSide]:
    async with ShowingServer() as server:
        yield ClientSide(server)


class ClientSide:
    """Clients that are shown what a server has."""

    def __init__(self, server: ShowingServer) -> None:
        self._server = server

    async def mantou(self, shown: Shown) -> Verdict:
        tls = {"ca": pem(shown.roots), "server_name": shown.asked}
        return await self._connect(shown, tls)

    async def all(self, shown: Shown) -> dict[str, Verdict]:
        return {
            "mantou": await self.mantou(shown),
            "OpenSSL": openssl_client(shown),
            "OpenSSL's in mantou": await self._with_context(ssl.SSLContext, shown),
            "mantou.SSLContext": await self._with_context(mantou.SSLContext, shown),
            "cryptography": cryptography_client(shown),
        }

    async def _with_context(self, kind: type[ssl.SSLContext], shown: Shown) -> Verdict:
        return await self._connect(shown, context_of(kind, shown, server_side=False))

    async def _connect(self, shown: Shown, tls: Any) -> Verdict:
        self._server.show(shown.chain, shown.key)
        error: BaseException | None = None
        options: dict[str, Any] = {"hostname": "127.0.0.1", "port": self._server.port}
        try:
            await mantou.connect(**options, socket=HelloName(shown.asked), tls=tls)
        except OSError as raised:
            error = raised
        verdict = refusal(error)
        await self._server.client_gone()
        assert verdict.accepted is went_on(self._server.wire), (shown.asked, verdict, error)
        return verdict


class HelloName:
    """Handlers that set the name before the handshake begins: a context cannot be told it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self, socket: mantou.Socket[Any]) -> None:
        socket.set_servername(self._name)

    def handshake(self, socket: mantou.Socket[Any], success: bool, error: object) -> None: ...

    def data(self, socket: mantou.Socket[Any], data: bytes) -> None: ...


def went_on(wire: Wire) -> bool:
    """Whether a client went on with the handshake: else it has sent an alert."""
    goes = len(wire.heard) > 1
    assert goes or wire.alert is not None, "neither went on nor said why not"
    return goes


def openssl_client(shown: Shown) -> Verdict:
    context = context_of(ssl.SSLContext, shown, server_side=False)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = context.wrap_bio(incoming, outgoing, False, shown.asked)
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    wire = Wire()
    wire.feed(outgoing.read())
    incoming.write(server_flight(wire.heard[0][1], shown.chain, shown.key))
    return _go_on(talk)


def _go_on(talk: ssl.SSLObject) -> Verdict:
    try:
        talk.do_handshake()
    except ssl.SSLWantReadError:
        return ACCEPTED
    except ssl.SSLError as error:
        return refusal(error)
    raise AssertionError("a handshake was done without keys")


def cryptography_client(shown: Shown) -> Verdict:
    try:
        asked: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(shown.asked))
    except ValueError:
        try:
            asked = x509.DNSName(shown.asked)
        except ValueError as error:
            return Verdict(False, str(error))
    return _by_cryptography(shown, lambda policy: policy.build_server_verifier(asked))


def _by_cryptography(shown: Shown, build: Any) -> Verdict:
    try:
        roots = [x509.load_der_x509_certificate(one) for one in shown.roots]
        leaf, *rest = [x509.load_der_x509_certificate(one) for one in shown.chain]
        policy = verification.PolicyBuilder().store(verification.Store(roots))
        build(policy).verify(leaf, rest)
    except (ValueError, verification.VerificationError, x509.InvalidVersion) as error:
        return Verdict(False, _words(error))
    return ACCEPTED


def _words(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("validation failed: ")


# As a server


async def mantou_server(shown: Shown) -> Verdict:
    tls = server_credential().options | {"ca": pem(shown.roots), "request_cert": True}
    return await _listen(shown, tls | {"reject_unauthorized": True})


async def all_servers(shown: Shown) -> dict[str, Verdict]:
    return {
        "mantou": await mantou_server(shown),
        "OpenSSL": openssl_server(shown),
        "OpenSSL's in mantou": await _listen(
            shown, context_of(ssl.SSLContext, shown, server_side=True)
        ),
        "mantou.SSLContext": await _listen(
            shown, context_of(mantou.SSLContext, shown, server_side=True)
        ),
        "cryptography": _by_cryptography(shown, lambda policy: policy.build_client_verifier()),
    }


async def _listen(shown: Shown, tls: Any) -> Verdict:
    server = Recorder()
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=tls) as listener:
        wire = await show_to_server(listener.port, shown.chain, shown.key)
        _, error = await server.until("connect_error")
    verdict = refusal(error)
    assert verdict.accepted is (wire.alert is None), (verdict, error, wire.alert)
    return verdict


def openssl_server(shown: Shown) -> Verdict:
    context = context_of(ssl.SSLContext, shown, server_side=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = context.wrap_bio(incoming, outgoing, True)
    hello = client_hello()
    incoming.write(in_records(hello))
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    wire = Wire()
    wire.feed(outgoing.read())
    assert HELLO_DONE in wire.kinds()
    incoming.write(client_flight(hello, wire, shown.chain, shown.key))
    return _go_on(talk)

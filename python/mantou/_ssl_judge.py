"""An `ssl.SSLContext` judges a certificate that it was not shown in a handshake of its own.

The `ssl` module verifies in handshakes only. So it gets the beginning of one, in memory: up to the
peer's certificates, TLS 1.2 has neither encryption nor signatures. That OpenSSL then asks for the
rest of the handshake says that it has accepted them; else it says what is wrong, in its own words,
with the very exception and alert that a connection of its own would have had.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Sequence
from typing import Any, cast

from ._core import key_algorithm

_ALERT, _HANDSHAKE = 21, 22
_SERVER_HELLO, _CERTIFICATE = 2, 11
_VERSION = b"\x03\x03"
_LONGEST_RECORD = 1 << 14
_HEADER = 5
_RSA = "1.2.840.113549.1.1.1"
# What a client asks for that would renegotiate safely; OpenSSL insists on an answer.
_RENEGOTIATION_INFO = b"\xff\x01\x00\x01\x00"


def judge(
    context: ssl.SSLContext, server_side: bool, server_name: str | None, chain: Sequence[bytes]
) -> tuple[ssl.SSLError, int] | None:
    """Whether a peer with this chain (DER) is accepted: else the exception, and the alert for it.

    :param server_side: the context is that of a server, and the peer a client.
    :param server_name: whom a client wanted to talk to.
    """
    error, alert, _ = _show(context, server_side, server_name, chain)
    return None if error is None else (error, alert)


def verified_chain(
    context: ssl.SSLContext, server_side: bool, server_name: str | None, chain: Sequence[bytes]
) -> list[bytes]:
    """The chain (DER) by which a peer's certificate is trusted, up to the trust store's.

    Where nothing is verified, as far as it goes.
    """
    error, _, talk = _show(context, server_side, server_name, chain)
    if error is not None:
        return []
    found: Any = cast("Any", talk)._sslobj.get_verified_chain()
    return [one.public_bytes(cast("Any", ssl)._ssl.ENCODING_DER) for one in found or ()]


def _show(
    context: ssl.SSLContext, server_side: bool, server_name: str | None, chain: Sequence[bytes]
) -> tuple[ssl.SSLError | None, int, ssl.SSLObject]:
    """Shows a chain to the context: why it is refused, if it is, with which alert; and to whom."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = context.wrap_bio(incoming, outgoing, server_side, server_name)
    if server_side:
        incoming.write(_client_hello())
    _advance(talk)
    said = outgoing.read()
    beginning = b"" if server_side else _server_hello(said, chain[0])
    incoming.write(_records(beginning + _certificates(chain)))
    try:
        talk.do_handshake()
    except ssl.SSLWantReadError:
        return None, 0, talk
    except ssl.SSLError as error:
        if error.reason == "WRONG_CERTIFICATE_TYPE":
            # It has been verified; what it does not fit is our cipher.
            return None, 0, talk
        return error, _alert(outgoing.read()), talk
    raise AssertionError("a handshake was done without keys")


def _advance(talk: ssl.SSLObject) -> None:
    try:
        talk.do_handshake()
    except ssl.SSLWantReadError:
        return


def _server_hello(hello: bytes, certificate: bytes) -> bytes:
    """The answer of a server with such a certificate: TLS 1.2, and a cipher that was offered."""
    wanted = "auth-rsa" if key_algorithm(certificate) == _RSA else "auth-ecdsa"
    kinds = _ciphers()
    old = [suite for suite in _offered(hello) if suite in kinds]
    suite = next((suite for suite in old if kinds[suite] == wanted), old[0])
    random, session, no_compression = bytes(32), b"\0", b"\0"
    extensions = len(_RENEGOTIATION_INFO).to_bytes(2, "big") + _RENEGOTIATION_INFO
    hello = _VERSION + random + session + suite.to_bytes(2, "big") + no_compression + extensions
    return _message(_SERVER_HELLO, hello)


def _offered(hello: bytes) -> list[int]:
    """The ciphers that a client offers, by their numbers."""
    # A record's header, a message's header, the version and a random number; then the session.
    at = _HEADER + 4 + 2 + 32
    at += 1 + hello[at]
    suites = hello[at + 2 : at + 2 + int.from_bytes(hello[at : at + 2], "big")]
    return [int.from_bytes(suites[i : i + 2], "big") for i in range(0, len(suites), 2)]


@functools.cache
def _ciphers() -> dict[int, str]:
    """The kind of certificate that goes with each of OpenSSL's ciphers up to TLS 1.2."""
    return {
        int(cipher["id"]) & 0xFFFF: cipher["auth"]
        for cipher in _able_to_do_anything().get_ciphers()
        if cipher["protocol"] != "TLSv1.3"
    }


@functools.cache
def _client_hello() -> bytes:
    """What a client says that can do everything that OpenSSL can, up to TLS 1.2."""
    outgoing = ssl.MemoryBIO()
    _advance(_able_to_do_anything().wrap_bio(ssl.MemoryBIO(), outgoing))
    return outgoing.read()


def _able_to_do_anything() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return context


def _certificates(chain: Sequence[bytes]) -> bytes:
    listed = b"".join(len(der).to_bytes(3, "big") + der for der in chain)
    return _message(_CERTIFICATE, len(listed).to_bytes(3, "big") + listed)


def _message(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "big") + content


def _records(messages: bytes) -> bytes:
    pieces = (
        messages[at : at + _LONGEST_RECORD] for at in range(0, len(messages), _LONGEST_RECORD)
    )
    return b"".join(
        bytes([_HANDSHAKE]) + _VERSION + len(piece).to_bytes(2, "big") + piece for piece in pieces
    )


def _alert(said: bytes) -> int:
    """The alert that OpenSSL has to send: its last record."""
    while said[:1] != bytes([_ALERT]) and len(said) > _HEADER:
        said = said[_HEADER + int.from_bytes(said[3:_HEADER], "big") :]
    return said[_HEADER + 1] if len(said) > _HEADER + 1 else 0

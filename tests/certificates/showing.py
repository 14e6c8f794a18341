"""Peers that show any certificates, read or unread: the beginning of a handshake of TLS 1.2.

Up to the certificates nothing is encrypted, and what a program does next says what it makes of
them: it goes on, or sends an alert.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from tests.certificates.building import sign

ALERT, HANDSHAKE = 21, 22
CLIENT_HELLO, SERVER_HELLO, CERTIFICATE = 1, 2, 11
SERVER_KEY_EXCHANGE, HELLO_DONE = 12, 14
CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE = 15, 16
_VERSION = b"\x03\x03"
_X25519 = b"\x00\x1d"
_ECDSA_SUITE, _RSA_SUITE = b"\xc0\x2b", b"\xc0\x2f"
_RENEGOTIATION_INFO = b"\xff\x01\x00\x01\x00"


def sized(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def message(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + sized(content, 3)


def in_records(messages: bytes) -> bytes:
    pieces = (messages[at : at + 16384] for at in range(0, len(messages), 16384))
    return b"".join(bytes([HANDSHAKE]) + _VERSION + sized(one, 2) for one in pieces)


def certificates(chain: Sequence[bytes]) -> bytes:
    return message(CERTIFICATE, sized(b"".join(sized(der, 3) for der in chain), 3))


class Wire:
    """What a peer has sent: whole records as they come."""

    def __init__(self) -> None:
        self._pending = b""
        self._messages = b""
        self.alert: int | None = None
        self.heard: list[tuple[int, bytes]] = []
        """Its messages, by kind."""
        self.transcript = b""
        """All of them as they were sent."""

    def feed(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= 5:
            end = 5 + int.from_bytes(self._pending[3:5], "big")
            if len(self._pending) < end:
                return
            kind, content = self._pending[0], self._pending[5:end]
            self._pending = self._pending[end:]
            if kind == ALERT and content[0] == 2:
                self.alert = content[1]
            elif kind == HANDSHAKE:
                self._messages += content
                self.heard += self._whole()

    def _whole(self) -> Iterator[tuple[int, bytes]]:
        while len(self._messages) >= 4:
            end = 4 + int.from_bytes(self._messages[1:4], "big")
            if len(self._messages) < end:
                return
            self.transcript += self._messages[:end]
            yield self._messages[0], self._messages[4:end]
            self._messages = self._messages[end:]

    def kinds(self) -> list[int]:
        return [kind for kind, _ in self.heard]


def server_flight(hello: bytes, chain: Sequence[bytes], key: Any) -> bytes:
    """What a server answers to a ClientHello, with a key exchange that its key has signed."""
    random = os.urandom(24) + bytes(8)
    suite = _RSA_SUITE if isinstance(key, rsa.RSAPrivateKey) else _ECDSA_SUITE
    extensions = sized(_RENEGOTIATION_INFO, 2)
    opening = message(SERVER_HELLO, _VERSION + random + b"\0" + suite + b"\0" + extensions)
    own = x25519.X25519PrivateKey.generate().public_key()
    raw = own.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    parameters = b"\x03" + _X25519 + sized(raw, 1)
    scheme, over = _scheme(key)
    signed = sign(key, hello[2:34] + random + parameters, over)
    exchange = message(SERVER_KEY_EXCHANGE, parameters + scheme + sized(signed, 2))
    return in_records(opening + certificates(chain) + exchange + message(HELLO_DONE, b""))


def _scheme(key: Any) -> tuple[bytes, Any]:
    """The SignatureScheme for a key, and its hash."""
    if isinstance(key, rsa.RSAPrivateKey):
        return b"\x04\x01", hashes.SHA256()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"\x08\x07", None
    if isinstance(key, ed448.Ed448PrivateKey):
        return b"\x08\x08", None
    if isinstance(key.curve, ec.SECP384R1):
        return b"\x05\x03", hashes.SHA384()
    if isinstance(key.curve, ec.SECP521R1):
        return b"\x06\x03", hashes.SHA512()
    return b"\x04\x03", hashes.SHA256()


def client_hello() -> bytes:
    """The ClientHello of TLS 1.2 of somebody who takes every certificate."""
    schemes = bytes.fromhex("040305030603080708080804080508060401050106010201")
    extensions = b"".join(
        kind.to_bytes(2, "big") + sized(content, 2)
        for kind, content in (
            (10, sized(_X25519 + b"\x00\x17\x00\x18\x00\x19", 2)),
            (11, b"\x01\x00"),
            (13, sized(schemes, 2)),
        )
    )
    suites = _ECDSA_SUITE + _RSA_SUITE + b"\x00\xff"
    hello = _VERSION + os.urandom(32) + b"\0" + sized(suites, 2) + b"\x01\x00"
    return message(CLIENT_HELLO, hello + sized(extensions, 2))


def client_flight(hello: bytes, server: Wire, chain: Sequence[bytes], key: Any) -> bytes:
    """What a client answers to a server's flight, up to where its key has signed."""
    own = x25519.X25519PrivateKey.generate().public_key()
    raw = own.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    flight = certificates(chain) + message(CLIENT_KEY_EXCHANGE, sized(raw, 1))
    scheme, over = _scheme(key)
    signed = sign(key, hello + server.transcript + flight, over)
    return in_records(flight + message(CERTIFICATE_VERIFY, scheme + sized(signed, 2)))


class ShowingServer:
    """A listener that shows one chain after another, each to one client."""

    def __init__(self) -> None:
        self.shown: tuple[Sequence[bytes], Any] = ((), None)
        self.wire = Wire()
        """What the last client has said."""
        self._gone = asyncio.Event()

    async def __aenter__(self) -> ShowingServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def show(self, chain: Sequence[bytes], key: Any) -> None:
        self.shown, self.wire = (chain, key), Wire()
        self._gone.clear()

    async def client_gone(self) -> None:
        await asyncio.wait_for(self._gone.wait(), 20)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except ConnectionError:
            return
        finally:
            writer.close()
            self._gone.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered = False
        while self.wire.alert is None and (data := await reader.read(65536)):
            self.wire.feed(data)
            if answered and len(self.wire.heard) > 1:
                return
            if self.wire.heard and not answered:
                writer.write(server_flight(self.wire.heard[0][1], *self.shown))
                answered = True


async def show_to_server(port: int, chain: Sequence[bytes], key: Any) -> Wire:
    """Begins a handshake with a server, shows a chain, and ends before it is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = Wire()
    try:
        hello = client_hello()
        writer.write(in_records(hello))
        while HELLO_DONE not in wire.kinds():
            data = await reader.read(65536)
            assert data, f"no certificate was asked for: {wire.kinds()}, alert {wire.alert}"
            wire.feed(data)
        writer.write(client_flight(hello, wire, chain, key))
        writer.write_eof()
        while data := await reader.read(65536):
            wire.feed(data)
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    return wire

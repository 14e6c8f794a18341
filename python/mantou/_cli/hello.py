"""Asks a server which versions of TLS it speaks, in a handshake that is not finished.

What a server says first is in the clear, so nothing here encrypts: also versions can be asked for
that no library at hand speaks any more, and the OCSP response that is stapled in TLS 1.2 is seen.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from mantou._stream_errors import EndOfStream, IncompleteRead
from mantou._streams import Stream

VERSIONS = {
    "SSLv3": 0x0300,
    "TLSv1": 0x0301,
    "TLSv1.1": 0x0302,
    "TLSv1.2": 0x0303,
    "TLSv1.3": 0x0304,
}
_TLS12, _TLS13 = 0x0303, 0x0304
_MOST_BYTES = 256 * 1024

# IANA's numbers: what servers of the last decades may agree to.
CIPHERS = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256",
    0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384",
    0xC02F: "ECDHE-RSA-AES128-GCM-SHA256",
    0xC030: "ECDHE-RSA-AES256-GCM-SHA384",
    0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305",
    0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305",
    0x009E: "DHE-RSA-AES128-GCM-SHA256",
    0x009F: "DHE-RSA-AES256-GCM-SHA384",
    0xC009: "ECDHE-ECDSA-AES128-SHA",
    0xC00A: "ECDHE-ECDSA-AES256-SHA",
    0xC013: "ECDHE-RSA-AES128-SHA",
    0xC014: "ECDHE-RSA-AES256-SHA",
    0xC023: "ECDHE-ECDSA-AES128-SHA256",
    0xC024: "ECDHE-ECDSA-AES256-SHA384",
    0xC027: "ECDHE-RSA-AES128-SHA256",
    0xC028: "ECDHE-RSA-AES256-SHA384",
    0x0033: "DHE-RSA-AES128-SHA",
    0x0039: "DHE-RSA-AES256-SHA",
    0x009C: "AES128-GCM-SHA256",
    0x009D: "AES256-GCM-SHA384",
    0x002F: "AES128-SHA",
    0x0035: "AES256-SHA",
    0x003C: "AES128-SHA256",
    0x003D: "AES256-SHA256",
    0x000A: "DES-CBC3-SHA",
    0x0005: "RC4-SHA",
    0x0004: "RC4-MD5",
}
_ALERTS = {40: "handshake failure", 70: "protocol version", 71: "insufficient security"}
_SIGNATURES = (
    0x0403,
    0x0503,
    0x0603,
    0x0807,
    0x0804,
    0x0805,
    0x0806,
    0x0401,
    0x0501,
    0x0601,
    0x0203,
    0x0201,
)
_GROUPS = (0x001D, 0x0017, 0x0018, 0x0019)
_HELLO, _CERTIFICATE, _STATUS, _DONE = 2, 11, 22, 14
_ALERT, _HANDSHAKE = 21, 22


class Answer(NamedTuple):
    """What a server says to a version."""

    # None: it could not be asked, or has not answered.
    spoken: bool | None
    cipher: str | None = None
    # Why not, in its own words.
    refusal: str | None = None
    chain: tuple[bytes, ...] = ()
    ocsp: bytes | None = None


async def ask(stream: Stream, version: str, name: str | None) -> Answer:
    """Offers one version, and tells what the server makes of it.

    :param name: the name to ask for (SNI), None for none.
    :raises OSError: the connection broke in another way than by an answer.
    """
    await stream.send(_client_hello(VERSIONS[version], name))
    messages = _Messages(stream)
    try:
        kind, body = await messages.next()
        if kind != _HELLO:
            raise ValueError("no ServerHello")
        agreed, cipher = _server_hello(body)
    except _AlertReceived as alert:
        return Answer(False, refusal=str(alert))
    except (EndOfStream, IncompleteRead, ConnectionResetError):
        return Answer(False, refusal="it hangs up")
    except (IndexError, ValueError):
        return Answer(False, refusal="what it answers is no TLS")
    if agreed != VERSIONS[version]:
        return Answer(False, refusal=f"it answers with {_named(agreed)}")
    answer = Answer(True, cipher)
    return answer if agreed >= _TLS13 else await _in_the_clear(messages, answer)


async def _in_the_clear(messages: _Messages, answer: Answer) -> Answer:
    """The same with what follows before TLS 1.3: certificates, and what is stapled to them."""
    with contextlib.suppress(
        EndOfStream, IncompleteRead, ConnectionResetError, IndexError, ValueError, _AlertReceived
    ):
        while (found := await messages.next())[0] != _DONE:
            kind, body = found
            if kind == _CERTIFICATE:
                answer = answer._replace(chain=_certificates(body))
            elif kind == _STATUS:
                answer = answer._replace(ocsp=body[4:])
    return answer


class _AlertReceived(Exception):
    pass


class _Messages:
    """The messages of a handshake, out of records that may hold several, or a part of one."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held = bytearray()
        self._seen = 0

    async def next(self) -> tuple[int, bytes]:
        """The kind of the next one, and what is in it."""
        await self._fill(4)
        length = int.from_bytes(self._held[1:4], "big")
        await self._fill(4 + length)
        kind, body = self._held[0], bytes(self._held[4 : 4 + length])
        del self._held[: 4 + length]
        return kind, body

    async def _fill(self, length: int) -> None:
        while len(self._held) < length:
            head = await self._stream.receive_exactly(5)
            size = int.from_bytes(head[3:], "big")
            self._seen += size
            if head[1] != 3 or head[0] not in (_ALERT, _HANDSHAKE) or self._seen > _MOST_BYTES:
                raise ValueError("no record of a handshake")
            record = await self._stream.receive_exactly(size)
            if head[0] == _ALERT:
                raise _AlertReceived(_ALERTS.get(record[1], f"alert {record[1]}"))
            self._held += record


def _server_hello(body: bytes) -> tuple[int, str]:
    version = int.from_bytes(body[:2], "big")
    place = 35 + body[34]
    number = int.from_bytes(body[place : place + 2], "big")
    place += 5
    while place + 4 <= len(body):
        kind = int.from_bytes(body[place : place + 2], "big")
        size = int.from_bytes(body[place + 2 : place + 4], "big")
        if kind == 43:  # supported_versions
            version = int.from_bytes(body[place + 4 : place + 6], "big")
        place += 4 + size
    return version, CIPHERS.get(number, f"0x{number:04X}")


def _certificates(body: bytes) -> tuple[bytes, ...]:
    found = list[bytes]()
    place = 3
    while place < len(body):
        size = int.from_bytes(body[place : place + 3], "big")
        found.append(body[place + 3 : place + 3 + size])
        place += 3 + size
    return tuple(found)


def _named(version: int) -> str:
    names = [name for name, number in VERSIONS.items() if number == version]
    return names[0] if names else f"version 0x{version:04X}"


def _client_hello(version: int, name: str | None) -> bytes:
    new = version >= _TLS13
    suites = b"".join(n.to_bytes(2, "big") for n in CIPHERS if (n >> 8 == 0x13) is new)
    if not new:
        suites += b"\x00\xff"  # renegotiation_info: without it some servers refuse
    body = min(version, _TLS12).to_bytes(2, "big") + os.urandom(32)
    body += _with_length(os.urandom(32) if new else b"", 1) + _with_length(suites, 2) + b"\x01\x00"
    if version > VERSIONS["SSLv3"]:
        body += _with_length(_extensions(version, name), 2)
    message = b"\x01" + _with_length(body, 3)
    record_version = min(version, VERSIONS["TLSv1"])
    return b"\x16" + record_version.to_bytes(2, "big") + _with_length(message, 2)


def _extensions(version: int, name: str | None) -> bytes:
    numbers = b"".join(group.to_bytes(2, "big") for group in _GROUPS)
    parts = [(10, _with_length(numbers, 2)), (11, b"\x01\x00"), (5, b"\x01\0\0\0\0"), (23, b"")]
    if name is not None:
        entry = b"\0" + _with_length(name.encode("idna"), 2)
        parts.insert(0, (0, _with_length(entry, 2)))
    if version >= _TLS12:
        numbers = b"".join(each.to_bytes(2, "big") for each in _SIGNATURES)
        parts.append((13, _with_length(numbers, 2)))
    if version >= _TLS13:
        # Any 32 bytes are a public key of X25519.
        share = (0x001D).to_bytes(2, "big") + _with_length(os.urandom(32), 2)
        parts += [(43, b"\x02\x03\x04"), (45, b"\x01\x01"), (51, _with_length(share, 2))]
    return b"".join(kind.to_bytes(2, "big") + _with_length(data, 2) for kind, data in parts)


def _with_length(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data

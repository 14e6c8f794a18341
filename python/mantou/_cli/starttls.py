"""How a plain connection is asked to go on with TLS, in each protocol that has words for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from xml.sax.saxutils import quoteattr

from mantou._stream_errors import DelimiterNotFound, EndOfStream, IncompleteRead
from mantou._streams import Stream

_LONGEST_LINE = 4096
_MOST_LINES = 100
_LONGEST_PACKET = 65536


class Refused(Exception):
    """The peer would not change to TLS; the text says what it answered."""


async def negotiate(protocol: str, stream: Stream, name: str) -> None:
    """Asks for TLS, which begins when this returns.

    :param name: the server's name, for protocols in which clients say it.
    :raises Refused: the peer refuses, hangs up, or speaks another protocol.
    """
    try:
        await PROTOCOLS[protocol][1](stream, name)
    except (EndOfStream, IncompleteRead):
        raise Refused(f"the peer hung up, and {protocol} was not finished") from None
    except DelimiterNotFound:
        raise Refused(f"the peer does not speak {protocol}: it ends no line") from None


async def _smtp(stream: Stream, _name: str) -> None:
    await _reply(stream, "220")
    await stream.send(b"EHLO localhost\r\n")
    offered = await _reply(stream, "250")
    if not any(line[4:].upper().split(" ")[0] == "STARTTLS" for line in offered):
        raise Refused("the peer does not offer STARTTLS")
    await stream.send(b"STARTTLS\r\n")
    await _reply(stream, "220")


async def _ftp(stream: Stream, _name: str) -> None:
    await _reply(stream, "220")
    await stream.send(b"AUTH TLS\r\n")
    await _reply(stream, "234")


async def _reply(stream: Stream, code: str) -> list[str]:
    """The lines of a reply, of which the last has a space behind its number."""
    lines = list[str]()
    while len(lines) < _MOST_LINES:
        lines.append(await _line(stream))
        if not lines[0][:3].isdigit():
            break
        if lines[-1][3:4] != "-" and lines[-1][:3].isdigit():
            break
    if not lines[-1].startswith(code):
        raise Refused(f"the peer answered {lines[-1]!r}")
    return lines


async def _imap(stream: Stream, _name: str) -> None:
    greeting = await _line(stream)
    if not greeting.upper().startswith(("* OK", "* PREAUTH")):
        raise Refused(f"the peer greets with {greeting!r}")
    await stream.send(b"a STARTTLS\r\n")
    line, left = "* ", _MOST_LINES
    while line.startswith("* ") and left:
        line, left = await _line(stream), left - 1
    if not line.upper().startswith("A OK"):
        raise Refused(f"the peer answered {line!r}")


async def _pop3(stream: Stream, _name: str) -> None:
    for ask in (b"", b"STLS\r\n"):
        await stream.send(ask)
        line = await _line(stream)
        if not line.startswith("+OK"):
            raise Refused(f"the peer answered {line!r}")


async def _line(stream: Stream) -> str:
    return (await stream.receive_until(b"\n", _LONGEST_LINE)).decode("latin-1").rstrip("\r")


async def _postgres(stream: Stream, _name: str) -> None:
    await stream.send(bytes.fromhex("00000008 04d2162f"))
    answer = await stream.receive_exactly(1)
    if answer != b"S":
        meaning = {b"N": "it has no TLS", b"E": "it reports an error"}
        raise Refused(f"the peer answered {meaning.get(answer, repr(answer))}")


async def _mysql(stream: Stream, _name: str) -> None:
    length = int.from_bytes(await stream.receive_exactly(4), "little") & 0xFFFFFF
    if not 0 < length <= _LONGEST_PACKET:
        raise Refused("the peer does not speak mysql")
    packet = await stream.receive_exactly(length)
    if packet[0] == 0xFF:
        raise Refused(f"the peer answered {packet[3:].decode('utf-8', 'replace')!r}")
    # Version 10: a text that ends with NUL, 4 bytes, 8 of a challenge, a filler, and what it can.
    text_end = packet.find(b"\0")
    abilities = int.from_bytes(packet[text_end + 14 : text_end + 16], "little")
    if packet[0] != 10 or text_end < 0 or not abilities & 0x0800:
        raise Refused("the peer has no TLS")
    # PROTOCOL_41, SSL and SECURE_CONNECTION; packets up to 16 MiB; utf8mb4.
    request = (0x8A00).to_bytes(4, "little") + (1 << 24).to_bytes(4, "little") + b"\x2d" + bytes(23)
    await stream.send(len(request).to_bytes(3, "little") + b"\x01" + request)


async def _ldap(stream: Stream, _name: str) -> None:
    oid = b"1.3.6.1.4.1.1466.20037"
    request = b"\x02\x01\x01" + b"\x77" + bytes([len(oid) + 2, 0x80, len(oid)]) + oid
    await stream.send(b"\x30" + bytes([len(request)]) + request)
    kind, length = await stream.receive_exactly(2)
    if length & 0x80:
        digits = await stream.receive_exactly(length & 0x7F)
        length = int.from_bytes(digits, "big")
    if kind != 0x30 or not 8 <= length <= _LONGEST_PACKET:
        raise Refused("the peer does not speak ldap")
    answer = await stream.receive_exactly(length)
    # The number of the message, then an ExtendedResponse that begins with its result.
    place = answer.find(b"\x0a\x01")
    result = answer[place + 2 : place + 3] if place >= 0 else b""
    if answer[3:4] != b"\x78" or result != b"\0":
        raise Refused(f"the peer answered with result {result[0] if result else 'no number'}")


async def _xmpp(stream: Stream, name: str) -> None:
    await stream.send(
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' "
        b"xmlns:stream='http://etherx.jabber.org/streams' to=" + quoteattr(name).encode() + b">"
    )
    offered = await stream.receive_until(b"</stream:features>", _LONGEST_PACKET)
    if b"urn:ietf:params:xml:ns:xmpp-tls" not in offered:
        raise Refused("the peer does not offer STARTTLS")
    await stream.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    answer = await stream.receive_until(b">", _LONGEST_LINE)
    if b"<proceed" not in answer:
        raise Refused(f"the peer answered {answer.decode('utf-8', 'replace')!r}")


# Each with the port at which it is asked for.
PROTOCOLS: dict[str, tuple[int, Callable[[Stream, str], Awaitable[None]]]] = {
    "smtp": (25, _smtp),
    "imap": (143, _imap),
    "pop3": (110, _pop3),
    "ftp": (21, _ftp),
    "postgres": (5432, _postgres),
    "mysql": (3306, _mysql),
    "ldap": (389, _ldap),
    "xmpp": (5222, _xmpp),
}

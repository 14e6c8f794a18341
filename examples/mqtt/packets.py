"""The packets of MQTT 3.1.1: taking them apart and putting them together."""

from __future__ import annotations

from dataclasses import dataclass

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

LONGEST = 1024 * 1024


class Malformed(Exception):
    """Something that MQTT does not allow: the connection ends."""


@dataclass(frozen=True)
class Message:
    """What is published."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool = False


@dataclass(frozen=True)
class Connect:
    """How a client introduces itself."""

    client_id: bytes
    keep_alive: int  # seconds; 0: for ever
    will: Message | None


class Reader:
    """Takes fields off the front of a packet."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._body):
            raise Malformed("a packet is too short")
        return self._body[self._at - size : self._at]

    def number(self, size: int = 2) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self) -> bytes:
        return self.take(self.number())

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)

    def __bool__(self) -> bool:
        return self._at < len(self._body)


def split(data: bytes) -> tuple[list[tuple[int, int, bytes]], bytes]:
    """The packets that are whole, as kind, flags and body, and the rest."""
    packets: list[tuple[int, int, bytes]] = []
    at = 0
    while at + 1 < len(data):
        length = 0
        for digits in range(4):
            if at + 1 + digits >= len(data):
                return packets, data[at:]
            byte = data[at + 1 + digits]
            length |= (byte & 0x7F) << 7 * digits
            if byte < 0x80:
                break
        else:
            raise Malformed("a length of more than four bytes")
        if length > LONGEST:
            raise Malformed("too large a packet")
        start = at + 2 + digits
        if len(data) < start + length:
            break
        packets.append((data[at] >> 4, data[at] & 0x0F, data[start : start + length]))
        at = start + length
    return packets, data[at:]


def packet(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    length, digits = len(body), bytearray()
    while length >= 0x80:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return bytes([kind << 4 | flags]) + digits + body


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def connect_of(body: bytes) -> Connect:
    reader = Reader(body)
    if (reader.text(), reader.number(1)) != (b"MQTT", 4):
        raise Malformed("not MQTT 3.1.1")
    flags, keep_alive, client_id = reader.number(1), reader.number(), reader.text()
    will = None
    if flags & 4:
        topic, payload = reader.text(), reader.text()
        will = Message(topic, payload, min(flags >> 3 & 3, 1), bool(flags & 0x20))
    return Connect(client_id, keep_alive, will)


def publish_of(flags: int, body: bytes) -> tuple[Message, bytes]:
    """The message, and the number that its sender wants back."""
    reader = Reader(body)
    qos = flags >> 1 & 3
    topic = reader.text()
    if qos > 1 or not topic or set(topic) & set(b"+#\0"):
        raise Malformed("a topic or quality that cannot be published")
    number = reader.take(2) if qos else b""
    return Message(topic, reader.rest(), qos, bool(flags & 1)), number


def publish(message: Message, qos: int, number: int, retain: bool) -> bytes:
    wanted = number.to_bytes(2, "big") if qos else b""
    return packet(PUBLISH, text(message.topic) + wanted + message.payload, qos << 1 | retain)

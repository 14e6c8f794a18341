"""What a ClientHello says and the ssl module keeps to itself: the name that is asked for."""

from __future__ import annotations

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_LONGEST = 1 << 17
"""What OpenSSL takes for a ClientHello at most, in bytes."""


class Incomplete(Exception):
    """There is more to come."""


def server_name(stream: bytes) -> str | None:
    """The name in the ClientHello that a client's bytes begin with, if there is one.

    :raises Incomplete: it has not come whole.
    """
    hello = _message(stream)
    if hello is None:
        return None
    try:
        # The version and a random number; then the session, the ciphers, the compressions.
        rest = hello[2 + 32 :]
        rest = rest[1 + rest[0] :]
        rest = rest[2 + _number(rest[:2]) :]
        rest = rest[1 + rest[0] :]
    except IndexError:
        return None
    extensions = rest[2:]
    while extensions:
        kind, size = _number(extensions[:2]), _number(extensions[2:4])
        if kind == _SERVER_NAME:
            # A list of one name: its length, the kind of name, the name's length.
            name = extensions[9 : 4 + size]
            return name.decode("ascii", "replace") or None
        extensions = extensions[4 + size :]
    return None


def _message(stream: bytes) -> bytes | None:
    """The body of the ClientHello, out of its records; None if it is something else."""
    message = b""
    at = 0
    while len(stream) >= at + 5:
        if stream[at] != _HANDSHAKE:
            return None
        size = _number(stream[at + 3 : at + 5])
        message += stream[at + 5 : at + 5 + size]
        at += 5 + size
        if message[:1] not in (b"", bytes([_CLIENT_HELLO])):
            return None
        end = 4 + _number(message[1:4])
        if len(message) >= max(end, 4):
            return message[4:end]
    if len(stream) > _LONGEST:
        return None
    raise Incomplete


def _number(digits: bytes) -> int:
    return int.from_bytes(digits, "big")

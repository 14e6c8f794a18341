"""What a ClientHello says and the ssl module keeps to itself: the name that is asked for."""

from __future__ import annotations

_HEADER = 5
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_LONGEST = 1 << 17
"""What OpenSSL takes for a ClientHello at most, in bytes."""


class ClientHello:
    """The first message of a client, as it comes."""

    def __init__(self) -> None:
        self.server_name: str | None = None
        """The name asked for, once all has come."""
        self._stream = bytearray()
        self._message = bytearray()

    def feed(self, piece: bytes) -> bool:
        """Takes the next bytes of the connection; whether all has come that was waited for."""
        self._stream += piece
        while len(self._stream) >= _HEADER:
            end = _HEADER + _number(self._stream[3:_HEADER])
            if self._stream[0] != _HANDSHAKE:
                return True
            if len(self._stream) < end:
                return False
            self._message += self._stream[_HEADER:end]
            del self._stream[:end]
            if self._is_done():
                return True
        return False

    def _is_done(self) -> bool:
        """Whether the message is whole; or something else, which OpenSSL is to refuse."""
        if len(self._message) < 4:
            return False
        end = 4 + _number(self._message[1:4])
        if self._message[0] != _CLIENT_HELLO or end > _LONGEST:
            return True
        if len(self._message) < end:
            return False
        self.server_name = _server_name(bytes(self._message[4:end]))
        return True


def _server_name(hello: bytes) -> str | None:
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


def _number(digits: bytes | bytearray) -> int:
    return int.from_bytes(digits, "big")

"""SCRAM-SHA-256 (RFC 5802, RFC 7677), bound to the TLS connection where there is one (PLUS).

Neither side tells the other the password, and both prove that they know it. With a channel binding
somebody in the middle, with a certificate of his own, is found out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import unicodedata

PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
FEWEST_ROUNDS = 4096


class AuthenticationError(Exception):
    """One side does not believe the other."""


def mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


class Scram:
    """One authentication: `first()`, then `final()`, then `verify()`."""

    def __init__(self, password: str, binding: bytes | None, can_bind: bool = False) -> None:
        """`binding` is of the kind tls-server-end-point.

        `can_bind` without one says that the server did not offer it, and makes it complain if it
        did: somebody in between has struck it out then.
        """
        self.mechanism = PLAIN if binding is None else PLUS
        self._password = unicodedata.normalize("NFKC", password).encode()
        kind = b"y" if can_bind else b"n"
        self._header = (kind if binding is None else b"p=tls-server-end-point") + b",,"
        self._bound = base64.b64encode(self._header + (binding or b""))
        self._nonce = base64.b64encode(os.urandom(18))
        self._signature = b""

    def first(self) -> bytes:
        """What the client begins with. PostgreSQL knows the user's name already."""
        return self._header + self._bare()

    def final(self, challenge: bytes) -> bytes:
        """The answer to the server's challenge, which proves that we know the password."""
        fields = fields_of(challenge)
        try:
            nonce, salt = fields[b"r"], base64.b64decode(fields[b"s"], validate=True)
            rounds = int(fields[b"i"])
        except (KeyError, ValueError):
            raise AuthenticationError("the server's challenge makes no sense") from None
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise AuthenticationError("the server's challenge is not for us")
        if rounds < FEWEST_ROUNDS:
            raise AuthenticationError(f"{rounds} rounds do not protect the password")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        without_proof = b"c=" + self._bound + b",r=" + nonce
        text = b",".join([self._bare(), challenge, without_proof])
        key = mac(salted, b"Client Key")
        signature = mac(hashlib.sha256(key).digest(), text)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._signature = mac(mac(salted, b"Server Key"), text)
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, outcome: bytes) -> None:
        """Whether the server has proved that it knows the password."""
        proof = fields_of(outcome).get(b"v", b"")
        if not hmac.compare_digest(proof, base64.b64encode(self._signature)):
            raise AuthenticationError("the server does not know the password either")

    def _bare(self) -> bytes:
        return b"n=,r=" + self._nonce


def fields_of(text: bytes) -> dict[bytes, bytes]:
    """The fields of a message: `r=...,s=...,i=...`."""
    return {field[:1]: field[2:] for field in text.split(b",")}

"""Records that a TLS library would not send, in a session that one has established.

OpenSSL does the handshake and logs its secrets; from them come the keys, and with these anything
can be sealed. What the other side answers is not looked at.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import socket as kernel
import ssl
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23


class Forger:
    """Does an honest handshake over a connected socket; what is said after that is up to others."""

    def __init__(
        self,
        sock: kernel.socket,
        context: ssl.SSLContext,
        server_side: bool = False,
        in_handshake: bool = False,
    ) -> None:
        """Ends before the client's last flight if `in_handshake`, and seals that."""
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        with tempfile.NamedTemporaryFile() as log:
            context.keylog_filename = log.name
            self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
            first = self._shake_hands(not in_handshake)
            secrets = Path(log.name).read_text()
        if self._ssl.version() == "TLSv1.2":
            # Behind the headers of record and message, and the version.
            self.sealer: Any = Sealer12(secrets, first[11:43], server_side)
        else:
            stage = "HANDSHAKE_TRAFFIC_SECRET" if in_handshake else "TRAFFIC_SECRET_0"
            label = f"{'SERVER' if server_side else 'CLIENT'}_{stage}"
            self.sealer = Sealer13(_secret(secrets, label))

    def _shake_hands(self, to_the_end: bool) -> bytes:
        """Returns what came first."""
        first = b""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._ssl.do_handshake()
                if to_the_end:
                    self.sock.sendall(self._outgoing.read())
                return first
            self.sock.sendall(self._outgoing.read())
            received = self.sock.recv(65536)
            assert received, "it ended in the handshake"
            first = first or received
            self._incoming.write(received)

    def send(self, kind: int, *contents: bytes) -> int:
        """Seals and sends records. Returns their length, or how much of that was taken in time."""
        wire = b"".join(self.sealer.seal(kind, content) for content in contents)
        return send_all(self.sock, wire)


def send_all(sock: kernel.socket, wire: bytes) -> int:
    """Sends as much as the other side takes; who reads no more gets no more."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < len(wire):
            sent += sock.send(wire[sent : sent + 65536])
    return sent


def _secret(log: str, label: str) -> bytes:
    found = re.search(rf"^{label} \S+ (\S+)", log, re.MULTILINE)
    assert found is not None, label
    return bytes.fromhex(found[1])


class Sealer13:
    """TLS 1.3, AES-256-GCM or AES-128-GCM: the secret's length tells which."""

    def __init__(self, secret: bytes) -> None:
        self._hash = "sha384" if len(secret) == 48 else "sha256"
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        size = 32 if len(secret) == 48 else 16
        self._cipher = AESGCM(self._expand(b"key", size))
        self._nonce = int.from_bytes(self._expand(b"iv", 12), "big")
        self._number = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        # One block of HKDF-Expand is enough for all of them.
        return hmac.digest(self._secret, info + b"\1", self._hash)[:length]

    def seal(self, kind: int, content: bytes) -> bytes:
        inner = content + bytes([kind])
        header = bytes([APPLICATION_DATA, 3, 3]) + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._nonce ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + self._cipher.encrypt(nonce, inner, header)

    def key_update(self, answer: bool) -> bytes:
        """New keys, and the record that says so; with the wish that the other side do the same."""
        wire = self.seal(HANDSHAKE, bytes([24, 0, 0, 1, answer]))
        self._use(self._expand(b"traffic upd", len(self._secret)))
        return wire


class Sealer12:
    """TLS 1.2, AES-256-GCM with SHA-384."""

    def __init__(self, log: str, server_random: bytes, server_side: bool) -> None:
        found = re.search(r"^CLIENT_RANDOM (\S+) (\S+)", log, re.MULTILINE)
        assert found is not None
        client_random, master = map(bytes.fromhex, found.groups())
        block = _prf(master, b"key expansion" + server_random + client_random, 72)
        client, server, client_salt, server_salt = (
            *(block[:32], block[32:64]),
            *(block[64:68], block[68:72]),
        )
        self._cipher = AESGCM(server if server_side else client)
        self._salt = server_salt if server_side else client_salt
        # The first was the end of the handshake.
        self._number = 1

    def seal(self, kind: int, content: bytes) -> bytes:
        number = self._number.to_bytes(8, "big")
        self._number += 1
        aad = number + bytes([kind, 3, 3]) + len(content).to_bytes(2, "big")
        sealed = number + self._cipher.encrypt(self._salt + number, content, aad)
        return bytes([kind, 3, 3]) + len(sealed).to_bytes(2, "big") + sealed


def _prf(secret: bytes, seed: bytes, length: int) -> bytes:
    made, link = b"", seed
    while len(made) < length:
        link = hmac.digest(secret, link, "sha384")
        made += hmac.digest(secret, link + seed, "sha384")
    return made[:length]

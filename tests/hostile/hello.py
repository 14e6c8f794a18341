"""ClientHellos as nobody in good faith would send them."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HANDSHAKE = 22

# What a client may choose for the key exchange: a number, and a share that servers can work with.
X25519 = (0x001D, bytes([9]) + bytes(31))
# All coefficients nought, which are in range; behind it a share of X25519.
X25519MLKEM768 = (0x11EC, bytes(1184) + X25519[1])
P384 = (
    0x0018,
    derive_private_key(2, SECP384R1())
    .public_key()
    .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
)
# Four is a square, so that a check of the group's order, an exponentiation more, passes.
FFDHE8192 = (0x0104, bytes(1023) + b"\4")


def record(kind: int, content: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


def client_hello(share: tuple[int, bytes] = X25519, padding: int = 0) -> bytes:
    """A whole handshake message of TLS 1.3."""
    group, key = share
    name = b"localhost"
    # ECDSA, RSA-PSS, Ed25519 and RSA, with whatever hash.
    schemes = bytes.fromhex("0403 0503 0603 0804 0805 0806 0807 0401 0501 0601")
    extensions = [
        (0, _vector(2, b"\0" + _vector(2, name))),
        (10, _vector(2, group.to_bytes(2, "big"))),
        (13, _vector(2, schemes)),
        (43, _vector(1, b"\3\4")),
        (45, b"\1\1"),
        (51, _vector(2, group.to_bytes(2, "big") + _vector(2, key))),
        (21, bytes(padding)),
    ]
    body = b"".join(
        [
            b"\3\3" + os.urandom(32) + _vector(1, os.urandom(32)),
            _vector(2, bytes.fromhex("1302 1301 1303")) + _vector(1, b"\0"),
            _vector(
                2, b"".join(kind.to_bytes(2, "big") + _vector(2, it) for kind, it in extensions)
            ),
        ]
    )
    return b"\1" + _vector(3, body)


def _vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content

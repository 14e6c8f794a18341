"""Certificates that nobody should make and somebody has: written byte by byte."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.tls import VALID, authority, key_pem, new_key

_INTEGER, _BITS, _OCTETS, _OID, _UTC = 0x02, 0x03, 0x04, 0x06, 0x17
_SEQUENCE, _VERSION, _EXTENSIONS = 0x30, 0xA0, 0xA3

# ecdsa-with-SHA256
_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
# ecdsa-with-SHA1
_WEAK_ALGORITHM = bytes.fromhex("300906072a8648ce3d0401")

UNKNOWN = "1.2.3.4"
POLICIES, POLICY_CONSTRAINTS, INHIBIT_ANY_POLICY = "2.5.29.32", "2.5.29.36", "2.5.29.54"
POLICY_MAPPINGS, ALTERNATIVE_NAMES, BASIC_CONSTRAINTS = "2.5.29.33", "2.5.29.17", "2.5.29.19"
NAME_CONSTRAINTS = "2.5.29.30"


@dataclass(frozen=True)
class Odd:
    """A certificate, its key, and who has issued it if that is an odd one, too."""

    der: bytes
    key: Any
    subject: x509.Name
    by: Odd | None = None

    @property
    def cert_pem(self) -> bytes:
        """The certificate and its chain."""
        above = b"" if self.by is None else self.by.cert_pem
        return ssl.DER_cert_to_PEM_cert(self.der).encode() + above

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    @property
    def options(self) -> dict[str, Any]:
        return {"cert": self.cert_pem, "key": self.key_pem}


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytes([first * 40 + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(number & 0x7F | 0x80)
        encoded += bytes(reversed(digits))
    return tlv(_OID, encoded)


def extension(name: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = b"\x01\x01\xff" if critical else b""
    return tlv(_SEQUENCE, oid(name), flag, tlv(_OCTETS, value))


def names(*dns: str) -> bytes:
    """The extension subjectAltName."""
    return extension(ALTERNATIVE_NAMES, tlv(_SEQUENCE, *(tlv(0x82, name.encode()) for name in dns)))


def policies(*, critical: bool = True) -> bytes:
    return extension(POLICIES, tlv(_SEQUENCE, tlv(_SEQUENCE, oid("1.2.3"))), critical=critical)


def odd(
    extensions: Sequence[bytes] = (),
    *,
    name: str = "localhost",
    version: int = 3,
    by: Odd | Literal["authority", "itself"] = "authority",
    behind: bytes = b"",
    weak: bool = False,
) -> Odd:
    """A certificate; `behind` stands behind all that it has, `weak` is signed over SHA-1."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    if isinstance(by, Odd):
        issuer, signer = by.subject, by.key
    elif by == "authority":
        issuer, signer = authority().certificate.subject, authority().key
    else:
        issuer, signer = subject, key
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    algorithm = _WEAK_ALGORITHM if weak else _ALGORITHM
    dates = [tlv(_UTC, one.strftime("%y%m%d%H%M%SZ").encode()) for one in VALID]
    contents = [
        tlv(_INTEGER, b"\x07"),
        algorithm,
        issuer.public_bytes(),
        tlv(_SEQUENCE, *dates),
        subject.public_bytes(),
        spki,
    ]
    if version > 1:
        contents.insert(0, tlv(_VERSION, tlv(_INTEGER, bytes([version - 1]))))
    if extensions:
        contents.append(tlv(_EXTENSIONS, tlv(_SEQUENCE, *extensions)))
    signed = tlv(_SEQUENCE, *contents, behind)
    signature = signer.sign(signed, ec.ECDSA(hashes.SHA1() if weak else hashes.SHA256()))
    der = tlv(_SEQUENCE, signed, algorithm, tlv(_BITS, b"\0", signature))
    return Odd(der, key, subject, by if isinstance(by, Odd) else None)


def constrained(*constraints: bytes, path_length: int | None = None) -> Odd:
    """An intermediate authority that may vouch for some names only (permittedSubtrees)."""
    length = b"" if path_length is None else tlv(_INTEGER, bytes([path_length]))
    extensions = [
        extension(BASIC_CONSTRAINTS, tlv(_SEQUENCE, b"\x01\x01\xff", length), critical=True)
    ]
    if constraints:
        subtrees = tlv(0xA0, *(tlv(_SEQUENCE, one) for one in constraints))
        extensions.append(extension(NAME_CONSTRAINTS, tlv(_SEQUENCE, subtrees), critical=True))
    return odd(extensions, name="odd intermediate")

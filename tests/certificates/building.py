"""Certificates as they are told to be, right or wrong: each field is given, or as usual."""

from __future__ import annotations

import datetime
import functools
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from tests.odd_certificates import extension, oid, tlv

NAME = "mantou.test"
NULL = b"\x05\x00"
INTEGER, BITS, OCTETS, UTF8, UTC, GENERALIZED = 0x02, 0x03, 0x04, 0x0C, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

KEY_USAGE, ALTERNATIVE_NAMES, BASIC, NAME_CONSTRAINTS = (
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
)
EXTENDED, SUBJECT_ID, AUTHORITY_ID = "2.5.29.37", "2.5.29.14", "2.5.29.35"
SERVER_AUTH, CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY, SECOND = datetime.timedelta(days=1), datetime.timedelta(seconds=1)

# Keys


@functools.cache
def key(kind: str = "p256", owner: str = "leaf") -> Any:
    """The key of that owner, made once."""
    curves = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
    curves |= {"p224": ec.SECP224R1, "secp256k1": ec.SECP256K1, "brainpool": ec.BrainpoolP256R1}
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ed448":
        return ed448.Ed448PrivateKey.generate()
    bits, _, exponent = kind.removeprefix("rsa").partition("/")
    return rsa.generate_private_key(int(exponent or 65537), int(bits))


def spki(of: Any) -> bytes:
    return bytes(
        of.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def key_id(of: Any) -> bytes:
    return hashlib.sha1(spki(of)).digest()


# Signatures

_PSS_HASH = "2.16.840.1.101.3.4.2.1"


def _algorithm(name: str, *parameters: bytes) -> bytes:
    return tlv(SEQUENCE, oid(name), *parameters)


def _pss_parameters() -> bytes:
    of_hash = _algorithm(_PSS_HASH, NULL)
    mask = tlv(SEQUENCE, oid("1.2.840.113549.1.1.8"), of_hash)
    return tlv(SEQUENCE, tlv(0xA0, of_hash), tlv(0xA1, mask), tlv(0xA2, tlv(INTEGER, b"\x20")))


SIGNATURES: dict[str, tuple[bytes, Any]] = {
    "ecdsa-sha1": (_algorithm("1.2.840.10045.4.1"), hashes.SHA1()),
    "ecdsa-sha224": (_algorithm("1.2.840.10045.4.3.1"), hashes.SHA224()),
    "ecdsa-sha256": (_algorithm("1.2.840.10045.4.3.2"), hashes.SHA256()),
    "ecdsa-sha384": (_algorithm("1.2.840.10045.4.3.3"), hashes.SHA384()),
    "ecdsa-sha512": (_algorithm("1.2.840.10045.4.3.4"), hashes.SHA512()),
    "rsa-md5": (_algorithm("1.2.840.113549.1.1.4", NULL), hashes.MD5()),
    "rsa-sha1": (_algorithm("1.2.840.113549.1.1.5", NULL), hashes.SHA1()),
    "rsa-sha224": (_algorithm("1.2.840.113549.1.1.14", NULL), hashes.SHA224()),
    "rsa-sha256": (_algorithm("1.2.840.113549.1.1.11", NULL), hashes.SHA256()),
    "rsa-sha256, no parameters": (_algorithm("1.2.840.113549.1.1.11"), hashes.SHA256()),
    "rsa-sha384": (_algorithm("1.2.840.113549.1.1.12", NULL), hashes.SHA384()),
    "rsa-sha512": (_algorithm("1.2.840.113549.1.1.13", NULL), hashes.SHA512()),
    "rsa-pss": (_algorithm("1.2.840.113549.1.1.10", _pss_parameters()), hashes.SHA256()),
    "ecdsa-sha256, NULL": (_algorithm("1.2.840.10045.4.3.2", NULL), hashes.SHA256()),
    "ed25519": (_algorithm("1.3.101.112"), None),
    "ed448": (_algorithm("1.3.101.113"), None),
    "unknown": (_algorithm("1.2.3.4"), hashes.SHA256()),
}


def usual_signature(by: Any) -> str:
    if isinstance(by, rsa.RSAPrivateKey):
        return "rsa-sha256"
    if isinstance(by, ed25519.Ed25519PrivateKey):
        return "ed25519"
    return "ed448" if isinstance(by, ed448.Ed448PrivateKey) else "ecdsa-sha256"


def sign(by: Any, message: bytes, over: Any, *, pss: bool = False) -> bytes:
    if isinstance(by, rsa.RSAPrivateKey):
        scheme = padding.PSS(padding.MGF1(over), 32) if pss else padding.PKCS1v15()
        return by.sign(message, scheme, over)
    if isinstance(by, ec.EllipticCurvePrivateKey):
        return by.sign(message, ec.ECDSA(over))
    return bytes(by.sign(message))


# Fields


def distinguished(common_name: str, tag: int = UTF8) -> bytes:
    if not common_name:
        return tlv(SEQUENCE)
    return tlv(SEQUENCE, tlv(SET, tlv(SEQUENCE, oid("2.5.4.3"), tlv(tag, common_name.encode()))))


def utc(when: datetime.datetime) -> bytes:
    return tlv(UTC, when.strftime("%y%m%d%H%M%SZ").encode())


def generalized(when: datetime.datetime) -> bytes:
    return tlv(GENERALIZED, when.strftime("%Y%m%d%H%M%SZ").encode())


def integer(value: int) -> bytes:
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def dns(name: str | bytes) -> bytes:
    return tlv(0x82, name.encode() if isinstance(name, str) else name)


def email(address: str) -> bytes:
    return tlv(0x81, address.encode())


def uri(address: str) -> bytes:
    return tlv(0x86, address.encode())


def directory(name: bytes) -> bytes:
    return tlv(0xA4, name)


def address(text: str | bytes) -> bytes:
    """An IP address, or with a mask a network."""
    if isinstance(text, bytes):
        return tlv(0x87, text)
    if "/" in text:
        network = ipaddress.ip_network(text)
        return tlv(0x87, network.network_address.packed + network.netmask.packed)
    return tlv(0x87, ipaddress.ip_address(text).packed)


# Extensions


def names(*of: bytes, critical: bool = False) -> bytes:
    return extension(ALTERNATIVE_NAMES, tlv(SEQUENCE, *of), critical=critical)


def basic(ca: bool, length: int | None = None, *, critical: bool = True) -> bytes:
    parts = [b"\x01\x01\xff"] if ca else []
    if length is not None:
        parts.append(integer(length))
    return extension(BASIC, tlv(SEQUENCE, *parts), critical=critical)


USAGES = [
    "digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement",
    "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly",
]  # fmt: skip


def usage(*bits: str, critical: bool = True) -> bytes:
    value = sum(0x8000 >> USAGES.index(bit) for bit in bits)
    content = value.to_bytes(2, "big").rstrip(b"\0")
    unused = (content[-1] & -content[-1]).bit_length() - 1 if content else 0
    return extension(KEY_USAGE, tlv(BITS, bytes([unused]), content), critical=critical)


def extended(*purposes: str, critical: bool = False) -> bytes:
    return extension(EXTENDED, tlv(SEQUENCE, *map(oid, purposes)), critical=critical)


def constraints(
    permitted: Sequence[bytes] = (), excluded: Sequence[bytes] = (), *, critical: bool = True
) -> bytes:
    parts = [
        tlv(tag, *(tlv(SEQUENCE, one) for one in subtrees))
        for tag, subtrees in ((0xA0, permitted), (0xA1, excluded))
        if subtrees
    ]
    return extension(NAME_CONSTRAINTS, tlv(SEQUENCE, *parts), critical=critical)


def subject_id(of: Any) -> bytes:
    return extension(SUBJECT_ID, tlv(OCTETS, key_id(of)))


def authority_id(of: Any) -> bytes:
    return extension(AUTHORITY_ID, tlv(SEQUENCE, tlv(0x80, key_id(of))))


# Certificates


@dataclass(frozen=True)
class Certificate:
    """What a certificate is to be. What is None is left out; extensions stand in their order."""

    subject: bytes
    key: Any
    issuer: Certificate | None = None
    """Who signs it: itself if None."""
    extensions: Mapping[str, bytes | None] = field(default_factory=dict)
    version: int = 3
    serial: bytes = tlv(INTEGER, b"\x5a\x17\x00\x2b")
    validity: tuple[bytes, bytes] = (utc(NOW - DAY), utc(NOW + 30 * DAY))
    signature: str = ""
    """Of SIGNATURES; what goes with the issuer's key if empty."""
    inner: str = ""
    """As which the signed part tells of it, if as another."""
    issuer_name: bytes | None = None
    signed_by: Any = None
    """A key that is not the issuer's."""
    identifiers: bytes = b""
    """The unique identifiers of version 2."""
    behind: bytes = b""
    spki: bytes = b""
    damaged: bool = False
    """Its signature is wrong in one bit."""

    def but(self, **changes: Any) -> Certificate:
        return replace(self, **changes)

    def having(self, **extensions: bytes | None) -> Certificate:
        """With other extensions, by their names here."""
        return replace(self, extensions={**self.extensions, **extensions})

    def without(self, *extensions: str) -> Certificate:
        return self.having(**dict.fromkeys(extensions))

    @property
    def signer(self) -> Any:
        if self.signed_by is not None:
            return self.signed_by
        return self.key if self.issuer is None else self.issuer.key

    @functools.cached_property
    def tbs(self) -> bytes:
        """The part that is signed."""
        outer = SIGNATURES[self.signature or usual_signature(self.signer)][0]
        issuer = self.subject if self.issuer is None else self.issuer.subject
        contents = [
            self.serial,
            SIGNATURES[self.inner][0] if self.inner else outer,
            issuer if self.issuer_name is None else self.issuer_name,
            tlv(SEQUENCE, *self.validity),
            self.subject,
            self.spki or spki(self.key),
            self.identifiers,
        ]
        if self.version > 1:
            contents.insert(0, tlv(0xA0, tlv(INTEGER, bytes([self.version - 1]))))
        given = [one for one in self.extensions.values() if one is not None]
        if given:
            contents.append(tlv(0xA3, tlv(SEQUENCE, *given)))
        return tlv(SEQUENCE, *contents, self.behind)

    @functools.cached_property
    def der(self) -> bytes:
        return self.sealed(self.tbs)

    def sealed(self, tbs: bytes) -> bytes:
        """The certificate with this signed part."""
        name = self.signature or usual_signature(self.signer)
        algorithm, over = SIGNATURES[name]
        value = sign(self.signer, tbs, over, pss=name == "rsa-pss")
        if self.damaged:
            value = value[:-1] + bytes([value[-1] ^ 1])
        return tlv(SEQUENCE, tbs, algorithm, tlv(BITS, b"\0", value))


def certificate_authority(
    name: str, by: Certificate | None = None, kind: str = "p256", length: int | None = None
) -> Certificate:
    own = key(kind, name)
    return Certificate(
        distinguished(name),
        own,
        by,
        {
            "basic": basic(True, length),
            "usage": usage("keyCertSign", "cRLSign"),
            "subject_id": subject_id(own),
            "authority_id": None if by is None else authority_id(by.key),
        },
    )


def end_entity(
    by: Certificate, purpose: str, *, kind: str = "p256", san: bytes | None = None
) -> Certificate:
    """For mantou.test, or for somebody that shows it as a client."""
    own = key(kind)
    return Certificate(
        distinguished("steamed bun"),
        own,
        by,
        {
            "basic": None,
            "usage": usage("digitalSignature"),
            "extended": extended(purpose),
            "names": names(dns(NAME)) if san is None else san,
            "subject_id": subject_id(own),
            "authority_id": authority_id(by.key),
        },
    )

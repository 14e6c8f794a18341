"""Chains: what is missing, too much, in another order, in a circle; keys and signatures."""

from __future__ import annotations

from collections.abc import Callable

from tests.certificates.building import (
    NAME,
    SIGNATURES,
    Certificate,
    basic,
    certificate_authority,
    distinguished,
    dns,
    end_entity,
    key,
    names,
    spki,
    subject_id,
    tlv,
    usage,
)
from tests.certificates.corpus.case import Case, Chain, leaf_case, middle, middle_case, root


def _of(make: Callable[[Certificate], Chain]) -> Callable[[str], Chain]:
    """A chain that is made of the usual end entity."""
    return lambda purpose: make(end_entity(middle(), purpose))


def _line(length: int, *, limits: dict[int, int] | None = None) -> Callable[[str], Chain]:
    """Intermediates one below the other; some with a path length, by their place from the root."""

    def make(purpose: str) -> Chain:
        above, between = root(), []
        for place in range(length):
            limit = (limits or {}).get(place)
            above = certificate_authority(f"below {place}", above, length=limit)
            between.append(above)
        return Chain([end_entity(above, purpose), *reversed(between)], [root()])

    return make


def _rooted(top: Callable[[], Certificate]) -> Callable[[str], Chain]:
    """An end entity right below a trusted certificate."""

    def make(purpose: str) -> Chain:
        trusted = top()
        return Chain([end_entity(trusted, purpose)], [trusted])

    return make


def _self_signed(*, trusted: bool, ca: bool = False) -> Callable[[str], Chain]:
    def make(purpose: str) -> Chain:
        own = end_entity(root(), purpose).but(issuer=None).without("authority_id")
        if ca:
            own = own.having(basic=basic(True), usage=usage("digitalSignature", "keyCertSign"))
        return Chain([own], [own if trusted else root()])

    return make


def _crossed(leaf: Certificate) -> Chain:
    """The intermediate's other certificate comes first, from an authority that nobody trusts."""
    stranger = certificate_authority("stranger")
    crossed = certificate_authority("middle", stranger)
    return Chain([leaf, crossed, stranger, middle()], [root()])


def _circle(purpose: str) -> Chain:
    """Two authorities that vouch for each other."""
    one, other = certificate_authority("one"), certificate_authority("other")
    first, second = one.but(issuer=other), other.but(issuer=one)
    return Chain([end_entity(one, purpose), first, second], [root()])


def _many_paths(purpose: str) -> Chain:
    """Each of ten authorities has eight certificates, by keys of the same name that nobody trusts."""
    names_ = [f"rung {place}" for place in range(10)]
    sent = []
    for below, above in zip(names_, [*names_[1:], "nobody"], strict=True):
        for n in range(8):
            issuer = certificate_authority(above)
            made = certificate_authority(below, issuer)
            sent.append(made.but(serial=b"\x02\x02\x01" + bytes([n + 1])))
    return Chain([end_entity(certificate_authority(names_[0]), purpose), *sent], [root()])


def _same_name_as_root(purpose: str) -> Chain:
    """An intermediate that is called as the root, with another key."""
    other = key("p256", "another root")
    mid = root().but(key=other, issuer=root()).having(subject_id=subject_id(other))
    return Chain([end_entity(mid, purpose), mid], [root()])


def _root_renewed(purpose: str) -> Chain:
    """The trusted certificate is another of the same key than the one that is sent."""
    return Chain([end_entity(root(), purpose), root().but(serial=b"\x02\x01\x09")], [root()])


def _trusted_leaf(purpose: str) -> Chain:
    own = end_entity(middle(), purpose)
    return Chain([own], [own])


_CHAINS: list[Case] = [
    Case("chain: as it is", _of(lambda leaf: Chain([leaf, middle()], [root()]))),
    Case("chain: with the root", _of(lambda leaf: Chain([leaf, middle(), root()], [root()]))),
    Case("chain: the root before the intermediate", _of(lambda leaf: Chain([leaf, root(), middle()], [root()]))),
    Case("chain: without the intermediate", _of(lambda leaf: Chain([leaf], [root()]))),
    Case("chain: the intermediate is trusted alone", _of(lambda leaf: Chain([leaf], [middle()]))),
    Case("chain: the intermediate is trusted, and its issuer unknown", _of(lambda leaf: Chain([leaf, middle()], [middle()]))),
    Case("chain: the intermediate is trusted, too", _of(lambda leaf: Chain([leaf], [root(), middle()]))),
    Case("chain: itself trusted", _trusted_leaf),
    Case("chain: one sent twice", _of(lambda leaf: Chain([leaf, middle(), middle()], [root()]))),
    Case("chain: itself sent twice", _of(lambda leaf: Chain([leaf, leaf, middle()], [root()]))),
    Case("chain: a stranger between", _of(lambda leaf: Chain([leaf, certificate_authority("x"), middle()], [root()]))),
    Case("chain: a stranger behind", _of(lambda leaf: Chain([leaf, middle(), certificate_authority("x")], [root()]))),
    Case("chain: an expired stranger behind", _of(lambda leaf: Chain([leaf, middle(), certificate_authority("x").but(validity=(b"\x17\x0d200101000000Z", b"\x17\x0d200201000000Z"))], [root()]))),
    Case("chain: no certificate behind", _of(lambda leaf: Chain([leaf, middle(), b"\x30\x03\x02\x01\x07"], [root()]))),
    Case("chain: nonsense behind", _of(lambda leaf: Chain([leaf, middle(), b"steamed buns"], [root()]))),
    Case("chain: fifty strangers behind", _of(lambda leaf: Chain([leaf, middle(), *(certificate_authority("x").but(serial=b"\x02\x01" + bytes([n + 1])) for n in range(50))], [root()]))),
    Case("chain: nobody trusts the root", _of(lambda leaf: Chain([leaf, middle(), root()], [certificate_authority("x")]))),
    Case("chain: of three", _line(3)),
    Case("chain: of six", _line(6)),
    Case("chain: of seven", _line(7)),
    Case("chain: of ten", _line(10)),
    Case("chain: of a hundred and one", _line(101)),
    Case("chain: a length that is kept", _line(3, limits={0: 2})),
    Case("chain: a length that is not kept", _line(3, limits={0: 1})),
    Case("chain: a length of 0 that is not kept", _line(2, limits={0: 0})),
    Case("chain: a longer length below a shorter one", _line(3, limits={0: 1, 1: 5})),
    Case("chain: a root with a length that is kept", _rooted(lambda: certificate_authority("short root", length=0))),
    Case("chain: a root with a length that is not kept", lambda purpose: Chain([end_entity(mid := certificate_authority("middle", top := certificate_authority("short root", length=0)), purpose), mid], [top])),
    Case("chain: self-signed", _self_signed(trusted=False)),
    Case("chain: self-signed and trusted", _self_signed(trusted=True)),
    Case("chain: self-signed CA and trusted", _self_signed(trusted=True, ca=True)),
    Case("chain: cross-signed", _of(_crossed)),
    Case("chain: a circle", _circle),
    Case("chain: 8^10 paths, none trusted", _many_paths),
    Case("chain: an intermediate called as the root", _same_name_as_root),
    Case("chain: the root renewed", _root_renewed),
    Case("chain: a root without basic constraints", _rooted(lambda: certificate_authority("root").without("basic"))),
    Case("chain: a root of an end entity", _rooted(lambda: certificate_authority("root").having(basic=basic(False)))),
    Case("chain: a root that must not sign", _rooted(lambda: certificate_authority("root").having(usage=usage("digitalSignature")))),
    Case("chain: an expired root", _rooted(lambda: certificate_authority("root").but(validity=(b"\x17\x0d200101000000Z", b"\x17\x0d200201000000Z")))),
    Case("chain: a root of version 1", _rooted(lambda: certificate_authority("root").but(version=1, extensions={}))),
    Case("chain: a root whose own signature is wrong", _rooted(lambda: certificate_authority("root").but(damaged=True))),
    Case("chain: a root with an unknown critical extension", _rooted(lambda: certificate_authority("root").having(more=b"\x30\x0c\x06\x03\x2a\x03\x04\x01\x01\xff\x04\x02\x05\x00"))),
    leaf_case("chain: issuer's name otherwise encoded", lambda leaf: leaf.but(issuer_name=distinguished("middle", 0x13))),
    leaf_case("chain: issuer's name in capitals", lambda leaf: leaf.but(issuer_name=distinguished("MIDDLE"))),
    leaf_case("chain: another issuer's name", lambda leaf: leaf.but(issuer_name=distinguished("somebody"))),
    leaf_case("chain: no issuer's name", lambda leaf: leaf.but(issuer_name=distinguished(""))),
    leaf_case("chain: signed by another's key", lambda leaf: leaf.but(signed_by=key("p256", "somebody"))),
    middle_case("chain: intermediate signed by another's key", lambda mid: mid.but(signed_by=key("p256", "somebody"))),
    leaf_case("chain: a damaged signature", lambda leaf: leaf.but(damaged=True)),
    middle_case("chain: a damaged signature of the CA's", lambda mid: mid.but(damaged=True)),
]  # fmt: skip

_LEAF_KEYS = [
    "rsa1024", "rsa2048", "rsa2056", "rsa3072", "rsa4096", "rsa2048/3",
    "p224", "p256", "p384", "p521", "secp256k1", "brainpool", "ed25519", "ed448",
]  # fmt: skip
# Signatures by authorities' keys.
_ISSUERS = [
    ("p256", [one for one in SIGNATURES if one.startswith("ecdsa")]),
    ("p384", ["ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512"]),
    ("p521", ["ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512"]),
    ("secp256k1", ["ecdsa-sha256"]),
    ("rsa2048", [one for one in SIGNATURES if one.startswith("rsa")]),
    ("rsa1024", ["rsa-sha256"]),
    ("rsa4096", ["rsa-sha256", "rsa-sha512"]),
    ("ed25519", ["ed25519"]),
    ("ed448", ["ed448"]),
]


def _keyed(kind: str) -> Callable[[str], Chain]:
    return lambda purpose: Chain([end_entity(middle(), purpose, kind=kind), middle()], [root()])


def _signed(kind: str, signature: str) -> Callable[[str], Chain]:
    def make(purpose: str) -> Chain:
        top = certificate_authority("root", kind=kind)
        return Chain([end_entity(top, purpose).but(signature=signature)], [top])

    return make


def _own_key(of: bytes) -> Callable[[Certificate], Certificate]:
    return lambda leaf: leaf.but(spki=of)


_POINT = spki(key())[-65:]
_EC = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")

_KEYS: list[Case] = [
    *(Case(f"key: {kind}", _keyed(kind)) for kind in _LEAF_KEYS),
    *(
        Case(f"signature: {signature} by {kind}", _signed(kind, signature))
        for kind, signatures in _ISSUERS
        for signature in signatures
    ),
    leaf_case("signature: told otherwise inside", lambda leaf: leaf.but(inner="ecdsa-sha384")),
    leaf_case("signature: unknown", lambda leaf: leaf.but(signature="unknown")),
    leaf_case("signature: of RSA, the key of ECDSA", lambda leaf: leaf.but(signature="rsa-sha256")),
    leaf_case("key: a point that is not on the curve", _own_key(tlv(0x30, _EC, tlv(3, b"\0", _POINT[:-1] + bytes([_POINT[-1] ^ 1]))))),
    leaf_case("key: a compressed point", _own_key(tlv(0x30, _EC, tlv(3, b"\0", bytes([2 + (_POINT[-1] & 1)]) + _POINT[1:33])))),
    leaf_case("key: the point at infinity", _own_key(tlv(0x30, _EC, tlv(3, b"\0\0")))),
    leaf_case("key: no parameters", _own_key(tlv(0x30, tlv(0x30, bytes.fromhex("06072a8648ce3d0201")), tlv(3, b"\0", _POINT)))),
    leaf_case("key: unknown", _own_key(tlv(0x30, tlv(0x30, b"\x06\x03\x2a\x03\x04"), tlv(3, b"\0\1\2\3")))),
    leaf_case("key: another's", lambda leaf: leaf.but(spki=spki(key("p256", "somebody"))).having(names=names(dns(NAME)))),
]  # fmt: skip

CASES = [*_CHAINS, *_KEYS]

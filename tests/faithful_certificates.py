"""Certificates that are wrong in one way each, and the trust that goes with them."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from tests.odd_certificates import UNKNOWN, Odd, extension, names, odd, policies
from tests.tls import EXPIRED, NOT_YET_VALID, VALID, Authority, Credential, authority, key_pem

NULL = b"\x05\x00"
Validity = tuple[datetime.datetime, datetime.datetime]


@dataclass(frozen=True)
class Made:
    """A certificate and its key, ready to issue others, too."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return ssl.DER_cert_to_PEM_cert(self.der).encode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def issue(
    by: Made | Authority | None = None,
    *alternatives: str,
    name: str = "localhost",
    key: Any = None,
    validity: Validity = VALID,
    ca: bool | None = False,
    path_length: int | None = None,
    signs: bool | None = None,
    usages: Sequence[x509.ObjectIdentifier] = (),
    constraints: x509.NameConstraints | None = None,
    identifiers: bool = True,
    pss: bool = False,
) -> Made:
    """A certificate; `ca=None` leaves basic constraints out, `signs` is the key usage of a CA."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = key if by is None else by.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if identifiers:
        extensions.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        extensions.append((issuer, False))
    if ca is not None:
        extensions.append((x509.BasicConstraints(ca, path_length), True))
    if signs is not None:
        usage = x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)
        extensions.append((usage, True))
    if usages:
        extensions.append((x509.ExtendedKeyUsage(usages), False))
    if constraints is not None:
        extensions.append((constraints, True))
    if alternatives:
        listed = x509.SubjectAlternativeName([_general(one) for one in alternatives])
        extensions.append((listed, False))
    for one, critical in extensions:
        builder = builder.add_extension(one, critical)
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return Made(builder.sign(signer, None), key)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else None
    signed = builder.sign(signer, hashes.SHA256(), rsa_padding=scheme)
    return Made(signed, key)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


Shown = tuple[bytes, bytes]
"""A chain and a key, in PEM."""


@dataclass(frozen=True)
class Case:
    """What a peer shows, and what the other side trusts and asks for."""

    show: Callable[[], Shown]
    trust: Callable[[], bytes] | None = None
    """In PEM; the usual authority if None."""
    name: str = "localhost"
    flags: ssl.VerifyFlags = ssl.VerifyFlags(0)  # noqa: RUF009
    code: int | None = 0
    """What OpenSSL is known to find, so that the cases are what they are called; None: it depends
    on the version."""
    crl: Callable[[], bytes] | None = None


def shown(leaf: Made, *above: Made | Authority | bytes) -> Shown:
    chain = [leaf.pem, *(one if isinstance(one, bytes) else one.pem for one in above)]
    return b"".join(chain), key_pem(leaf.key)


def of_credential(credential: Credential) -> Shown:
    return credential.cert_pem, credential.key_pem


def load(credential: Shown) -> Callable[[ssl.SSLContext], None]:
    """Has a context show it, whatever OpenSSL thinks of its strength."""

    def set_up(context: ssl.SSLContext) -> None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with tempfile.NamedTemporaryFile() as file:
            file.write(credential[0] + credential[1])
            file.flush()
            context.load_cert_chain(file.name)

    return set_up


def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _below(above: Made, *names_: str, **how: Any) -> Shown:
    return shown(issue(above, *(names_ or ("localhost",)), **how), above)


def _deep(levels: int) -> Shown:
    chain: list[Made] = []
    above: Made | Authority = authority()
    for level in range(levels):
        above = issue(above, name=f"level {level}", ca=True, signs=True)
        chain.insert(0, above)
    return shown(issue(above, "localhost"), *chain)


def _middle(**how: Any) -> Made:
    return issue(authority(), name="in the middle", **{"ca": True, "signs": True, **how})


# What is trusted has to be the same each time.


@functools.cache
def _root() -> Made:
    return issue(None, name="a root", ca=True, signs=True)


@functools.cache
def _expired_root() -> Made:
    return issue(None, name="an expired root", ca=True, signs=True, validity=EXPIRED)


@functools.cache
def _small_root() -> Made:
    return issue(None, name="a small root", ca=True, signs=True, key=_rsa(1024))


@functools.cache
def _rsa_root() -> Made:
    return issue(None, name="a root with RSA", ca=True, signs=True, key=_rsa(2048))


@functools.cache
def _itself() -> Made:
    return issue(None, "localhost")


@functools.cache
def _half() -> Made:
    return _middle()


@functools.cache
def _revoked() -> Credential:
    return authority().issue("localhost")


def _odd(made: Odd) -> Shown:
    return made.cert_pem, made.key_pem


def _two_below(upper: Made, *, swapped: bool) -> Shown:
    lower = issue(upper, name="lower", ca=True, signs=True)
    above = (upper, lower) if swapped else (lower, upper)
    return shown(issue(lower, "localhost"), *above)


def _dns(name: str) -> x509.DNSName:
    return x509.DNSName(name)


CHAINS: dict[str, Case] = {
    "valid": Case(lambda: shown(issue(authority(), "localhost"))),
    "expired": Case(lambda: shown(issue(authority(), "localhost", validity=EXPIRED)), code=10),
    "not yet valid": Case(
        lambda: shown(issue(authority(), "localhost", validity=NOT_YET_VALID)), code=9
    ),
    "unknown CA": Case(lambda: shown(issue(Authority("nobody"), "localhost")), code=20),
    "self-signed": Case(lambda: shown(issue(None, "localhost")), code=18),
    "self-signed and trusted": Case(lambda: shown(_itself()), lambda: _itself().pem),
    "unknown root in the chain": Case(
        lambda: _below(issue(None, name="nobody", ca=True, signs=True)), code=19
    ),
    "intermediate": Case(lambda: _below(_middle())),
    "missing intermediate": Case(lambda: shown(issue(_middle(), "localhost")), code=20),
    "root in the chain": Case(lambda: shown(issue(authority(), "localhost"), authority())),
    "a stranger in the chain": Case(
        lambda: shown(issue(authority(), "localhost"), issue(None, "elsewhere"))
    ),
    "chain out of order": Case(lambda: _two_below(_middle(), swapped=True)),
    "eight intermediates": Case(lambda: _deep(8)),
    "expired intermediate": Case(lambda: _below(_middle(validity=EXPIRED)), code=10),
    "intermediate not yet valid": Case(lambda: _below(_middle(validity=NOT_YET_VALID)), code=9),
    "expired root": Case(
        lambda: shown(issue(_expired_root(), "localhost")), lambda: _expired_root().pem, code=10
    ),
    "issuer that is no CA": Case(lambda: _below(_middle(ca=False, signs=None)), code=79),
    "issuer without constraints": Case(lambda: _below(_middle(ca=None, signs=None)), code=79),
    "issuer that must not sign": Case(lambda: _below(_middle(signs=False)), code=79),
    "path too long": Case(lambda: _two_below(_middle(path_length=0), swapped=False), code=25),
    "path as long as allowed": Case(lambda: _below(_middle(path_length=0))),
    "name permitted": Case(
        lambda: _below(_middle(constraints=x509.NameConstraints([_dns("localhost")], None)))
    ),
    "name not permitted": Case(
        lambda: _below(_middle(constraints=x509.NameConstraints([_dns("other.test")], None))),
        code=47,
    ),
    "name excluded": Case(
        lambda: _below(_middle(constraints=x509.NameConstraints(None, [_dns("localhost")]))),
        code=48,
    ),
    "constraints of e-mail": Case(
        lambda: _below(_middle(constraints=x509.NameConstraints([x509.RFC822Name("a.test")], None)))
    ),
    "SHA-1": Case(lambda: _odd(odd([names("localhost")], weak=True)), code=68),
    "RSA of 1024 bits": Case(
        lambda: shown(issue(authority(), "localhost", key=_rsa(1024))), code=66
    ),
    "CA with 1024 bits": Case(
        lambda: shown(issue(_small_root(), "localhost")), lambda: _small_root().pem, code=67
    ),
    "RSA of 2048 bits": Case(lambda: shown(issue(authority(), "localhost", key=_rsa(2048)))),
    "signed with PSS": Case(
        lambda: shown(issue(_rsa_root(), "localhost", pss=True)),
        lambda: _rsa_root().pem,
    ),
    "P-384": Case(
        lambda: shown(issue(authority(), "localhost", key=ec.generate_private_key(ec.SECP384R1())))
    ),
    "Ed25519": Case(
        lambda: shown(issue(authority(), "localhost", key=ed25519.Ed25519PrivateKey.generate()))
    ),
    "version 1": Case(lambda: _odd(odd(version=1)), name="localhost"),
    "unknown critical extension": Case(
        lambda: _odd(odd([names("localhost"), extension(UNKNOWN, NULL, critical=True)])), code=34
    ),
    "critical policies": Case(lambda: _odd(odd([names("localhost"), policies()]))),
    "without identifiers": Case(lambda: shown(issue(authority(), "localhost", identifiers=False))),
    "without identifiers, strictly": Case(
        lambda: shown(issue(authority(), "localhost", identifiers=False)),
        flags=ssl.VERIFY_X509_STRICT,
        code=85,
    ),
    "valid, strictly": Case(
        lambda: shown(issue(authority(), "localhost", name="x")), flags=ssl.VERIFY_X509_STRICT
    ),
    "partial chain": Case(
        lambda: shown(issue(_root(), "localhost")),
        lambda: _root().pem,
        flags=ssl.VERIFY_X509_PARTIAL_CHAIN,
    ),
    "intermediate trusted alone": Case(
        lambda: shown(issue(_half(), "localhost")), lambda: _half().pem, code=2
    ),
    "intermediate trusted alone, partial chains": Case(
        lambda: shown(issue(_half(), "localhost")),
        lambda: _half().pem,
        flags=ssl.VERIFY_X509_PARTIAL_CHAIN,
    ),
    "no revocation list": Case(
        lambda: shown(issue(authority(), "localhost")), flags=ssl.VERIFY_CRL_CHECK_LEAF, code=3
    ),
    "not revoked": Case(
        lambda: shown(issue(authority(), "localhost")),
        flags=ssl.VERIFY_CRL_CHECK_LEAF,
        crl=lambda: authority().revoke(),
    ),
    "revoked": Case(
        lambda: of_credential(_revoked()),
        flags=ssl.VERIFY_CRL_CHECK_LEAF,
        crl=lambda: authority().revoke(_revoked()),
        code=23,
    ),
    "expired revocation list": Case(
        lambda: shown(issue(authority(), "localhost")),
        flags=ssl.VERIFY_CRL_CHECK_LEAF,
        crl=lambda: authority().revoke(validity=EXPIRED),
        code=12,
    ),
}

NAMES: dict[str, Case] = {
    "another name": Case(lambda: shown(issue(authority(), "other.test")), code=62),
    "common name only": Case(lambda: shown(issue(authority()))),
    "common name beside another": Case(lambda: shown(issue(authority(), "other.test")), code=62),
    "address": Case(lambda: shown(issue(authority(), "127.0.0.1")), name="127.0.0.1"),
    "IPv6 address": Case(lambda: shown(issue(authority(), "::1")), name="::1"),
    "another address": Case(
        lambda: shown(issue(authority(), "127.0.0.2")), name="127.0.0.1", code=64
    ),
    "address as a name": Case(
        lambda: shown(issue(authority(), name="127.0.0.1")), name="127.0.0.1", code=64
    ),
    "wildcard": Case(lambda: shown(issue(authority(), "*.mantou.test")), name="a.mantou.test"),
    "wildcard for two labels": Case(
        lambda: shown(issue(authority(), "*.mantou.test")), name="a.b.mantou.test", code=62
    ),
    "wildcard for none": Case(
        lambda: shown(issue(authority(), "*.mantou.test")), name="mantou.test", code=62
    ),
    "wildcard in a label": Case(
        lambda: shown(issue(authority(), "a*.mantou.test")), name="ab.mantou.test", code=62
    ),
    "wildcard of a whole domain": Case(
        lambda: shown(issue(authority(), "*.test")), name="mantou.test", code=62
    ),
    "capitals": Case(lambda: shown(issue(authority(), "LocalHost"))),
    "encoded name": Case(
        lambda: shown(issue(authority(), "xn--mnchen-3ya.test")), name="münchen.test"
    ),
    "wildcard for an encoded name": Case(
        lambda: shown(issue(authority(), "*.mantou.test")), name="münchen.mantou.test"
    ),
}

PURPOSES: dict[str, Case] = {
    "for any purpose": Case(
        lambda: shown(issue(authority(), "localhost", usages=[Usage.ANY_EXTENDED_KEY_USAGE])),
        code=26,
    ),
    "for e-mail": Case(
        lambda: shown(issue(authority(), "localhost", usages=[Usage.EMAIL_PROTECTION])), code=26
    ),
    "for both sides": Case(
        lambda: shown(
            issue(authority(), "localhost", usages=[Usage.SERVER_AUTH, Usage.CLIENT_AUTH])
        )
    ),
    "CA for e-mail": Case(lambda: _below(_middle(usages=[Usage.EMAIL_PROTECTION])), code=26),
    "key that must not sign handshakes": Case(
        lambda: shown(issue(authority(), "localhost", signs=True)), code=None
    ),
}

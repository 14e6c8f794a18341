"""Why verifiers differ: each difference has its row here, and each row a difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Reason:
    words: str
    verdicts: tuple[str, ...]
    """Of mantou, OpenSSL and cryptography: A accepted, R refused."""
    cases: tuple[str, ...]
    """Patterns of names."""

    def explains(self, name: str, verdicts: str) -> bool:
        return verdicts in self.verdicts and any(fnmatchcase(name, one) for one in self.cases)


REASONS = [
    # mantou accepts, OpenSSL refuses.
    Reason(
        "webpki does not look at key usage: that a certificate is a CA's, and what it is for, "
        "is said by basic constraints and extended key usage",
        ("ARA", "ARR"),
        ("key usage: *", "CA's key usage: *", "damage: empty, at 0.7.0.0.2 *"),
    ),
    Reason(
        "a trusted certificate is a name, a key and name constraints (RFC 5280, 6.1.1 d); its "
        "dates, usages, version and length are the business of who trusts it",
        ("ARR",),
        (
            "chain: a root of an end entity",
            "chain: a root that must not sign",
            "chain: an expired root",
            "chain: a root with *",
        ),
    ),
    Reason(
        "whatever is in `ca` is where verification ends; OpenSSL wants a self-signed one unless "
        "VERIFY_X509_PARTIAL_CHAIN is set (Python sets it from 3.13 on in "
        "create_default_context())",
        ("ARA",),
        ("chain: the intermediate is trusted*", "chain: itself trusted"),
    ),
    Reason(
        "OpenSSL follows the first issuer of that name that was sent, and does not go back; the "
        "others try the next one",
        ("ARA",),
        ("chain: cross-signed", "chain: an intermediate called as the root"),
    ),
    Reason(
        "the authority's identifiers are hints to find a certificate by; the signature says "
        "whose it is",
        ("ARA", "ARR"),
        (
            "extension: another authority's *",
            "extension: identifier of the subject malformed",
            "damage: empty, at 0.7.0.3.1 *",
            "damage: empty, at 0.7.0.4.1 *",
            "damage: twice, at 0.7.0.3 *",
            "damage: twice, at 0.7.0.4 *",
        ),
    ),
    Reason(
        "Netscape's own extension of 1995 is not looked at",
        ("ARA",),
        ("extension: of Netscape's, for e-mail, own",),
    ),
    Reason(
        "a dot behind a name that is asked for makes it absolute, and means the same name (RFC "
        "6125 leaves it open); OpenSSL compares it",
        ("ARR",),
        ("DNS: a dot behind, asked for", "DNS: a wildcard and a dot behind"),
    ),
    Reason(
        "an underscore is no letter of a host name, and occurs: webpki takes it everywhere, "
        "OpenSSL not below a wildcard, cryptography nowhere",
        ("ARR", "AAR"),
        ("DNS: *underscore",),
    ),
    Reason(
        "certificates that are not needed for the chain are not looked at",
        ("ARR",),
        ("chain: no certificate behind", "chain: nonsense behind"),
    ),
    Reason(
        "webpki reads no further than it has to: a serial number, the subject, the identifiers "
        "of algorithms and extensions that decide nothing may be anything",
        ("ARR", "ARA", "AAR"),
        (
            "serial: zeros in front",
            "serial: empty",
            "names: an unknown kind of name",
            "names: a name behind a malformed address",
            "damage: *, at 0.1 *",
            "damage: *, at 0.5*",
            "damage: *, at 0.6 *",
            "damage: *, at 0.6.1 *",
            "damage: *, at 0.7.0.*.0 *",
            "damage: *, at 0.6.0 *",
        ),
    ),
    # mantou refuses, OpenSSL accepts.
    Reason(
        "a common name is not taken for a host name (RFC 9110, 4.3.4); an ssl.SSLContext of "
        "Python's does it where there is no name in the extension",
        ("RAR",),
        ("common name *",),
    ),
    Reason(
        "a name in a certificate has no dot behind it (RFC 5280, 4.2.1.6)",
        ("RAR",),
        ("DNS: a dot behind, both",),
    ),
    Reason(
        "policies are not processed; an ssl.SSLContext checks them, or ignores them, as OpenSSL "
        "does",
        ("RAR",),
        ("policies: *, critical",),
    ),
    Reason(
        "constraints of e-mail addresses, URIs and directory names are not computed: what is "
        "constrained so is refused",
        ("RAA", "RAR"),
        ("constraints: e-mail: *", "constraints: URI: *", "constraints: directory: *"),
    ),
    Reason(
        "a mask of a network has its ones in front (RFC 4632)",
        ("RAR",),
        ("constraints: IPv4: a mask with a hole",),
    ),
    Reason(
        "a wildcard for a whole top-level domain is no name at all",
        ("RAA", "RAR", "RRA"),
        ("constraints: DNS: *, a wildcard", "DNS: a wildcard of a whole domain"),
    ),
    Reason(
        "a path length is one byte; nobody needs more",
        ("RAA",),
        ("basic: a length of 2^40",),
    ),
    Reason(
        "the encoding is DER: one way to write a thing (X.690, 11), a default not at all, "
        "nothing behind the end",
        ("RAR", "RAA", "RRA"),
        (
            "basic: true as 1",
            "basic: bytes behind",
            "constraints: minimum 0",
            "damage: a longer length *",
            "damage: of indefinite length, *",
            "damage: constructed or not, *",
            "damage: a NULL within, *",
            "damage: left out, at 0.6.0.0 *",
        ),
    ),
    Reason(
        "minimum and maximum of constraints are unused (RFC 5280, 4.2.1.10); cryptography "
        "ignores them",
        ("RRA",),
        ("constraints: minimum 1", "constraints: maximum 9"),
    ),
    Reason(
        "a CA's certificate is for signing certificates, not for the end of a chain (Mozilla's "
        "policy)",
        ("RAR",),
        ("basic: a CA's*in the end entity",),
    ),
    Reason(
        "six authorities at most are followed: more cost time that a stranger decides on. "
        "OpenSSL follows 100",
        ("RAA", "RAR"),
        ("chain: of seven", "chain: of ten"),
    ),
    Reason(
        "names are compared byte by byte, as RFC 5280, 7.1 permits where encodings agree; "
        "OpenSSL folds case and encoding",
        ("RAR",),
        ("chain: issuer's name *",),
    ),
    Reason(
        "times before 1970 are not read; cryptography and OpenSSL count from earlier",
        ("RAA",),
        ("own validity: from 1950", "own validity: from the year 0"),
    ),
    Reason(
        "X.509 version 3 has been there since 1996, and the others have no extensions to verify by",
        ("RAR",),
        ("version *", "damage: left out, at 0.0 *"),
    ),
    Reason(
        "unique identifiers must not be used (RFC 5280, 4.1.2.8)",
        ("RAA",),
        ("unique identifiers",),
    ),
    Reason(
        "an algorithm that the engine has not: SHA-224, P-224, secp256k1, brainpool, Ed448. An "
        "ssl.SSLContext has those that OpenSSL has",
        ("RAR", "RAA"),
        ("signature: *", "key: *"),
    ),
    Reason(
        "gated crypto was a purpose of the years when there were limits for keys",
        ("RAR",),
        ("own purposes: a year 2000's gated crypto",),
    ),
    # cryptography alone differs.
    Reason(
        "cryptography judges the certificate and not what its key has signed, which is done in "
        "the handshake, where the others refuse it",
        ("RRA",),
        ("key: *",),
    ),
    Reason(
        "webpki and OpenSSL want the purpose itself; cryptography takes `any` for every purpose "
        "of an authority",
        ("RRA",),
        ("CA's purposes: for any*",),
    ),
    Reason(
        "cryptography reads that extension as critical, too; the others know it as not critical "
        "only",
        ("RRA",),
        ("extension: identifier of the subject critical",),
    ),
    Reason(
        "cryptography asks for the profile of the CA/Browser Forum, beyond RFC 5280 or with all "
        "that RFC 5280 asks of issuers, and says what is missing",
        ("AAR",),
        (
            "an empty subject",
            "a subject, names critical",
            "common name *",
            "address as common name",
            "CA's key usage: left out",
            "key usage: all",
            "own purposes: critical",
            "basic: *",
            "own validity: generalized before 2050",
            "serial: *",
            "version 3 without extensions",
            "extension: *",
            "chain: self-signed*",
            "chain: a root *",
            "damage: left out, at 0.7.0.4 *",
        ),
    ),
    Reason(
        "cryptography supports no such constraint, or finds it malformed",
        ("AAR",),
        ("constraints: *",),
    ),
    Reason(
        "cryptography's profile permits RSA from 2048 bits, ECDSA by P-256, P-384 and P-521, "
        "and their usual encodings only",
        ("AAR",),
        ("signature: *",),
    ),
    Reason(
        "cryptography parses all of a certificate, and strictly",
        ("AAR",),
        ("damage: *",),
    ),
]


def reason(name: str, verdicts: str) -> Reason | None:
    """The one that explains this difference, the first that fits."""
    return next((one for one in REASONS if one.explains(name, verdicts)), None)


def unused(differences: Iterable[tuple[str, str]]) -> list[str]:
    """Patterns that explain nothing: of reasons that have gone."""
    left = {(one.words, pattern) for one in REASONS for pattern in one.cases}
    for name, verdicts in differences:
        found = reason(name, verdicts)
        if found is not None:
            left -= {(found.words, one) for one in found.cases if fnmatchcase(name, one)}
    return [f"{pattern}: {words}" for words, pattern in sorted(left)]

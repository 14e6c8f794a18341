"""Names: what a certificate is made for, and what a client asks for."""

from __future__ import annotations

from tests.certificates.building import (
    NAME,
    address,
    directory,
    distinguished,
    dns,
    email,
    names,
    uri,
)
from tests.certificates.corpus.case import Case, leaf_case

# Whether it may fit is not said here: the verifiers are asked.
_DNS: list[tuple[str, str | bytes, str]] = [
    ("as it is", "mantou.test", "mantou.test"),
    ("capitals in the certificate", "Mantou.TEST", "mantou.test"),
    ("capitals asked for", "mantou.test", "MANTOU.test"),
    ("another name", "other.test", "mantou.test"),
    ("a name below", "mantou.test", "a.mantou.test"),
    ("a name above", "a.mantou.test", "mantou.test"),
    ("its end alone", "mantou.test", "xmantou.test"),
    ("its beginning alone", "mantou.test", "mantou.test.example"),
    ("one label", "localhost", "localhost"),
    ("a dot behind, in the certificate", "mantou.test.", "mantou.test"),
    ("a dot behind, asked for", "mantou.test", "mantou.test."),
    ("a dot behind, both", "mantou.test.", "mantou.test."),
    ("a dot in front", ".mantou.test", "mantou.test"),
    ("a dot in front, a name below", ".mantou.test", "a.mantou.test"),
    ("two dots", "mantou..test", "mantou.test"),
    ("an empty name", "", "mantou.test"),
    ("a blank alone", " ", "mantou.test"),
    ("a blank behind", "mantou.test ", "mantou.test"),
    ("a NUL behind", b"mantou.test\0", "mantou.test"),
    ("a NUL and more", b"mantou.test\0.evil.example", "mantou.test"),
    ("a NUL in front", b"\0mantou.test", "mantou.test"),
    ("an underscore", "man_tou.test", "man_tou.test"),
    ("a wildcard for an underscore", "*.mantou.test", "a_b.mantou.test"),
    ("digits alone", "123.test", "123.test"),
    ("a label of 63", "m" * 63 + ".test", "m" * 63 + ".test"),
    ("a label of 64", "m" * 64 + ".test", "mantou.test"),
    ("a name of 253", "a." * 120 + "mantou-bun.te", "a." * 120 + "mantou-bun.te"),
    ("Latin-1", b"m\xe4ntou.test", "mantou.test"),
    ("UTF-8", "mäntou.test", "xn--mntou-gra.test"),
    ("an encoded name", "xn--mntou-gra.test", "xn--mntou-gra.test"),
    ("an encoded name in capitals", "XN--MNTOU-GRA.test", "xn--mntou-gra.test"),
    ("a wildcard for an encoded name", "*.mantou.test", "xn--mntou-gra.mantou.test"),
    ("a wildcard in an encoded label", "xn--*.mantou.test", "xn--mntou-gra.mantou.test"),
    ("a wildcard", "*.mantou.test", "a.mantou.test"),
    ("a wildcard in capitals", "*.MANTOU.test", "a.mantou.test"),
    ("a wildcard for two labels", "*.mantou.test", "a.b.mantou.test"),
    ("a wildcard for none", "*.mantou.test", "mantou.test"),
    ("a wildcard and a dot behind", "*.mantou.test", "a.mantou.test."),
    ("a wildcard of a whole domain", "*.test", "mantou.test"),
    ("a wildcard alone", "*", "localhost"),
    ("a wildcard and a dot", "*.", "mantou.test"),
    ("two wildcards", "*.*.test", "a.mantou.test"),
    ("two stars", "**.mantou.test", "a.mantou.test"),
    ("a wildcard inside", "a.*.test", "a.mantou.test"),
    ("a wildcard at the end", "mantou.*", "mantou.test"),
    ("a label that begins with a star", "*a.mantou.test", "ba.mantou.test"),
    ("a label that ends with a star", "a*.mantou.test", "ab.mantou.test"),
    ("a star in a label", "a*c.mantou.test", "abc.mantou.test"),
    ("a regular expression", "[a-z]*.mantou.test", "a.mantou.test"),
    ("a port", "mantou.test:443", "mantou.test"),
    ("a user", "me@mantou.test", "mantou.test"),
    ("an address as a name", "127.0.0.1", "127.0.0.1"),
    ("a wildcard for an address", "*.0.0.1", "127.0.0.1"),
]

_ADDRESSES: list[tuple[str, str | bytes, str]] = [
    ("IPv4", "127.0.0.1", "127.0.0.1"),
    ("another IPv4", "127.0.0.2", "127.0.0.1"),
    ("IPv6", "::1", "::1"),
    ("IPv6, written otherwise", "2001:db8::1", "2001:0db8:0:0::0001"),
    ("another IPv6", "::2", "::1"),
    ("IPv4 in IPv6", "::ffff:127.0.0.1", "127.0.0.1"),
    ("IPv6 with IPv4 in it", "127.0.0.1", "::ffff:127.0.0.1"),
    ("five bytes", b"\x7f\0\0\1\0", "127.0.0.1"),
    ("three bytes", b"\x7f\0\0", "127.0.0.1"),
    ("no bytes", b"", "127.0.0.1"),
    ("a network", "127.0.0.0/8", "127.0.0.1"),
    ("as text", b"127.0.0.1", "127.0.0.1"),
]

_OTHERS: list[tuple[str, tuple[bytes, ...], str]] = [
    ("the second of two", (dns("other.test"), dns(NAME)), NAME),
    ("among a hundred", (*(dns(f"a{n}.test") for n in range(100)), dns(NAME)), NAME),
    ("among a thousand", (*(dns(f"a{n}.test") for n in range(1000)), dns(NAME)), NAME),
    ("the same twice", (dns(NAME), dns(NAME)), NAME),
    ("a name behind a malformed one", (dns("*.*"), dns(NAME)), NAME),
    ("a name behind a malformed address", (address(b"abc"), dns(NAME)), NAME),
    ("a name beside an address", (address("127.0.0.1"), dns(NAME)), "127.0.0.1"),
    ("a name beside an e-mail address", (email(f"me@{NAME}"), dns(NAME)), NAME),
    ("an e-mail address alone", (email(f"me@{NAME}"),), NAME),
    ("a URI alone", (uri(f"https://{NAME}/"),), NAME),
    ("a directory name alone", (directory(distinguished(NAME)),), NAME),
    ("a registered identifier beside", (b"\x88\x03\x2a\x03\x04", dns(NAME)), NAME),
    ("an unknown kind of name", (b"\x89\x01\x41", dns(NAME)), NAME),
    ("no names in the extension", (), NAME),
]


def _cases() -> list[Case]:
    found = []
    for group, kind, table in (("DNS", dns, _DNS), ("address", address, _ADDRESSES)):
        for name, written, asked in table:
            having = names(kind(written))  # type: ignore[operator]
            found.append(
                leaf_case(
                    f"{group}: {name}",
                    lambda leaf, having=having: leaf.having(names=having),
                    asked=asked,
                    roles="S",
                )
            )
    for name, several, asked in _OTHERS:
        having = names(*several)
        found.append(
            leaf_case(
                f"names: {name}",
                lambda leaf, having=having: leaf.having(names=having),
                asked=asked,
            )
        )
    return found


def _in_subject(common_name: str, *alternatives: bytes) -> object:
    having = names(*alternatives) if alternatives else None
    return lambda leaf: leaf.but(subject=distinguished(common_name)).having(names=having)


CASES = [
    *_cases(),
    leaf_case("common name alone", _in_subject(NAME)),  # type: ignore[arg-type]
    leaf_case("common name alone, another", _in_subject("other.test")),  # type: ignore[arg-type]
    leaf_case("common name beside another name", _in_subject(NAME, dns("other.test"))),  # type: ignore[arg-type]
    leaf_case("common name beside an e-mail address", _in_subject(NAME, email("me@other.test"))),  # type: ignore[arg-type]
    leaf_case("common name beside an address", _in_subject(NAME, address("127.0.0.1"))),  # type: ignore[arg-type]
    leaf_case("common name with a wildcard", _in_subject("*.test")),  # type: ignore[arg-type]
    leaf_case("address as common name", _in_subject("127.0.0.1"), asked="127.0.0.1"),  # type: ignore[arg-type]
    leaf_case("an empty subject", lambda leaf: leaf.but(subject=distinguished(""))),
    leaf_case(
        "an empty subject, names critical",
        lambda leaf: leaf.but(subject=distinguished("")).having(
            names=names(dns(NAME), critical=True)
        ),
    ),
    leaf_case(
        "a subject, names critical", lambda leaf: leaf.having(names=names(dns(NAME), critical=True))
    ),
]

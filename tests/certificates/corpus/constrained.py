"""Name constraints: whom an authority may vouch for."""

from __future__ import annotations

from collections.abc import Sequence

from tests.certificates.building import (
    NAME,
    Certificate,
    address,
    certificate_authority,
    constraints,
    directory,
    distinguished,
    dns,
    email,
    end_entity,
    extension,
    names,
    tlv,
    uri,
)
from tests.certificates.building import NAME_CONSTRAINTS as IDENTIFIER
from tests.certificates.corpus.case import Case, Chain, middle_case, root

_PERSON = distinguished("steamed bun")

# What is permitted, what is excluded, and the names.
_TABLE: list[tuple[str, Sequence[bytes], Sequence[bytes], Sequence[bytes]]] = [
    ("DNS: permitted", [dns(NAME)], [], [dns(NAME)]),
    ("DNS: permitted, a name below", [dns("test")], [], [dns(NAME)]),
    ("DNS: permitted, in capitals", [dns("MANTOU.test")], [], [dns(NAME)]),
    ("DNS: another permitted", [dns("other.test")], [], [dns(NAME)]),
    ("DNS: a name below permitted", [dns("a.mantou.test")], [], [dns(NAME)]),
    ("DNS: an end permitted", [dns("tou.test")], [], [dns(NAME)]),
    ("DNS: with a dot permitted", [dns(".test")], [], [dns(NAME)]),
    ("DNS: with a dot permitted, the name itself", [dns(".mantou.test")], [], [dns(NAME)]),
    ("DNS: everything permitted", [dns("")], [], [dns(NAME)]),
    ("DNS: a dot alone permitted", [dns(".")], [], [dns(NAME)]),
    ("DNS: a dot behind permitted", [dns("mantou.test.")], [], [dns(NAME)]),
    ("DNS: a wildcard permitted", [dns("*.test")], [], [dns(NAME)]),
    ("DNS: one of two permitted", [dns("other.test"), dns("test")], [], [dns(NAME)]),
    ("DNS: one name of two permitted", [dns("mantou.test")], [], [dns(NAME), dns("other.test")]),
    ("DNS: excluded", [], [dns(NAME)], [dns(NAME)]),
    ("DNS: excluded, a name below", [], [dns("test")], [dns(NAME)]),
    ("DNS: excluded, in capitals", [], [dns("MANTOU.test")], [dns(NAME)]),
    ("DNS: another excluded", [], [dns("other.test")], [dns(NAME)]),
    ("DNS: with a dot excluded", [], [dns(".test")], [dns(NAME)]),
    ("DNS: with a dot excluded, the name itself", [], [dns(".mantou.test")], [dns(NAME)]),
    ("DNS: everything excluded", [], [dns("")], [dns(NAME)]),
    ("DNS: permitted and excluded", [dns("test")], [dns(NAME)], [dns(NAME)]),
    ("DNS: permitted, a part excluded", [dns("test")], [dns("a.mantou.test")], [dns(NAME)]),
    ("DNS: one name of two excluded", [], [dns("other.test")], [dns(NAME), dns("other.test")]),
    ("DNS: permitted, a wildcard", [dns("test")], [], [dns("*.test")]),
    ("DNS: permitted exactly, a wildcard", [dns(NAME)], [], [dns("*.test")]),
    ("DNS: excluded exactly, a wildcard", [], [dns("a.test")], [dns("*.test")]),
    ("DNS: excluded, a wildcard", [], [dns("test")], [dns("*.test")]),
    ("DNS: permitted, an e-mail address beside", [dns(NAME)], [], [dns(NAME), email("a@b.test")]),
    ("DNS: permitted, an address beside", [dns(NAME)], [], [dns(NAME), address("127.0.0.1")]),
    ("DNS: UTF-8 permitted", [dns("mäntou.test")], [], [dns(NAME)]),
    ("IPv4: permitted", [address("127.0.0.0/8")], [], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: another permitted", [address("10.0.0.0/8")], [], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: excluded", [], [address("127.0.0.0/8")], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: another excluded", [], [address("10.0.0.0/8")], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: all excluded", [], [address("0.0.0.0/0")], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: all excluded, no address", [], [address("0.0.0.0/0")], [dns(NAME)]),
    ("IPv4: one permitted", [address("127.0.0.1/32")], [], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: one of two", [address("127.0.0.1/32")], [], [address("127.0.0.1"), dns(NAME), address("127.0.0.2")]),
    ("IPv4: a mask with a hole", [address(b"\x7f\0\0\1\xff\0\xff\xff")], [], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: without a mask", [address("127.0.0.1")], [], [dns(NAME), address("127.0.0.1")]),
    ("IPv4: of seven bytes", [address(b"\x7f\0\0\1\xff\xff\xff")], [], [dns(NAME), address("127.0.0.1")]),
    ("IPv6: permitted", [address("2001:db8::/32")], [], [dns(NAME), address("2001:db8::1")]),
    ("IPv6: another permitted", [address("2001:db9::/32")], [], [dns(NAME), address("2001:db8::1")]),
    ("IPv6: excluded", [], [address("2001:db8::/32")], [dns(NAME), address("2001:db8::1")]),
    ("IPv6: permitted, IPv4 beside", [address("2001:db8::/32")], [], [dns(NAME), address("127.0.0.1")]),
    ("e-mail: a host permitted", [email("b.test")], [], [dns(NAME), email("a@b.test")]),
    ("e-mail: an address permitted", [email("a@b.test")], [], [dns(NAME), email("a@b.test")]),
    ("e-mail: another permitted", [email("c.test")], [], [dns(NAME), email("a@b.test")]),
    ("e-mail: excluded", [], [email("b.test")], [dns(NAME), email("a@b.test")]),
    ("e-mail: another excluded", [], [email("c.test")], [dns(NAME), email("a@b.test")]),
    ("e-mail: permitted, no address", [email("b.test")], [], [dns(NAME)]),
    ("URI: permitted", [uri("b.test")], [], [dns(NAME), uri("https://b.test/")]),
    ("URI: another permitted", [uri("c.test")], [], [dns(NAME), uri("https://b.test/")]),
    ("URI: excluded", [], [uri("b.test")], [dns(NAME), uri("https://b.test/")]),
    ("URI: permitted, no URI", [uri("b.test")], [], [dns(NAME)]),
    ("directory: permitted", [directory(_PERSON)], [], [dns(NAME)]),
    ("directory: another permitted", [directory(distinguished("x"))], [], [dns(NAME)]),
    ("directory: excluded", [], [directory(_PERSON)], [dns(NAME)]),
    ("directory: another excluded", [], [directory(distinguished("x"))], [dns(NAME)]),
    ("directory: everything permitted", [directory(distinguished(""))], [], [dns(NAME)]),
    ("registered: permitted", [b"\x88\x03\x2a\x03\x04"], [], [dns(NAME)]),
    ("registered: permitted, one there", [b"\x88\x03\x2a\x03\x04"], [], [dns(NAME), b"\x88\x03\x2a\x03\x04"]),
    ("unknown kind: permitted", [b"\x89\x01\x41"], [], [dns(NAME)]),
]  # fmt: skip


def _below(permitted: Sequence[bytes], excluded: Sequence[bytes], of: Sequence[bytes]) -> Case:
    def make(purpose: str) -> Chain:
        mid = certificate_authority("middle", root()).having(
            constraints=constraints(permitted, excluded)
        )
        return Chain([end_entity(mid, purpose, san=names(*of)), mid], [root()])

    return Case("", make)


def _both(upper: bytes, lower: bytes) -> Case:
    """Constraints of two authorities, one above the other."""

    def make(purpose: str) -> Chain:
        first = certificate_authority("first", root()).having(constraints=upper)
        second = certificate_authority("second", first).having(constraints=lower)
        return Chain([end_entity(second, purpose), second, first], [root()])

    return Case("", make)


def _trusted(own: bytes) -> Case:
    """Constraints of the trusted certificate itself."""

    def make(purpose: str) -> Chain:
        above = certificate_authority("root").having(constraints=own)
        return Chain([end_entity(above, purpose)], [above])

    return Case("", make)


def _raw(value: bytes, *, critical: bool = True) -> Certificate:
    return certificate_authority("middle", root()).having(
        constraints=extension(IDENTIFIER, value, critical=critical)
    )


def _distance(tag: int, value: bytes) -> bytes:
    """A permitted subtree with a minimum or a maximum."""
    return tlv(0x30, tlv(0xA0, tlv(0x30, dns(NAME), tlv(tag, value))))


CASES = [
    *(
        Case(f"constraints: {name}", _below(permitted, excluded, of).make)
        for name, permitted, excluded, of in _TABLE
    ),
    Case("constraints: both permit", _both(constraints([dns("test")]), constraints([dns(NAME)])).make),
    Case("constraints: the upper forbids", _both(constraints([], [dns(NAME)]), constraints([dns(NAME)])).make),
    Case("constraints: the lower forbids", _both(constraints([dns(NAME)]), constraints([], [dns(NAME)])).make),
    Case("constraints: nothing in common", _both(constraints([dns(NAME)]), constraints([dns("other.test")])).make),
    Case("constraints: the root permits", _trusted(constraints([dns(NAME)])).make),
    Case("constraints: the root forbids", _trusted(constraints([dns("other.test")])).make),
    Case("constraints: the root excludes", _trusted(constraints([], [dns(NAME)])).make),
    middle_case("constraints: not critical, permitted", lambda mid: mid.having(c=constraints([dns(NAME)], critical=False))),
    middle_case("constraints: not critical, forbidden", lambda mid: mid.having(c=constraints([dns("other.test")], critical=False))),
    middle_case("constraints: empty", lambda _: _raw(tlv(0x30))),
    middle_case("constraints: empty subtrees", lambda _: _raw(tlv(0x30, tlv(0xA0)))),
    middle_case("constraints: minimum 0", lambda _: _raw(_distance(0x80, b"\0"))),
    middle_case("constraints: minimum 1", lambda _: _raw(_distance(0x80, b"\1"))),
    middle_case("constraints: maximum 9", lambda _: _raw(_distance(0x81, b"\t"))),
    middle_case("constraints: no sequence", lambda _: _raw(b"\x05\x00")),
    middle_case("constraints: excluded before permitted", lambda _: _raw(tlv(0x30, tlv(0xA1, tlv(0x30, dns("x.test"))), tlv(0xA0, tlv(0x30, dns(NAME)))))),
]  # fmt: skip

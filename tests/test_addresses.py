"""Hostnames: names, literals, zones; the order of connection attempts."""

from __future__ import annotations

import errno
import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantou._addresses import Literal, Name, interleave, parse_host, parse_literal

V4 = socket.AF_INET
V6 = socket.AF_INET6

labels = st.from_regex(r"[a-z]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)


@settings(max_examples=200)
@given(st.ip_addresses(v=4))
def test_every_ipv4_address(address: ipaddress.IPv4Address) -> None:
    literal = parse_literal(str(address))
    assert literal is not None
    assert literal == Literal(str(address), V4)
    assert literal == parse_host(str(address), "hostname")
    assert literal.is_ipv4
    assert not literal.is_ipv4_mapped
    assert literal.sockaddr(80) == (str(address), 80)


@settings(max_examples=200)
@given(st.ip_addresses(v=6), st.booleans(), st.booleans())
def test_every_ipv6_address(address: ipaddress.IPv6Address, brackets: bool, exploded: bool) -> None:
    text = address.exploded.upper() if exploded else str(address)
    literal = parse_host(f"[{text}]" if brackets else text, "hostname")
    assert isinstance(literal, Literal)
    assert ipaddress.IPv6Address(literal.text) == address
    assert literal.family == V6
    assert not literal.is_ipv4
    assert literal.is_ipv4_mapped == (address.ipv4_mapped is not None)
    assert literal.sockaddr(80) == (literal.text, 80, 0, 0)
    assert parse_host(str(literal), "hostname") == literal


@settings(max_examples=100)
@given(st.ip_addresses(v=4))
def test_every_ipv4_mapped_address(address: ipaddress.IPv4Address) -> None:
    literal = parse_literal(f"::ffff:{address}")
    assert literal is not None
    assert literal.is_ipv4_mapped
    assert not literal.is_ipv4
    assert literal.family == V6


@settings(max_examples=200)
@given(st.lists(labels, min_size=1, max_size=5), st.booleans())
def test_every_ordinary_name(parts: list[str], rooted: bool) -> None:
    text = ".".join(parts) + "." * rooted
    assert parse_host(text, "hostname") == Name(text)
    assert str(Name(text)) == text


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("ab1.:[]%/ \t\n\0\u00e9\ud800"), max_size=12))
def test_nothing_but_a_host_or_an_error_that_names_the_option(text: str) -> None:
    host: Literal | Name | None = None
    refusal = ""
    try:
        host = parse_host(text, "the_option")
    except ValueError as error:
        refusal = str(error)
    if host is None:
        assert "'the_option'" in refusal
    else:
        assert parse_host(str(host), "the_option") == host
        if isinstance(host, Name):
            assert not set(host.text) & set(":[]%/ \t\n\0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "a b",
        "a\tb",
        "a\0b",
        "\0",
        "127.0.0.1\0",
        "::1\0",
        "http://example.com",
        "example.com/",
        "example.com:80",
        "127.0.0.1:80",
        "[::1]:80",
        "[example.com]",
        "[127.0.0.1]",
        "[::1",
        "::1]",
        "[[::1]]",
        "[]",
        "user%host",
        "127.0.0.1%eth0",
        "fe80::1%",
        "[fe80::1%]",
        "fe80::1%eth0%eth1",
        "fe80::1%a b",
        "fe80::1%a/b",
        "fe80::1%a\0",
        "::g",
        "1::2::3",
        "12345::",
        ":::",
        " ::1",
        "a" * 64,
        "a." * 128,
        "\ud800",
    ],
    ids=repr,
)
def test_neither_name_nor_address(text: str) -> None:
    with pytest.raises(ValueError, match="'hostname'"):
        parse_host(text, "hostname")
    assert parse_literal(text) is None


@pytest.mark.parametrize("value", [None, 1, b"localhost", ["localhost"]], ids=repr)
def test_not_a_str(value: object) -> None:
    with pytest.raises(TypeError, match=r"'hostname'.*str"):
        parse_host(value, "hostname")


@pytest.mark.parametrize(
    "text", ["localhost", "my_host", "b\u00fccher.example", "127.1", "1", "xn--bcher-kva.example"]
)
def test_names(text: str) -> None:
    assert parse_host(text, "hostname") == Name(text)


def test_longest_name() -> None:
    text = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert len(text) == 253
    assert parse_host(text, "hostname") == Name(text)
    assert parse_host(text + ".", "hostname") == Name(text + ".")
    with pytest.raises(ValueError, match="253"):
        parse_host("a" + text, "hostname")


def test_ipv4_octets_with_leading_zeros_are_no_literal() -> None:
    # Octal for some, decimal for others: it is left to the resolver, as libc reads it.
    assert parse_literal("127.0.0.010") is None


@pytest.mark.parametrize("text", ["fe80::1%lo", "[fe80::1%lo]"])
def test_zone_of_an_interface(text: str) -> None:
    literal = parse_host(text, "hostname")
    assert literal == Literal("fe80::1", V6, "lo")
    assert str(literal) == "fe80::1%lo"


def test_zone_becomes_the_index_of_its_interface() -> None:
    index, name = socket.if_nameindex()[0]
    literal = parse_literal(f"fe80::1%{name}")
    assert literal is not None
    assert literal.sockaddr(80) == ("fe80::1", 80, 0, index)


@pytest.mark.parametrize("zone", [0, 7, 4294967295])
def test_numeric_zone(zone: int) -> None:
    literal = parse_literal(f"fe80::1%{zone}")
    assert literal is not None
    assert literal.sockaddr(80) == ("fe80::1", 80, 0, zone)


@pytest.mark.parametrize("zone", ["nosuchif0", "4294967296", "9" * 5000, "\u0667", "\ud800"])
def test_unknown_zone_is_an_oserror_when_connecting(zone: str) -> None:
    literal = parse_host(f"fe80::1%{zone}", "hostname")
    assert isinstance(literal, Literal)
    with pytest.raises(OSError, match="interface") as caught:
        literal.sockaddr(80)
    assert caught.value.errno == errno.ENODEV


Address = tuple[socket.AddressFamily, int]
addresses = st.lists(st.tuples(st.sampled_from([V4, V6]), st.integers(0, 9)), max_size=12)


def test_interleave() -> None:
    given_: list[Address] = [(V6, 1), (V6, 2), (V6, 3), (V4, 1), (V4, 2)]
    assert interleave(given_) == [(V6, 1), (V4, 1), (V6, 2), (V4, 2), (V6, 3)]
    assert interleave(reversed(given_)) == [(V4, 2), (V6, 3), (V4, 1), (V6, 2), (V6, 1)]
    assert interleave([]) == []


@settings(max_examples=200)
@given(addresses)
def test_interleave_keeps_everything(given_: list[Address]) -> None:
    result = interleave(given_)
    assert result[:1] == given_[:1]
    for family in (V4, V6):
        assert [a for a in result if a[0] == family] == [a for a in given_ if a[0] == family]


@settings(max_examples=200)
@given(addresses)
def test_interleave_alternates_while_both_families_last(given_: list[Address]) -> None:
    result = [family for family, _ in interleave(given_)]
    both = 2 * min(result.count(V4), result.count(V6))
    assert all(result[i] != result[i + 1] for i in range(both - 1))

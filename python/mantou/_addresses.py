"""Hostnames: what is a name to resolve, what is an address already."""

from __future__ import annotations

import errno
import functools
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, TypeVar

from ._validate import wrong_type, wrong_value

# The address of a socket as the socket module writes it.
SocketAddress = tuple[str, int] | tuple[str, int, int, int]

# Anything that starts with its address family, as the answers of getaddrinfo() do.
A = TypeVar("A", bound=tuple[Any, ...])

_NOT_IN_NAME = re.compile(r"[\s\0:/\[\]%]")
_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
_LONGEST_NAME = 253
_LARGEST_SCOPE = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Name:
    """A host name, still to be resolved."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Literal:
    """An IPv4 or IPv6 address.

    `text` is its canonical form without brackets and zone; `zone` is the interface that a
    link-local IPv6 address belongs to, as a name or a number.
    """

    text: str
    family: socket.AddressFamily
    zone: str | None = None

    @property
    def is_ipv4(self) -> bool:
        """True for an IPv4 address; an IPv4-mapped one is IPv6."""
        return self.family == socket.AF_INET

    @property
    def is_ipv4_mapped(self) -> bool:
        """True for ``::ffff:a.b.c.d``: IPv4 in the clothes of IPv6."""
        if self.is_ipv4:
            return False
        return socket.inet_pton(socket.AF_INET6, self.text).startswith(_MAPPED_PREFIX)

    def sockaddr(self, port: int) -> SocketAddress:
        """The address together with `port`, as the socket module takes it.

        OSError (ENODEV) if the zone is not an interface of this machine.
        """
        if self.is_ipv4:
            return (self.text, port)
        return (self.text, port, 0, 0 if self.zone is None else _scope_id(self.zone))

    def __str__(self) -> str:
        return self.text if self.zone is None else f"{self.text}%{self.zone}"


Host = Name | Literal


def parse_host(text: object, option: str) -> Host:
    """A host name or address, as option `option` was given it.

    TypeError if it is not a str, ValueError if it can be neither a name nor an address.
    """
    if not isinstance(text, str):
        raise wrong_type(option, "a str", text)
    literal = parse_literal(text)
    if literal is not None:
        return literal
    if not text or _NOT_IN_NAME.search(text):
        raise wrong_value(option, "a host name or an IP address", text)
    if len(text.removesuffix(".")) > _LONGEST_NAME:
        raise wrong_value(option, f"at most {_LONGEST_NAME} characters long", text)
    try:
        # What getaddrinfo() will do with it: a name that fails here was never going to resolve.
        text.encode("idna")
    except UnicodeError as error:
        raise wrong_value(option, f"a valid host name ({error})", text) from None
    return Name(text)


@functools.lru_cache
def parse_literal(text: str) -> Literal | None:
    """An IPv4 or IPv6 address, the latter with or without brackets and zone; else None."""
    if ":" not in text:
        canonical = _canonical(socket.AF_INET, text)
        return None if canonical is None else Literal(canonical, socket.AF_INET)
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    address, percent, zone = text.partition("%")
    if percent and (not zone or _NOT_IN_NAME.search(zone)):
        return None
    canonical = _canonical(socket.AF_INET6, address)
    if canonical is None:
        return None
    return Literal(canonical, socket.AF_INET6, zone if percent else None)


def name_of(host: Host) -> str:
    """The name to ask a host for: without a zone, other letters than ASCII's encoded."""
    return host.text if isinstance(host, Literal) else host.text.encode("idna").decode()


def shown_address(host: str, port: int) -> str:
    """A host and a port as people write them: ``127.0.0.1:80``, ``[::1]:80``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def interleave(addresses: Iterable[A]) -> list[A]:
    """Orders addresses for connection attempts (RFC 8305, section 4).

    Families alternate, beginning with that of the first address; within a family the order
    stays. Each address is a tuple that begins with its family.
    """
    families: dict[object, list[A]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rounds = zip_longest(*families.values())
    return [address for address in chain.from_iterable(rounds) if address is not None]


def no_address(host: Host) -> socket.gaierror:
    """The error of a resolver that answers without an address: as for a name that is not there."""
    return socket.gaierror(socket.EAI_NONAME, f"no address for {host}")


def _canonical(family: socket.AddressFamily, text: str) -> str | None:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):  # ValueError: a NUL, or a surrogate
        return None


def _scope_id(zone: str) -> int:
    # The name first, as getaddrinfo() does: an interface may be called "7".
    try:
        return socket.if_nametoindex(zone)
    except (OSError, UnicodeError):
        if zone.isascii() and zone.isdigit():
            scope = int(zone[:11])
            if scope <= _LARGEST_SCOPE:
                return scope
        raise OSError(errno.ENODEV, f"no network interface {zone!r}") from None

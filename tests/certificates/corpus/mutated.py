"""Damage to the encoding: each element of an end entity's certificate in turn, signed as it is then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.certificates.building import SERVER_AUTH, end_entity, tlv
from tests.certificates.corpus.case import Case, Chain, middle, root


@dataclass(frozen=True)
class Element:
    """Where a TLV is in its certificate, and how it is called there."""

    path: tuple[int, ...]
    tag: int


def parts(content: bytes) -> list[tuple[int, bytes]]:
    """The elements of a constructed one: tags and contents."""
    found, at = [], 0
    while at < len(content):
        tag, size = content[at], content[at + 1]
        at += 2
        if size & 0x80:
            width = size & 0x7F
            size = int.from_bytes(content[at : at + width], "big")
            at += width
        found.append((tag, content[at : at + size]))
        at += size
    return found


def is_constructed(tag: int) -> bool:
    return bool(tag & 0x20)


def elements(der: bytes, path: tuple[int, ...] = ()) -> Iterator[Element]:
    for index, (tag, content) in enumerate(parts(der)):
        yield Element((*path, index), tag)
        if is_constructed(tag):
            yield from elements(content, (*path, index))


def replaced(der: bytes, path: tuple[int, ...], by: Callable[[int, bytes], bytes]) -> bytes:
    """With one element written by that function; those above it fit."""
    written = []
    for index, (tag, content) in enumerate(parts(der)):
        if index != path[0]:
            written.append(tlv(tag, content))
        elif len(path) == 1:
            written.append(by(tag, content))
        else:
            written.append(tlv(tag, replaced(content, path[1:], by)))
    return b"".join(written)


DAMAGES: dict[str, Callable[[int, bytes], bytes]] = {
    "left out": lambda tag, content: b"",
    "twice": lambda tag, content: tlv(tag, content) * 2,
    "empty": lambda tag, content: tlv(tag),
    "a byte longer than it is": lambda tag, content: bytes([tag]) + _length(len(content) + 1) + content,
    "a byte shorter than it is": lambda tag, content: bytes([tag]) + _length(max(len(content) - 1, 0)) + content,
    "a longer length than needed": lambda tag, content: bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content,
    "a length of 2^31": lambda tag, content: bytes([tag, 0x84]) + b"\x80\0\0\0" + content,
    "of indefinite length": lambda tag, content: bytes([tag, 0x80]) + content + b"\0\0",
    "another tag": lambda tag, content: tlv(tag ^ 0x01, content),
    "constructed or not": lambda tag, content: tlv(tag ^ 0x20, content),
    "of a private class": lambda tag, content: tlv(tag | 0xC0, content),
    "a NULL behind": lambda tag, content: tlv(tag, content) + b"\x05\x00",
    "a NULL within, at the end": lambda tag, content: tlv(tag, content + b"\x05\x00"),
}  # fmt: skip


def _length(size: int) -> bytes:
    return tlv(0x04, bytes(size))[1:-size] if size else b"\0"


def _damaged(path: tuple[int, ...], damage: str) -> Callable[[str], Chain]:
    def make(purpose: str) -> Chain:
        leaf = end_entity(middle(), purpose)
        der = leaf.sealed(replaced(leaf.tbs, path, DAMAGES[damage]))
        return Chain([der, middle()], [root()], key=leaf.key)

    return make


def _cases() -> Iterator[Case]:
    tbs = end_entity(middle(), SERVER_AUTH).tbs
    for element in elements(tbs):
        where = ".".join(map(str, element.path)) + f" (tag {element.tag:02x})"
        for damage in DAMAGES:
            yield Case(f"damage: {damage}, at {where}", _damaged(element.path, damage), roles="S")


CASES = list(_cases())

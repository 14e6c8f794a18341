"""What a case is: a chain that is wrong in one way, or right in an unusual one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.certificates.building import (
    CLIENT_AUTH,
    NAME,
    SERVER_AUTH,
    Certificate,
    certificate_authority,
    end_entity,
)
from tests.certificates.verdicts import Shown

Purpose = str
"""The extended key usage that goes with the role: who shows the chain, a server or a client."""

Change = Callable[[Certificate], Certificate]


@dataclass(frozen=True)
class Chain:
    """Certificates from the peer's own on, and those that are trusted."""

    sent: Sequence[Certificate | bytes]
    roots: Sequence[Certificate]
    key: Any = None
    """The peer's, if its own certificate is bytes."""


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Purpose], Chain]
    asked: str = NAME
    roles: str = "SC"
    """Whether a server shows it, or a client, too."""

    def shown(self, role: str) -> Shown:
        made = self.make(SERVER_AUTH if role == "S" else CLIENT_AUTH)
        own = made.sent[0]
        return Shown(
            [one if isinstance(one, bytes) else one.der for one in made.sent],
            own.key if isinstance(own, Certificate) else made.key,
            [one.der for one in made.roots],
            self.asked,
        )


@functools.cache
def root() -> Certificate:
    return certificate_authority("root")


@functools.cache
def middle() -> Certificate:
    return certificate_authority("middle", root())


def same(certificate: Certificate) -> Certificate:
    return certificate


def changed(leaf: Change = same, mid: Change = same) -> Callable[[Purpose], Chain]:
    """The usual chain, with one certificate of it changed."""

    def make(purpose: Purpose) -> Chain:
        above = mid(middle())
        return Chain([leaf(end_entity(above, purpose)), above], [root()])

    return make


def leaf_case(name: str, change: Change, **more: Any) -> Case:
    return Case(name, changed(leaf=change), **more)


def middle_case(name: str, change: Change, **more: Any) -> Case:
    return Case(name, changed(mid=change), **more)

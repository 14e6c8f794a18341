"""The limits that a listener keeps."""

from __future__ import annotations

from typing import NamedTuple

from ._validate import Options, integer, rate, wrong_value

_LARGEST_COUNT = 2**31 - 1


class Limits(NamedTuple):
    """How many may be in, and how fast they come; None for no limit."""

    max_connections: int | None
    max_connections_per_host: int | None
    accept_rate: float | None
    max_handshakes: int | None


def parse_limits(options: Options, *, has_tls: bool) -> Limits | None:
    """The limits of listen()'s options; None if there is none."""
    limits = Limits(
        max_connections=_count(options, "max_connections"),
        max_connections_per_host=_count(options, "max_connections_per_host"),
        accept_rate=rate(options, "accept_rate"),
        max_handshakes=_count(options, "max_handshakes"),
    )
    if limits.max_handshakes is not None and not has_tls:
        raise wrong_value(
            "max_handshakes", "None without 'tls': there is no handshake", limits.max_handshakes
        )
    return None if limits.count(None) == len(limits) else limits


def refuse_hosts(limits: Limits) -> None:
    """ValueError for what is about hosts: the descriptor turned out to be of a unix socket."""
    if limits.max_connections_per_host is not None:
        raise wrong_value(
            "max_connections_per_host",
            "None for a unix socket, whose peers have no address",
            limits.max_connections_per_host,
        )


def _count(options: Options, name: str) -> int | None:
    if options.get(name) is None:
        return None
    return integer(options, name, 0, 1, _LARGEST_COUNT)

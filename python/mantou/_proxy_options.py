"""What listen() and connect() are told of the PROXY protocol."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from ._core import Socket
from ._proxy import ProxyHeader
from ._validate import Options, shown, wrong_type, wrong_value


class ProxyPolicy(NamedTuple):
    """From whom listen() takes a header; `trusted` is None for everybody."""

    required: bool
    trusted: list[tuple[Any, int]] | None


def parse_proxy_protocol(options: Options) -> ProxyPolicy | None:
    """What `proxy_protocol` and `proxy_trusted` say; None for no headers at all."""
    mode = options.get("proxy_protocol", "off")
    if not isinstance(mode, str):
        raise wrong_type("proxy_protocol", "a str", mode)
    if mode not in ("off", "optional", "require"):
        raise wrong_value("proxy_protocol", "'off', 'optional' or 'require'", mode)
    trusted = options.get("proxy_trusted")
    if mode == "off":
        if trusted is not None:
            raise ValueError(
                "option 'proxy_trusted' is of no use without 'proxy_protocol', "
                f"got {shown(trusted)}"
            )
        return None
    return ProxyPolicy(mode == "require", None if trusted is None else _networks(trusted))


def refuse_networks(policy: ProxyPolicy) -> None:
    """ValueError for what is about networks: the descriptor turned out to be of a unix socket."""
    if policy.trusted is not None:
        raise ValueError(
            "option 'proxy_trusted' must be None for a unix socket, whose peers have no address"
        )


def parse_proxy_header(options: Options) -> bytes | None:
    """What connect() is to send first, as `proxy_header` says."""
    value = options.get("proxy_header", False)
    if value is False or value is None:
        return None
    if value is True:
        return bytes(ProxyHeader(command="LOCAL"))
    if isinstance(value, ProxyHeader):
        return bytes(value)
    if isinstance(value, Socket):
        return bytes(ProxyHeader.of(cast("Socket[object]", value)))
    raise wrong_type("proxy_header", "a bool, a Socket or a ProxyHeader", value)


def _networks(value: object) -> list[tuple[Any, int]]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise wrong_type("proxy_trusted", "a list of networks", value)
    items = cast("Iterable[object]", value)
    networks: list[tuple[Any, int]] = []
    for item in items:
        if isinstance(item, int | bytes):
            raise wrong_type("proxy_trusted", "a list of networks as str or of ipaddress", item)
        try:
            network = ipaddress.ip_network(cast("str", item))
        except ValueError as error:
            raise wrong_value("proxy_trusted", f"a list of networks ({error})", item) from None
        if getattr(network.network_address, "scope_id", None) is not None:
            raise wrong_value("proxy_trusted", "a list of networks without a zone", item)
        networks.append((network.network_address, network.prefixlen))
    if not networks:
        raise wrong_value("proxy_trusted", "at least one network (None trusts everybody)", items)
    return networks

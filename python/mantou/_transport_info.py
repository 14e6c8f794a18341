"""What `get_extra_info()` tells, each found when it is first asked for."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from asyncio import trsock
from collections.abc import Callable
from typing import Any

from ._core import tls_facts


class Unknown:
    pass


UNKNOWN = Unknown()


def _name(index: int, of: str) -> Callable[[Any], Any]:
    def find(transport: Any) -> Any:
        if (name := transport._names()[index]) is not None:
            return name
        try:
            return getattr(transport._open_file(), of)()
        except OSError:
            return None

    return find


def _session(of: str) -> Callable[[Any], Any]:
    def find(transport: Any) -> Any:
        session = transport.get_extra_info("ssl_object")
        return UNKNOWN if session is None else getattr(session, of)()

    return find


def _ssl_object(transport: Any) -> Any:
    if transport._tls is None or not transport._established:
        return UNKNOWN
    if transport._driver is not None:
        return transport._driver.ssl_object
    facts = tls_facts(transport._socket)
    if facts is None:
        return UNKNOWN
    from ._ssl_object import SSLObject  # noqa: PLC0415

    tls = transport._tls
    return SSLObject(tls.context, facts, tls.server_side, tls.settings.server_name)


FINDERS: dict[str, Callable[[Any], Any]] = {
    "socket": lambda transport: trsock.TransportSocket(transport._open_file()),
    "sockname": _name(0, "getsockname"),
    "peername": _name(1, "getpeername"),
    "sslcontext": lambda it: UNKNOWN if it._tls is None else it._tls.context,
    "ssl_object": _ssl_object,
    "peercert": _session("getpeercert"),
    "cipher": _session("cipher"),
    "compression": _session("compression"),
}

"""What a stream tells of itself in anyio's way: `extra()` and `extra_attributes`."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import socket as sockets
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

_MISSING = object()


class AttributeProvider:
    """anyio's `TypedAttributeProvider`, where that is not installed."""

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {}

    def extra(self, attribute: Any, default: object = _MISSING) -> object:
        """The value of an attribute.

        :param default: what to return if it is not known.
        :raises LookupError: it is not known, and there is no default.
        """
        find = self.extra_attributes.get(attribute)
        if find is not None:
            return find()
        if default is _MISSING:
            raise LookupError("Attribute not found")
        return default


T = TypeVar("T")


class Listener(AttributeProvider, Generic[T]):
    """anyio's `Listener`, where that is not installed."""


def attributes_of_listener(listener: Any) -> Mapping[Any, Callable[[], Any]]:
    """What is known of a listener."""
    try:
        from anyio.abc import SocketAttribute  # noqa: PLC0415
    except ImportError:
        return {}

    def ask(what: Callable[[sockets.socket], Any]) -> Any:
        sock = sockets.socket(fileno=listener.fileno())
        try:
            return what(sock)
        finally:
            # The descriptor is the engine's to close.
            sock.detach()

    known: dict[Any, Callable[[], Any]] = {
        SocketAttribute.family: lambda: ask(lambda sock: sock.family),
        SocketAttribute.local_address: lambda: ask(lambda sock: _plain(sock.getsockname())),
    }
    if hasattr(listener, "port"):
        known[SocketAttribute.local_port] = lambda: listener.port
    return known


def _plain(address: Any) -> Any:
    """Of IPv6 anyio shows address and port."""
    return address if isinstance(address, str | bytes) else tuple(address[:2])


def attributes(stream: Any) -> Mapping[Any, Callable[[], Any]]:
    """What is known of a stream."""
    try:
        from anyio.abc import SocketAttribute  # noqa: PLC0415
    except ImportError:
        return {}
    socket = stream.socket
    known: dict[Any, Callable[[], Any]]
    if socket.local_family is None:
        known = {
            SocketAttribute.family: lambda: sockets.AF_UNIX,
            SocketAttribute.local_address: functools.partial(_name, stream, "getsockname"),
            SocketAttribute.remote_address: functools.partial(_name, stream, "getpeername"),
        }
    else:
        families = {"IPv4": sockets.AF_INET, "IPv6": sockets.AF_INET6}
        known = {
            SocketAttribute.family: lambda: families[socket.local_family],
            SocketAttribute.local_address: lambda: (socket.local_address, socket.local_port),
            SocketAttribute.local_port: lambda: socket.local_port,
            SocketAttribute.remote_address: lambda: (socket.remote_address, socket.remote_port),
            SocketAttribute.remote_port: lambda: socket.remote_port,
        }
    known[SocketAttribute.raw_socket] = lambda: stream._raw_socket
    if socket.get_tls_version() is not None:
        known |= _of_tls(stream)
    return known


def _name(stream: Any, of: str) -> Any:
    return getattr(stream._raw_socket, of)()


def _of_tls(stream: Any) -> dict[Any, Callable[[], Any]]:
    from anyio.streams.tls import TLSAttribute  # noqa: PLC0415

    # What its names stand for is told to type checkers as what they are asked for.
    names: Any = TLSAttribute
    socket = stream.socket
    return {
        names.alpn_protocol: lambda: socket.alpn_protocol or None,
        names.peer_certificate: socket.get_peer_certificate,
        names.peer_certificate_binary: lambda: socket.get_peer_certificate().get("raw"),
        names.server_side: lambda: stream._starter is not None,
        names.standard_compatible: lambda: True,
        names.tls_version: socket.get_tls_version,
    }

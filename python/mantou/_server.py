"""What `create_server()` returns: asyncio's server, with every method of the newest Python."""

from __future__ import annotations

import asyncio
import socket as sockets
import weakref
from asyncio import base_events
from typing import Any, cast

_Base: Any = base_events.Server

# Python 3.13 keeps track of a server's transports itself.
_KNOWS_CLIENTS = hasattr(_Base, "close_clients")


class Server(_Base):  # type: ignore[misc]
    """asyncio's `Server`, with `close_clients()` and `abort_clients()` on every Python.

    `wait_closed()` is this Python's own: it waits until the server is closed and its last
    connection is gone, but on 3.11 not at all if the server is closed already.
    """

    if not _KNOWS_CLIENTS:

        def _attach(self, transport: Any = None) -> None:
            _Base._attach(self)
            if transport is not None:
                self._clients.add(transport)

        def _detach(self, transport: Any = None) -> None:
            self._clients.discard(transport)
            _Base._detach(self)

        def close_clients(self) -> None:
            """Closes the transports of all connections that are open."""
            for transport in list(self._clients):
                transport.close()

        def abort_clients(self) -> None:
            """Closes them at once, whatever waits to be sent."""
            for transport in list(self._clients):
                transport.abort()


async def adopt_server(server: Any, start_serving: bool) -> Server:
    """Makes a server of ours of one of asyncio's that does not serve yet."""
    server.__class__ = Server
    if not _KNOWS_CLIENTS:
        server._clients = weakref.WeakSet()
    if start_serving:
        server._start_serving()
        # As asyncio does: a server that has started has had a turn.
        await asyncio.sleep(0)
    return cast("Server", server)


async def try_addresses(
    loop: Any,
    host: Any,
    port: Any,
    *,
    family: int = sockets.AF_UNSPEC,
    flags: int = sockets.AI_PASSIVE,
    **_more: Any,
) -> None:
    """Raises what keeps a server from listening on one of these addresses, if anything does."""
    names = [host or None] if host is None or isinstance(host, str) else host
    for name in names:
        found = await loop._create_server_getaddrinfo(name, port, family=family, flags=flags)
        for of, kind, protocol, _, address in found:
            try:
                with sockets.socket(of, kind, protocol) as socket:
                    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
                    socket.bind(address)
            except OSError as error:
                why = f"cannot listen on {address!r}: {error.strerror}"
                raise OSError(error.errno, why) from None

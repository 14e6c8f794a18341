"""start_server() with asyncio's arguments, and the server that it returns."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import functools
import os
import socket as sockets
import ssl
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self, cast

from ._asyncio_arguments import check_limit, check_port, check_timeouts
from ._asyncio_streams import LIMIT, AsyncioStream, StreamReader, StreamWriter, options_for, pair
from ._attach import running_engine
from ._core import Handlers, Listener, Socket
from ._streams import Stream
from ._transport_options import TlsSetup

Connected = Callable[[StreamReader, StreamWriter], Awaitable[object] | None]


async def start_server(
    client_connected_cb: Connected,
    host: str | Sequence[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = LIMIT,
    family: int = sockets.AF_UNSPEC,
    flags: int = sockets.AI_PASSIVE,
    sock: sockets.socket | None = None,
    backlog: int = 100,
    ssl: ssl.SSLContext | None = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
) -> StreamsServer:
    """Calls back with a reader and a writer for each connection. asyncio: `start_server()`.

    `client_connected_cb` is a function or an `async def`, which gets a task. Not in Bun.

    :param limit: the most bytes of a line, and of what `readuntil()` looks through.
    :param reuse_address: SO_REUSEADDR; by default it is set.
    :param reuse_port: SO_REUSEPORT, for several processes at one port.
    :param keep_alive: SO_KEEPALIVE of the listening sockets, which connections inherit.
    :param start_serving: False leaves that to the server's `start_serving()`.
    :raises OSError: an address cannot be bound.
    :raises ValueError: arguments contradict each other.
    """
    if isinstance(cast("object", ssl), bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    check_limit(limit)
    tls = None
    if ssl is not None:
        tls = TlsSetup(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        if host is not None or port is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        if sock.type != sockets.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        bound = [sock]
    elif host is None and port is None:
        raise ValueError("Neither host/port nor sock were specified")
    else:
        hosts = [host or None] if host is None or isinstance(host, str) else host
        bound = await _bound(hosts, port, family, flags, reuse_address, reuse_port, keep_alive)
    server = StreamsServer(client_connected_cb, bound, tls, limit, backlog)
    if start_serving:
        await server.start_serving()
    return server


async def _bound(  # noqa: PLR0917
    hosts: Iterable[str | None],
    port: int | str | None,
    family: int,
    flags: int,
    reuse_address: bool | None,
    reuse_port: bool | None,
    keep_alive: bool | None,
) -> list[sockets.socket]:
    """A bound socket for each address of the hosts; all of them or none."""
    check_port(port)
    loop = asyncio.get_running_loop()
    places: dict[Any, None] = {}
    for host in hosts:
        found = await loop.getaddrinfo(
            host, port, family=family, type=sockets.SOCK_STREAM, flags=flags
        )
        places |= {(kind, address): None for kind, _, _, _, address in found}
    bound: list[sockets.socket] = []
    try:
        for kind, address in places:
            sock = sockets.socket(kind, sockets.SOCK_STREAM)
            bound.append(sock)
            if reuse_address or reuse_address is None:
                sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, True)
            if reuse_port:
                sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEPORT, True)
            if keep_alive:
                sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, True)
            if kind == sockets.AF_INET6:
                sock.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, True)
            try:
                sock.bind(address)
            except OSError as error:
                why = str(error.strerror).lower()
                text = f"error while attempting to bind on address {address!r}: {why}"
                raise type(error)(error.errno, text) from None
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    if not bound:
        raise OSError(f"could not resolve host {list(hosts)!r}")
    return bound


class StreamsServer(asyncio.AbstractServer):
    """What `start_server()` returns. asyncio: `Server`."""

    def __init__(
        self,
        connected: Connected,
        bound: list[sockets.socket],
        tls: TlsSetup | None,
        limit: int,
        backlog: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connected = connected
        self._sockets: list[sockets.socket] | None = bound
        self._tls = tls
        self._limit = limit
        self._backlog = backlog
        self._listeners: list[Listener] = []
        self._serving = False
        self._writers: weakref.WeakSet[StreamWriter] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[object]] = set()
        self._forever: asyncio.Future[None] | None = None

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets; none once closed."""
        return tuple(self._sockets or ())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it belongs to."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._serving

    async def start_serving(self) -> None:
        """Accepts connections from now on."""
        if self._serving or self._sockets is None:
            return
        self._serving = True
        engine = running_engine()
        settings = None if self._tls is None else self._tls.settings
        refused = Handlers({"connect_error": self._refused})
        for sock in self._sockets:
            sock.listen(self._backlog)
            # The engine closes what it is given, and this one is the server's.
            fd = os.dup(sock.fileno())
            try:
                listener = engine.listen(
                    fd, options_for(self._tls), refused, None, self._accepted, settings
                )
            except BaseException:
                os.close(fd)
                raise
            self._listeners.append(listener)
        # As asyncio does: a server that has started has had a turn.
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Serves until it is cancelled, and closes then."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        await self.start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Accepts no more; connections go on."""
        if self._sockets is None:
            return
        bound, self._sockets = self._sockets, None
        self._serving = False
        for listener in self._listeners:
            listener.stop(False)
        for sock in bound:
            sock.close()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()

    def close_clients(self) -> None:
        """Closes all connections that are open, once what was written is sent."""
        for writer in list(self._writers):
            writer.close()

    def abort_clients(self) -> None:
        """Closes them at once, whatever waits to be sent."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def wait_closed(self) -> None:
        """Returns when it is closed; since Python 3.12 also all of its connections are then."""
        if sys.version_info < (3, 12):
            return
        for listener in self._listeners:
            await listener.closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()

    def _accepted(self, socket: Socket[Any]) -> None:
        stream = AsyncioStream(socket, self._loop)
        stream._starter = self._start
        stream._attach()

    def _refused(self, socket: Socket[Any], error: BaseException) -> None:
        self._report("a connection could not be served", error, socket)

    def _start(self, given: Stream) -> None:
        stream = cast("AsyncioStream", given)
        reader, writer = pair(stream, self._tls, self._limit, server_side=True)
        # As asyncio's protocol did until Python 3.12, it keeps the writer while it is open.
        stream._writer = writer
        self._writers.add(writer)
        try:
            result = self._connected(reader, writer)
            if not asyncio.iscoroutine(result):
                return
            task = self._loop.create_task(result)
        except Exception as error:
            writer.close()
            self._report("Unhandled exception in client_connected_cb", error, writer.transport)
            return
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._finished, writer))

    def _finished(self, writer: StreamWriter, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        self._writers.discard(writer)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            writer.close()
        elif isinstance(error, Exception):
            self._report("Unhandled exception in client_connected_cb", error, writer.transport)
            writer.close()

    def _report(self, message: str, error: BaseException, about: object) -> None:
        context: dict[str, Any] = {"message": message, "exception": error, "transport": about}
        self._loop.call_exception_handler(context)

    def __repr__(self) -> str:
        return f"<mantou.StreamsServer sockets={self.sockets!r}>"

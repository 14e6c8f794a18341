"""The part of the event loop that makes transports and servers: asyncio's hooks, overridden.

Resolving names, connecting, checking arguments and all that is not hot stays asyncio's own.
"""

# asyncio's names for what a transport and its loop share begin with an underscore.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import os
import socket as sockets
import ssl
import sys
from asyncio import trsock
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from ._attempts import create_connection
from ._core import Engine, Listener, Socket
from ._server import Server, adopt_server, try_addresses
from ._transport import SocketTransport
from ._transport_options import PLAIN, TlsSetup

_FAMILIES = (sockets.AF_INET, sockets.AF_INET6, sockets.AF_UNIX)


class _Acceptor:
    """Makes a protocol and a transport of each connection that a listening socket accepts."""

    def __init__(
        self,
        loop: Any,
        factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        tls: TlsSetup | None,
        sock: sockets.socket,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._server = server
        self._tls = tls
        self._is_unix = sock.family == sockets.AF_UNIX
        self._socket = trsock.TransportSocket(sock)
        self.listener: Listener | None = None

    def __call__(self, socket: Socket[Any]) -> None:
        protocol = None
        try:
            protocol = self._factory()
            transport = SocketTransport(
                socket,
                self._tls is not None,
                self._loop,
                protocol,
                server=self._server,
                tls=self._tls,
            )
            if self._is_unix:
                transport._learn_names()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            socket.close()
            if self._loop.get_debug():
                context: dict[str, Any] = {
                    "message": "Error on transport creation for incoming connection",
                    "exception": error,
                }
                if protocol is not None:
                    context["protocol"] = protocol
                self._loop.call_exception_handler(context)

    def starved(self, error: OSError) -> None:
        """No descriptor is left; accepting goes on as soon as some are free."""
        self._loop.call_exception_handler(
            {
                "message": "socket.accept() out of system resource",
                "exception": error,
                "socket": self._socket,
            }
        )

    def stop(self) -> None:
        """Stops accepting."""
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.stop(False)


if TYPE_CHECKING:
    _Base = asyncio.SelectorEventLoop
else:
    _Base = object


class Transports(_Base):
    """The part of an event loop that makes transports: asyncio's hooks, overridden."""

    _engine: Engine
    _ensure_fd_no_transport: Callable[[Any], None]

    def __init__(self, *arguments: Any) -> None:
        self._acceptors: dict[int, _Acceptor] = {}
        super().__init__(*arguments)

    def _make_socket_transport(
        self,
        sock: sockets.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> Any:
        # On Python 3.11 asyncio lets two transports fight for one socket.
        self._ensure_fd_no_transport(sock)
        if _is_stream(sock):
            socket = self._engine.socket(None, None, "")
            transport = SocketTransport(
                socket, False, self, protocol, file=sock, extra=extra, waiter=waiter
            )
            try:
                self._engine.take_over(sock.fileno(), socket, PLAIN, None)
            except OSError:
                # Not connected (any more): asyncio's own transport tells how.
                transport._let_go()
            else:
                return transport
        make = cast("Any", super())._make_socket_transport
        return make(sock, protocol, waiter, extra=extra, server=server)

    def _make_ssl_transport(
        self,
        rawsock: sockets.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | None,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **more: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        if _is_stream(rawsock):
            tls = TlsSetup(
                sslcontext,
                server_side,
                server_hostname,
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
            )
            socket = self._engine.socket(None, None, "")
            transport = SocketTransport(
                socket, True, self, protocol, file=rawsock, extra=extra, waiter=waiter, tls=tls
            )
            try:
                self._engine.take_over(rawsock.fileno(), socket, tls.options, tls.settings)
            except ssl.SSLError:
                raise
            except OSError:
                transport._let_go()
            else:
                return transport
        make = cast("Any", super())._make_ssl_transport
        return make(
            rawsock,
            protocol,
            sslcontext,
            waiter,
            server_side=server_side,
            server_hostname=server_hostname,
            extra=extra,
            server=server,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            **more,
        )

    if sys.version_info < (3, 12):

        async def create_connection(
            self, *args: Any, all_errors: bool = False, **options: Any
        ) -> tuple[Any, Any]:
            """As asyncio's, with the `all_errors` of Python 3.12."""
            if all_errors:
                return await create_connection(self, *args, **options)
            return await super().create_connection(*args, **options)

    async def create_server(
        self,
        protocol_factory: Any,
        host: Any = None,
        port: Any = None,
        *,
        start_serving: bool = True,
        **options: Any,
    ) -> Server:
        """As asyncio's: a `Server` with native connections and every method of Python 3.13.

        :raises OSError: if it listens nowhere, with the errno. asyncio's says so without one, and
            not at all before Python 3.13 where the process has no descriptor left for a socket.
        """

        async def create() -> Any:
            make = super(Transports, self).create_server
            return await make(protocol_factory, host, port, start_serving=False, **options)

        server = None
        try:
            server = await create()
        except OSError as error:
            if error.errno is not None:
                raise
        if server is None or not server.sockets:
            await try_addresses(self, host, port, **options)
            # What was short is there again.
            server = await create()
        return await adopt_server(server, start_serving)

    async def create_unix_server(
        self, *args: Any, start_serving: bool = True, **options: Any
    ) -> Server:
        """As asyncio's, like `create_server()`, on a unix socket."""
        server = await super().create_unix_server(*args, start_serving=False, **options)
        return await adopt_server(server, start_serving)

    def _start_serving(  # noqa: PLR0917 (asyncio calls it so)
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: sockets.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: Any = None,
        _backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **_more: Any,
    ) -> None:
        tls = None
        if sslcontext is not None:
            tls = TlsSetup(sslcontext, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        acceptor = _Acceptor(self, protocol_factory, server, tls, sock)
        # The engine closes what it is given, and this socket is its server's.
        fd = os.dup(sock.fileno())
        options, settings = (PLAIN, None) if tls is None else (tls.options, tls.settings)
        try:
            listener = self._engine.listen(fd, options, None, None, acceptor, settings)
        except BaseException:
            os.close(fd)
            raise
        listener.owner = acceptor
        acceptor.listener = listener
        self._acceptors[sock.fileno()] = acceptor

    def _stop_serving(self, sock: sockets.socket) -> None:
        acceptor = self._acceptors.pop(sock.fileno(), None)
        if acceptor is not None:
            acceptor.stop()
        # Closes it, and removes a unix socket's file where asyncio does.
        super()._stop_serving(sock)  # type: ignore[misc]

    def _forget_servers(self) -> None:
        """Lets go of those that serve still; the engine has ended.

        What accepts for them and its listener refer to each other, and it to the loop.
        """
        for acceptor in self._acceptors.values():
            acceptor.listener = None
        self._acceptors.clear()

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """As asyncio's: in place, where the transport is a plain one of ours."""
        if not (
            isinstance(transport, SocketTransport)
            and isinstance(sslcontext, ssl.SSLContext)
            and transport._can_upgrade()
        ):
            # TLS inside TLS among them, and what is refused.
            return await super().start_tls(
                cast("Any", transport),
                protocol,
                sslcontext,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        tls = TlsSetup(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        waiter: asyncio.Future[None] = self.create_future()
        secure = transport._become_secure(protocol, tls, server_side, waiter)
        try:
            await waiter
        except BaseException:
            # And with it the one over TLS.
            transport.close()
            raise
        return secure

    async def _sendfile_native(
        self, transp: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        if not isinstance(transp, SocketTransport):
            send = cast("Any", super())._sendfile_native
            return cast("int", await send(transp, file, offset, count))
        waiter = transp._make_empty_waiter()
        resume = transp.is_reading()
        transp.pause_reading()
        try:
            await waiter
            # A number that is not the engine's: for a while the descriptor is asyncio's to watch.
            with sockets.socket(fileno=os.dup(transp._socket.fileno())) as twin:
                return await self.sock_sendfile(twin, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            if resume:
                transp.resume_reading()


def _is_stream(sock: sockets.socket) -> bool:
    return sock.family in _FAMILIES and sock.type == sockets.SOCK_STREAM

"""asyncio's transports over the engine's connections: what is called once or twice in a life.

What is called for each message is native (`crates/binding/src/transport/`). The engine tells a
transport of events by calling its `_on_...()` methods.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket as sockets
import ssl
import warnings
from asyncio import constants, sslproto, trsock, transports
from asyncio.log import logger
from collections.abc import Callable
from contextvars import Context
from typing import IO, TYPE_CHECKING, Any, cast

from ._core import Engine, Listener, Socket, Transport
from ._options import StreamOptions
from ._server import Server, adopt_server
from ._tls_options import TlsSettings

_FAMILIES = (sockets.AF_INET, sockets.AF_INET6, sockets.AF_UNIX)

_Connected = tuple[asyncio.Transport, asyncio.BaseProtocol]

_UNLIMITED = (1 << 63) - 1


class _Face(cast("Any", transports)._FlowControlMixin, asyncio.Transport):  # type: ignore[misc]
    """What a transport looks like to `isinstance()`."""

    __slots__ = ()


class _SSLFace(_Face):
    """The same over TLS: programs look at the name."""

    __slots__ = ()


class SocketTransport(Transport):
    """asyncio's transport over a connection of the engine, plain or TLS.

    asyncio's classes have a memory layout of their own, which a native class cannot inherit; so it
    only says that it is one of them.
    """

    __slots__ = (
        "_deferred",
        "_empty_waiter",
        "_established",
        "_extra",
        "_file",
        "_loop",
        "_made",
        "_server",
        "_tls",
        "_waiter",
    )

    _start_tls_compatible = True

    __class__ = property(lambda self: _SSLFace if self._secure else _Face)  # type: ignore[assignment]

    def __init__(
        self,
        socket: Socket[Any],
        secure: bool,
        loop: Any,
        protocol: asyncio.BaseProtocol,
        *,
        file: sockets.socket | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        waiter: asyncio.Future[None] | None = None,
        tls: _Tls | None = None,
        made: bool = False,
    ) -> None:
        self._loop = loop
        self._file = file
        self._extra = extra
        self._server = server
        self._waiter = waiter
        self._tls = tls
        self._empty_waiter: asyncio.Future[None] | None = None
        # A connection that the program made is announced by a callback, as asyncio does.
        self._deferred = server is None and tls is None
        self._established = False
        # connection_made() was called, or is not to be.
        self._made = made
        self.set_protocol(protocol)
        if file is not None and file.family == sockets.AF_UNIX:
            self._learn_names()
        if server is not None:
            server._attach(self)

    # How it begins

    def _on_open(self, _socket: Socket[Any]) -> None:
        if self._deferred:
            context = self._context
            connection_made = cast("Any", self.get_protocol()).connection_made
            self._loop.call_soon(connection_made, self, context=context)
            self._loop.call_soon(self._start, context=context)
        else:
            self._announce()

    def _announce(self) -> None:
        self._established = True
        protocol = cast("asyncio.BaseProtocol", self.get_protocol())
        try:
            if not self._made:
                self._made = True
                protocol.connection_made(cast("Any", self))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if self._secure:
                self._fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")
                return
            self._report("Exception in callback connection_made()", error)
        self._start()

    def _start(self) -> None:
        self._established = True
        if self._waiter is not None and self._deferred:
            # Whoever waits for the connection goes on before anything is read from it.
            self._wake_waiter(None)
            self._loop.call_soon(self._begin, context=self._context)
        else:
            self._begin()
            self._wake_waiter(None)

    def _wake_waiter(self, error: BaseException | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _on_connect_error(self, _socket: Socket[Any], error: BaseException) -> None:
        """The TLS handshake failed."""
        tls = cast("_Tls", self._tls)
        if isinstance(error, ssl.SSLEOFError):
            error = ConnectionResetError()
        elif isinstance(error, TimeoutError) and error.errno is not None:
            error = ConnectionAbortedError(
                f"SSL handshake is taking longer than {tls.handshake_timeout} seconds: "
                "aborting the connection"
            )
        if not isinstance(error, OSError):
            verified = not isinstance(error, ssl.CertificateError)
            what = "" if verified else " on verifying the certificate"
            self._report("SSL handshake failed" + what, error)
        elif self._loop.get_debug():
            logger.debug("%r: SSL handshake failed", self, exc_info=error)
        if self._server is not None and self._waiter is None and self._loop.get_debug():
            self._report("Error on transport creation for incoming connection", error)
        self._wake_waiter(error)
        if self._made:
            self._end(error)
        else:
            self._part()

    def _can_upgrade(self) -> bool:
        """Whether TLS can begin in place."""
        return self._established and not (self._secure or self.is_closing())

    def _become_secure(
        self,
        protocol: asyncio.BaseProtocol,
        tls: _Tls,
        server_side: bool,
        waiter: asyncio.Future[None],
    ) -> SocketTransport:
        file = self._open_file()
        extra = dict(self._extra or {})
        extra["socket"] = trsock.TransportSocket(file)
        secure = SocketTransport(
            self._upgrade(tls.settings, server_side),
            True,
            self._loop,
            protocol,
            file=file,
            extra=extra,
            waiter=waiter,
            tls=tls,
            made=True,
        )
        server, self._server = self._server, None
        if server is not None:
            secure._server = server
            server._clients.add(secure)
            server._clients.discard(self)
        return secure

    # How it ends

    def _on_end(self, _socket: Socket[Any]) -> None:
        protocol = cast("Any", self.get_protocol())
        if self._loop.get_debug():
            logger.debug("%r received EOF", self)
        try:
            keep_open = protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(
                error,
                "Error calling eof_received()"
                if self._secure
                else "Fatal error: protocol.eof_received() call failed.",
            )
            return
        if keep_open and self._secure:
            logger.warning("returning true from eof_received() has no effect when using ssl")
        if self._secure or not keep_open:
            self.close()

    def _on_error(self, socket: Socket[Any], error: BaseException) -> bool:
        """An established TLS session broke."""
        if isinstance(error, ssl.SSLEOFError):
            # To asyncio a missing close_notify is an end like any other.
            self._on_end(socket)
        else:
            self._fatal_error(error, "Fatal error on SSL protocol")
        return True

    def _on_close(self, _socket: Socket[Any], error: BaseException | None) -> None:
        if self._loop._ended and not self.is_closing():
            # asyncio tells nobody that a loop was closed.
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._part()
            return
        if self._secure and isinstance(error, TimeoutError):
            error = TimeoutError("SSL shutdown timed out")
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._set_closing()
        self._forget_file()
        self._loop.call_soon(self._lose, error, context=self._context)

    def _lose(self, error: BaseException | None) -> None:
        protocol = cast("asyncio.BaseProtocol", self.get_protocol())
        self._wake_waiter(error)
        try:
            protocol.connection_lost(cast("Any", error))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as reason:
            self._report(f"Exception in callback connection_lost({error!r})", reason)
        finally:
            self._part()

    def _part(self) -> None:
        """Lets go of everything that the connection held."""
        self._forget_file()
        waiter, self._empty_waiter = self._empty_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionError("Connection is closed by peer"))
        self._let_go()
        server, self._server = self._server, None
        if server is not None:
            server._detach(self)

    def _forget_file(self) -> None:
        # The engine has closed the descriptor; what is left is its number.
        if self._file is not None:
            self._file.detach()

    def _fatal_error(
        self, error: BaseException, message: str = "Fatal error on transport"
    ) -> None:
        if not isinstance(error, OSError):
            self._report(message, error)
        elif self._loop.get_debug():
            logger.debug("%r: %s", self, message, exc_info=error)
        self._force_close(error)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": self,
                "protocol": self.get_protocol(),
            }
        )

    def can_write_eof(self) -> bool:
        """Whether `write_eof()` works: not over TLS."""
        return not self._secure

    def write_eof(self) -> None:
        """Finishes our side behind what was written; reading goes on.

        :raises NotImplementedError: over TLS.
        """
        if self._secure:
            raise NotImplementedError
        self._finish_writing()

    # Flow

    def _pause_writing(self) -> None:
        self._call_for_flow("pause_writing")

    def _on_drain(self, _socket: Socket[Any]) -> None:
        if self._take_resumption():
            self._call_for_flow("resume_writing")
        waiter = self._empty_waiter
        if waiter is not None and not waiter.done() and not self.get_write_buffer_size():
            waiter.set_result(None)

    def _call_for_flow(self, name: str) -> None:
        try:
            getattr(self.get_protocol(), name)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(f"protocol.{name}() failed", error)

    def _warn_of_late_writes(self) -> None:
        if self._secure:
            logger.warning("SSL connection is closed")
        else:
            logger.warning("socket.send() raised exception.")

    # Files

    @property
    def _sendfile_compatible(self) -> Any:
        modes = cast("Any", constants)._SendfileMode
        return modes.FALLBACK if self._secure else modes.TRY_NATIVE

    def _make_empty_waiter(self) -> asyncio.Future[None]:
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._empty_waiter = waiter
        self._reserve_for_file(True)
        if not self.get_write_buffer_size():
            waiter.set_result(None)
        return waiter

    def _reset_empty_waiter(self) -> None:
        self._empty_waiter = None
        self._reserve_for_file(False)

    # What there is to know

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What asyncio's transports know: `socket`, `sockname`, `peername`, and over TLS
        `sslcontext`, `ssl_object`, `peercert`, `cipher` and `compression`.
        """
        if self._extra is None:
            self._extra = {}
        if name not in self._extra:
            find = _EXTRA.get(name)
            if find is None or (found := find(self)) is _UNKNOWN:
                return default
            self._extra[name] = found
        return self._extra[name]

    def _learn_names(self) -> None:
        """Asks for names that nobody can tell any more once the connection is gone: unix ones."""
        for name in ("sockname", "peername"):
            self.get_extra_info(name)

    def _open_file(self) -> sockets.socket:
        """The connection's descriptor as an object of the socket module."""
        if self._file is None:
            fd = self._socket.fileno()
            if fd < 0:
                gone = sockets.socket()
                gone.close()
                return gone
            self._file = sockets.socket(fileno=fd)
        return self._file

    def __repr__(self) -> str:
        fd = self._socket.fileno()
        info = ["mantou.Transport"]
        if self.get_protocol() is None:
            info.append("closed")
        elif self.is_closing():
            info.append("closing")
        if fd >= 0:
            size = self.get_write_buffer_size()
            info.append(f"fd={fd}")
            info.append(f"read={'polling' if self.is_reading() else 'idle'}")
            info.append(f"write=<{'polling' if size else 'idle'}, bufsize={size}>")
        return f"<{' '.join(info)}>"


class _Unknown:
    pass


_UNKNOWN = _Unknown()


def _name(index: int, of: str) -> Callable[[SocketTransport], Any]:
    def find(transport: SocketTransport) -> Any:
        if (name := transport._names()[index]) is not None:
            return name
        try:
            return getattr(transport._open_file(), of)()
        except OSError:
            return None

    return find


def _session(of: str) -> Callable[[SocketTransport], Any]:
    def find(transport: SocketTransport) -> Any:
        session = transport.get_extra_info("ssl_object")
        return _UNKNOWN if session is None else getattr(session, of)()

    return find


def _ssl_object(transport: SocketTransport) -> Any:
    if transport._driver is None or not transport._established:
        return _UNKNOWN
    return transport._driver.ssl_object


_EXTRA: dict[str, Callable[[SocketTransport], Any]] = {
    "socket": lambda transport: trsock.TransportSocket(transport._open_file()),
    "sockname": _name(0, "getsockname"),
    "peername": _name(1, "getpeername"),
    "sslcontext": lambda it: _UNKNOWN if it._tls is None else it._tls.context,
    "ssl_object": _ssl_object,
    "peercert": _session("getpeercert"),
    "cipher": _session("cipher"),
    "compression": _session("compression"),
}


class _Tls:
    """How connections of one call speak TLS: checked as asyncio checks it."""

    def __init__(
        self,
        context: ssl.SSLContext | None,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> None:
        self.handshake_timeout = _positive(
            "ssl_handshake_timeout", handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT
        )
        self.shutdown_timeout = _positive(
            "ssl_shutdown_timeout", shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT
        )
        if context is None:
            create = cast("Any", sslproto)._create_transport_context
            context = cast("ssl.SSLContext", create(server_side, server_hostname))
        self.context = context
        self.settings = _tls_settings(context, server_side, server_hostname)
        self.options = _options(self.handshake_timeout, self.shutdown_timeout)


def _positive(name: str, given: float | None, default: float) -> float:
    if given is None:
        return default
    if given <= 0:
        raise ValueError(f"{name} should be a positive number, got {given}")
    return given


def _tls_settings(
    context: ssl.SSLContext, server_side: bool, server_hostname: str | None
) -> TlsSettings:
    """Who drives a connection that is to use this context: here it is decided."""
    name = server_hostname if server_hostname and not server_side else None
    return TlsSettings(context, name, None, {}, "server" if server_side else "client")


@functools.lru_cache(maxsize=16)
def _options(handshake_timeout: float | None, close_timeout: float | None) -> StreamOptions:
    return StreamOptions(
        allow_half_open=True,
        no_delay=True,
        keep_alive=None,
        idle_timeout=None,
        handshake_timeout=handshake_timeout,
        close_timeout=close_timeout,
        write_limit=_UNLIMITED,
        transport=True,
    )


_PLAIN = _options(None, None)


class _Acceptor:
    """Makes a protocol and a transport of each connection that a listening socket accepts."""

    def __init__(
        self,
        loop: Any,
        factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        tls: _Tls | None,
        is_unix: bool,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._server = server
        self._tls = tls
        self._is_unix = is_unix
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

    def stop(self) -> None:
        """Stops accepting."""
        if self.listener is not None:
            self.listener.stop(False)


if TYPE_CHECKING:
    _Base = asyncio.SelectorEventLoop
else:
    _Base = object


class Transports(_Base):
    """The part of an event loop that makes transports: asyncio's hooks, overridden."""

    _engine: Engine

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
        if _is_stream(sock):
            socket = self._engine.socket(None, None, "")
            transport = SocketTransport(
                socket, False, self, protocol, file=sock, extra=extra, waiter=waiter
            )
            try:
                self._engine.take_over(sock.fileno(), socket, _PLAIN, None)
            except OSError:
                # Not connected (any more): asyncio's own transport tells how.
                transport._let_go()
            else:
                return transport
        make = super()._make_socket_transport  # type: ignore[misc]
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
        if _is_stream(rawsock):
            tls = _Tls(
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
        make = super()._make_ssl_transport  # type: ignore[misc]
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

    async def create_server(self, *args: Any, start_serving: bool = True, **options: Any) -> Server:
        """As asyncio's."""
        server = await super().create_server(*args, start_serving=False, **options)
        return await adopt_server(server, start_serving)

    async def create_unix_server(
        self, *args: Any, start_serving: bool = True, **options: Any
    ) -> Server:
        """As asyncio's."""
        server = await super().create_unix_server(*args, start_serving=False, **options)
        return await adopt_server(server, start_serving)

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: sockets.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **more: Any,
    ) -> None:
        tls = None
        if sslcontext is not None:
            tls = _Tls(sslcontext, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        is_unix = sock.family == sockets.AF_UNIX
        acceptor = _Acceptor(self, protocol_factory, server, tls, is_unix)
        # The engine closes what it is given, and this socket is its server's.
        fd = os.dup(sock.fileno())
        options, settings = (_PLAIN, None) if tls is None else (tls.options, tls.settings)
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
        sock.close()

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
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
                transport,
                protocol,
                sslcontext,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        tls = _Tls(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        waiter: asyncio.Future[None] = self.create_future()
        secure = transport._become_secure(protocol, tls, server_side, waiter)
        try:
            await waiter
        except BaseException:
            secure.close()
            raise
        return secure

    async def _sendfile_native(
        self, transp: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        if not isinstance(transp, SocketTransport):
            send = super()._sendfile_native  # type: ignore[misc]
            return cast("int", await send(transp, file, offset, count))
        resume = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        # A number that is not the engine's: for a while the descriptor is asyncio's to watch.
        twin = sockets.socket(fileno=os.dup(transp._socket.fileno()))
        try:
            return await self.sock_sendfile(twin, file, offset, count, fallback=False)
        finally:
            twin.close()
            transp._reset_empty_waiter()
            if resume:
                transp.resume_reading()


def _is_stream(sock: sockets.socket) -> bool:
    return sock.family in _FAMILIES and sock.type == sockets.SOCK_STREAM

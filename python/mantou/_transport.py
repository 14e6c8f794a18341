"""asyncio's transport over a connection of the engine: what is called once or twice in its life.

What is called for each message is native (`crates/binding/src/transport/`). The engine tells a
transport of events by calling its `_on_...()` methods.
"""

# asyncio's names for what a transport and its loop share begin with an underscore.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import errno
import os
import socket as sockets
import ssl
import warnings
from asyncio import constants, transports, trsock
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, cast

from ._core import Socket, Transport
from ._transport_info import FINDERS, UNKNOWN
from ._transport_options import TlsSetup


class _Face(cast("Any", transports)._FlowControlMixin, asyncio.Transport):  # type: ignore[misc]
    """What a transport looks like to `isinstance()`."""

    __slots__ = ()


class _SSLFace(_Face):
    """The same over TLS: programs look at the name."""

    __slots__ = ()


def _face(transport: Transport) -> type[_Face]:
    return _SSLFace if transport._secure else _Face


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
        "_predecessor",
        "_server",
        "_successor",
        "_tls",
        "_waiter",
    )

    _start_tls_compatible = True

    __class__ = property(_face)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(  # pyright: ignore[reportInconsistentConstructor]
        self,
        _socket: Socket[Any],
        _secure: bool,
        loop: Any,
        protocol: asyncio.BaseProtocol,
        *,
        file: sockets.socket | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        waiter: asyncio.Future[None] | None = None,
        tls: TlsSetup | None = None,
        made: bool = False,
    ) -> None:
        self._loop: Any = loop
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
        # Those that the connection was taken over from, and by: the plain one lives and ends with
        # the one over TLS.
        self._predecessor: SocketTransport | None = None
        self._successor: SocketTransport | None = None
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
        tls = cast("TlsSetup", self._tls)
        # After start_tls() asyncio tells the protocol of what TLS itself found wrong only.
        from_tls = isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError)
        error = tls.as_asyncio_tells(error)
        if not isinstance(error, OSError):
            verified = not isinstance(error, ssl.CertificateError)
            what = "" if verified else " on verifying the certificate"
            self._report("SSL handshake failed" + what, error)
        elif self._loop.get_debug():
            logger.debug("%r: SSL handshake failed", self, exc_info=error)
        if self._server is not None and self._waiter is None and self._loop.get_debug():
            self._report("Error on transport creation for incoming connection", error)
        self._wake_waiter(error)
        if self._made and from_tls:
            self._end(error)
        else:
            self._part()

    def _can_upgrade(self) -> bool:
        """Whether TLS can begin in place."""
        return self._established and not (self._secure or self.is_closing())

    def _become_secure(
        self,
        protocol: asyncio.BaseProtocol,
        tls: TlsSetup,
        server_side: bool,
        waiter: asyncio.Future[None],
    ) -> SocketTransport:
        file = self._open_file()
        extra = dict(self._extra or {})
        extra["socket"] = trsock.TransportSocket(file)
        secure = SocketTransport(
            self._upgrade(tls.settings, tls.options, server_side),
            True,
            self._loop,
            protocol,
            file=file,
            extra=extra,
            waiter=waiter,
            tls=tls,
            made=True,
        )
        self._successor, secure._predecessor = secure, self
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
            self._close_now()

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
            message = f"unclosed transport {self!r}"
            self._part()
            warnings.warn(message, ResourceWarning, 1, self)
            return
        if self._secure and _took_too_long_to_part(error):
            error = TimeoutError("SSL shutdown timed out")
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._set_closing()
        self._forget_file()
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is not None:
            predecessor._set_closing()
            predecessor._successor = None
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

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
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
        """What asyncio's transports know.

        `socket`, `sockname`, `peername`; over TLS `sslcontext`, `ssl_object`, `peercert`, `cipher`
        and `compression`. A few stay known once it is closed, as with asyncio.
        """
        if self._extra is None:
            self._extra = {}
        if name not in self._extra:
            find = FINDERS.get(name)
            if find is None or (found := find(self)) is UNKNOWN:
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


SocketTransport._own_calls()


def _took_too_long_to_part(error: BaseException | None) -> bool:
    """Whether it is our patience that ended, and not the kernel's."""
    return isinstance(error, TimeoutError) and error.strerror != os.strerror(errno.ETIMEDOUT)


def when_data_comes(protocol: Any) -> Callable[[bytes], object]:
    """For a protocol that cannot take data yet, which asyncio minds only when some has come."""

    def deliver(data: bytes) -> None:
        protocol.data_received(data)

    return deliver

"""Streams: connections with `await`, and connect_stream().

What is awaited for each message is native (`crates/binding/src/streams/`). Loaded when it is first
asked for: where anyio is installed it is imported, and a stream is one of its.
"""

# A stream and its native half are one.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket as sockets
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

from ._connect import opening_of
from ._core import Socket
from ._core import Stream as NativeStream
from ._option_types import (
    FdStreamOptions,
    TCPStreamConnectOptions,
    TLSOptions,
    UnixStreamOptions,
)
from ._options import ConnectionOptions, parse_connect_stream
from ._stream_errors import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    EndOfStream,
    IncompleteRead,
    broken,
)
from ._stream_info import attributes
from ._tls_options import TlsSettings, parse_tls

if TYPE_CHECKING:
    from anyio.abc import ByteStream
else:
    try:
        from anyio.abc import ByteStream
    except ImportError:
        from ._stream_info import AttributeProvider as ByteStream

__all__ = [
    "BrokenResourceError",
    "BusyResourceError",
    "ClosedResourceError",
    "DelimiterNotFound",
    "EndOfStream",
    "IncompleteRead",
    "Stream",
    "connect_stream",
]


# What is awaited is native, and no `types.CoroutineType`.
class Stream(NativeStream, ByteStream):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A connection with `await`. Made by `connect_stream()`, `serve_streams()`, `upgrade_tls()`.

    One task may receive and one may send at a time. What arrives while nobody receives is kept, up
    to 64 KiB; then the peer has to wait. ``async for chunk in stream`` goes on until the peer's
    FIN, ``async with stream`` closes it. Cancelling what is awaited loses no byte and sends none
    twice.

    An `anyio.abc.ByteStream` where anyio is installed. Not in Bun.
    """

    _opened: asyncio.Future[None] | None = None
    # Has a task take care of it, if it was accepted.
    _starter: Callable[[Stream], None] | None = None
    _file: sockets.socket | None = None
    # Has taken the connection over.
    _secure: Stream | None = None

    async def send_eof(self) -> None:
        """Ends our side, behind everything that was sent: FIN, with TLS `close_notify` before it.

        Receiving goes on. A second call does nothing. anyio: `ByteStream.send_eof()`.

        :raises BrokenResourceError: the connection broke, as in `receive()`.
        :raises BusyResourceError: another task is sending.
        :raises ClosedResourceError: the stream was closed on this side.
        """
        self._finish_sending()

    async def aclose(self) -> None:
        """Closes the stream, and returns when it is closed.

        What was sent still goes out, then FIN, at most until nothing has moved for `close_timeout`
        seconds. Whoever is receiving or sending gets a ClosedResourceError. Cancelled, it is closed
        all the same. anyio: `AsyncResource.aclose()`.
        """
        self._shut()
        # Whoever is cancelled hears of it here, also in the way of anyio's scopes.
        await asyncio.sleep(0)
        await self.socket._told_closed()

    def _shut(self) -> None:
        if self._secure is not None:
            self._secure._shut()
        elif self._close():
            self._forget_file()
            self.socket.close()

    def abort(self) -> None:
        """Resets the connection at once: RST; what waits to be sent is lost.

        asyncio: `Transport.abort()`.
        """
        if self._secure is not None:
            self._secure.abort()
            return
        self._close()
        self._forget_file()
        self.socket.terminate()

    async def upgrade_tls(
        self,
        *,
        tls: Literal[True] | TLSOptions | ssl.SSLContext,
        server_side: bool | None = None,
        server_name: str | None = None,
    ) -> Stream:
        """Makes TLS of a plain connection, as STARTTLS does; returns when the handshake is done.

        What was sent before goes out in the clear first; what was received and not asked for yet
        goes to TLS. The stream that is returned takes the connection over. This one cannot receive
        or send any more, and closing it closes that one. Not in anyio.

        :param tls: as in `connect_stream()` and `serve_streams()`.
        :param server_side: which side of the handshake is ours. Default: None, the server's for a
            stream of `serve_streams()`, else the client's.
        :param server_name: the name to verify. Default: None, the `server_name` of `tls`, else the
            `hostname` that was connected to.
        :raises BusyResourceError: another task is receiving or sending.
        :raises ssl.SSLError: the handshake failed; the connection is closed.
        :raises ValueError: it speaks TLS already, or an option has a wrong value.
        """
        if server_side is None:
            server_side = self._starter is not None
        source = cast("object", tls)
        if source is not True and not isinstance(source, Mapping | ssl.SSLContext):
            kind = type(tls).__name__
            raise TypeError(f"'tls' must be True, a mapping or an ssl.SSLContext, got {kind}")
        settings = parse_tls(cast("object", tls), "server" if server_side else "client")
        if server_name is not None:
            settings = dataclasses.replace(settings, server_name=server_name)
        secure = self._begin_tls(settings, server_side)
        await secure._handshake()
        return secure

    def _begin_tls(
        self, settings: TlsSettings, server_side: bool, options: ConnectionOptions | None = None
    ) -> Self:
        """The stream that has taken the connection over, and what is to hold of it from now on."""
        loop = asyncio.get_running_loop()
        secure = self._secure = type(self)(self._upgrade(settings, server_side, options), loop)
        self._forget_file()
        secure._starter = self._starter
        secure._opened = loop.create_future()
        secure._attach()
        return secure

    async def _handshake(self) -> None:
        """Returns when it is done; whoever is cancelled here closes the connection."""
        opened = cast("asyncio.Future[None]", self._opened)
        try:
            await opened
        finally:
            if opened.cancelled():
                self.abort()

    async def send_file(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Sends a file, or a part of it; returns how many bytes that were.

        In the clear the kernel sends it itself, sendfile(2); over TLS it is read and sealed.
        asyncio: `loop.sendfile()`.

        :param file: a regular file, opened in binary mode.
        :param offset: where to begin, in bytes.
        :param count: how many bytes; None for the rest of the file.
        :raises BrokenResourceError: the connection broke, as in `receive()`.
        :raises BufferError: as of `Socket.send_file()`.
        :raises BusyResourceError: another task is sending.
        :raises ClosedResourceError: the stream was closed on this side.
        :raises OSError: the file cannot be read.
        :raises TypeError: an argument is of the wrong type.
        :raises ValueError: not a regular file, or one without a size, as in /proc; or offset or
            count are negative.
        """
        self._occupy()
        try:
            return await self.socket.send_file(file, offset, count)
        except ConnectionError as error:
            self._vacate()
            self._occupy()  # raises what became of the stream, if that is known already
            raise broken(error) from error
        finally:
            self._vacate()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What `extra()` knows: of `anyio.abc.SocketAttribute` and, over TLS, of `TLSAttribute`.

        Empty where anyio is not installed. anyio: `TypedAttributeProvider.extra_attributes`.
        """
        return attributes(self)

    @property
    def _raw_socket(self) -> sockets.socket:
        """The connection as the socket module knows it; it must not be closed."""
        if self._file is None:
            number = self.socket.fileno()
            if number < 0:
                raise ClosedResourceError("the stream is closed")
            self._file = sockets.socket(fileno=number)
        return self._file

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # What the socket tells

    def _on_open(self, _socket: Socket[Any]) -> None:
        self._begin()
        if self._opened is not None:
            if not self._opened.done():
                self._opened.set_result(None)
        elif self._starter is not None:
            self._starter(self)

    def _on_connect_error(self, socket: Socket[Any], error: BaseException) -> None:
        self._on_close(socket, error)

    def _on_close(self, socket: Socket[Any], error: BaseException | None) -> None:
        self._forget_file()
        super()._on_close(socket, error)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(
                error or ConnectionAbortedError(errno.ECONNABORTED, "the stream was closed")
            )

    def _forget_file(self) -> None:
        # The descriptor is the engine's to close.
        if self._file is not None:
            self._file.detach()
            self._file = None

    def __repr__(self) -> str:
        return f"<mantou.Stream of {self.socket!r}>"


@overload
async def connect_stream(**options: Unpack[TCPStreamConnectOptions]) -> Stream: ...
@overload
async def connect_stream(**options: Unpack[UnixStreamOptions]) -> Stream: ...
@overload
async def connect_stream(**options: Unpack[FdStreamOptions]) -> Stream: ...
async def connect_stream(**options: Any) -> Stream:
    """Connects to `hostname` and `port`, to a `unix` path, or takes over a connected `fd`.

    Returns when the stream can carry data: with TLS, when the handshake is done and the peer
    verified. Cancelling it closes every attempt at once.

    `allow_half_open` is True where it is not given: the peer's FIN is the end of what is received,
    and of nothing else. anyio: `connect_tcp()`, `connect_unix()`.

    Options, by kind:

    Where: exactly one of `hostname` and `port`, `unix`, `fd`

        hostname: The host to connect to: a name, or an IPv4 or IPv6 address (`::1`,
            `fe80::1%eth0`). Several addresses are tried side by side (RFC 8305). Required.
            Bun: `hostname`.
        port: The port to connect to, from 1 to 65535; digits in a str, too. Required.
            Bun: `port`.
        unix: The path of a unix socket, up to 107 bytes; a leading NUL means a name in the
            abstract namespace. Required. Bun: `unix`.
        fd: A connected TCP or unix stream socket, which is mantou's once the call succeeds;
            anything else is an OSError or a ValueError. Required. Bun: `fd`.

    Flow and limits

        allow_half_open: The peer's FIN ends nothing: our side stays open until `end()`, and
            then the peer may take its time to finish. Default: False; True of streams.
            Bun: `allowHalfOpen`.
        write_limit: Bytes that may wait in one socket when `write_all()` or `end()` are to add
            to them; more is a BufferError. Default: 16777216 (16 MiB). Not in Bun.

    Times, in seconds

        connect_timeout: Seconds for resolving the name and all attempts together, else a
            TimeoutError (ETIMEDOUT); None for no limit of ours. Default: 30.0. Not in Bun.
        idle_timeout: Seconds in which no byte is read, taken by the kernel or acknowledged by
            the peer, until the `timeout` handler is called and, unless it returns True, the
            connection closed with a TimeoutError; None or 0 for no limit. Default: None. Not in
            Bun.
        handshake_timeout: Seconds for the TLS handshake, else a HandshakeTimeoutError; before
            it, as long for the header that `proxy_protocol` of `listen()` waits for, else a
            ProxyTimeoutError. None for no limit. Default: 30.0. Not in Bun.
        close_timeout: Seconds in which a connection that is being closed makes no progress,
            until it is terminated with a TimeoutError; None for no limit. Progress is what the
            peer acknowledged or sent: a slow reader is not cut off. Default: 30.0. Not in Bun.

    TCP: only with `hostname` and `port`

        local_address: The IP address to connect from, of the same family as the host.
            Default: None, the system's choice. Not in Bun.
        local_port: The port to connect from; an OSError (EADDRINUSE) if it is taken. None or 0
            for the system's choice. Default: None. Not in Bun.
        exclusive: The local address and port are ours alone: nobody else can bind them,
            whatever options they set. Not together with `reuse_port`. Default: False.
            Bun: `exclusive`.
        reuse_port: Share the local port with others that ask for this, too. Where the system
            cannot, an OSError (ENOTSUP). Default: False. Bun: `reusePort`.
        ipv6_only: Only IPv6, neither IPv4 nor IPv4-mapped addresses; one of these is a
            ValueError, a name that has nothing else a `socket.gaierror`. Default: False.
            Bun: `ipv6Only`.
        no_delay: Set TCP_NODELAY: small writes leave at once. Default: True. Not in Bun, where
            it is set.
        keep_alive: Seconds of silence before the first probe of SO_KEEPALIVE; None for no
            probes. Default: None. Not in Bun.
        dead_after: Seconds, from 2 to 32767, in which a peer answers nothing until it is given
            up: `close` gets a TimeoutError (ETIMEDOUT). While nothing is sent the kernel probes
            it (SO_KEEPALIVE); what is sent has to be acknowledged (TCP_USER_TIMEOUT), and
            taken: a peer that reads nothing for so long counts as dead as well. Not together
            with `keep_alive`. Default: None. Not in Bun.

    TLS

        tls: Speak TLS: True on a client, `TLSOptions`, or an `ssl.SSLContext`, which then
            drives the connection. A server needs a certificate. Default: False. Bun: `tls`.

    The PROXY protocol

        proxy_header: Say first, before TLS, for whom we connect, in the PROXY protocol: for the
            client of a `Socket`, as `ProxyHeader.of()` tells it; a `ProxyHeader` as it is; True
            for ourselves (version 2, LOCAL). Default: False. Not in Bun.

    :raises OSError: as `connect()`.
    :raises RuntimeError: no event loop is running.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    :raises ssl.SSLError: the handshake failed, or the peer's certificate is not accepted.
    """
    opening = opening_of(parse_connect_stream(options))
    stream = Stream(opening.socket, asyncio.get_running_loop())
    stream._attach()
    await opening.run()
    return stream

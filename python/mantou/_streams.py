"""Streams: connections with `await`, and connect_stream().

What is awaited for each message is native (`crates/binding/src/streams/`). Loaded when it is first
asked for: where anyio is installed it is imported, and a stream is one of its.
"""

# A stream and its native half are one.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import os
import socket as sockets
import ssl
import stat
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

from ._connect import Opening
from ._core import Socket
from ._core import Stream as NativeStream
from ._option_types import TLSOptions
from ._options import parse_connect_stream
from ._stream_errors import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    EndOfStream,
    IncompleteRead,
)
from ._stream_info import attributes
from ._tls_options import parse_tls

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

# Bytes of a file that are read at once, where they have to pass through this process.
_FILE_PIECE = 256 * 1024


class Stream(NativeStream, ByteStream):
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
        await self.socket._closed()

    def _shut(self) -> None:
        if self._close():
            self.socket.close()

    def abort(self) -> None:
        """Resets the connection at once: RST; what waits to be sent is lost.

        asyncio: `Transport.abort()`.
        """
        self._close()
        self.socket.terminate()

    async def upgrade_tls(
        self,
        *,
        tls: bool | TLSOptions | ssl.SSLContext,
        server_side: bool | None = None,
        server_name: str | None = None,
    ) -> Stream:
        """Makes TLS of a plain connection, as STARTTLS does; returns when the handshake is done.

        What was sent before goes out in the clear first; what was received and not asked for yet
        goes to TLS. This stream is closed; the one that is returned takes the connection over.

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
        settings = parse_tls(cast("Any", tls), "server" if server_side else "client")
        if server_name is not None:
            settings = settings._replace(server_name=server_name)
        secure = type(self)(self._upgrade(settings, server_side), asyncio.get_running_loop())
        secure._starter = self._starter
        opened = secure._opened = asyncio.get_running_loop().create_future()
        secure._attach()
        try:
            await opened
        except BaseException:
            secure.abort()
            raise
        return secure

    async def send_file(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Sends a file, or a part of it; returns how many bytes that were.

        In the clear the kernel sends it itself, sendfile(2); over TLS it is read and sealed.
        asyncio: `loop.sendfile()`.

        :param file: opened in binary mode.
        :param offset: where to begin, in bytes.
        :param count: how many bytes; None for the rest of the file.
        :raises BrokenResourceError: the connection broke, as in `receive()`.
        :raises BusyResourceError: another task is sending.
        :raises ClosedResourceError: the stream was closed on this side.
        :raises ValueError: offset or count are negative.
        """
        if offset < 0 or (count is not None and count < 0):
            raise ValueError(f"offset and count must be 0 or more, got {offset} and {count}")
        sent = 0
        while count is None or sent < count:
            most = _FILE_PIECE if count is None else min(_FILE_PIECE, count - sent)
            piece = os.pread(file.fileno(), most, offset + sent)
            if not piece:
                break
            await self.send(piece)
            sent += len(piece)
        return sent

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

    def _on_connect_error(self, _socket: Socket[Any], error: BaseException) -> None:
        self._fail_to_open(error)

    def _on_close(self, socket: Socket[Any], error: BaseException | None) -> None:
        self._forget_file()
        super()._on_close(socket, error)
        self._fail_to_open(error or ConnectionAbortedError("the stream was closed"))

    def _fail_to_open(self, error: BaseException) -> None:
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)

    def _forget_file(self) -> None:
        # The descriptor is the engine's to close.
        if self._file is not None:
            self._file.detach()
            self._file = None

    def __repr__(self) -> str:
        return f"<mantou.Stream of {self.socket!r}>"


async def connect_stream(**options: Any) -> Stream:
    """Connects to `hostname` and `port`, to a `unix` path, or takes over a connected `fd`.

    Returns when the stream can carry data: with TLS, when the handshake is done and the peer
    verified. Cancelling it closes every attempt at once.

    anyio: `connect_tcp()`, `connect_unix()`.

    Options: those of `connect()`, without `socket` and `data`. `allow_half_open` is True where it
    is not given: the peer's FIN is the end of what is received, and of nothing else.

    :raises OSError: as `connect()`.
    :raises RuntimeError: no event loop is running.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    :raises ssl.SSLError: the handshake failed, or the peer's certificate is not accepted.
    """
    opening = Opening(parse_connect_stream(options))
    stream = Stream(opening.socket, asyncio.get_running_loop())
    stream._attach()
    await opening.run()
    return stream

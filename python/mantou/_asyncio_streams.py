"""asyncio's streams over ours: `StreamReader` and `StreamWriter`.

For programs that were written for `asyncio.open_connection()` and `asyncio.start_server()`. Where a
program looks, exceptions, limits and the order of things are asyncio's.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import functools
import ssl
import warnings
from collections import deque
from collections.abc import Iterable
from typing import Any, Self, cast

from ._asyncio_transport import Buffer, StreamTransport
from ._core import Socket
from ._options import DEFAULT_TIMEOUT, ConnectionOptions
from ._stream_errors import BusyResourceError, DelimiterNotFound, IncompleteRead
from ._streams import Stream
from ._transport_options import PLAIN, TlsSetup

# asyncio's own.
LIMIT = 2**16


class AsyncioStream(Stream):
    """The connection of a reader and a writer, which ends as asyncio's do."""

    # Of one of `start_server()`, whose callback need not keep it.
    _writer: StreamWriter | None = None
    # With what its handshake began, where `start_tls()` did it.
    _tls: TlsSetup | None = None

    def _on_connect_error(self, socket: Socket[Any], error: BaseException) -> None:
        told = error if self._tls is None else self._tls.as_asyncio_tells(error)
        super()._on_connect_error(socket, told)

    def _on_error(self, socket: Socket[Any], error: BaseException) -> None:
        if not isinstance(error, ssl.SSLEOFError):
            super()._on_error(socket, error)

    def _on_close(self, socket: Socket[Any], error: BaseException | None) -> None:
        # A FIN without `close_notify` is an end like any other there, and servers rely on that.
        super()._on_close(socket, None if isinstance(error, ssl.SSLEOFError) else error)
        self._writer = None


def pair(
    stream: AsyncioStream, tls: TlsSetup | None, limit: int, *, server_side: bool
) -> tuple[StreamReader, StreamWriter]:
    """What programs get of a connection."""
    reader = StreamReader(stream, limit)
    return reader, StreamWriter(stream, reader, tls, server_side)


def options_for(tls: TlsSetup | None) -> ConnectionOptions:
    """What asyncio's arguments for TLS, or none, come to for a stream's connection."""
    return _patient(PLAIN if tls is None else tls.options)


@functools.lru_cache(maxsize=16)
def _patient(options: ConnectionOptions) -> ConnectionOptions:
    close_timeout = options.close_timeout or DEFAULT_TIMEOUT
    return options._replace(transport=False, close_timeout=close_timeout)


class StreamReader(asyncio.StreamReader):
    """What `open_connection()` and `start_server()` give to read from. asyncio: `StreamReader`."""

    def __init__(self, stream: AsyncioStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    @property
    def _buffer(self) -> bytearray:
        """A copy of what asyncio keeps there: some clients look whether anything is left."""
        return bytearray(self._stream._unread())

    def exception(self) -> Exception | None:
        """What broke the connection."""
        return cast("Exception | None", self._stream._error)

    def at_eof(self) -> bool:
        """Whether everything was read, and nothing more will come."""
        return self._stream._at_end

    async def read(self, n: int = -1) -> bytes:
        """Up to `n` bytes, at least one; all until the end if negative. Nothing at the end."""
        if n == 0:
            return b""
        try:
            return await self._stream._read(n)
        except BusyResourceError:
            raise _busy("read") from None

    async def readexactly(self, n: int) -> bytes:
        """Exactly `n` bytes.

        :raises asyncio.IncompleteReadError: the end comes first.
        """
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        try:
            return await self._stream._read_exactly(n)
        except IncompleteRead as error:
            raise asyncio.IncompleteReadError(error.partial, n) from None
        except BusyResourceError:
            raise _busy("readexactly") from None

    async def readuntil(  # type: ignore[override]  # asyncio takes several since 3.13
        self, separator: bytes | tuple[bytes, ...] = b"\n"
    ) -> bytes:
        """What comes up to a separator, and with it; or to whichever of several ends first.

        :raises asyncio.IncompleteReadError: the end comes first.
        :raises asyncio.LimitOverrunError: it comes behind the limit. The bytes stay.
        """
        separators = separator if isinstance(separator, tuple) else (separator,)
        if not separators:
            raise ValueError("Separator should contain at least one element")
        if not all(separators):
            raise ValueError("Separator should be at least one-byte string")
        try:
            return await self._stream._read_whole([bytes(it) for it in separators], self._limit)
        except IncompleteRead as error:
            raise asyncio.IncompleteReadError(error.partial, None) from None
        except DelimiterNotFound:
            raise self._overrun(separators) from None
        except BusyResourceError:
            raise _busy("readuntil") from None

    def _overrun(self, separators: tuple[bytes, ...]) -> asyncio.LimitOverrunError:
        unread = self._stream._unread()
        ends = [(at + len(it), at) for it in separators if (at := unread.find(it)) >= 0]
        if ends:
            text = "Separator is found, but chunk is longer than limit"
            return asyncio.LimitOverrunError(text, min(ends)[1])
        text = "Separator is not found, and chunk exceed the limit"
        return asyncio.LimitOverrunError(text, len(unread) + 1 - max(map(len, separators)))

    async def readline(self) -> bytes:
        r"""A line with its ``\\n``; what is left at the end.

        :raises ValueError: it is longer than the limit. It is gone then.
        """
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            unread = self._stream._unread()
            found = unread.startswith(b"\n", error.consumed)
            self._stream._skip(error.consumed + 1 if found else len(unread))
            raise ValueError(error.args[0]) from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if line == b"":
            raise StopAsyncIteration
        return line

    def feed_data(self, data: Iterable[Any]) -> None:
        """The connection feeds it.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError("a reader of mantou's is fed by its connection")

    def feed_eof(self) -> None:
        """The connection feeds it.

        :raises NotImplementedError: always.
        """
        self.feed_data(b"")

    def __repr__(self) -> str:
        return f"<mantou.StreamReader of {self._stream.socket!r}>"


def _busy(method: str) -> RuntimeError:
    text = f"{method}() called while another coroutine is already waiting for incoming data"
    return RuntimeError(text)


class StreamWriter(asyncio.StreamWriter):
    """What `open_connection()` and `start_server()` give to write to. asyncio: `StreamWriter`."""

    def __init__(
        self,
        stream: AsyncioStream,
        reader: StreamReader,
        tls: TlsSetup | None,
        server_side: bool,
    ) -> None:
        self._stream = stream
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._server_side = server_side
        self._stream_transport = StreamTransport(stream, tls)
        self._waits_to_drain: deque[asyncio.Future[None]] = deque()
        self._drains = False

    @property
    def transport(self) -> asyncio.WriteTransport:
        """The connection: `get_extra_info()`, `abort()`, `get_write_buffer_size()` and its kin."""
        return self._stream_transport

    def write(self, data: Buffer) -> None:
        """Sends data, now or as soon as the peer reads."""
        self._stream_transport.write(data)

    def writelines(self, data: Iterable[Buffer]) -> None:
        """Sends several pieces in one system call."""
        self._stream_transport.writelines(data)

    async def drain(self) -> None:
        """Returns when 64 KiB or less of what was written wait to be sent.

        :raises ConnectionError: the connection is lost.
        """
        if (error := self._stream._error) is not None:
            raise cast("Exception", error)
        if self._stream._is_over:
            await asyncio.sleep(0)
            if self._stream.socket.fileno() < 0:
                raise ConnectionResetError("Connection lost")
            return
        # Several tasks may wait, of which one does for all.
        while self._drains:
            waiter = asyncio.get_running_loop().create_future()
            self._waits_to_drain.append(waiter)
            await waiter
        self._drains = True
        try:
            await self._stream._drain()
        finally:
            self._drains = False
            while self._waits_to_drain:
                waiter = self._waits_to_drain.popleft()
                if not waiter.done():
                    waiter.set_result(None)

    def write_eof(self) -> None:
        """Ends our side behind everything that was written."""
        self._stream_transport.write_eof()

    def can_write_eof(self) -> bool:
        """Whether the peer would notice that; over TLS asyncio says no."""
        return self._stream_transport.can_write_eof()

    def close(self) -> None:
        """Closes once everything is sent."""
        self._stream_transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._stream_transport.is_closing()

    async def wait_closed(self) -> None:
        """Returns when it is closed.

        :raises ConnectionError: the connection broke.
        """
        await self._stream.socket._told_closed()
        if (error := self._stream._error) is not None:
            raise cast("Exception", error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection: `peername`, `socket`, `ssl_object`..."""
        return self._stream_transport.get_extra_info(name, default)

    async def start_tls(
        self,
        sslcontext: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        """Makes TLS of the connection.

        :param ssl_handshake_timeout: seconds; asyncio's default is 60.
        :param ssl_shutdown_timeout: seconds that closing TLS may take without progress; 30 by
            default.
        :raises ConnectionAbortedError: the handshake took too long.
        :raises ConnectionResetError: the peer ended the connection within it.
        :raises ssl.SSLError: the handshake failed, or the peer's certificate is not accepted.
        """
        if not isinstance(cast("object", sslcontext), ssl.SSLContext):
            text = "sslcontext is expected to be an instance of ssl.SSLContext, got"
            raise TypeError(f"{text} {sslcontext!r}")
        tls = TlsSetup(
            sslcontext,
            self._server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        await self.drain()
        before = self._stream
        secure = before._begin_tls(tls.settings, self._server_side, options_for(tls))
        secure._tls, secure._writer = tls, before._writer
        # Also if the handshake fails: why it did is told to whoever reads or writes later.
        self._stream = self._reader._stream = secure
        transport = self._stream_transport = StreamTransport(secure, tls, established=False)
        await secure._handshake()
        transport._established = True

    def __del__(self) -> None:
        if self.is_closing():
            return
        if self._loop.is_closed():
            warnings.warn("loop is closed", ResourceWarning, stacklevel=1)
            return
        # Objects are collected in any thread.
        self._loop.call_soon_threadsafe(self._stream_transport.close)
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1)

    def __repr__(self) -> str:
        return f"<mantou.StreamWriter of {self._stream.socket!r}>"

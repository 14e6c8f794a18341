"""What a program finds under `StreamWriter.transport`."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from ._streams import Stream
from ._transport_info import FINDERS, UNKNOWN
from ._transport_options import TlsSetup

Buffer = bytes | bytearray | memoryview


class StreamTransport(asyncio.Transport):
    """The connection, seen as asyncio's transports are."""

    def __init__(self, stream: Stream, tls: TlsSetup | None, *, established: bool = True) -> None:
        super().__init__()
        self._stream = stream
        self._socket = stream.socket
        self._tls = tls
        self._established = established
        # Names that nobody can tell any more once the connection is gone.
        for name in ("sockname", "peername"):
            self.get_extra_info(name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        extra = cast("dict[str, Any]", self._extra)  # type: ignore[attr-defined]
        if name not in extra:
            find = FINDERS.get(name)
            if find is None or (found := find(self)) is UNKNOWN:
                return default
            extra[name] = found
        return extra[name]

    def write(self, data: Buffer) -> None:
        _check_data(data)
        self._stream._write((data,))

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        pieces = list(list_of_data)
        for piece in pieces:
            _check_data(piece)
        self._stream._write(pieces)

    def write_eof(self) -> None:
        if not self._stream._is_over:
            self._stream._finish_sending(draining=True)

    def can_write_eof(self) -> bool:
        return self._tls is None

    def close(self) -> None:
        # What was received is still there to be read.
        if self._stream._close(keep=True):
            self._socket.close()

    def abort(self) -> None:
        self._stream._close(keep=True)
        self._socket.terminate()

    def is_closing(self) -> bool:
        return self._stream._is_over

    def is_reading(self) -> bool:
        return self._stream._is_reading

    def pause_reading(self) -> None:
        self._stream._hold(True)

    def resume_reading(self) -> None:
        self._stream._hold(False)

    def get_write_buffer_size(self) -> int:
        return self._socket.buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._stream._marks

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._stream._set_marks(low, high)

    # For what `get_extra_info()` asks.

    @property
    def _driver(self) -> Any:
        return self._stream._driver

    def _names(self) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
        """As the socket module tells them; None where only it can: unix, and zones of IPv6."""
        it = self._socket
        return (
            _name(it.local_family, it.local_address, it.local_port),
            _name(it.remote_family, it.remote_address, it.remote_port),
        )

    def _open_file(self) -> Any:
        return self._stream._raw_socket


def _check_data(data: object) -> None:
    if not isinstance(data, bytes | bytearray | memoryview):
        kind = type(data).__name__
        raise TypeError(f"data argument must be a bytes-like object, not {kind!r}")


def _name(family: str | None, address: str | None, port: int | None) -> tuple[Any, ...] | None:
    if family is None or address is None or "%" in address:
        return None
    return (address, port) if family == "IPv4" else (address, port, 0, 0)

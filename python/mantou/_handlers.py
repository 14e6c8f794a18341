"""Handlers: the three forms they may be given in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ._core import Socket

    # The default lets the generic classes be named without [...] under strict checking. Type
    # checkers know typing_extensions by themselves; at run time it is not needed.
    D = TypeVar("D", default=Any)
else:
    from typing import TypeVar

    D = TypeVar("D")

BinaryType = Literal["bytes", "bytearray", "memoryview"]

Handler = Callable[..., object]


class SocketHandler(Generic[D]):
    """What happens on a socket: subclass it and override what matters (Bun: SocketHandler).

    A method that is not overridden counts as absent, so it costs nothing. `D` is the type of
    ``socket.data``. If a handler raises, `error` is called and the connection closed, unless
    `error` returns True. Each may be ``async def``: its coroutine then runs as a task of the loop;
    one that is cancelled counts as one that returned None.
    """

    __slots__ = ()

    # What `data` is called with (Bun: binaryType). A memoryview is valid during the call only.
    binary_type: BinaryType = "bytes"

    def open(self, socket: Socket[D], /) -> object:
        """The connection can be used (with TLS and without `handshake`: after it succeeded)."""

    # Any: what `binary_type` says; an override names the one type that it gets.
    def data(self, socket: Socket[D], data: Any, /) -> object:
        """Bytes arrived."""

    def drain(self, socket: Socket[D], /) -> object:
        """There is room again after a short ``write()``, or ``write_all()``'s queue is empty."""

    def end(self, socket: Socket[D], /) -> object:
        """The peer sends nothing more."""

    def close(self, socket: Socket[D], error: BaseException | None, /) -> object:
        """The connection is over: called once, last. `error` says why, None is a clean end."""

    def error(self, socket: Socket[D], error: BaseException, /) -> object:
        """A handler raised, or a TLS session broke. Returning True keeps the connection."""

    def timeout(self, socket: Socket[D], /) -> object:
        """Nothing was read or written for the idle timeout. Returning True keeps the connection."""

    def connect_error(self, socket: Socket[D], error: BaseException, /) -> object:
        """The connection failed before `open` (Bun: connectError)."""

    def handshake(
        self, socket: Socket[D], success: bool, authorization_error: BaseException | None, /
    ) -> object:
        """The TLS handshake is over; without success the connection is closing."""


class HandlerMapping(TypedDict, Generic[D], total=False):
    """Handlers by name; see `SocketHandler` for what each means."""

    binary_type: BinaryType
    open: Callable[[Socket[D]], object] | None
    data: Callable[[Socket[D], Any], object] | None
    drain: Callable[[Socket[D]], object] | None
    end: Callable[[Socket[D]], object] | None
    close: Callable[[Socket[D], BaseException | None], object] | None
    error: Callable[[Socket[D], BaseException], object] | None
    timeout: Callable[[Socket[D]], object] | None
    connect_error: Callable[[Socket[D], BaseException], object] | None
    handshake: Callable[[Socket[D], bool, BaseException | None], object] | None


# An object with at least one of the methods: one protocol each, as no member is required.


class _HasOpen(Protocol[D]):
    def open(self, socket: Socket[D], /) -> object: ...


class _HasData(Protocol[D]):
    def data(self, socket: Socket[D], data: Any, /) -> object: ...


class _HasDrain(Protocol[D]):
    def drain(self, socket: Socket[D], /) -> object: ...


class _HasEnd(Protocol[D]):
    def end(self, socket: Socket[D], /) -> object: ...


class _HasClose(Protocol[D]):
    def close(self, socket: Socket[D], error: BaseException | None, /) -> object: ...


class _HasError(Protocol[D]):
    def error(self, socket: Socket[D], error: BaseException, /) -> object: ...


class _HasTimeout(Protocol[D]):
    def timeout(self, socket: Socket[D], /) -> object: ...


class _HasConnectError(Protocol[D]):
    def connect_error(self, socket: Socket[D], error: BaseException, /) -> object: ...


class _HasHandshake(Protocol[D]):
    def handshake(
        self, socket: Socket[D], success: bool, authorization_error: BaseException | None, /
    ) -> object: ...


HandlerObject = (
    _HasOpen[D]
    | _HasData[D]
    | _HasDrain[D]
    | _HasEnd[D]
    | _HasClose[D]
    | _HasError[D]
    | _HasTimeout[D]
    | _HasConnectError[D]
    | _HasHandshake[D]
)

# Every form in which handlers may be given.
Handlers = SocketHandler[D] | HandlerObject[D] | HandlerMapping[D]

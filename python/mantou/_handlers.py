"""Handlers: the three forms they may be given in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypedDict

from ._core import Socket
from ._validate import shown, signature_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # The default lets the generic classes be named without [...] under strict checking. Type
    # checkers know typing_extensions by themselves; at run time it is not needed.
    D = TypeVar("D", default=Any)
else:
    from typing import TypeVar

    D = TypeVar("D")

BinaryType = Literal["bytes", "bytearray", "memoryview"]

Handler = Callable[..., object]


class SocketHandler(Generic[D]):
    """What happens on a socket: subclass it and override what matters.

    A method that is not overridden counts as absent, so it costs nothing. `D` is the type of
    ``socket.data``. Every connection ends in one of two ways: `connect_error`, or `open` and at
    last, once, `close`.

    A handler may be ``async def``. The handlers of one socket run one after another: while a
    coroutine waits, no other one of its socket is called, `timeout` and `draining` excepted, and
    nothing more is read from it. Its first step runs within the event itself. When the connection
    is lost it is cancelled first, which counts as having returned None; then `close` is called.

    If a handler raises, `error` is called, and where there is none the loop's exception handler;
    then the connection is closed with that exception, unless `error` returned True.

    All handlers of a connection share one context of context variables, a copy of that in which
    `connect()` or `listen()` was called. `binary_type` is what `data` is called with: "bytes",
    "bytearray", or "memoryview", which is not copied and valid during the call only.

    Bun: `SocketHandler`, and `binaryType`.
    """

    __slots__ = ()

    binary_type: BinaryType = "bytes"
    """What `data` is called with. A memoryview is valid during the call only. Default: "bytes".
    Bun: `binaryType`."""

    def open(self, socket: Socket[D], /) -> object:
        """The connection can be used.

        With TLS: after the handshake succeeded or, if there is a `handshake` handler, before it.
        Bun: `open`.
        """

    # Any: what `binary_type` says; an override names the one type that it gets.
    def data(self, socket: Socket[D], data: Any, /) -> object:
        """Bytes arrived: a `binary_type` of them, at most 512 KiB.

        Without this handler what arrives is read and dropped. Bun: `data`.
        """

    def drain(self, socket: Socket[D], /) -> object:
        """There is room again after a short ``write()``, or ``write_all()``'s queue is empty.

        Called once for each time that somebody had to wait, never before `open`. Bun: `drain`.
        """

    def end(self, socket: Socket[D], /) -> object:
        """The peer sends nothing more: it sent FIN or, with TLS, `close_notify`.

        What is written in here is still delivered. Then our side ends as well, unless
        `allow_half_open` is True. Bun: `end`.
        """

    def close(self, socket: Socket[D], error: BaseException | None, /) -> object:
        """The connection is over: called once, last, after all data that had arrived.

        `error` is None for a clean end and our own ``terminate()``, else says why: a
        ConnectionResetError, BrokenPipeError, TimeoutError, ssl.SSLError, or what a handler
        raised. An exception in here goes to the loop's exception handler. Bun: `close`.
        """

    def error(self, socket: Socket[D], error: BaseException, /) -> object:
        """A handler raised `error`, or an established TLS session broke.

        The connection is closed with it, unless True is returned after a handler raised. An
        exception in here goes to the loop's exception handler. Bun: `error`, which closes nothing.
        """

    def timeout(self, socket: Socket[D], /) -> object:
        """No byte was read, taken by the kernel or acknowledged for the idle timeout.

        The connection is closed with a TimeoutError, unless True is returned, which keeps it for
        as long again. Called at once, also while another handler waits. Bun: `timeout`, which
        closes nothing.
        """

    def connect_error(self, socket: Socket[D], error: BaseException, /) -> object:
        """The connection failed before `open`; nothing else was or will be called.

        For an accepted one: its TLS handshake failed, or `data_factory` raised. An exception in
        here goes to `error`, as any handler's does. Bun: `connectError`.
        """

    def handshake(
        self, socket: Socket[D], success: bool, authorization_error: BaseException | None, /
    ) -> object:
        """The TLS handshake is over.

        With `success` the session stands; `authorization_error` is None, or the failed
        verification that ``reject_unauthorized=False`` let pass. Without, the connection is
        closing, and the error says why. Bun: `handshake`.
        """

    def draining(self, socket: Socket[D], /) -> object:
        """The listener drains: this connection is to come to an end, within the grace given.

        What it was doing may be finished; what would begin is not to. Called once, at once, also
        while another handler waits, and right after `open` for a connection that opens later. It
        ends nothing by itself. Not in Bun.
        """


class HandlerMapping(TypedDict, Generic[D], total=False):
    """Handlers by name: `binary_type`, and what each of `SocketHandler`'s methods means.

    None stands for an absent one. Bun: `SocketHandler`.
    """

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
    draining: Callable[[Socket[D]], object] | None


# One protocol for each method, as none of them is required.


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


class _HasDraining(Protocol[D]):
    def draining(self, socket: Socket[D], /) -> object: ...


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
    | _HasDraining[D]
)
"""An object with at least one of the methods of `SocketHandler`."""

# Every form in which handlers may be given.
Handlers = SocketHandler[D] | HandlerObject[D] | HandlerMapping[D]


def no_handler(option: str, name: str, given: object) -> TypeError:
    """The error for what cannot be called as the handler `name`, if it is one at all."""
    _, *parameters = inspect.signature(getattr(SocketHandler, name)).parameters
    arguments = ", ".join(parameters)
    if callable(given):
        what = f"is called with ({arguments}), which {signature_of(given)} cannot be"
    else:
        what = f"must be callable with ({arguments}), got {shown(given)}"
    return TypeError(
        f"option {option!r}: handler {name!r} {what}; {name!r} is the name of an event: "
        "if this is meant for something else, it needs another name"
    )

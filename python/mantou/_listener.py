"""listen() and what it returns."""

from __future__ import annotations

import os
import socket as kernel
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, Unpack, cast, overload

from . import _bind
from ._attach import current_engine
from ._core import Engine
from ._core import Listener as NativeListener
from ._handlers import D
from ._handlers import Handlers as AnyHandlers
from ._option_types import (
    FdSocketListenOptions,
    TCPSocketListenOptions,
    TLSOptions,
    UnixSocketListenOptions,
)
from ._options import ListenRequest, parse_listen
from ._targets import FdTarget, TcpTarget
from ._tls_options import TlsSettings, parse_tls


@overload
def listen(**options: Unpack[TCPSocketListenOptions[D]]) -> TCPSocketListener[D]: ...
@overload
def listen(**options: Unpack[UnixSocketListenOptions[D]]) -> UnixSocketListener[D]: ...
@overload
def listen(
    **options: Unpack[FdSocketListenOptions[D]],
) -> TCPSocketListener[D] | UnixSocketListener[D]: ...
def listen(**options: Any) -> TCPSocketListener[Any] | UnixSocketListener[Any]:
    """Accepts connections at `hostname` and `port`, at a `unix` path, or from a listening `fd`.

    Bound when it returns. Inside a running event loop of any kind the listener belongs to that
    loop; outside, to the next loop that `run()` starts in this thread, or to one such loop in each
    process that is forked before that. Bun: `Bun.listen()`.
    The options and their units are those of `TCPSocketListenOptions`, `UnixSocketListenOptions`
    and `FdSocketListenOptions`.

    :raises OSError: it cannot be bound; EADDRINUSE for a port that is taken.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    """
    request = parse_listen(options)
    tls = None if request.tls is None else parse_tls(request.tls, "server")
    engine = current_engine()
    target = request.target
    if isinstance(target, FdTarget):
        family = _bind.check_listening(target.fd)
        native = _start(engine, target.fd, request, tls)
        name = _bind.name_of(target.fd)
        if family == kernel.AF_UNIX:
            # Its file is not ours to remove.
            return UnixSocketListener(native, os.fsdecode(cast("str | bytes", name)), None)
        host, port = cast("tuple[str, int]", name)
        return TCPSocketListener(native, host, port)
    if isinstance(target, TcpTarget):
        fd = _bind.for_listening(request, target)
        native = _start_or_close(engine, fd, request, tls)
        _, port = cast("tuple[str, int]", _bind.name_of(fd))
        return TCPSocketListener(native, target.hostname, port)
    fd = _bind.for_listening_unix(request, target)
    native = _start_or_close(engine, fd, request, tls)
    path = None if target.is_abstract else Path(os.fsdecode(target.path)).absolute()
    return UnixSocketListener(native, target.given, path)


class _Listener(Generic[D]):
    """What all listeners have."""

    def __init__(self, native: NativeListener) -> None:
        self._native = native
        native.owner = self

    @property
    def data(self) -> D:
        """What sockets accepted from now on get as their `data`: this very object."""
        return cast("D", self._native.data)

    @data.setter
    def data(self, data: D) -> None:
        self._native.data = data

    @property
    def connections(self) -> int:
        """How many accepted sockets are open now."""
        return self._native.connections

    def stop(self, close_active_connections: bool = False) -> None:
        """Refuses new connections from now on (Bun: `listener.stop()`).

        Processes that were forked since `listen()` and share the listener go on accepting.

        :param close_active_connections: also `close()` the ones that are open. May be asked for
            later, with a second call.
        """
        self._native.stop(close_active_connections)

    async def closed(self) -> None:
        """Returns once it is stopped and its last connection is gone."""
        await self._native.closed()

    def reload(self, socket: AnyHandlers[D]) -> None:
        """Replaces the handlers of all its sockets, from their next event on."""
        self._native.reload(socket)

    def set_tls(self, tls: TLSOptions | ssl.SSLContext) -> None:
        """New connections speak TLS with these options; open ones stay as they are. Not in Bun.

        :raises TypeError: an option is unknown or of the wrong type.
        :raises ValueError: an option has a wrong value.
        """
        self._native.set_tls(parse_tls(tls, "server"))

    def ref(self) -> None:
        """Lets it keep `run()` alive, as it does from the start."""
        self._native.set_referenced(True)

    def unref(self) -> None:
        """Lets `run()` end even if it is still listening."""
        self._native.set_referenced(False)

    def fileno(self) -> int:
        """The descriptor; -1 once stopped."""
        return self._native.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class TCPSocketListener(_Listener[D]):
    """A listener at a host and port (Bun: `TCPSocketListener`)."""

    def __init__(self, native: NativeListener, hostname: str, port: int) -> None:
        super().__init__(native)
        self._hostname = hostname
        self._port = port

    @property
    def hostname(self) -> str:
        """The host as it was given to `listen()`."""
        return self._hostname

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        return self._port

    def __repr__(self) -> str:
        state = "stopped" if self.fileno() < 0 else "listening"
        return f"<mantou.TCPSocketListener {state} hostname={self._hostname!r} port={self._port}>"


class UnixSocketListener(_Listener[D]):
    """A listener at a unix path (Bun: `UnixSocketListener`)."""

    def __init__(self, native: NativeListener, unix: str, path: Path | None) -> None:
        super().__init__(native)
        self._unix = unix
        self._path = path
        self._identity = None if path is None else _identity(path)
        self._maker = os.getpid()

    @property
    def unix(self) -> str:
        """The path as it was given to `listen()`."""
        return self._unix

    def stop(self, close_active_connections: bool = False) -> None:
        """Refuses new connections from now on and removes the socket file (Bun: `stop()`).

        Where processes share the listener, the one that made it removes the file.

        :param close_active_connections: also `close()` the ones that are open.
        """
        # First the file, while we still listen: nobody takes its place in between.
        ours = self.fileno() >= 0 and os.getpid() == self._maker
        if ours and self._path is not None and _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        super().stop(close_active_connections)

    def __repr__(self) -> str:
        state = "stopped" if self.fileno() < 0 else "listening"
        return f"<mantou.UnixSocketListener {state} unix={self._unix!r}>"


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one in its place."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _start(
    engine: Engine, fd: int, request: ListenRequest, tls: TlsSettings | None
) -> NativeListener:
    return engine.listen(
        fd, request.stream, request.handlers, request.data, request.data_factory, tls
    )


def _start_or_close(
    engine: Engine, fd: int, request: ListenRequest, tls: TlsSettings | None
) -> NativeListener:
    try:
        return _start(engine, fd, request, tls)
    except BaseException:
        os.close(fd)
        raise

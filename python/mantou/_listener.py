"""What listen() returns."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, cast

from ._core import Listener as NativeListener
from ._drain import drain
from ._handlers import D
from ._handlers import Handlers as AnyHandlers
from ._log import log
from ._option_types import TLSOptions
from ._tls_options import parse_tls

if TYPE_CHECKING:
    from ._stats import ListenerStats


class _Listener(Generic[D]):
    """What all listeners have."""

    def __init__(self, native: NativeListener) -> None:
        self._native = native
        native.owner = self

    @property
    def data(self) -> D:
        """What sockets accepted from now on get as their `data`: this very object.

        It can be set at any time. Bun: `listener.data`.
        """
        return cast("D", self._native.data)

    @data.setter
    def data(self, data: D) -> None:
        self._native.data = data

    @property
    def connections(self) -> int:
        """How many accepted sockets are open now. Not in Bun."""
        return self._native.connections

    def stats(self) -> ListenerStats:
        """What has happened to it and its connections so far: see `ListenerStats`.

        May be asked from any thread, and also when it is stopped. Not in Bun.
        """
        from ._stats import listener_stats  # noqa: PLC0415

        return listener_stats(self._native)

    def pause(self) -> None:
        """Accepts nobody from now on: who comes waits in the backlog, which the kernel keeps.

        Not counted: one `resume()` is enough. Not in Bun.
        """
        self._native.set_accepting(False)

    def resume(self) -> None:
        """Accepts again after `pause()`. Not in Bun."""
        self._native.set_accepting(True)

    def stop(self, close_active_connections: bool = False) -> None:
        """Refuses new connections from now on, also those that wait to be accepted.

        Processes that were forked since `listen()` and share the listener go on accepting.

        Bun: `listener.stop()`.

        :param close_active_connections: also `close()` the ones that are open, those that were
            upgraded to TLS included. May be asked for later, with a second call.
        """
        was_stopped = self._native.stopped
        self._native.stop(close_active_connections)
        if not was_stopped:
            log(logging.INFO, "%s: %d connections are open", repr(self), self.connections)

    async def drain(self, grace: float | None = 30.0) -> int:
        """Stops, lets connections finish, and terminates those that have not after `grace`.

        First `stop()`; then the `draining` handler of each connection is called, where there is
        one. Without it a connection goes on until it ends by itself. Returns when `close` of the
        last one has run, to its end if it is async; what was cut gets up to a second for that.

        Cancelled, it only stops waiting: the listener stays stopped, nothing is cut, and
        connections go on. It may be called again, for another `grace`; nobody is told twice.
        Not in Bun.

        :param grace: seconds; 0 cuts at once, None waits for as long as it takes.
        :returns: how many connections were terminated.
        :raises OSError: the file of a unix socket cannot be removed; the listener goes on.
        :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
        :raises TypeError: `grace` is not a number.
        :raises ValueError: `grace` is negative or not finite.
        """
        return await drain(self._native, self.stop, grace)

    async def closed(self) -> None:
        """Returns once it is stopped and its last connection is gone. Not in Bun.

        A connection is gone when its `close` has run, to its end if it is async.

        :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
        """
        await self._native.closed()

    def reload(self, socket: AnyHandlers[D]) -> None:
        """Replaces the handlers of all its sockets, from their next event on.

        Bun: `listener.reload()`.

        :param socket: the handlers, in any form that `listen()` takes.
        :raises TypeError: they are none, or one of them cannot be called as it will be.
        :raises ValueError: `binary_type` is none of the three.
        """
        self._native.reload(socket)

    def set_tls(self, tls: TLSOptions | ssl.SSLContext) -> None:
        """New connections speak TLS with these options; open ones stay as they are. Not in Bun.

        :param tls: as in `listen()`.
        :raises OSError: a file that the options name cannot be read.
        :raises TypeError: an option is unknown or of the wrong type.
        :raises ValueError: an option has a wrong value.
        """
        self._native.set_tls(parse_tls(tls, "server"))

    def ref(self) -> None:
        """Lets it keep `run()` alive, as it does from the start. Bun: `listener.ref()`."""
        self._native.set_referenced(True)

    def unref(self) -> None:
        """Lets `run()` end even while it is listening. Bun: `listener.unref()`."""
        self._native.set_referenced(False)

    def fileno(self) -> int:
        """The descriptor, which stays the listener's own; -1 once stopped. Not in Bun."""
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
    """A listener at a host and port. Made by `listen()`.

    `with listener:` stops it on leaving. Bun: `TCPSocketListener`.

    :raises WrongThreadError: any method, from another thread than that of its event loop.
    """

    def __init__(self, native: NativeListener, hostname: str, port: int) -> None:
        super().__init__(native)
        self._hostname = hostname
        self._port = port

    @property
    def hostname(self) -> str:
        """The host as it was given to `listen()`. Bun: `listener.hostname`."""
        return self._hostname

    @property
    def port(self) -> int:
        """The port that it is bound to, also where 0 was given. Bun: `listener.port`."""
        return self._port

    def __repr__(self) -> str:
        state = "stopped" if self._native.stopped else "listening"
        return f"<mantou.TCPSocketListener {state} hostname={self._hostname!r} port={self._port}>"


class UnixSocketListener(_Listener[D]):
    """A listener at a unix path. Made by `listen()`.

    `with listener:` stops it on leaving. Bun: `UnixSocketListener`.

    :raises WrongThreadError: any method, from another thread than that of its event loop.
    """

    def __init__(self, native: NativeListener, unix: str, path: str | None) -> None:
        super().__init__(native)
        self._unix = unix
        self._path = path
        self._identity = None if path is None else _identity(path)
        self._maker = os.getpid()

    @property
    def unix(self) -> str:
        """The path as it was given to `listen()`. Bun: `listener.unix`."""
        return self._unix

    def stop(self, close_active_connections: bool = False) -> None:
        """Refuses new connections from now on and removes the socket file, if it is still its own.

        Where processes share the listener, the one that made it removes the file.

        Bun: `listener.stop()`.

        :param close_active_connections: also `close()` the ones that are open, those that were
            upgraded to TLS included. May be asked for later, with a second call.
        :raises OSError: the file cannot be removed; the listener goes on.
        """
        # First the file, while we still listen: nobody takes its place in between.
        ours = self.fileno() >= 0 and os.getpid() == self._maker
        if ours and self._path is not None and _identity(self._path) == self._identity:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        super().stop(close_active_connections)

    def __repr__(self) -> str:
        state = "stopped" if self._native.stopped else "listening"
        return f"<mantou.UnixSocketListener {state} unix={self._unix!r}>"


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from another one in its place."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

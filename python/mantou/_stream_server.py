"""serve_streams(): a task for each connection."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from ._core import Handlers, Socket
from ._listener import TCPSocketListener, UnixSocketListener, listen_for
from ._options import ListenRequest, parse_serve_streams
from ._streams import Stream

_log = logging.getLogger("mantou")

StreamHandler = Callable[[Stream], Coroutine[Any, Any, object]]


class StreamServer:
    """Serves streams, each in a task of its own. Made by `serve_streams()`.

    ``async with server:`` closes it on leaving. Not in Bun.
    """

    def __init__(self, handler: StreamHandler, request: ListenRequest) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[object]] = set()
        # Only for what never becomes a stream.
        refused = Handlers({"connect_error": self._refused})
        self._listener = listen_for(
            request._replace(handlers=refused, data_factory=self._accepted)
        )

    @property
    def listener(self) -> TCPSocketListener[Any] | UnixSocketListener[Any]:
        """The listener beneath: its address, `connections`, `set_tls()`, `ref()`, `unref()`."""
        return self._listener

    @property
    def port(self) -> int:
        """The port that it is bound to.

        :raises AttributeError: it listens at a unix path.
        """
        listener: Any = self._listener
        return int(listener.port)

    def stop(self) -> None:
        """Refuses new connections from now on; those that are served go on."""
        self._listener.stop()

    async def closed(self) -> None:
        """Returns once it is stopped and the last connection is gone."""
        await self._listener.closed()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Refuses new connections, cancels the handlers, and returns when all of that has ended.

        For an end that cuts nobody off: `stop()`, then ``await closed()``. Cancelled, it leaves
        handlers that do not end behind. anyio: `Listener.aclose()`, which leaves connections to
        whoever serves them.
        """
        self._listener.stop()
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._listener.closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _accepted(self, socket: Socket[Any]) -> None:
        stream = Stream(socket, asyncio.get_running_loop())
        stream._starter = self._start
        stream._attach()

    def _refused(self, _socket: Socket[Any], error: BaseException) -> None:
        _log.error("a connection could not be served: %s", error, exc_info=error)

    def _start(self, stream: Stream) -> None:
        try:
            task = asyncio.get_running_loop().create_task(self._handler(stream))
        except Exception as error:
            stream._shut()
            self._refused(stream.socket, error)
            return
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._finished, stream))

    def _finished(self, stream: Stream, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        stream._shut()
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, KeyboardInterrupt | SystemExit):
                _log.error("the handler of a stream failed: %r", error, exc_info=error)

    def __repr__(self) -> str:
        return f"<mantou.StreamServer of {self._listener!r}>"


def serve_streams(handler: Callable[[Stream], Awaitable[object]], **options: Any) -> StreamServer:
    """Accepts connections, and runs `handler` with the stream of each, in a task of its own.

    Bound when it returns. A stream is closed when its handler has returned. What a handler raises is
    logged, under ``mantou``, and ends its stream and no other.

    anyio: `create_tcp_listener()`, `create_unix_listener()`, and `Listener.serve()`.
    asyncio: `start_server()`.

    Options: those of `listen()`, without `socket`, `data` and `data_factory`. `allow_half_open` is
    True where it is not given: the peer's FIN is the end of what is received, and of nothing else.

    :param handler: an `async def` that takes the stream.
    :raises OSError: it cannot be bound, or a file of `tls` cannot be read.
    :raises RuntimeError: no event loop is running.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    """
    asyncio.get_running_loop()
    if not callable(handler):
        raise TypeError(f"handler must be an async function of one stream, got {handler!r}")
    return StreamServer(handler, parse_serve_streams(options))

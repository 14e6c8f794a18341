"""serve_streams(): a task for each connection."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from ._core import Handlers, Socket
from ._listen import listen_for
from ._listener import TCPSocketListener, UnixSocketListener
from ._log import log
from ._option_types import (
    FdStreamListenOptions,
    TCPStreamListenOptions,
    UnixStreamListenOptions,
)
from ._options import ListenRequest, parse_serve_streams
from ._stream_info import attributes_of_listener
from ._streams import Stream

if TYPE_CHECKING:
    from anyio.abc import Listener, TaskGroup
else:
    try:
        from anyio.abc import Listener
    except ImportError:
        from ._stream_info import Listener

StreamHandler = Callable[[Stream], Coroutine[Any, Any, object]]


class StreamServer(Listener[Stream]):
    """Serves streams, each in a task of its own. Made by `serve_streams()`.

    ``async with server:`` closes it on leaving. An `anyio.abc.Listener` where anyio is installed.
    Not in Bun.
    """

    def __init__(self, handler: StreamHandler, request: ListenRequest) -> None:
        # Who takes care of what is accepted: the last of these.
        self._starts: list[Callable[[Stream], object]] = [functools.partial(self._begin, handler)]
        self._tasks: set[asyncio.Task[object]] = set()
        # Only for what never becomes a stream.
        refused = Handlers({"connect_error": self._refused})
        self._listener = listen_for(request._replace(handlers=refused, data_factory=self._accepted))

    @property
    def listener(self) -> TCPSocketListener[Any] | UnixSocketListener[Any]:
        """The listener beneath: its address, `connections`, `set_tls()`, `ref()`. Not in anyio."""
        return self._listener

    @property
    def port(self) -> int:
        """The port that it is bound to. Not in anyio.

        :raises AttributeError: it listens at a unix path.
        """
        listener: Any = self._listener
        return int(listener.port)

    def stop(self) -> None:
        """Refuses new connections from now on; those that are served go on. Not in anyio."""
        self._listener.stop()

    async def closed(self) -> None:
        """Returns once it is stopped and the last connection is gone. Not in anyio."""
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
        # Whoever is cancelled hears of it here, also in the way of anyio's scopes.
        await asyncio.sleep(0)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._listener.closed()

    async def serve(
        self, handler: Callable[[Stream], Any], task_group: TaskGroup | None = None
    ) -> None:
        """Has another handler serve what is accepted from now on, until it is cancelled.

        With a task group of anyio's, tasks are its, and so is what handlers raise. Without, they
        are cancelled with this. anyio: `Listener.serve()`.
        """
        tasks = set[asyncio.Task[object]]()

        async def in_group(stream: Stream) -> None:
            async with stream:
                await handler(stream)

        def start(stream: Stream) -> None:
            if task_group is not None:
                task_group.start_soon(in_group, stream)
                return
            task = self._begin(handler, stream)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        self._starts.append(start)
        try:
            await self.closed()
        finally:
            self._starts.remove(start)
            for task in tasks:
                task.cancel()
            while tasks:
                await asyncio.wait(tasks)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What `extra()` knows: of `anyio.abc.SocketAttribute`.

        Empty where anyio is not installed. anyio: `TypedAttributeProvider.extra_attributes`.
        """
        return attributes_of_listener(self._listener)

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
        stream._starter = self._started
        stream._attach()

    def _refused(self, _socket: Socket[Any], error: BaseException) -> None:
        if isinstance(error, ConnectionError | TimeoutError):
            # What a peer has done, and the log knows of it.
            return
        log(logging.ERROR, "a connection could not be served: %s", error, error=error)

    def _started(self, stream: Stream) -> None:
        try:
            self._starts[-1](stream)
        except Exception as error:
            stream._shut()
            self._refused(stream.socket, error)

    def _begin(self, handler: Callable[[Stream], Any], stream: Stream) -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(handler(stream))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._finished, stream))
        return task

    def _finished(self, stream: Stream, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        stream._shut()
        # What leaves the loop has done so in the task's step already.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            log(logging.ERROR, "the handler of a stream failed: %r", error, error=error)

    def __repr__(self) -> str:
        return f"<mantou.StreamServer of {self._listener!r}>"


@overload
def serve_streams(
    handler: StreamHandler, **options: Unpack[TCPStreamListenOptions]
) -> StreamServer: ...
@overload
def serve_streams(
    handler: StreamHandler, **options: Unpack[UnixStreamListenOptions]
) -> StreamServer: ...
@overload
def serve_streams(
    handler: StreamHandler, **options: Unpack[FdStreamListenOptions]
) -> StreamServer: ...
def serve_streams(handler: StreamHandler, **options: Any) -> StreamServer:
    """Accepts connections, and runs `handler` with the stream of each, in a task of its own.

    `handler` is an `async def` that takes the stream, which is closed when it has returned. What it
    raises is logged, under ``mantou``, and ends its stream and no other. The server is bound when
    this returns. `allow_half_open` is True where it is not given: the peer's FIN is the end of what
    is received, and of nothing else.

    anyio: `create_tcp_listener()`, `create_unix_listener()`, and `Listener.serve()`.
    asyncio: `start_server()`.

    Options, by kind:

    Where: exactly one of `hostname` and `port`, `unix`, `fd`

        hostname: Where to listen: an address of this machine, `0.0.0.0` or `::` for all, or a
            name, of whose addresses the first that can be bound is taken. Required.
            Bun: `hostname`.
        port: The port to listen on, from 0 to 65535; 0 picks a free one. An OSError
            (EADDRINUSE) if it is taken. Required. Bun: `port`.
        unix: The path to listen at, up to 107 bytes; a leading NUL means a name in the abstract
            namespace. An OSError (EADDRINUSE) if something is there. Required. Bun: `unix`.
        fd: A listening TCP or unix stream socket, which is mantou's once the call succeeds;
            anything else is an OSError or a ValueError. Required. Bun: `fd`.

    Flow and limits

        allow_half_open: The peer's FIN ends nothing: our side stays open until `end()`, and
            then the peer may take its time to finish. Default: False; True of streams.
            Bun: `allowHalfOpen`.
        write_limit: Bytes that may wait in one socket when `write_all()` or `end()` are to add
            to them; more is a BufferError. Default: 16777216 (16 MiB). Not in Bun.
        backlog: How many connections may wait to be accepted. Default: the system's limit
            (somaxconn). Not in Bun.
        max_connections: Connections that may be open at once, those included that still finish
            behind `close`. Then accepting pauses: who comes waits in the backlog.
            Default: None, no limit. Not in Bun.
        max_connections_per_host: Connections that may be open at once with one host: an IPv4
            address or, of IPv6, a network of 64 bits. More are refused with a RST, and no
            handler is called. Default: None, no limit. Not in Bun.
        accept_rate: Connections to accept per second; those of one second may come at once,
            more wait in the backlog. Default: None, no limit. Not in Bun.
        max_handshakes: TLS handshakes that may be going on at once, those included that wait
            for their PROXY header; then accepting pauses. Only with `tls`. Default: None, no
            limit. Not in Bun.

    Times, in seconds

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

    The file of a unix socket

        mode: The permission bits of the socket's file, which never has wider ones.
            Default: what the umask leaves. Not in Bun.
        unlink_stale: Replace a socket file that nobody listens on; never a live one, never
            another kind of file. Default: False. Not in Bun.

    TLS

        tls: Speak TLS: True on a client, `TLSOptions`, or an `ssl.SSLContext`, which then
            drives the connection. A server needs a certificate. Default: False. Bun: `tls`.

    The PROXY protocol

        proxy_protocol: Connections begin with a PROXY header of version 1 or 2, before TLS,
            within `handshake_timeout`: "require" turns others away, "optional" serves them as
            they are, those of clients that wait for us to speak only after `handshake_timeout`.
            The socket's `remote_address` and `remote_port` are the client's, its `proxy` has
            the header. Who is turned away is told to `connect_error`, with a
            ProxyProtocolError. Default: "off". Not in Bun.
        proxy_trusted: Whose PROXY headers are believed: networks and addresses (`["10.0.0.0/8",
            "::1"]`); those of other peers are turned away. `"::/0"` has no IPv4 addresses,
            `"::ffff:0:0/96"` has them all. Not for unix sockets, whose peers are always
            believed. None for everybody who can connect. Default: None. Not in Bun.

    :raises OSError: it cannot be bound, or a file of `tls` cannot be read.
    :raises RuntimeError: no event loop is running.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    """
    asyncio.get_running_loop()
    if not callable(handler):
        raise TypeError(f"handler must be an async function of one stream, got {handler!r}")
    return StreamServer(handler, parse_serve_streams(options))

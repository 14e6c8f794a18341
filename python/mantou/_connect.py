"""connect(): from options to an open socket, by way of names, addresses and several attempts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket as kernel
from collections.abc import Iterable
from typing import Any, Unpack, cast, overload

from . import _bind
from ._addresses import Literal, interleave, no_address
from ._attach import running_engine
from ._core import Attempt, Engine, Socket, connect_at_once, is_server_name
from ._handlers import D
from ._option_types import FdSocketOptions, TCPSocketConnectOptions, UnixSocketOptions
from ._options import ConnectRequest, Way, parse_connect
from ._race import Candidate, Race
from ._targets import FdTarget, TcpTarget, UnixTarget
from ._tls_options import TlsSettings, parse_tls
from .errors import locate

# Seconds between two looks at a unix listener whose queue is full: at first, and at most.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.1

_IP_FAMILIES = (kernel.AF_INET, kernel.AF_INET6)

# What there is to wait for when a connection was opened: its result is what `open` or `handshake`
# raised.
_Outcome = asyncio.Future[BaseException | None] | None


@overload
async def connect(**options: Unpack[TCPSocketConnectOptions[D]]) -> Socket[D]: ...
@overload
async def connect(**options: Unpack[UnixSocketOptions[D]]) -> Socket[D]: ...
@overload
async def connect(**options: Unpack[FdSocketOptions[D]]) -> Socket[D]: ...
async def connect(**options: Any) -> Socket[Any]:
    """Connects to `hostname` and `port`, to a `unix` path, or takes over a connected `fd`.

    Returns the socket when it can carry application data: `open` has been called and, with TLS,
    the handshake is done and the peer verified.

    Cancelling it closes every attempt at once. No handler is called after that; if `open` had been
    called, within a handshake, `close` is called before `asyncio.CancelledError` is raised. What
    handlers see of context variables is a copy of those in force here.

    Bun: `Bun.connect()`, which returns before the handshake is done.

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

    Handlers and data

        socket: The handlers: a `SocketHandler`, any object with some of its methods, or a
            mapping of name to callable. Required. Bun: `socket`.
        data: What `socket.data` is, before `open` is called: this very object. Default: None.
            Bun: `data`.

    Flow and limits

        allow_half_open: The peer's FIN ends nothing: our side stays open until `end()`, and
            then the peer may take its time to finish. Default: False; True of streams.
            Bun: `allowHalfOpen`.
        write_limit: Bytes that may wait in one socket when `write_all()` or `end()` are to add
            to them; more is a BufferError. Default: 16777216 (16 MiB). Not in Bun.
        packet: Cut what comes into packets, and call `data` with one at a time. `"line"`: at
            each LF or CR LF, which is left out. 1, 2 or 4: by the length that goes before each
            in so many bytes, big endian; also before what is sent. `"raw"`: not at all.
            Default: "raw". Not in Bun.
        packet_size: The longest packet to receive in bytes, without line end or length; one
            that is longer ends the connection with a PacketTooLarge. Default: 1048576 (1 MiB).
            Not in Bun.

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

    :raises OSError: the connection failed; of the class that fits its errno
        (`ConnectionRefusedError`, ...), with the address in its text. With several addresses it
        has a note for each attempt. `socket.gaierror` for a name that cannot be resolved. The
        `connect_error` handler was called before or, if `open` had been called, `close`.
    :raises RuntimeError: no event loop is running.
    :raises TimeoutError: it took longer than `connect_timeout` seconds.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    :raises mantou.errors.HandshakeTimeoutError: the handshake took longer than
        `handshake_timeout` seconds.
    :raises ssl.SSLCertVerificationError: the peer's certificate is not accepted; its
        `verify_message` says why.
    :raises ssl.SSLError: the handshake failed.
    """
    begun = connect_at_once(options)
    if type(begun) is Socket:
        return begun
    if begun is None:
        opening = opening_of(parse_connect(options))
        await opening.run()
    else:
        engine, socket, way, attempt, waiting = begun
        opening = Opening(engine, socket, way)
        if waiting is None:
            await opening.run(attempt)
        else:
            await opening.ready(waiting)
    return opening.socket


def opening_of(request: ConnectRequest) -> Opening:
    """The beginning of what was asked for."""
    hostname = request.way.hostname
    tls = None if request.tls is None else parse_tls(request.tls, "client")
    engine = running_engine()
    if tls is not None and tls.server_name is None and not is_server_name(hostname):
        raise ValueError(
            f"option 'hostname' is not a name that a certificate can have, got {hostname!r}: "
            "give one as 'server_name' of 'tls'"
        )
    socket: Socket[Any] = engine.socket(request.handlers, request.data, hostname)
    return Opening(engine, socket, request.way, tls, request.preface)


class Opening:
    """A connection that is to be made, and its socket."""

    __slots__ = ("_engine", "_preface", "_tls", "_way", "socket")

    def __init__(
        self,
        engine: Engine,
        socket: Socket[Any],
        way: Way,
        tls: TlsSettings | None = None,
        preface: bytes | None = None,
    ) -> None:
        self.socket = socket
        self._engine = engine
        self._way = way
        self._tls = tls
        self._preface = preface

    async def run(self, attempt: Attempt | None = None) -> None:
        """Returns when the socket can carry application data.

        With an attempt that is under way already, or by another.
        """
        engine, socket, way = self._engine, self.socket, self._way
        try:
            if attempt is None and way.address is not None:
                attempt = engine.connect(way.address, -1, way.connect_timeout)
            if attempt is not None and attempt.connected:
                # As it mostly is to this machine: then there is nothing to wait for.
                waiting = self._establish(attempt)
            else:
                waiting = await self._open(attempt)
        except Exception as error:
            # Not only the system's: a resolver may be anybody's.
            why = not_connected(engine, socket, way, error)
            if why is error:
                raise
            raise why from None
        if waiting is not None:
            await self.ready(waiting)

    async def ready(self, waiting: asyncio.Future[BaseException | None]) -> None:
        """Returns when the socket, which is connected, can carry application data."""
        try:
            failure = await waiting
        except asyncio.CancelledError:
            self.socket._abandon()
            await _seen_out(self.socket)
            raise
        except OSError as error:
            locate(error, self._way.target.where)
            raise
        if failure is not None:
            raise failure

    async def _open(self, attempt: Attempt | None) -> _Outcome:
        """Connects the socket, with an attempt that is under way already or by another."""
        engine, way = self._engine, self._way
        # Whoever connects keeps the loop alive, also before there is a socket to count.
        engine.hold()
        try:
            if attempt is not None:
                return self._establish(await _followed(attempt))
            if isinstance(way.target, FdTarget):
                fd = way.target.fd
                _bind.check_connected(fd)
                return engine.adopt(fd, self.socket, way.connection, self._tls, self._preface)
            return self._establish(await _connected(engine, way, way.target))
        finally:
            engine.unhold()

    def _establish(self, attempt: Attempt) -> _Outcome:
        return attempt.establish(self.socket, self._way.connection, self._tls, self._preface)


def not_connected(engine: Engine, socket: Socket[Any], way: Way, error: Exception) -> Exception:
    """Tells the socket that it will not be connected. Returns why, as `connect()` raises it."""
    why = _explained(error, way)
    engine.connect_failed(socket, why)
    return why


async def _seen_out(socket: Socket[Any]) -> None:
    """Returns when `close` was called, however often it is cancelled meanwhile.

    The coroutine of an async `open` may have to end first.
    """
    closed = socket._told_closed()
    while not closed.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(closed)


def _explained(error: Exception, way: Way) -> Exception:
    """The error with the address in its text; another one if it is that of our own limit."""
    if isinstance(error, TimeoutError) and error.errno is None:
        text = f"not connected to {way.target} within {way.connect_timeout} s"
        late = TimeoutError(errno.ETIMEDOUT, text)
        for note in getattr(error, "__notes__", ()):
            late.add_note(note)
        return late
    if isinstance(error, OSError):
        # The kernel's own, also where it gave up before we did.
        locate(error, way.target.where)
    return error


async def _connected(engine: Engine, way: Way, target: TcpTarget | UnixTarget) -> Attempt:
    """An attempt that is connected. TimeoutError without errno after `connect_timeout`."""
    if isinstance(target, UnixTarget):
        async with asyncio.timeout(way.connect_timeout):
            return await _connect_unix(engine, target)
    if isinstance(target.host, Literal):
        address = target.host.sockaddr(target.port)
        bound = _bind.for_connecting(way, target.host.family)
        return await _followed(engine.connect(address, bound, way.connect_timeout))
    return await _connect_by_name(engine, way, target)


async def _connect_by_name(engine: Engine, way: Way, target: TcpTarget) -> Attempt:
    race = Race(engine, way)
    try:
        async with asyncio.timeout(way.connect_timeout):
            return await race.run(await _candidates(way, target))
    except TimeoutError as error:
        race.annotate(error)
        raise


async def _candidates(way: Way, target: TcpTarget) -> list[Candidate]:
    """The addresses of a name, in the order in which they are to be tried."""
    family = kernel.AF_INET6 if way.ipv6_only else kernel.AF_UNSPEC
    if way.local_address is not None:
        family = way.local_address.family
    found = await asyncio.get_running_loop().getaddrinfo(
        str(target.host), target.port, family=family, type=kernel.SOCK_STREAM
    )
    # A hosts file may well name an address twice.
    unique = dict.fromkeys(
        (family, address) for family, _, _, _, address in found or () if family in _IP_FAMILIES
    )
    if not unique:
        raise no_address(target.host)
    return interleave(cast("Iterable[Candidate]", unique))


async def _connect_unix(engine: Engine, target: UnixTarget) -> Attempt:
    """An attempt that is connected.

    Where the listener's queue is full, the kernel neither waits nor tells when there is room.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            return await _followed(engine.connect(target.path, -1, None))
        except BlockingIOError:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


async def _followed(attempt: Attempt) -> Attempt:
    """The attempt, once it is connected. TimeoutError without errno if that takes too long."""
    if attempt.connected:
        return attempt
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    attempt.follow(finished)
    try:
        await finished
    except BaseException:
        attempt.cancel()
        raise
    return attempt

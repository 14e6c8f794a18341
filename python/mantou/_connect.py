"""connect(): from options to an open socket, by way of names, addresses and several attempts."""

from __future__ import annotations

import asyncio
import errno
import socket as kernel
from collections.abc import Iterable
from typing import Any, Unpack, cast, overload

from . import _bind
from ._addresses import Literal, SocketAddress, interleave, no_address
from ._attach import running_engine
from ._core import Attempt, Engine, Socket, is_server_name
from ._handlers import D
from ._option_types import FdSocketOptions, TCPSocketConnectOptions, UnixSocketOptions
from ._options import ConnectRequest, parse_connect
from ._race import Candidate, Race
from ._targets import FdTarget, TcpTarget, UnixTarget
from ._tls_options import TlsSettings, name_of, parse_tls

# Seconds between two looks at a unix listener whose queue is full: at first, and at most.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.1


@overload
async def connect(**options: Unpack[TCPSocketConnectOptions[D]]) -> Socket[D]: ...
@overload
async def connect(**options: Unpack[UnixSocketOptions[D]]) -> Socket[D]: ...
@overload
async def connect(**options: Unpack[FdSocketOptions[D]]) -> Socket[D]: ...
async def connect(**options: Any) -> Socket[Any]:
    """Connects to `hostname` and `port`, to a `unix` path, or takes over a connected `fd`.

    Returns the socket when it can carry application data: `open` has been called.
    Bun: `Bun.connect()`. The options and their units are those of `TCPSocketConnectOptions`,
    `UnixSocketOptions` and `FdSocketOptions`.

    Cancelling it closes every attempt at once. If `open` had been called already, `close` is called
    before the CancelledError is raised; no handler is called after that.

    :raises OSError: the connection failed, after `connect_error` was called; of the class that
        fits its errno (`ConnectionRefusedError`, ...). With several addresses it has a note for
        each attempt. `socket.gaierror` for a name that cannot be resolved.
    :raises TimeoutError: it took longer than `connect_timeout` seconds.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    """
    request = parse_connect(options)
    tls = None if request.tls is None else parse_tls(request.tls, "client")
    engine = running_engine()
    # Where there is no hostname to check, it is this machine that is talked to.
    hostname = (
        name_of(request.target.host) if isinstance(request.target, TcpTarget) else "localhost"
    )
    if tls is not None and tls.server_name is None and not is_server_name(hostname):
        raise ValueError(
            f"option 'hostname' is not a name that a certificate can have, got {hostname!r}: "
            "give one as 'server_name' of 'tls'"
        )
    socket = engine.socket(request.handlers, request.data, hostname)
    # Whoever connects keeps the loop alive, also before there is a socket to count.
    engine.hold()
    try:
        waiting = await _open(engine, socket, request, tls)
    except OSError as error:
        engine.connect_failed(socket, error)
        raise
    finally:
        engine.unhold()
    if waiting is not None:
        try:
            await waiting
        except asyncio.CancelledError:
            socket._abandon()
            # It may be that the coroutine of an async `open` has to end first.
            await socket._closed()
            raise
    return socket


async def _open(
    engine: Engine, socket: Socket[Any], request: ConnectRequest, tls: TlsSettings | None
) -> asyncio.Future[None] | None:
    """Connects the socket and calls `open`; returns what is to be awaited then."""
    target = request.target
    if isinstance(target, FdTarget):
        _bind.check_connected(target.fd)
        return engine.adopt(target.fd, socket, request.stream, tls)
    try:
        if isinstance(target, UnixTarget):
            async with asyncio.timeout(request.connect_timeout):
                attempt = await _connect_unix(engine, target)
        elif isinstance(target.host, Literal):
            address = target.host.sockaddr(target.port)
            bound = _bind.for_connecting(request, target.host.family)
            attempt = await _attempt(engine, address, bound, request.connect_timeout)
        else:
            attempt = await _connect_by_name(engine, request, target)
    except TimeoutError as error:
        if error.errno is not None:
            # The kernel's own: it gave up before we did.
            raise
        seconds = request.connect_timeout
        late = TimeoutError(errno.ETIMEDOUT, f"not connected to {target} within {seconds} s")
        for note in getattr(error, "__notes__", ()):
            late.add_note(note)
        raise late from None
    return attempt.establish(socket, request.stream, tls)


async def _connect_by_name(engine: Engine, request: ConnectRequest, target: TcpTarget) -> Attempt:
    race = Race(engine, request)
    try:
        async with asyncio.timeout(request.connect_timeout):
            return await race.run(await _candidates(request, target))
    except TimeoutError as error:
        race.annotate(error)
        raise


async def _candidates(request: ConnectRequest, target: TcpTarget) -> list[Candidate]:
    """The addresses of a name, in the order in which they are to be tried."""
    family = kernel.AF_INET6 if request.ipv6_only else kernel.AF_UNSPEC
    if request.local_address is not None:
        family = request.local_address.family
    found = await asyncio.get_running_loop().getaddrinfo(
        str(target.host), target.port, family=family, type=kernel.SOCK_STREAM
    )
    if not found:
        raise no_address(target.host)
    # A hosts file may well name an address twice.
    unique = dict.fromkeys((family, address) for family, _, _, _, address in found)
    return interleave(cast("Iterable[Candidate]", unique))


async def _connect_unix(engine: Engine, target: UnixTarget) -> Attempt:
    """An attempt that is connected.

    Where the listener's queue is full, the kernel neither waits nor tells when there is room.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            return await _attempt(engine, target.path, -1, None)
        except BlockingIOError:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


async def _attempt(
    engine: Engine, address: SocketAddress | bytes, bound: int, seconds: float | None
) -> Attempt:
    """The one attempt at an address, once it is connected.

    TimeoutError without errno if that takes longer than so many seconds.
    """
    attempt = engine.connect(address, bound, seconds)
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

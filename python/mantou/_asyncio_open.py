"""open_connection() with asyncio's arguments; start_server() is in `_asyncio_server.py`."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import socket as sockets
import ssl
from typing import Any, cast

from ._addresses import interleave as take_turns
from ._addresses import parse_literal
from ._asyncio_arguments import check_limit, check_port, check_timeouts
from ._asyncio_streams import LIMIT, AsyncioStream, StreamReader, StreamWriter, options_for, pair
from ._attach import running_engine
from ._core import Socket
from ._options import Way
from ._race import Candidate, Race
from ._targets import TcpTarget
from ._transport_options import TlsSetup

_FAMILIES = (sockets.AF_INET, sockets.AF_INET6)

Context = ssl.SSLContext | bool | None


async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = LIMIT,
    ssl: Context = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: sockets.socket | None = None,
    local_addr: tuple[str | None, int] | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    happy_eyeballs_delay: float | None = None,  # noqa: ARG001 (see below)
    interleave: int | None = None,  # noqa: ARG001
    all_errors: bool = False,  # noqa: ARG001
) -> tuple[StreamReader, StreamWriter]:
    """Connects, and returns what reads and what writes. asyncio: `open_connection()`.

    Several addresses of a host are tried side by side (RFC 8305) whether or not
    `happy_eyeballs_delay` is given; `interleave` and `all_errors` are taken: the families take
    turns, and the error has a note for each attempt. Not in Bun.

    :param limit: the most bytes of a line, and of what `readuntil()` looks through.
    :param ssl: True for the default context, or an `ssl.SSLContext`.
    :param sock: a connected stream socket, which is mantou's from now on.
    :param local_addr: the address and port to connect from.
    :param ssl_handshake_timeout: seconds; 60 by default.
    :param ssl_shutdown_timeout: seconds that closing TLS may take without progress; 30 by default.
    :raises ConnectionAbortedError: the handshake took too long.
    :raises ConnectionResetError: the peer ended the connection within the handshake.
    :raises OSError: the connection failed.
    :raises ValueError: arguments contradict each other.
    :raises ssl.SSLError: the handshake failed, or the peer's certificate is not accepted.
    """
    _check_target(host, port, sock, ssl, server_hostname)
    check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    check_limit(limit)
    tls = None
    if ssl:
        name = host if server_hostname is None else server_hostname
        context = None if ssl is True else cast("Any", ssl)
        tls = TlsSetup(context, False, name, ssl_handshake_timeout, ssl_shutdown_timeout)
    options = options_for(tls)
    settings = None if tls is None else tls.settings
    loop = asyncio.get_running_loop()
    engine = running_engine()
    socket: Socket[Any] = engine.socket(None, None, host or "localhost")
    stream = AsyncioStream(socket, loop)
    stream._attach()
    if sock is not None:
        waiting = engine.adopt(sock.fileno(), socket, options, settings)
        sock.detach()
    else:
        check_port(port)
        candidates = await _resolve(host, port, family, proto, flags)
        local_host, local_port = local_addr or (None, 0)
        local = None if local_host is None else await _local(local_host)
        if local is not None:
            candidates = [it for it in candidates if it[0] == local.family]
            if not candidates:
                raise OSError(f"no address of {host!r} is of the family of {local_host!r}")
        way = Way(
            target=TcpTarget(cast("Any", host), cast("Any", port), str(host)),
            exclusive=False,
            reuse_port=False,
            ipv6_only=False,
            local_address=local,
            local_port=local_port,
            connect_timeout=None,
            connection=options,
            hostname=str(host),
            address=None,
        )
        attempt = await Race(engine, way).run(candidates)
        waiting = attempt.establish(socket, options, settings)
    if waiting is not None:
        try:
            await waiting
        except BaseException as error:
            stream.abort()
            if tls is not None and (told := tls.as_asyncio_tells(error)) is not error:
                raise told from None
            raise
    return pair(stream, tls, limit, server_side=False)


def _check_target(
    host: str | None,
    port: int | str | None,
    sock: sockets.socket | None,
    context: Context,
    server_hostname: str | None,
) -> None:
    """Refuses what asyncio refuses, in its words."""
    if server_hostname is not None and not context:
        raise ValueError("server_hostname is only meaningful with ssl")
    if server_hostname is None and context and not host:
        raise ValueError("You must set server_hostname when using ssl without a host")
    if host is not None or port is not None:
        if sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
    elif sock is None:
        raise ValueError("host and port was not specified and no sock specified")
    elif sock.type != sockets.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


async def _resolve(
    host: str | None, port: int | str | None, family: int, proto: int, flags: int
) -> list[Candidate]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, family=family, type=sockets.SOCK_STREAM, proto=proto, flags=flags
    )
    candidates = [(kind, address) for kind, _, _, _, address in found if kind in _FAMILIES]
    if not candidates:
        raise OSError("getaddrinfo() returned empty list")
    return take_turns(cast("list[Candidate]", list(dict.fromkeys(candidates))))


async def _local(name: str) -> Any:
    literal = parse_literal(name)
    if literal is None:
        ((_, address), *_) = await _resolve(name, 0, 0, 0, 0)
        literal = parse_literal(address[0])
    return literal

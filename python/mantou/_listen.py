"""listen(): from what was checked to a listener."""

from __future__ import annotations

import logging
import os
import socket as kernel
from typing import Any, Unpack, cast, overload

from . import _bind
from ._attach import current_engine
from ._core import Engine
from ._core import Listener as NativeListener
from ._handlers import D
from ._limits import refuse_hosts
from ._listener import TCPSocketListener, UnixSocketListener
from ._log import log
from ._option_types import (
    FdSocketListenOptions,
    TCPSocketListenOptions,
    UnixSocketListenOptions,
)
from ._options import ListenRequest, parse_listen
from ._proxy_options import refuse_networks
from ._targets import FdTarget, TcpTarget
from ._tls_options import TlsSettings, parse_tls
from .errors import locate


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
    process that is forked before that. Each connection has a copy of the context variables in force
    here, which its handlers share.

    Bun: `Bun.listen()`.

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

    Handlers and data

        socket: The handlers: a `SocketHandler`, any object with some of its methods, or a
            mapping of name to callable. Required. Bun: `socket`.
        data: What `data` of each accepted socket is: this very object. Default: None.
            Bun: `data`.
        data_factory: Called with each accepted socket; its result is that socket's `data`. Not
            together with `data`. Default: None. Not in Bun.

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

    :raises OSError: it cannot be bound, or a file of `tls` cannot be read; with the address or the
        path in its text. EADDRINUSE for a port that is taken.
    :raises TypeError: an option is unknown, missing or of the wrong type.
    :raises ValueError: an option has a wrong value, or two contradict each other.
    """
    return listen_for(parse_listen(options))


def listen_for(request: ListenRequest) -> TCPSocketListener[Any] | UnixSocketListener[Any]:
    """Carries out what was checked."""
    tls = None if request.tls is None else parse_tls(request.tls, "server")
    try:
        listener = _listen(current_engine(), request, tls)
    except OSError as error:
        locate(error, request.target.where)
        raise
    log(logging.INFO, "%s", repr(listener))
    return listener


def _listen(
    engine: Engine, request: ListenRequest, tls: TlsSettings | None
) -> TCPSocketListener[Any] | UnixSocketListener[Any]:
    target = request.target
    if isinstance(target, FdTarget):
        family = _bind.check_listening(target.fd)
        if family == kernel.AF_UNIX:
            if request.limits is not None:
                refuse_hosts(request.limits)
            if request.proxy is not None:
                refuse_networks(request.proxy)
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
    return UnixSocketListener(
        native, target.given, None if target.is_abstract else _fixed(target.path)
    )


def _fixed(path: bytes) -> str:
    """The path as it stays right when the working directory changes; links are not followed."""
    text = os.fsdecode(path)
    return text if os.path.isabs(text) else os.path.join(os.getcwd(), text)


def _start(
    engine: Engine, fd: int, request: ListenRequest, tls: TlsSettings | None
) -> NativeListener:
    native = engine.listen(
        fd, request.connection, request.handlers, request.data, request.data_factory, tls
    )
    if request.limits is not None:
        native.set_limits(request.limits)
    if request.proxy is not None:
        native.set_proxy_protocol(*request.proxy)
    return native


def _start_or_close(
    engine: Engine, fd: int, request: ListenRequest, tls: TlsSettings | None
) -> NativeListener:
    try:
        return _start(engine, fd, request, tls)
    except BaseException:
        os.close(fd)
        raise

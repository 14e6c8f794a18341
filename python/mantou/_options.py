"""From the options of connect() and listen() to requests that were checked in every respect.

Nothing is opened, resolved or looked up before this is done. TypeError for a wrong type, name or
combination of forms, ValueError for a wrong value or a contradiction.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

from ._addresses import Literal as AddressLiteral
from ._addresses import Name, SocketAddress, name_of, parse_literal
from ._core import Handlers, can_take, check_packet, known_way, remember_way
from ._limits import Limits, parse_limits
from ._option_forms import (
    CONNECT,
    CONNECT_STREAM,
    LISTEN,
    SERVE_STREAMS,
    Function,
    form_of,
    required,
)
from ._option_types import Packet
from ._proxy_options import ProxyPolicy, parse_proxy_header, parse_proxy_protocol
from ._targets import (
    HIGHEST_PORT,
    Target,
    TcpTarget,
    parse_fd,
    parse_tcp,
    parse_unix,
    parse_unix_listen,
)
from ._validate import (
    Options,
    flag,
    integer,
    positive_seconds,
    seconds_or_off,
    shown,
    signature_of,
    wrong_type,
    wrong_value,
)

DEFAULT_TIMEOUT = 30.0
DEFAULT_WRITE_LIMIT = 16 * 1024 * 1024
DEFAULT_PACKET_SIZE = 1024 * 1024

_LARGEST_C_INT = 2**31 - 1
# The kernel begins to probe after a whole second at the earliest, and goes on a second later.
_SHORTEST_DEAD_AFTER = 2
# TCP_KEEPIDLE can be no longer.
_LONGEST_DEAD_AFTER = 32767
_LARGEST_SIZE = 2**63 - 1

# What `tls` may be; checked further where it is turned into a configuration.
TlsSource = Literal[True] | Mapping[str, object] | ssl.SSLContext


class ConnectionOptions(NamedTuple):
    """What every connection has: times in seconds, None for no limit or off; sizes in bytes.

    For unix and fd, `no_delay` is False, `keep_alive` and `dead_after` are None: what these set is
    left as it is.
    `exclusive`: the local port of this very connection is not shared. `transport`: its owner is an
    asyncio transport.
    """

    allow_half_open: bool
    no_delay: bool
    keep_alive: float | None
    dead_after: float | None
    idle_timeout: float | None
    handshake_timeout: float | None
    close_timeout: float | None
    write_limit: int
    packet: Packet = "raw"
    packet_size: int = DEFAULT_PACKET_SIZE
    exclusive: bool = False
    transport: bool = False


class Way(NamedTuple):
    """How a connection is to come about: what is the same for every connection to one place.

    `hostname` is the name that TLS asks for. `address` is where to connect to if that is all:
    nothing is to be resolved, bound or set before.
    """

    target: Target
    exclusive: bool
    reuse_port: bool
    ipv6_only: bool
    local_address: AddressLiteral | None
    local_port: int
    connect_timeout: float | None
    connection: ConnectionOptions
    hostname: str
    address: SocketAddress | None


class ConnectRequest(NamedTuple):
    """What connect() is to do; connect_stream() has no handlers.

    `preface` is sent before everything else.
    """

    handlers: Handlers | None
    data: object
    tls: TlsSource | None
    preface: bytes | None
    way: Way


class ListenRequest(NamedTuple):
    """What listen() is to do. `backlog` is 0 with an fd, which listens already."""

    target: Target
    handlers: Handlers | None
    data: object
    data_factory: Callable[[Any], object] | None
    tls: TlsSource | None
    exclusive: bool
    reuse_port: bool
    ipv6_only: bool
    backlog: int
    limits: Limits | None
    proxy: ProxyPolicy | None
    connection: ConnectionOptions


def parse_connect(options: Options) -> ConnectRequest:
    """Checks the options of connect()."""
    given = dict(options)
    way = known_way(given)
    if way is None:
        way = _parse_way(options, CONNECT)
        if isinstance(way.target, TcpTarget):
            # A path is looked at anew, and a descriptor is another one the next time.
            remember_way(given, way)
    handlers = Handlers(required(options, "socket", CONNECT))
    tls, proxied = options.get("tls", False), options.get("proxy_header", False)
    return ConnectRequest(
        handlers,
        options.get("data"),
        None if tls is False else _tls(options),
        None if proxied is False else parse_proxy_header(options),
        way,
    )


def parse_connect_stream(options: Options) -> ConnectRequest:
    """Checks the options of connect_stream()."""
    rest = {"allow_half_open": True, **options}
    tls, proxied = rest.pop("tls", False), rest.pop("proxy_header", False)
    way = _parse_way(rest, CONNECT_STREAM)
    return ConnectRequest(
        None,
        None,
        None if tls is False else _tls(options),
        None if proxied is False else parse_proxy_header(options),
        way,
    )


def _parse_way(options: Options, function: Function) -> Way:
    form = form_of(options, function)
    target: Target
    if form == "tcp":
        target = parse_tcp(options, lowest_port=1)
    elif form == "unix":
        target = parse_unix(options)
    else:
        target = parse_fd(options)
    exclusive, reuse_port, ipv6_only = _sharing(options)
    local_address = _local_address(options)
    local_port = _local_port(options)
    # Where there is no hostname to check, it is this machine that is talked to.
    hostname, address = "localhost", None
    if isinstance(target, TcpTarget):
        _check_families(target, local_address, ipv6_only)
        hostname = name_of(target.host)
        bound = exclusive or reuse_port or ipv6_only or local_address is not None or local_port
        # A zone may be another interface by the next time.
        if isinstance(target.host, AddressLiteral) and target.host.zone is None and not bound:
            address = target.host.sockaddr(target.port)
    return Way(
        target,
        exclusive,
        reuse_port,
        ipv6_only,
        local_address,
        local_port,
        positive_seconds(options, "connect_timeout", DEFAULT_TIMEOUT),
        _connection(options, is_tcp=form == "tcp", exclusive=exclusive),
        hostname,
        address,
    )


def parse_listen(options: Options) -> ListenRequest:
    """Checks the options of listen()."""
    handlers = Handlers(options["socket"]) if "socket" in options else None
    request = _parse_listen(options, LISTEN)
    if handlers is None:
        required(options, "socket", LISTEN)
    return request._replace(
        handlers=handlers, data=options.get("data"), data_factory=_data_factory(options)
    )


def parse_serve_streams(options: Options) -> ListenRequest:
    """Checks the options of serve_streams()."""
    return _parse_listen({"allow_half_open": True, **options}, SERVE_STREAMS)


def _parse_listen(options: Options, function: Function) -> ListenRequest:
    form = form_of(options, function)
    target: Target
    if form == "tcp":
        target = parse_tcp(options, lowest_port=0)
    elif form == "unix":
        target = parse_unix_listen(options)
    else:
        target = parse_fd(options)
    exclusive, reuse_port, ipv6_only = _sharing(options)
    if isinstance(target, TcpTarget):
        _check_families(target, None, ipv6_only)
    tls = _tls(options)
    if tls is True or (isinstance(tls, Mapping) and not tls):
        raise wrong_value("tls", "options with a certificate and its key to listen", tls)
    return ListenRequest(
        target=target,
        handlers=None,
        data=None,
        data_factory=None,
        tls=tls,
        exclusive=exclusive,
        reuse_port=reuse_port,
        ipv6_only=ipv6_only,
        backlog=0 if form == "fd" else _backlog(options),
        limits=parse_limits(options, has_tls=tls is not None),
        proxy=parse_proxy_protocol(options),
        connection=_connection(options, is_tcp=form == "tcp"),
    )


def _sharing(options: Options) -> tuple[bool, bool, bool]:
    exclusive = flag(options, "exclusive", default=False)
    reuse_port = flag(options, "reuse_port", default=False)
    ipv6_only = flag(options, "ipv6_only", default=False)
    if exclusive and reuse_port:
        raise ValueError(
            "options 'exclusive' and 'reuse_port' contradict each other, got True for both"
        )
    return exclusive, reuse_port, ipv6_only


def _local_address(options: Options) -> AddressLiteral | None:
    value = options.get("local_address")
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type("local_address", "a str or None", value)
    literal = parse_literal(value)
    if literal is None:
        raise wrong_value("local_address", "an IPv4 or IPv6 address", value)
    return literal


def _local_port(options: Options) -> int:
    if options.get("local_port") is None:
        return 0
    return integer(options, "local_port", 0, 0, HIGHEST_PORT)


def _check_families(target: TcpTarget, local: AddressLiteral | None, ipv6_only: bool) -> None:
    """Refuses addresses that no socket could have together."""
    host = None if isinstance(target.host, Name) else target.host
    if ipv6_only:
        for name, literal in (("hostname", host), ("local_address", local)):
            if literal is not None and (literal.is_ipv4 or literal.is_ipv4_mapped):
                raise ValueError(
                    f"option {name!r} must be IPv6 because 'ipv6_only' is True, got {literal}"
                )
    if host is not None and local is not None and host.family != local.family:
        raise ValueError(
            f"option 'local_address' must be of the same family as 'hostname' ({host}), got {local}"
        )


def _tls(options: Options) -> TlsSource | None:
    value = options.get("tls", False)
    if isinstance(value, bool):
        return True if value else None
    if isinstance(value, ssl.SSLContext):
        return value
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value)
    # Its type only: what somebody took for an option here may be a private key.
    kind = type(value).__name__
    raise TypeError(f"option 'tls' must be a bool, a mapping or an ssl.SSLContext, got {kind}")


def _connection(options: Options, *, is_tcp: bool, exclusive: bool = False) -> ConnectionOptions:
    if _CONNECTION_NAMES.isdisjoint(options) and not exclusive:
        # By far the most connections; what was checked once need not be again.
        return _CONNECTION_DEFAULTS[is_tcp]
    return _checked_connection(options, is_tcp=is_tcp, exclusive=exclusive)


def _checked_connection(options: Options, *, is_tcp: bool, exclusive: bool) -> ConnectionOptions:
    return ConnectionOptions(
        allow_half_open=flag(options, "allow_half_open", default=False),
        no_delay=flag(options, "no_delay", default=is_tcp),
        keep_alive=positive_seconds(options, "keep_alive", None),
        dead_after=_dead_after(options),
        idle_timeout=seconds_or_off(options, "idle_timeout"),
        handshake_timeout=positive_seconds(options, "handshake_timeout", DEFAULT_TIMEOUT),
        close_timeout=positive_seconds(options, "close_timeout", DEFAULT_TIMEOUT),
        write_limit=integer(options, "write_limit", DEFAULT_WRITE_LIMIT, 1, _LARGEST_SIZE),
        packet=_packet(options),
        packet_size=integer(options, "packet_size", DEFAULT_PACKET_SIZE, 1, _LARGEST_SIZE),
        exclusive=exclusive,
    )


def _packet(options: Options) -> Packet:
    value = options.get("packet", "raw")
    check_packet(value)
    return cast("Packet", value)


def _dead_after(options: Options) -> float | None:
    seconds = positive_seconds(options, "dead_after", None)
    if seconds is None:
        return None
    if not _SHORTEST_DEAD_AFTER <= seconds <= _LONGEST_DEAD_AFTER:
        raise wrong_value(
            "dead_after",
            f"from {_SHORTEST_DEAD_AFTER} to {_LONGEST_DEAD_AFTER} seconds",
            options["dead_after"],
        )
    if options.get("keep_alive") is not None:
        raise ValueError(
            "options 'dead_after' and 'keep_alive' contradict each other: both set when the "
            f"kernel probes, got {shown(options['dead_after'])} and {shown(options['keep_alive'])}"
        )
    return seconds


_CONNECTION_NAMES = frozenset(ConnectionOptions._fields)
_CONNECTION_DEFAULTS = {
    is_tcp: _checked_connection({}, is_tcp=is_tcp, exclusive=False) for is_tcp in (False, True)
}


def _data_factory(options: Options) -> Callable[[Any], object] | None:
    value = options.get("data_factory")
    if value is None:
        return None
    if not callable(value):
        raise wrong_type("data_factory", "callable or None", value)
    if not can_take(value, 1):
        raise TypeError(
            f"option 'data_factory' is called with (socket), which {signature_of(value)} cannot be"
        )
    if options.get("data") is not None:
        raise ValueError(
            "options 'data' and 'data_factory' contradict each other, "
            f"got {shown(options['data'])} and {shown(value)}"
        )
    return value


def _backlog(options: Options) -> int:
    if "backlog" in options:
        return integer(options, "backlog", 0, 0, _LARGEST_C_INT)
    try:
        # Read each time: it can be changed while the process runs, and a listener is rare.
        with open("/proc/sys/net/core/somaxconn", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return socket.SOMAXCONN

"""The options of connect() and listen(), for type checkers.

The names in here are also the ones that validation knows: see _options.py.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, Literal, Required, TypedDict

from ._handlers import D, Handlers

if TYPE_CHECKING:
    from ._core import Socket

StrPath = str | os.PathLike[str]
UnixPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# PEM text, or for a path-like object the file with it.
PemSource = str | bytes | os.PathLike[str]
TLSVersion = Literal["TLSv1.2", "TLSv1.3"]


class TLSOptions(TypedDict, total=False):
    """How a connection is encrypted and who is trusted (Bun: TLSOptions)."""

    key: PemSource | Sequence[PemSource]
    cert: PemSource | Sequence[PemSource]
    ca: PemSource | Sequence[PemSource]
    crl: PemSource | Sequence[PemSource]
    key_file: StrPath
    cert_file: StrPath
    ca_file: StrPath
    passphrase: str | bytes
    server_name: str
    servername: str
    alpn_protocols: Sequence[str] | str | bytes
    reject_unauthorized: bool
    request_cert: bool
    ciphers: str
    min_version: TLSVersion
    max_version: TLSVersion
    session: object
    secure_options: int
    low_memory_mode: bool
    dh_params_file: StrPath
    client_renegotiation_limit: int
    client_renegotiation_window: int
    key_log_file: StrPath


class _StreamOptions(TypedDict, Generic[D], total=False):
    socket: Required[Handlers[D]]
    data: D
    tls: bool | TLSOptions | ssl.SSLContext
    allow_half_open: bool
    idle_timeout: float | None
    handshake_timeout: float | None
    close_timeout: float | None
    write_limit: int


class _TCPSocketOptions(_StreamOptions[D], Generic[D], total=False):
    hostname: Required[str]
    port: Required[int | str]
    exclusive: bool
    reuse_port: bool
    ipv6_only: bool
    no_delay: bool
    keep_alive: float | None


class TCPSocketConnectOptions(_TCPSocketOptions[D], Generic[D], total=False):
    """How to connect to a host and port (Bun: TCPSocketConnectOptions).

    Times are seconds, sizes bytes. `local_address` and `local_port` are bound before connecting.
    """

    local_address: str | None
    local_port: int | None
    connect_timeout: float | None


class UnixSocketOptions(_StreamOptions[D], Generic[D], total=False):
    """How to connect to a unix socket (Bun: UnixSocketOptions).

    A leading NUL in `unix` means the abstract namespace.
    """

    unix: Required[UnixPath]
    connect_timeout: float | None


class FdSocketOptions(_StreamOptions[D], Generic[D], total=False):
    """A connected stream socket to take over (Bun: FdSocketOptions)."""

    fd: Required[int]
    connect_timeout: float | None


class TCPSocketListenOptions(_TCPSocketOptions[D], Generic[D], total=False):
    """How to listen on a host and port (Bun: TCPSocketListenOptions).

    Port 0 picks a free one. `backlog` is how many connections may wait to be accepted.
    `data_factory` is called with each accepted socket and returns its `data`.
    """

    backlog: int
    data_factory: Callable[[Socket[D]], D] | None


class UnixSocketListenOptions(_StreamOptions[D], Generic[D], total=False):
    """How to listen on a unix socket (Bun: UnixSocketOptions).

    `mode` are the permission bits of its file. `unlink_stale` replaces a socket file that
    nobody listens on.
    """

    unix: Required[UnixPath]
    mode: int
    unlink_stale: bool
    backlog: int
    data_factory: Callable[[Socket[D]], D] | None


class FdSocketListenOptions(_StreamOptions[D], Generic[D], total=False):
    """A listening stream socket to take over (Bun: FdSocketOptions)."""

    fd: Required[int]
    data_factory: Callable[[Socket[D]], D] | None

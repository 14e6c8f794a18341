"""The options of connect() and listen(), for type checkers and for people.

The names in here are also the ones that validation knows: see _options.py. What an option means is
said once, below its name; `make docstrings` copies that to where help() finds it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Generic, Literal, Required, TypedDict

from ._core import Socket
from ._handlers import D, Handlers
from ._proxy import ProxyHeader

StrPath = str | os.PathLike[str]
UnixPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# PEM text, or for a path-like object the file with it.
PemSource = str | bytes | os.PathLike[str]
# How data is cut into packets.
Packet = Literal["raw", "line", 1, 2, 4]
_Network = IPv4Network | IPv6Network | IPv4Address | IPv6Address
TLSVersion = Literal["TLSv1.2", "TLSv1.3"]


class TLSOptions(TypedDict, total=False):
    """How a connection is encrypted and who is trusted (Bun: TLSOptions).

    Options, by kind:

    Who we are

        cert: Our certificate and the chain behind it: PEM text, or a path-like object for a
            file with it; a list for several. A server needs one. Default: None. Bun: `cert`.
        key: The private key of the certificate, given in the same way. Default: None.
            Bun: `key`.
        cert_file: The file of the certificate, instead of `cert`. Default: None.
            Bun: `certFile`.
        key_file: The file of the key, instead of `key`. Default: None. Bun: `keyFile`.
        passphrase: What the key is encrypted with. Default: None. Bun: `passphrase`.

    Who is trusted

        ca: The certificates to trust, in place of the system's. Default: None, the system's
            trust store (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), or certifi's where
            that is empty. Bun: `ca`.
        ca_file: A file of certificates to trust, instead of `ca`. Default: None. Bun: `caFile`.
        crl: Revocation lists: what they name is not accepted. Default: None. Bun: `crl`.
        reject_unauthorized: Refuse a peer whose certificate is not verified, with an
            `ssl.SSLCertVerificationError`. False lets it in and tells `handshake` why.
            Default: True. Bun: `rejectUnauthorized`.
        request_cert: A server asks its clients for a certificate. Default: False.
            Bun: `requestCert`.
        server_name: The name to ask the server for and to find in its certificate; on a server,
            a name that its certificate must have. Default: the `hostname` of `connect()`.
            Bun: `serverName`.
        servername: Another spelling of `server_name`; both together are a TypeError.
            Default: None. Bun: `servername`.

    What is agreed on

        alpn_protocols: The protocols to offer, `["h2", "http/1.1"]`, or each behind a byte with
            its length, as in the handshake. With none in common it fails. Default: none.
            Bun: `ALPNProtocols`.
        ciphers: The cipher suites to use, in OpenSSL's names, with colons between. One that the
            engine does not have is a ValueError. Default: all that are safe. Bun: `ciphers`.
        min_version: The oldest version to speak. Default: "TLSv1.2". Bun: `minVersion`, a
            number.
        max_version: The newest version to speak. Default: "TLSv1.3". Bun: `maxVersion`, a
            number.
        session: An earlier session to resume, from `socket.get_session()`; for clients.
            Default: None. Bun: `session`.

    Rarely needed

        key_log_file: The file to which the session's secrets are appended, for debugging with
            Wireshark; in the format of `SSLKEYLOGFILE`. Default: None. Not in Bun.
        secure_options: OpenSSL's `SSL_OP_` bits. Those that say what is so anyway and those
            that exclude a version are taken, others are a ValueError. Default: 0.
            Bun: `secureOptions`.
        low_memory_mode: Without effect: memory is not kept for idle sessions anyway.
            Default: False. Bun: `lowMemoryMode`.
        dh_params_file: Always a ValueError: the engine has no finite-field Diffie-Hellman, but
            an `ssl.SSLContext` has. Default: None. Bun: `dhParamsFile`.
        client_renegotiation_limit: Without effect: there is no renegotiation. Default: 0.
            Bun: `clientRenegotiationLimit`.
        client_renegotiation_window: Without effect: there is no renegotiation. Default: 0.
            Bun: `clientRenegotiationWindow`.
    """

    cert: PemSource | Sequence[PemSource]
    """Our certificate and the chain behind it: PEM text, or a path-like object for a file with it;
    a list for several. A server needs one. Default: None. Bun: `cert`."""
    key: PemSource | Sequence[PemSource]
    """The private key of the certificate, given in the same way. Default: None. Bun: `key`."""
    cert_file: StrPath
    """The file of the certificate, instead of `cert`. Default: None. Bun: `certFile`."""
    key_file: StrPath
    """The file of the key, instead of `key`. Default: None. Bun: `keyFile`."""
    passphrase: str | bytes
    """What the key is encrypted with. Default: None. Bun: `passphrase`."""
    ca: PemSource | Sequence[PemSource]
    """The certificates to trust, in place of the system's. Default: None, the system's trust store
    (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), or certifi's where that is empty.
    Bun: `ca`."""
    ca_file: StrPath
    """A file of certificates to trust, instead of `ca`. Default: None. Bun: `caFile`."""
    crl: PemSource | Sequence[PemSource]
    """Revocation lists: what they name is not accepted. Default: None. Bun: `crl`."""
    reject_unauthorized: bool
    """Refuse a peer whose certificate is not verified, with an `ssl.SSLCertVerificationError`.
    False lets it in and tells `handshake` why. Default: True. Bun: `rejectUnauthorized`."""
    request_cert: bool
    """A server asks its clients for a certificate. Default: False. Bun: `requestCert`."""
    server_name: str
    """The name to ask the server for and to find in its certificate; on a server, a name that its
    certificate must have. Default: the `hostname` of `connect()`. Bun: `serverName`."""
    servername: str
    """Another spelling of `server_name`; both together are a TypeError. Default: None.
    Bun: `servername`."""
    alpn_protocols: Sequence[str] | str | bytes
    """The protocols to offer, `["h2", "http/1.1"]`, or each behind a byte with its length, as in
    the handshake. With none in common it fails. Default: none. Bun: `ALPNProtocols`."""
    ciphers: str
    """The cipher suites to use, in OpenSSL's names, with colons between. One that the engine does
    not have is a ValueError. Default: all that are safe. Bun: `ciphers`."""
    min_version: TLSVersion
    """The oldest version to speak. Default: "TLSv1.2". Bun: `minVersion`, a number."""
    max_version: TLSVersion
    """The newest version to speak. Default: "TLSv1.3". Bun: `maxVersion`, a number."""
    session: object
    """An earlier session to resume, from `socket.get_session()`; for clients. Default: None.
    Bun: `session`."""
    key_log_file: StrPath
    """The file to which the session's secrets are appended, for debugging with Wireshark; in the
    format of `SSLKEYLOGFILE`. Default: None. Not in Bun."""
    secure_options: int
    """OpenSSL's `SSL_OP_` bits. Those that say what is so anyway and those that exclude a version
    are taken, others are a ValueError. Default: 0. Bun: `secureOptions`."""
    low_memory_mode: bool
    """Without effect: memory is not kept for idle sessions anyway. Default: False.
    Bun: `lowMemoryMode`."""
    dh_params_file: StrPath
    """Always a ValueError: the engine has no finite-field Diffie-Hellman, but an `ssl.SSLContext`
    has. Default: None. Bun: `dhParamsFile`."""
    client_renegotiation_limit: int
    """Without effect: there is no renegotiation. Default: 0. Bun: `clientRenegotiationLimit`."""
    client_renegotiation_window: int
    """Without effect: there is no renegotiation. Default: 0. Bun: `clientRenegotiationWindow`."""


class _Handled(TypedDict, Generic[D], total=False):
    socket: Required[Handlers[D]]
    """The handlers: a `SocketHandler`, any object with some of its methods, or a mapping of name to
    callable. Required. Bun: `socket`."""
    packet: Packet
    """Cut what comes into packets, and call `data` with one at a time. `"line"`: at each LF or
    CR LF, which is left out. 1, 2 or 4: by the length that goes before each in so many bytes, big
    endian; also before what is sent. `"raw"`: not at all. Default: "raw". Not in Bun."""
    packet_size: int
    """The longest packet to receive in bytes, without line end or length; one that is longer ends
    the connection with a PacketTooLarge. Default: 1048576 (1 MiB). Not in Bun."""


class _CommonOptions(TypedDict, total=False):
    tls: bool | TLSOptions | ssl.SSLContext
    """Speak TLS: True on a client, `TLSOptions`, or an `ssl.SSLContext`, which then drives the
    connection. A server needs a certificate. Default: False. Bun: `tls`."""
    allow_half_open: bool
    """The peer's FIN ends nothing: our side stays open until `end()`, and then the peer may take
    its time to finish. Default: False; True of streams. Bun: `allowHalfOpen`."""
    write_limit: int
    """Bytes that may wait in one socket when `write_all()` or `end()` are to add to them; more is a
    BufferError. Default: 16777216 (16 MiB). Not in Bun."""
    idle_timeout: float | None
    """Seconds in which no byte is read, taken by the kernel or acknowledged by the peer, until the
    `timeout` handler is called and, unless it returns True, the connection closed with a
    TimeoutError; None or 0 for no limit. Default: None. Not in Bun."""
    handshake_timeout: float | None
    """Seconds for the TLS handshake, else a HandshakeTimeoutError; before it, as long for the
    header that `proxy_protocol` of `listen()` waits for, else a ProxyTimeoutError. None for no
    limit. Default: 30.0. Not in Bun."""
    close_timeout: float | None
    """Seconds in which a connection that is being closed makes no progress, until it is terminated
    with a TimeoutError; None for no limit. Progress is what the peer acknowledged or sent: a slow
    reader is not cut off. Default: 30.0. Not in Bun."""


class _ConnectHandled(_Handled[D], Generic[D], total=False):
    data: D
    """What `socket.data` is, before `open` is called: this very object. Default: None.
    Bun: `data`."""


class _ConnectOptions(TypedDict, total=False):
    connect_timeout: float | None
    """Seconds for resolving the name and all attempts together, else a TimeoutError (ETIMEDOUT);
    None for no limit of ours. Default: 30.0. Not in Bun."""
    proxy_header: bool | Socket[Any] | ProxyHeader
    """Say first, before TLS, for whom we connect, in the PROXY protocol: for the client of a
    `Socket`, as `ProxyHeader.of()` tells it; a `ProxyHeader` as it is; True for ourselves
    (version 2, LOCAL). Default: False. Not in Bun."""


class _ListenHandled(_Handled[D], Generic[D], total=False):
    data: D
    """What `data` of each accepted socket is: this very object. Default: None. Bun: `data`."""
    data_factory: Callable[[Socket[D]], D] | None
    """Called with each accepted socket; its result is that socket's `data`. Not together with
    `data`. Default: None. Not in Bun."""


class _ListenOptions(TypedDict, total=False):
    max_connections: int | None
    """Connections that may be open at once, those included that still finish behind `close`. Then
    accepting pauses: who comes waits in the backlog. Default: None, no limit. Not in Bun."""
    accept_rate: float | None
    """Connections to accept per second; those of one second may come at once, more wait in the
    backlog. Default: None, no limit. Not in Bun."""
    max_handshakes: int | None
    """TLS handshakes that may be going on at once, those included that wait for their PROXY header;
    then accepting pauses. Only with `tls`. Default: None, no limit. Not in Bun."""
    proxy_protocol: Literal["off", "optional", "require"]
    """Connections begin with a PROXY header of version 1 or 2, before TLS, within
    `handshake_timeout`: "require" turns others away, "optional" serves them as they are, those of
    clients that wait for us to speak only after `handshake_timeout`. The socket's `remote_address`
    and `remote_port` are the client's, its `proxy` has the header. Who is turned away is told to
    `connect_error`, with a ProxyProtocolError. Default: "off". Not in Bun."""


class _TCPSocketOptions(_CommonOptions, total=False):
    exclusive: bool
    """The local address and port are ours alone: nobody else can bind them, whatever options they
    set. Not together with `reuse_port`. Default: False. Bun: `exclusive`."""
    reuse_port: bool
    """Share the local port with others that ask for this, too. Where the system cannot, an OSError
    (ENOTSUP). Default: False. Bun: `reusePort`."""
    ipv6_only: bool
    """Only IPv6, neither IPv4 nor IPv4-mapped addresses; one of these is a ValueError, a name that
    has nothing else a `socket.gaierror`. Default: False. Bun: `ipv6Only`."""
    no_delay: bool
    """Set TCP_NODELAY: small writes leave at once. Default: True. Not in Bun, where it is set."""
    keep_alive: float | None
    """Seconds of silence before the first probe of SO_KEEPALIVE; None for no probes.
    Default: None. Not in Bun."""
    dead_after: float | None
    """Seconds, from 2 to 32767, in which a peer answers nothing until it is given up: `close` gets
    a TimeoutError (ETIMEDOUT). While nothing is sent the kernel probes it (SO_KEEPALIVE); what is
    sent has to be acknowledged (TCP_USER_TIMEOUT), and taken: a peer that reads nothing for so long
    counts as dead as well. Not together with `keep_alive`. Default: None. Not in Bun."""


class _HostOptions(TypedDict, total=False):
    max_connections_per_host: int | None
    """Connections that may be open at once with one host: an IPv4 address or, of IPv6, a network of
    64 bits. More are refused with a RST, and no handler is called. Default: None, no limit.
    Not in Bun."""


class _TrustOptions(TypedDict, total=False):
    proxy_trusted: Sequence[str | _Network] | None
    """Whose PROXY headers are believed: networks and addresses (`["10.0.0.0/8", "::1"]`); those of
    other peers are turned away. `"::/0"` has no IPv4 addresses, `"::ffff:0:0/96"` has them all. Not
    for unix sockets, whose peers are always believed. None for everybody who can connect.
    Default: None. Not in Bun."""


class TCPStreamConnectOptions(_TCPSocketOptions, _ConnectOptions, total=False):
    """How to connect a stream to a host and port.

    Options, described by `help(mantou.connect_stream)`: `hostname`, `port`, `allow_half_open`,
    `write_limit`, `connect_timeout`, `idle_timeout`, `handshake_timeout`, `close_timeout`,
    `local_address`, `local_port`, `exclusive`, `reuse_port`, `ipv6_only`, `no_delay`,
    `keep_alive`, `dead_after`, `tls`, `proxy_header`.
    """

    hostname: Required[str]
    """The host to connect to: a name, or an IPv4 or IPv6 address (`::1`, `fe80::1%eth0`). Several
    addresses are tried side by side (RFC 8305). Required. Bun: `hostname`."""
    port: Required[int | str]
    """The port to connect to, from 1 to 65535; digits in a str, too. Required. Bun: `port`."""
    local_address: str | None
    """The IP address to connect from, of the same family as the host. Default: None, the system's
    choice. Not in Bun."""
    local_port: int | None
    """The port to connect from; an OSError (EADDRINUSE) if it is taken. None or 0 for the system's
    choice. Default: None. Not in Bun."""


class TCPSocketConnectOptions(TCPStreamConnectOptions, _ConnectHandled[D], Generic[D], total=False):
    """How to connect to a host and port (Bun: TCPSocketConnectOptions).

    Options, described by `help(mantou.connect)`: `hostname`, `port`, `socket`, `data`,
    `allow_half_open`, `write_limit`, `packet`, `packet_size`, `connect_timeout`,
    `idle_timeout`, `handshake_timeout`, `close_timeout`, `local_address`, `local_port`,
    `exclusive`, `reuse_port`, `ipv6_only`, `no_delay`, `keep_alive`, `dead_after`, `tls`,
    `proxy_header`.
    """


class UnixStreamOptions(_CommonOptions, _ConnectOptions, total=False):
    """How to connect a stream to a unix socket.

    Options, described by `help(mantou.connect_stream)`: `unix`, `allow_half_open`,
    `write_limit`, `connect_timeout`, `idle_timeout`, `handshake_timeout`, `close_timeout`,
    `tls`, `proxy_header`.
    """

    unix: Required[UnixPath]
    """The path of a unix socket, up to 107 bytes; a leading NUL means a name in the abstract
    namespace. Required. Bun: `unix`."""


class UnixSocketOptions(UnixStreamOptions, _ConnectHandled[D], Generic[D], total=False):
    """How to connect to a unix socket (Bun: UnixSocketOptions).

    Options, described by `help(mantou.connect)`: `unix`, `socket`, `data`, `allow_half_open`,
    `write_limit`, `packet`, `packet_size`, `connect_timeout`, `idle_timeout`,
    `handshake_timeout`, `close_timeout`, `tls`, `proxy_header`.
    """


class FdStreamOptions(_CommonOptions, _ConnectOptions, total=False):
    """A connected stream socket to take over as a stream.

    Options, described by `help(mantou.connect_stream)`: `fd`, `allow_half_open`, `write_limit`,
    `connect_timeout`, `idle_timeout`, `handshake_timeout`, `close_timeout`, `tls`,
    `proxy_header`.
    """

    fd: Required[int]
    """A connected TCP or unix stream socket, which is mantou's once the call succeeds; anything
    else is an OSError or a ValueError. Required. Bun: `fd`."""


class FdSocketOptions(FdStreamOptions, _ConnectHandled[D], Generic[D], total=False):
    """A connected stream socket to take over (Bun: FdSocketOptions).

    Options, described by `help(mantou.connect)`: `fd`, `socket`, `data`, `allow_half_open`,
    `write_limit`, `packet`, `packet_size`, `connect_timeout`, `idle_timeout`,
    `handshake_timeout`, `close_timeout`, `tls`, `proxy_header`.
    """


class TCPStreamListenOptions(
    _TCPSocketOptions, _HostOptions, _ListenOptions, _TrustOptions, total=False
):
    """How to serve streams on a host and port.

    Options, described by `help(mantou.serve_streams)`: `hostname`, `port`, `allow_half_open`,
    `write_limit`, `backlog`, `max_connections`, `max_connections_per_host`, `accept_rate`,
    `max_handshakes`, `idle_timeout`, `handshake_timeout`, `close_timeout`, `exclusive`,
    `reuse_port`, `ipv6_only`, `no_delay`, `keep_alive`, `dead_after`, `tls`, `proxy_protocol`,
    `proxy_trusted`.
    """

    hostname: Required[str]
    """Where to listen: an address of this machine, `0.0.0.0` or `::` for all, or a name, of whose
    addresses the first that can be bound is taken. Required. Bun: `hostname`."""
    port: Required[int | str]
    """The port to listen on, from 0 to 65535; 0 picks a free one. An OSError (EADDRINUSE) if it is
    taken. Required. Bun: `port`."""
    backlog: int
    """How many connections may wait to be accepted. Default: the system's limit (somaxconn).
    Not in Bun."""


class TCPSocketListenOptions(TCPStreamListenOptions, _ListenHandled[D], Generic[D], total=False):
    """How to listen on a host and port (Bun: TCPSocketListenOptions).

    Options, described by `help(mantou.listen)`: `hostname`, `port`, `socket`, `data`,
    `data_factory`, `allow_half_open`, `write_limit`, `packet`, `packet_size`, `backlog`,
    `max_connections`, `max_connections_per_host`, `accept_rate`, `max_handshakes`,
    `idle_timeout`, `handshake_timeout`, `close_timeout`, `exclusive`, `reuse_port`,
    `ipv6_only`, `no_delay`, `keep_alive`, `dead_after`, `tls`, `proxy_protocol`,
    `proxy_trusted`.
    """


class UnixStreamListenOptions(_CommonOptions, _ListenOptions, total=False):
    """How to serve streams on a unix socket.

    Options, described by `help(mantou.serve_streams)`: `unix`, `allow_half_open`,
    `write_limit`, `backlog`, `max_connections`, `accept_rate`, `max_handshakes`,
    `idle_timeout`, `handshake_timeout`, `close_timeout`, `mode`, `unlink_stale`, `tls`,
    `proxy_protocol`.
    """

    unix: Required[UnixPath]
    """The path to listen at, up to 107 bytes; a leading NUL means a name in the abstract namespace.
    An OSError (EADDRINUSE) if something is there. Required. Bun: `unix`."""
    mode: int
    """The permission bits of the socket's file, which never has wider ones. Default: what the
    umask leaves. Not in Bun."""
    unlink_stale: bool
    """Replace a socket file that nobody listens on; never a live one, never another kind of file.
    Default: False. Not in Bun."""
    backlog: int
    """How many connections may wait to be accepted. Default: the system's limit (somaxconn).
    Not in Bun."""


class UnixSocketListenOptions(UnixStreamListenOptions, _ListenHandled[D], Generic[D], total=False):
    """How to listen on a unix socket (Bun: UnixSocketOptions).

    Options, described by `help(mantou.listen)`: `unix`, `socket`, `data`, `data_factory`,
    `allow_half_open`, `write_limit`, `packet`, `packet_size`, `backlog`, `max_connections`,
    `accept_rate`, `max_handshakes`, `idle_timeout`, `handshake_timeout`, `close_timeout`,
    `mode`, `unlink_stale`, `tls`, `proxy_protocol`.
    """


class FdStreamListenOptions(
    _CommonOptions, _HostOptions, _ListenOptions, _TrustOptions, total=False
):
    """A listening stream socket to take over, and to serve streams on.

    Options, described by `help(mantou.serve_streams)`: `fd`, `allow_half_open`, `write_limit`,
    `max_connections`, `max_connections_per_host`, `accept_rate`, `max_handshakes`,
    `idle_timeout`, `handshake_timeout`, `close_timeout`, `tls`, `proxy_protocol`,
    `proxy_trusted`.
    """

    fd: Required[int]
    """A listening TCP or unix stream socket, which is mantou's once the call succeeds; anything
    else is an OSError or a ValueError. Required. Bun: `fd`."""


class FdSocketListenOptions(FdStreamListenOptions, _ListenHandled[D], Generic[D], total=False):
    """A listening stream socket to take over (Bun: FdSocketOptions).

    Options, described by `help(mantou.listen)`: `fd`, `socket`, `data`, `data_factory`,
    `allow_half_open`, `write_limit`, `packet`, `packet_size`, `max_connections`,
    `max_connections_per_host`, `accept_rate`, `max_handshakes`, `idle_timeout`,
    `handshake_timeout`, `close_timeout`, `tls`, `proxy_protocol`, `proxy_trusted`.
    """

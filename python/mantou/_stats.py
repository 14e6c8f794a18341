"""Figures to look at: of this process, of a listener, of a socket."""

from __future__ import annotations

from dataclasses import dataclass

from . import _attach
from ._core import Listener, Totals, process_totals
from ._tcp_info import TcpInfo, parse_tcp_info


@dataclass(frozen=True)
class HandshakeFailures:
    """TLS handshakes that failed, by what went wrong. Not in Bun.

    Members:

        timeout: Not done within `handshake_timeout`.
        certificate: We refused the peer's certificate, or there was none.
        alert: The peer refused, and said why in an alert.
        protocol: What the peer sent is no TLS, or the two have nothing in common.
        lost: The connection ended before, by whichever side.
    """

    timeout: int
    """Not done within `handshake_timeout`."""
    certificate: int
    """We refused the peer's certificate, or there was none."""
    alert: int
    """The peer refused, and said why in an alert."""
    protocol: int
    """What the peer sent is no TLS, or the two have nothing in common."""
    lost: int
    """The connection ended before, by whichever side."""


@dataclass(frozen=True)
class Pauses:
    """How often accepting paused, by what was in the way. Not in Bun.

    Members:

        max_connections: So many connections were open.
        accept_rate: So many connections had come within a second.
        max_handshakes: So many TLS handshakes were going on.
        descriptors: The process or the system had no more descriptors or memory.
    """

    max_connections: int
    """So many connections were open."""
    accept_rate: int
    """So many connections had come within a second."""
    max_handshakes: int
    """So many TLS handshakes were going on."""
    descriptors: int
    """The process or the system had no more descriptors or memory."""


@dataclass(frozen=True)
class Stats:
    """What has happened in this process, on all its event loops. Not in Bun.

    Members:

        listeners: Listeners that are not stopped.
        connections: Connections that are open.
        accepted: Connections accepted so far.
        connected: Connections made or taken over so far.
        bytes_read: Bytes of applications' data received so far.
        bytes_written: Bytes of applications' data sent so far.
        queued: Bytes that were accepted for sending and wait for the kernel to take them.
        handshakes: TLS handshakes that succeeded.
        handshake_failures: Those that failed.
        refused: Connections refused for `max_connections_per_host`.
        pauses: How often accepting paused.
    """

    listeners: int
    """Listeners that are not stopped."""
    connections: int
    """Connections that are open."""
    accepted: int
    """Connections accepted so far."""
    connected: int
    """Connections made or taken over so far."""
    bytes_read: int
    """Bytes of applications' data received so far."""
    bytes_written: int
    """Bytes of applications' data sent so far."""
    queued: int
    """Bytes that were accepted for sending and wait for the kernel to take them."""
    handshakes: int
    """TLS handshakes that succeeded."""
    handshake_failures: HandshakeFailures
    """Those that failed."""
    refused: int
    """Connections refused for `max_connections_per_host`."""
    pauses: Pauses
    """How often accepting paused."""


@dataclass(frozen=True)
class ListenerStats:
    """What has happened to a listener and its connections. Not in Bun.

    Members:

        connections: Connections that are open.
        accepted: Connections accepted so far.
        bytes_read: Bytes of the application's data received so far.
        bytes_written: Bytes of the application's data sent so far.
        queued: Bytes that were accepted for sending and wait for the kernel to take them.
        handshakes: TLS handshakes that succeeded.
        handshake_failures: Those that failed.
        refused: Connections refused for `max_connections_per_host`.
        pauses: How often accepting paused.
        waiting: Connections that wait to be accepted; None for a unix socket, and once stopped.
        backlog: How many may wait; None for a unix socket, and once stopped.
    """

    connections: int
    """Connections that are open."""
    accepted: int
    """Connections accepted so far."""
    bytes_read: int
    """Bytes of the application's data received so far."""
    bytes_written: int
    """Bytes of the application's data sent so far."""
    queued: int
    """Bytes that were accepted for sending and wait for the kernel to take them."""
    handshakes: int
    """TLS handshakes that succeeded."""
    handshake_failures: HandshakeFailures
    """Those that failed."""
    refused: int
    """Connections refused for `max_connections_per_host`."""
    pauses: Pauses
    """How often accepting paused."""
    waiting: int | None
    """Connections that wait to be accepted; None for a unix socket, and once stopped."""
    backlog: int | None
    """How many may wait; None for a unix socket, and once stopped."""


@dataclass(frozen=True)
class SocketStats:
    """The figures of a socket. Not in Bun.

    Members:

        bytes_read: Bytes of the application's data received so far.
        bytes_written: Bytes of the application's data sent so far.
        queued: Bytes that were accepted for sending and wait for the kernel to take them.
        tcp: What the kernel knows; None for a unix socket, and once closed.
    """

    bytes_read: int
    """Bytes of the application's data received so far."""
    bytes_written: int
    """Bytes of the application's data sent so far."""
    queued: int
    """Bytes that were accepted for sending and wait for the kernel to take them."""
    tcp: TcpInfo | None
    """What the kernel knows; None for a unix socket, and once closed."""


@dataclass(frozen=True)
class PeerCredentials:
    """Who is at the other end of a unix socket. Not in Bun.

    Members:

        pid: The process; 0 for one that is not in our namespace of processes.
        uid: Its user.
        gid: Its group.
    """

    pid: int
    """The process; 0 for one that is not in our namespace of processes."""
    uid: int
    """Its user."""
    gid: int
    """Its group."""


def stats() -> Stats:
    """What has happened in this process so far, on all its event loops.

    asyncio's connections count as well, where mantou's loop serves them natively. May be called
    from any thread. A forked process begins with nothing. Not in Bun.
    """
    counted, listeners, queued = process_totals(_attach.engines())
    return Stats(
        listeners=listeners,
        connections=counted.accepted + counted.connected - counted.closed,
        accepted=counted.accepted,
        connected=counted.connected,
        bytes_read=counted.bytes_read,
        bytes_written=counted.bytes_written,
        queued=queued,
        handshakes=counted.handshakes,
        handshake_failures=_failures(counted),
        refused=counted.refused,
        pauses=_pauses(counted),
    )


def listener_stats(listener: Listener) -> ListenerStats:
    """Those of a native listener."""
    counted, queued, info = listener.figures()
    tcp = None if info is None else parse_tcp_info(info)
    return ListenerStats(
        connections=listener.connections,
        accepted=counted.accepted,
        bytes_read=counted.bytes_read,
        bytes_written=counted.bytes_written,
        queued=queued,
        handshakes=counted.handshakes,
        handshake_failures=_failures(counted),
        refused=counted.refused,
        pauses=_pauses(counted),
        # In these two fields the kernel tells of a listener what waits, and how many may.
        waiting=None if tcp is None else tcp.unacked,
        backlog=None if tcp is None else tcp.sacked,
    )


def socket_stats(
    bytes_read: int, bytes_written: int, queued: int, tcp_info: bytes | None
) -> SocketStats:
    """What `socket.stats()` returns."""
    tcp = None if tcp_info is None else parse_tcp_info(tcp_info)
    return SocketStats(bytes_read, bytes_written, queued, tcp)


def _failures(counted: Totals) -> HandshakeFailures:
    return HandshakeFailures(
        timeout=counted.late_handshakes,
        certificate=counted.unverified_handshakes,
        alert=counted.alerted_handshakes,
        protocol=counted.broken_handshakes,
        lost=counted.lost_handshakes,
    )


def _pauses(counted: Totals) -> Pauses:
    return Pauses(
        max_connections=counted.pauses_for_connections,
        accept_rate=counted.pauses_for_rate,
        max_handshakes=counted.pauses_for_handshakes,
        descriptors=counted.pauses_for_descriptors,
    )

"""What the kernel knows of a TCP connection: `struct tcp_info`, by name."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

# linux/tcp.h. Kernels differ in how much of it they have; fields are only ever added at the end.
_LAYOUT = struct.Struct("=8B24I4Q6I4Q2I2Q4I")
# In the order of the kernel's enum.
_STATES = (
    "CLOSED",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
)
_FIELDS = (
    *("state", "ca_state", "retransmits", "probes", "backoff", "options", "wscale", "flags"),
    *("rto", "ato", "snd_mss", "rcv_mss"),
    *("unacked", "sacked", "lost", "retrans", "fackets"),
    *("last_data_sent", "last_ack_sent", "last_data_recv", "last_ack_recv"),
    *("pmtu", "rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh", "snd_cwnd", "advmss", "reordering"),
    *("rcv_rtt", "rcv_space", "total_retrans"),
    *("pacing_rate", "max_pacing_rate", "bytes_acked", "bytes_received", "segs_out", "segs_in"),
    *("notsent_bytes", "min_rtt", "data_segs_in", "data_segs_out"),
    *("delivery_rate", "busy_time", "rwnd_limited", "sndbuf_limited"),
    *("delivered", "delivered_ce", "bytes_sent", "bytes_retrans"),
    *("dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd"),
)
# Several in one byte, or never filled in.
_UNUSED = ("ca_state", "options", "wscale", "flags", "fackets", "last_ack_sent")
_MICROSECONDS = (
    *("rto", "ato", "rtt", "rttvar", "rcv_rtt", "min_rtt"),
    *("busy_time", "rwnd_limited", "sndbuf_limited"),
)
_MILLISECONDS = ("last_data_sent", "last_data_recv", "last_ack_recv")
# From there on: no limit, or nothing known.
_NONE = {
    "snd_ssthresh": 0x7FFFFFFF,
    "pacing_rate": 2**64 - 1,
    "max_pacing_rate": 2**64 - 1,
    # A connection that the kernel had to take by a SYN cookie begins without one.
    "min_rtt": 2**32 - 1,
}


@dataclass(frozen=True)
class TcpInfo:
    """What the kernel knows of a TCP connection, as `ss --info` shows it. Not in Bun.

    Members:

        state: The state of the connection: "ESTABLISHED", "CLOSE_WAIT"...
        retransmits: Times in a row that the oldest unanswered segment was sent again.
        probes: Probes in a row without an answer, of keep-alive or of a closed window.
        backoff: How often the time until the next of them was doubled.
        rto: Seconds without an acknowledgment until a segment is sent again.
        ato: Seconds that the kernel may wait before it acknowledges.
        snd_mss: Bytes of data in a segment that we send.
        rcv_mss: Bytes of data in a segment of the peer's, as estimated.
        unacked: Segments on their way, neither acknowledged nor given up as lost.
        sacked: Those of them that arrived ahead of others.
        lost: Those of them that seem to be lost.
        retrans: Those of them that were sent again.
        last_data_sent: Seconds since data was sent.
        last_data_recv: Seconds since data arrived.
        last_ack_recv: Seconds since an acknowledgment arrived.
        pmtu: Bytes of the largest packet that the path takes.
        rcv_ssthresh: Bytes that the receive window may grow to for now.
        rtt: Seconds of a round trip, smoothed.
        rttvar: How much that varies, in seconds.
        snd_ssthresh: Segments in flight from which on the kernel adds slowly; None while it has
            no reason to.
        snd_cwnd: Segments that may be in flight: the congestion window.
        advmss: Bytes of data in a segment that we have told the peer to send at most.
        reordering: Segments by which packets overtake each other.
        rcv_rtt: Seconds of a round trip, as the receiving side estimates it.
        rcv_space: Bytes that the application read in a round trip, by which the kernel sizes
            its buffer.
        total_retrans: Segments that were sent again so far.
        pacing_rate: Bytes per second at which the kernel sends; None for as fast as it can.
        max_pacing_rate: The most that this may be; None for no limit.
        bytes_acked: Bytes that the peer acknowledged.
        bytes_received: Bytes that arrived, and were acknowledged.
        segs_out: Segments sent, empty and repeated ones included.
        segs_in: Segments received, empty and repeated ones included.
        notsent_bytes: Bytes that the kernel has and has not sent even once.
        min_rtt: Seconds of the fastest round trip of late; None before the first.
        data_segs_in: Segments received that had data.
        data_segs_out: Segments sent that had data.
        delivery_rate: Bytes per second that arrive at the peer.
        busy_time: Seconds in which there was something to send.
        rwnd_limited: Those of them in which the peer's window was full.
        sndbuf_limited: Those of them in which our send buffer was too small.
        delivered: Segments that have arrived at the peer.
        delivered_ce: Those of them that were marked for congestion.
        bytes_sent: Bytes of data sent, repeated ones included.
        bytes_retrans: Bytes of data that were sent again.
        dsack_dups: Segments that the peer got twice.
        reord_seen: How often packets were seen to overtake each other.
        rcv_ooopack: Segments that arrived out of order.
        snd_wnd: Bytes that the peer has room for.
    """

    state: str
    """The state of the connection: "ESTABLISHED", "CLOSE_WAIT"..."""
    retransmits: int
    """Times in a row that the oldest unanswered segment was sent again."""
    probes: int
    """Probes in a row without an answer, of keep-alive or of a closed window."""
    backoff: int
    """How often the time until the next of them was doubled."""
    rto: float
    """Seconds without an acknowledgment until a segment is sent again."""
    ato: float
    """Seconds that the kernel may wait before it acknowledges."""
    snd_mss: int
    """Bytes of data in a segment that we send."""
    rcv_mss: int
    """Bytes of data in a segment of the peer's, as estimated."""
    unacked: int
    """Segments on their way, neither acknowledged nor given up as lost."""
    sacked: int
    """Those of them that arrived ahead of others."""
    lost: int
    """Those of them that seem to be lost."""
    retrans: int
    """Those of them that were sent again."""
    last_data_sent: float
    """Seconds since data was sent."""
    last_data_recv: float
    """Seconds since data arrived."""
    last_ack_recv: float
    """Seconds since an acknowledgment arrived."""
    pmtu: int
    """Bytes of the largest packet that the path takes."""
    rcv_ssthresh: int
    """Bytes that the receive window may grow to for now."""
    rtt: float
    """Seconds of a round trip, smoothed."""
    rttvar: float
    """How much that varies, in seconds."""
    snd_ssthresh: int | None
    """Segments in flight from which on the kernel adds slowly; None while it has no reason to."""
    snd_cwnd: int
    """Segments that may be in flight: the congestion window."""
    advmss: int
    """Bytes of data in a segment that we have told the peer to send at most."""
    reordering: int
    """Segments by which packets overtake each other."""
    rcv_rtt: float
    """Seconds of a round trip, as the receiving side estimates it."""
    rcv_space: int
    """Bytes that the application read in a round trip, by which the kernel sizes its buffer."""
    total_retrans: int
    """Segments that were sent again so far."""
    pacing_rate: int | None
    """Bytes per second at which the kernel sends; None for as fast as it can."""
    max_pacing_rate: int | None
    """The most that this may be; None for no limit."""
    bytes_acked: int
    """Bytes that the peer acknowledged."""
    bytes_received: int
    """Bytes that arrived, and were acknowledged."""
    segs_out: int
    """Segments sent, empty and repeated ones included."""
    segs_in: int
    """Segments received, empty and repeated ones included."""
    notsent_bytes: int
    """Bytes that the kernel has and has not sent even once."""
    min_rtt: float | None
    """Seconds of the fastest round trip of late; None before the first."""
    data_segs_in: int
    """Segments received that had data."""
    data_segs_out: int
    """Segments sent that had data."""
    delivery_rate: int
    """Bytes per second that arrive at the peer."""
    busy_time: float
    """Seconds in which there was something to send."""
    rwnd_limited: float
    """Those of them in which the peer's window was full."""
    sndbuf_limited: float
    """Those of them in which our send buffer was too small."""
    delivered: int
    """Segments that have arrived at the peer."""
    delivered_ce: int
    """Those of them that were marked for congestion."""
    bytes_sent: int
    """Bytes of data sent, repeated ones included."""
    bytes_retrans: int
    """Bytes of data that were sent again."""
    dsack_dups: int
    """Segments that the peer got twice."""
    reord_seen: int
    """How often packets were seen to overtake each other."""
    rcv_ooopack: int
    """Segments that arrived out of order."""
    snd_wnd: int
    """Bytes that the peer has room for."""


def parse_tcp_info(raw: bytes) -> TcpInfo:
    """Gives the fields their names and units; what this kernel does not have is 0."""
    numbers = _LAYOUT.unpack(raw[: _LAYOUT.size].ljust(_LAYOUT.size, b"\0"))
    values: dict[str, Any] = dict(zip(_FIELDS, numbers, strict=True))
    for name in _UNUSED:
        del values[name]
    absent = [name for name, none in _NONE.items() if values[name] >= none]
    for name in _MICROSECONDS:
        values[name] /= 1e6
    for name in _MILLISECONDS:
        values[name] /= 1e3
    values |= dict.fromkeys(absent)
    values["state"] = _STATES[values["state"]]
    return TcpInfo(**values)

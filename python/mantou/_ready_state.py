"""How far a connection has come, in Bun's numbers."""

from __future__ import annotations

from enum import IntEnum


class ReadyState(IntEnum):
    """What `Socket.ready_state` says (Bun: `socket.readyState`).

    Members:

        SHUTDOWN: Our side is finished; the peer may still send.
        DETACHED: There is no connection behind it: it never opened, or another socket took it
            over.
        CLOSED: The connection is over.
        ESTABLISHED: Open in both directions, as far as we are concerned.
        ELSE: Still on its way: connecting or in the middle of a TLS handshake.
    """

    SHUTDOWN = -2
    """Our side is finished; the peer may still send."""
    DETACHED = -1
    """There is no connection behind it: it never opened, or another socket took it over."""
    CLOSED = 0
    """The connection is over."""
    ESTABLISHED = 1
    """Open in both directions, as far as we are concerned."""
    ELSE = 2
    """Still on its way: connecting or in the middle of a TLS handshake."""

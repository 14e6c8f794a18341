"""What `open_connection()` and `start_server()` refuse as asyncio does, in its words."""

from __future__ import annotations

from ._targets import HIGHEST_PORT


def check_limit(limit: int) -> None:
    """Refuses a limit that leaves no room for a line, before anything is opened."""
    if limit <= 0:
        raise ValueError("Limit cannot be <= 0")


def check_timeouts(tls: object, handshake: float | None, shutdown: float | None) -> None:
    """Refuses times for a TLS that there will not be, in asyncio's words."""
    for name, value in (("handshake", handshake), ("shutdown", shutdown)):
        if value is not None and not tls:
            raise ValueError(f"ssl_{name}_timeout is only meaningful with ssl")


def check_port(port: int | str | None) -> None:
    """Refuses a port of more than 16 bits, which the resolver makes another one of."""
    number = int(port) if isinstance(port, str) and port.isdecimal() else port
    if isinstance(number, int) and not 0 <= number <= HIGHEST_PORT:
        raise OverflowError(f"port must be 0-{HIGHEST_PORT}, got {port!r}")

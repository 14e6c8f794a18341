"""`create_connection(all_errors=True)` where asyncio does not have it: before Python 3.12."""

from __future__ import annotations

import asyncio
import socket as sockets
from typing import Any, cast


async def create_connection(loop: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """As asyncio's; if every attempt fails, an ExceptionGroup says why each one did."""
    attempts = _Attempts(loop)
    try:
        return await asyncio.BaseEventLoop.create_connection(
            cast("Any", attempts), *args, **options
        )
    except OSError:
        if attempts.connected or not (errors := attempts.errors()):
            # The name was not found, or the handshake failed.
            raise
        raise ExceptionGroup("create_connection failed", errors) from None
    finally:
        # The errors' tracebacks lead to this frame.
        del attempts


class _Attempts:
    """The loop as asyncio's `create_connection()` sees it; what its attempts come to is noted."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._errors: list[list[OSError]] = []
        self.connected = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def _connect_sock(self, errors: list[list[OSError]], *arguments: Any) -> sockets.socket:
        self._errors = errors
        connected: sockets.socket = await self._loop._connect_sock(errors, *arguments)
        self.connected = True
        return connected

    def errors(self) -> list[OSError]:
        return [error for of_one in self._errors for error in of_one]

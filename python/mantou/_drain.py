"""A graceful end of a listener and its connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ._core import Listener
from ._log import log
from ._validate import seconds_or_none

# Seconds that handlers get to clean up behind connections that were terminated.
_LAST_WORDS = 1.0


async def drain(listener: Listener, stop: Callable[[], None], grace: float | None) -> int:
    """Has a listener stop, its connections finish within `grace`, and tells how many did not."""
    patience = seconds_or_none({"grace": grace}, "grace")
    # RuntimeError without a loop, before anything has happened.
    closed = listener.closed()
    stop()
    listener.begin_drain()
    await asyncio.wait([closed], timeout=patience)
    if closed.done():
        return 0
    cut = listener.cut()
    if cut:
        # By its text: a record that is kept is not to keep the listener.
        log(
            logging.WARNING,
            "%s: %d connections did not finish and were cut",
            repr(listener.owner),
            cut,
        )
    await asyncio.wait([closed], timeout=_LAST_WORDS)
    return cut

"""What is seldom done with the loop's callbacks: reporting them, in asyncio's words."""

from __future__ import annotations

import inspect
from asyncio import base_events, format_helpers
from typing import Any, cast

from ._core import Handle

# Private functions, but they are the words.
_format_source: Any = cast("Any", format_helpers)._format_callback_source
_format_handle: Any = cast("Any", base_events)._format_handle
# Since Python 3.13 arguments are shown in debug mode only.
_MAY_HIDE = "debug" in inspect.signature(_format_source).parameters


def report(handle: Handle, error: BaseException) -> None:
    """Hands what a callback raised to the loop's exception handler."""
    loop = handle._loop
    how: dict[str, Any] = {"debug": loop.get_debug()} if _MAY_HIDE else {}
    source = _format_source(handle._callback, handle._args, **how)
    context: dict[str, Any] = {
        "message": f"Exception in callback {source}",
        "exception": error,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def warn_of_slow(handle: Any, seconds: float) -> None:
    """In debug mode: names a callback that kept the loop."""
    # Looked up in each call: programs may have put another in its place.
    logger = cast("Any", base_events).logger
    logger.warning("Executing %s took %.3f seconds", _format_handle(handle), seconds)

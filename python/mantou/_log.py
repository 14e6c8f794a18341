"""What is logged, under "mantou"; whatever the program has made of logging."""

from __future__ import annotations

import logging
import sys
import traceback

logger = logging.getLogger("mantou")


def log(level: int, text: str, *arguments: object, error: BaseException | None = None) -> None:
    """Logs it. A handler that raises is shown as logging's own are, and nothing else happens."""
    try:
        logger.log(level, text, *arguments, exc_info=error, stacklevel=2)
    except Exception:
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc()

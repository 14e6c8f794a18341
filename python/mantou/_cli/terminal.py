"""What is said to people, on stderr: lines, colours, and a display that is drawn anew."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

Update = Callable[["RenderableType"], None]

_STYLES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}


def say(name: str, text: str) -> None:
    """A line to stderr, behind the command's name."""
    if sys.stderr is None:  # closed by the caller
        return
    # Where nobody reads it any more, a server serves on.
    with suppress(OSError):
        # At once: several processes may share a terminal.
        sys.stderr.write(f"{name}: {printable(text)}\n")
        sys.stderr.flush()


class Saying(logging.Handler):
    """Says what is logged."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        """Logging's hook."""
        say(self._name, record.getMessage())


def printable(text: str) -> str:
    """Text without what would control a terminal: some of it comes from the network."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def styled(text: str, style: str, file: IO[str]) -> str:
    """Text in a colour, where `file` is a terminal that has some and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or not is_drawable(file):
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def is_drawable(file: IO[str]) -> bool:
    """Whether it is a terminal on which the cursor can be moved."""
    return os.environ.get("TERM", "dumb") != "dumb" and file.isatty()


@contextmanager
def live() -> Generator[Update | None, None, None]:
    """A display at the bottom of the terminal, by rich.

    None where stderr is no terminal or rich is not installed: the command prints lines, then. At
    the end, however that comes, it is gone and the terminal as it was before.
    """
    if sys.stderr is None or not is_drawable(sys.stderr):
        yield None
        return
    try:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415
    except ImportError:
        yield None
        return
    # What it shows is text as it stands.
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    display = Live(console=console, auto_refresh=False, redirect_stdout=False, transient=True)
    with display:
        yield lambda shown: display.update(shown, refresh=True)

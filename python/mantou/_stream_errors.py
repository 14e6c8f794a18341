"""What streams raise. Where anyio is installed, each is anyio's exception of that name, too."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anyio as _anyio
else:
    try:
        import anyio as _anyio
    except ImportError:

        class _anyio:
            """The same tree without anyio."""

            class EndOfStream(Exception):
                pass

            class IncompleteRead(Exception):
                pass

            class DelimiterNotFound(Exception):
                pass

            class BusyResourceError(Exception):
                pass

            class ClosedResourceError(Exception):
                pass

            class BrokenResourceError(Exception):
                pass


class EndOfStream(_anyio.EndOfStream):
    """The peer sends no more: its FIN has come or, with TLS, its `close_notify`.

    anyio: `EndOfStream`.
    """


class IncompleteRead(_anyio.IncompleteRead):
    """The peer sends no more, and has sent less than was to be received.

    `partial` is what it had sent, which no other call will return. anyio: `IncompleteRead`.
    """

    partial: bytes

    def __init__(self, partial: bytes = b"") -> None:
        Exception.__init__(self, f"the peer has finished after {len(partial)} bytes")
        self.partial = partial


class DelimiterNotFound(_anyio.DelimiterNotFound):
    """There is no delimiter within so many bytes, which can still be received.

    anyio: `DelimiterNotFound`.
    """

    max_bytes: int

    def __init__(self, max_bytes: int) -> None:
        Exception.__init__(self, f"the delimiter did not come within {max_bytes} bytes")
        self.max_bytes = max_bytes


class BusyResourceError(_anyio.BusyResourceError):
    """Another task is receiving, or sending. anyio: `BusyResourceError`."""

    def __init__(self, action: str) -> None:
        Exception.__init__(self, f"another task is already {action} this stream")


class ClosedResourceError(_anyio.ClosedResourceError):
    """The stream was closed on this side. anyio: `ClosedResourceError`."""


class BrokenResourceError(_anyio.BrokenResourceError):
    """The connection broke.

    What is raised is also of the class of the connection's own error, which is its `__cause__`: a
    `ConnectionResetError`, a `TimeoutError`, an `ssl.SSLError`. anyio: `BrokenResourceError`.
    """


def broken(cause: BaseException) -> BrokenResourceError:
    """A new one for each that is told: they get tracebacks of their own."""
    kind: Any = type(cause)
    error = _broken_class(kind)(*cause.args)
    error.__dict__.update(cause.__dict__)
    error.__cause__ = cause
    return error


@functools.cache
def _broken_class(kind: Any) -> type[BrokenResourceError]:
    """The class of errors that are of this kind as well."""
    if not issubclass(kind, OSError):
        return BrokenResourceError
    members = {"__module__": __name__, "__doc__": kind.__doc__}
    return type(kind.__name__, (BrokenResourceError, kind), members)

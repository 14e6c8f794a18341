"""pipe(): two sockets joined, natively."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from ._core import Socket


class PipedBytes(NamedTuple):
    """What `pipe()` has carried each way, in bytes of the applications' data. Not in Bun."""

    a_to_b: int
    b_to_a: int


def pipe(a: Socket[Any], b: Socket[Any]) -> asyncio.Future[PipedBytes]:
    """Joins two sockets: what one of them receives the other sends, both ways, without a handler.

    It begins at once, with what either of them holds unread. Each may be plain or speak TLS, as a
    client or a server. What a slow peer cannot take yet is not read from the other: at most 32 KiB
    wait in each direction. Much that goes from TCP to TCP in the clear is not copied.

    A peer's FIN (`close_notify`) is carried over behind its data, and the other direction goes on,
    whatever `allow_half_open` says. When both have come, the connections end. Any other end of one
    connection ends the other as well: `close()` closes it, and all else (a RST, a timeout, broken
    TLS, `terminate()`) resets it, so that nobody takes what is cut short for the whole. Whoever
    calls `end()` on one of them has the other end as soon as more comes for it.

    Within `data`, what came behind a packet is carried over as well: `set_packet("raw")` and then
    `pipe()` is how a proxy goes on behind the lines that told it where to.

    A peer that neither reads nor leaves holds both for as long as it likes: set an idle timeout.

    While it lasts, handlers get neither `data` nor `drain` nor `end`; `pause()`, `resume()` and
    `shutdown(True)` have no effect. Idle timeouts are in force, and `close` is called once for each
    socket, as ever; its error is a ConnectionAbortedError where it was the other connection that
    broke. A handler's coroutine that waits is not held up by it, nor cancelled by its end.

    Bun: `socket.pipe()` of its `node:net`, which joins one direction.

    :returns: a future of the `PipedBytes`, done when both connections are closed. Cancelling it
        resets both.
    :raises TypeError: they are not sockets.
    :raises ValueError: it is the same socket twice, one of them is in another pipe, or they belong
        to two event loops.
    :raises ConnectionError: one of them is not open, has ended its side already, or was told
        to receive no more.
    :raises OSError: from the future: why the first of the two connections broke; `ssl.SSLError` for
        TLS, TimeoutError for a timeout, ConnectionAbortedError if one was closed on our side.
    """
    _check(a, b)
    return a._pipe(b)


def _check(*given: object) -> None:
    for one in given:
        if not isinstance(one, Socket):
            raise TypeError(f"pipe() takes two sockets, got {one!r}")

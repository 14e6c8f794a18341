"""One address for both families: a unix socket where a path is given, else TCP."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import mantou

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

D = TypeVar("D")


def listen(
    path: Path | None,
    handler: mantou.SocketHandler[D],
    data_factory: Callable[[mantou.Socket[D]], D],
) -> mantou.TCPSocketListener[D] | mantou.UnixSocketListener[D]:
    if path is not None:
        return mantou.listen(unix=path, socket=handler, data_factory=data_factory)
    return mantou.listen(hostname="127.0.0.1", port=0, socket=handler, data_factory=data_factory)


async def connect(
    path: Path | None,
    listener: mantou.TCPSocketListener[D] | mantou.UnixSocketListener[D],
    handler: mantou.SocketHandler[D],
    data: D,
) -> mantou.Socket[D]:
    if isinstance(listener, mantou.UnixSocketListener):
        return await mantou.connect(unix=listener.unix, socket=handler, data=data)
    return await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=handler, data=data)

"""socket.send_file(): what is checked first, and what is waited for."""

from __future__ import annotations

import asyncio
import io
import os
import stat
from typing import Any

from ._core import Socket
from ._validate import shown

_LARGEST = 2**63 - 1


async def send_file(socket: Socket[Any], file: Any, offset: int, count: int | None) -> int:
    """Sends so many bytes of a file, and returns how many there were."""
    if isinstance(file, io.TextIOBase) or not hasattr(file, "fileno"):
        raise TypeError(f"send_file() takes a binary file with a descriptor, got {shown(file)}")
    _check("offset", offset)
    if count is not None:
        _check("count", count)
    try:
        fd = file.fileno()
    except io.UnsupportedOperation:
        raise TypeError(
            f"send_file() takes a binary file with a descriptor, got {shown(file)}"
        ) from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"send_file() takes a regular file, got {shown(file)}")
    if status.st_size == 0 and _is_made_up(fd):
        raise ValueError(f"send_file() takes a file whose size is known, got {shown(file)}")
    # Beyond the end sendfile(2) fails, and what is never sent would count as waiting.
    rest = max(0, status.st_size - offset)
    count = rest if count is None else min(count, rest)
    # The engine reads when there is room, and the file may be closed before.
    sending = socket._send_file(os.dup(fd), offset, count)
    try:
        await socket.drained()
    except asyncio.CancelledError:
        sending.withdraw()
        raise
    if sending.error is not None:
        raise sending.error
    return sending.sent


def _is_made_up(fd: int) -> bool:
    """Whether the kernel writes it while it is read, as it does in /proc."""
    return bool(os.pread(fd, 1, 0)) and os.fstat(fd).st_size == 0


def _check(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"send_file(): {name!r} must be an int, got {shown(value)}")
    if not 0 <= value <= _LARGEST:
        raise ValueError(f"send_file(): {name!r} must be from 0 to 2**63 - 1, got {value}")

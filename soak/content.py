"""Bytes that are known from their seed, so that both ends can check them without keeping them."""

from __future__ import annotations

import random
from collections.abc import Iterator

_BLOCK = random.Random("soak").randbytes(1 << 20)
# A prime, so that a seed's bytes repeat themselves nowhere near its beginning.
_STEP = 65_521


def content(seed: int, size: int, start: int = 0) -> bytes:
    """`size` bytes of a seed's endless content, from `start` on."""
    parts = []
    position = seed * _STEP + start
    while size > 0:
        begin = position % len(_BLOCK)
        part = _BLOCK[begin : begin + size]
        parts.append(part)
        position += len(part)
        size -= len(part)
    return b"".join(parts)


def pieces(seed: int, size: int, piece: int) -> Iterator[bytes]:
    """The same in pieces."""
    for start in range(0, size, piece):
        yield content(seed, min(piece, size - start), start)

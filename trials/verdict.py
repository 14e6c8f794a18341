"""What must hold of a conversation, however it went."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from typing import Any

from trials.peers import Following, Peer


@dataclasses.dataclass
class Told:
    """What our side was told."""

    came: Following = dataclasses.field(default_factory=Following)
    opened: Counter[Any] = dataclasses.field(default_factory=Counter)
    closed: Counter[Any] = dataclasses.field(default_factory=Counter)
    errors: list[BaseException] = dataclasses.field(default_factory=list)
    reported: list[str] = dataclasses.field(default_factory=list)
    """What reached the loop's exception handler."""

    closed_at: float = 0.0
    """When the last of them was closed."""

    def note_open(self, who: Any) -> None:
        """A connection was told to be open."""
        self.opened[who] += 1

    def note_close(self, who: Any, error: BaseException | None) -> None:
        """A connection was told to be closed."""
        self.closed[who] += 1
        self.closed_at = time.monotonic()
        if error is not None:
            self.errors.append(error)

    async def ended(self) -> None:
        """Returns when all that were opened are closed."""
        while self.opened != self.closed:
            await asyncio.sleep(0.01)


def complaints(told: Told, peer: Peer) -> list[str]:
    """Every rule that was broken; none if all is well."""
    found = []
    if told.opened != told.closed:
        found.append(
            f"opened {sorted(told.opened.values())}, closed {sorted(told.closed.values())}"
        )
    if any(count != 1 for count in told.closed.values()):
        found.append("not one close for each open")
    if told.came.wrong_at is not None:
        found.append(f"we got wrong bytes at {told.came.wrong_at}")
    for error in told.errors:
        if not isinstance(error, OSError):
            found.append(f"an error without a name: {error!r}")
        elif error.errno is None:
            found.append(f"an error without an errno: {error!r}")
    if peer.came.wrong_at is not None:
        found.append(f"the peer got wrong bytes at {peer.came.wrong_at}")
    if isinstance(peer.error, TimeoutError):
        found.append(f"the peer waited in vain: {peer.error}")
    if not told.errors and not told.reported and peer.came.received < peer.size:
        found.append(
            f"bytes were lost and nobody was told: {peer.came.received} of {peer.size}, "
            f"the peer ended with {peer.error!r}"
        )
    return found


def has_carried_all(told: Told, peer: Peer) -> bool:
    """Whether no byte is missing, and our side knows of no error."""
    return peer.came.received == peer.size and not told.errors


def is_whole(told: Told, peer: Peer) -> bool:
    """Whether nothing went wrong, as far as anybody can see."""
    return has_carried_all(told, peer) and peer.error is None and not told.reported

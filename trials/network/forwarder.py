"""Carries packets from one tunnel to another, as badly as it is told to.

python -m trials.network.forwarder FD FD SEED

Each line on its standard input is JSON: the conditions from now on, as `Conditions` has them. It is
what the kernel's netem does, which not every kernel has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import json
import os
import random
import select
import sys
import time

# Packets that wait in one direction; what comes when so many do is dropped, as any router does.
QUEUE = 200
LARGEST = 65536


@dataclasses.dataclass
class Conditions:
    """What becomes of packets. Shares are from 0 to 1, times seconds, sizes bytes."""

    delay: float = 0.0
    jitter: float = 0.0
    """So much more or less, each packet by itself."""
    loss: float = 0.0
    reorder: float = 0.0
    """Overtake all that wait."""
    duplicate: float = 0.0
    corrupt: float = 0.0
    """One bit is turned."""
    rate: float = 0.0
    """Bytes per second; 0 for as many as there are."""
    largest: int = LARGEST
    """Longer packets vanish, and nobody is told."""
    down: bool = False


class Direction:
    """From one tunnel to the other."""

    def __init__(self, source: int, target: int, chance: random.Random) -> None:
        self.source, self._target = source, target
        self._chance = chance
        self._waiting: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._free_at = 0.0

    @property
    def due(self) -> float:
        """When the next packet leaves."""
        return self._waiting[0][0] if self._waiting else float("inf")

    def take(self, now: float, conditions: Conditions) -> None:
        """A packet has come."""
        packet = os.read(self.source, LARGEST)
        happens = self._chance.random
        lost = happens() < conditions.loss or len(packet) > conditions.largest
        if lost or conditions.down or len(self._waiting) >= QUEUE:
            return
        if happens() < conditions.corrupt:
            bit = self._chance.randrange(len(packet) * 8)
            turned = bytearray(packet)
            turned[bit // 8] ^= 1 << bit % 8
            packet = bytes(turned)
        leaves = now
        if conditions.rate:
            leaves = self._free_at = max(now, self._free_at) + len(packet) / conditions.rate
        leaves += max(0.0, conditions.delay + conditions.jitter * (2 * happens() - 1))
        if happens() < conditions.reorder:
            leaves = now
        for _ in range(2 if happens() < conditions.duplicate else 1):
            self._count += 1
            heapq.heappush(self._waiting, (leaves, self._count, packet))

    def give(self, now: float) -> None:
        """Sends on what is due."""
        while self._waiting and self._waiting[0][0] <= now:
            packet = heapq.heappop(self._waiting)[2]
            # What is corrupt may be no packet any more, and a device may be down.
            with contextlib.suppress(OSError):
                os.write(self._target, packet)


def main(one: str, other: str, seed: str) -> None:
    """Runs until nobody holds its standard input any more."""
    chance = random.Random(int(seed))
    fds = int(one), int(other)
    ways = [Direction(fds[0], fds[1], chance), Direction(fds[1], fds[0], chance)]
    conditions = Conditions()
    while True:
        wait = min(way.due for way in ways) - time.monotonic()
        timeout = None if wait == float("inf") else max(0.0, wait)
        readable, _, _ = select.select([*fds, sys.stdin], [], [], timeout)
        now = time.monotonic()
        for way in ways:
            if way.source in readable:
                way.take(now, conditions)
            way.give(now)
        if sys.stdin in readable:
            line = sys.stdin.readline()
            if not line:
                return
            conditions = Conditions(**json.loads(line))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Many times in little memory: each is kept with three digits, as in HDR histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator

# Each power of two is divided into so many steps: within a thousandth of the value.
_BITS = 10
_STEPS = 1 << _BITS
_LARGEST = 1 << 42  # more than an hour of nanoseconds

SHOWN = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)


class Histogram:
    """Times in nanoseconds. What exceeds an hour counts as that."""

    def __init__(self) -> None:
        self.counts = [0] * (_index(_LARGEST) + 1)
        self.total = 0
        self.sum = 0
        self.squares = 0
        self.least = _LARGEST
        self.most = 0

    def record(self, value: int, number: int = 1) -> None:
        """Adds a time, once or several times."""
        self.counts[_index(min(value, _LARGEST))] += number
        self.total += number
        self.sum += value * number
        self.squares += value * value * number
        self.most = max(self.most, value)
        self.least = min(self.least, value)

    def percentile(self, percent: float) -> int:
        """The time that so many in a hundred do not exceed. 0 of none."""
        wanted = max(1, math.ceil(self.total * percent / 100))
        seen = 0
        for index, number in enumerate(self.counts):
            seen += number
            if number and seen >= wanted:
                return min(_highest(index), self.most)
        return 0

    def mean(self) -> float:
        """The mean. 0 of none."""
        return self.sum / self.total if self.total else 0.0

    def deviation(self) -> float:
        """The standard deviation. 0 of none."""
        if not self.total:
            return 0.0
        return math.sqrt(max(0.0, self.squares / self.total - self.mean() ** 2))

    def distribution(self) -> Iterator[tuple[float, int, int]]:
        """Percentile, time and how many so far, in HDR's steps: each halves what is left."""
        left = 100.0
        while self.total:
            percent = 100.0 - left
            value = self.percentile(percent)
            yield percent, value, math.ceil(self.total * percent / 100)
            if value >= self.most or left < 1e-6:
                break
            left /= 2


def _index(value: int) -> int:
    shift = value.bit_length() - _BITS - 1
    if shift <= 0:
        return value
    return (shift << _BITS) + (value >> shift)


def _highest(index: int) -> int:
    """The largest time that is counted there."""
    shift = (index >> _BITS) - 1
    if shift <= 0:
        return index
    return (((index & (_STEPS - 1)) | _STEPS) + 1 << shift) - 1

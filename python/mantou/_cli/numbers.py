"""Numbers on the command line, and how they are shown."""

from __future__ import annotations

import argparse
import math

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "ki": 1024, "mi": 1024**2}


def seconds(text: str) -> float:
    """A time, for argparse: `2`, `0.5`, `100ms`, `5m`."""
    number, factor = text, 1.0
    for unit, worth in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if text.endswith(unit):
            number, factor = text.removesuffix(unit), worth
            break
    try:
        value = float(number) * factor
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: seconds, or 100ms, 5m, 1h")
    return value


def count(text: str) -> int:
    """A number from 1 on, for argparse: `64`, `4k`, `16Ki`, `1M`."""
    digits = text.rstrip("kKmMi")
    unit = text.removeprefix(digits).lower()
    if not (digits.isascii() and digits.isdigit() and unit in _UNITS and int(digits)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on, or 4k, 16Ki, 1M")
    return int(digits) * _UNITS[unit]


def shown_bytes(number: float) -> str:
    """A number of bytes for people: `512 B`, `1.5 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def shown_seconds(value: float) -> str:
    """A time for people: `850 ns`, `12.3 us`, `4.56 ms`, `1.23 s`."""
    for unit, worth in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= worth:
            return f"{value / worth:.3g} {unit}" if value < 1000 * worth else f"{value:.0f} s"
    return f"{value * 1e9:.0f} ns"

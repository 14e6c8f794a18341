"""Checks of single values.

Each looks up one option, returns its checked value and raises an error that names the option and
what it got: TypeError for a wrong type, ValueError for a wrong value of the right type.
"""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Mapping

Options = Mapping[str, object]

# About 31 years: "for ever", and still a number of milliseconds that fits every clock.
LONGEST_SECONDS = 1e9

# More than any kernel has to offer.
_HIGHEST_RATE = 1_000_000_000


def flag(options: Options, name: str, default: bool) -> bool:
    """A bool, and nothing that is merely truthy."""
    value = options.get(name, default)
    if isinstance(value, bool):
        return value
    raise wrong_type(name, "a bool", value)


def integer(options: Options, name: str, default: int, low: int, high: int) -> int:
    """An int from `low` to `high`; a bool is none."""
    value = options.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an int", value)
    if not low <= value <= high:
        raise wrong_value(name, f"from {low} to {high}", value)
    return value


def positive_seconds(options: Options, name: str, default: float | None) -> float | None:
    """A duration greater than 0, or None for none."""
    value = options.get(name, default)
    if value is None:
        return None
    seconds = _seconds(name, value)
    if seconds <= 0:
        raise wrong_value(name, "greater than 0 (None is for no limit)", value)
    return min(seconds, LONGEST_SECONDS)


def seconds_or_none(options: Options, name: str) -> float | None:
    """A duration, which may be 0, or None for no limit."""
    value = options.get(name)
    if value is None:
        return None
    seconds = _seconds(name, value)
    if seconds < 0:
        raise wrong_value(name, "0 or greater (None is for no limit)", value)
    return min(seconds, LONGEST_SECONDS)


def rate(options: Options, name: str) -> float | None:
    """A number per second greater than 0, or None for no limit."""
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(name, "a number per second or None", value)
    # Compared first: float() raises OverflowError for an int beyond its range.
    if not 0 < value <= _HIGHEST_RATE:
        expected = f"greater than 0 (None is for no limit), up to {_HIGHEST_RATE}"
        raise wrong_value(name, expected, value)
    return float(value)


def seconds_or_off(options: Options, name: str) -> float | None:
    """A duration where 0 and None both switch it off."""
    value = options.get(name)
    if value is None:
        return None
    seconds = _seconds(name, value)
    if seconds < 0:
        raise wrong_value(name, "0 (off) or greater", value)
    return min(seconds, LONGEST_SECONDS) or None


def wrong_type(name: str, expected: str, value: object) -> TypeError:
    """The error for a value of a type that option `name` does not take."""
    return TypeError(f"option {name!r} must be {expected}, got {shown(value)}")


def wrong_value(name: str, expected: str, value: object) -> ValueError:
    """The error for a value of the right type that option `name` cannot take."""
    return ValueError(f"option {name!r} must be {expected}, got {shown(value)}")


def shown(value: object) -> str:
    """A value as error messages show it: shortened, with its type."""
    try:
        text = reprlib.repr(value)
    except ValueError:  # an int of more digits than Python is willing to write
        text = "a huge number"
    return f"{text} ({type(value).__name__})"


def signature_of(given: Callable[..., object]) -> str:
    """A callable as its definition begins, as far as it tells."""
    function = getattr(given, "__func__", given)
    name = getattr(function, "__qualname__", None)
    name = name.rpartition("<locals>.")[2] if isinstance(name, str) else shown(given)
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return name
    bare = [it.replace(annotation=it.empty) for it in signature.parameters.values()]
    return f"{name}{inspect.Signature(bare)}"


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(name, "a number of seconds or None", value)
    if isinstance(value, int):
        # Cut first: float() raises OverflowError for an int beyond its range.
        return float(max(-1, min(value, int(LONGEST_SECONDS))))
    if not math.isfinite(value):
        raise wrong_value(name, "a finite number of seconds (None is for no limit)", value)
    return float(value)

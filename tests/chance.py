"""Tests by chance: how many examples they take, and bytes that show where they belong.

`make test` takes few; `make random` goes on for as long as it is told, with other seeds each time.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

KIB = 1024
# A prime length, with line feeds at odd places: a piece that is missing or moved shows.
PATTERN = hashlib.shake_256(b"dough").digest(65_521)
# A few writes fill them. Smaller ones would have TCP wait for its timers.
KERNEL_BUFFER = 128 * KIB

# What is generated takes long by itself, and the fixtures are the same for each example.
_NO_FAULT = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

# Seconds that a script may take: far more than any does, for one that hangs.
LIMIT = 30.0

Step = tuple[Any, ...]


def examples(count: int) -> settings:
    """So many of them, or a multiple, which `make random` asks for."""
    times = int(os.environ.get("EXAMPLES_TIMES", "1"))
    return settings(
        max_examples=count * times,
        deadline=None,
        print_blob=True,
        suppress_health_check=_NO_FAULT,
    )


def stretch(start: int, size: int) -> bytes:
    """So many bytes of the pattern, which is endless."""
    first = start % len(PATTERN)
    return (PATTERN * ((first + size) // len(PATTERN) + 1))[first : first + size]


def step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    """A step of a script: its name and what goes with it."""
    return st.tuples(st.just(name), *arguments)

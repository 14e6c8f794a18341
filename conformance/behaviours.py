"""What was measured of Bun's sockets one by one, and what shows it now: behaviours.toml."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "behaviours.toml"


@dataclass(frozen=True)
class Behaviour:
    """One of them: it has a scenario, a test of mantou's part, or a reason to have neither."""

    name: str
    scenarios: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    reason: str = ""


@functools.cache
def behaviours() -> tuple[Behaviour, ...]:
    """All of them."""
    return tuple(
        _behaviour(name, shown)
        for section in tomllib.loads(SOURCE.read_text()).values()
        for name, shown in section.items()
    )


def _behaviour(name: str, shown: str | list[str]) -> Behaviour:
    if isinstance(shown, str):
        return Behaviour(name, reason=shown)
    tests = tuple(one for one in shown if "::" in one and ".py" in one)
    return Behaviour(name, tuple(one for one in shown if one not in tests), tests)

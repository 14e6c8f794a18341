"""Why mantou differs from Bun on purpose: the rows of docs/porting/from-bun.md."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "porting" / "from-bun.md"


@dataclass(frozen=True)
class Reason:
    """A row: what Bun does, what mantou does, and because of what, in a section."""

    section: str
    bun: str
    mantou: str
    because: str


@functools.cache
def reasons() -> tuple[Reason, ...]:
    """All of them."""
    found, section = [], ""
    _, _, text = PAGE.read_text().partition("## What differs, and why")
    for line in text.splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ")
        row = re.fullmatch(r"\| (.+?) \| (.+?) \| (.+?) \|", line)
        if row and not row[1].startswith(("Bun", "-")):
            found.append(Reason(section, *row.groups()))
    return tuple(found)


def reason(beginning: str) -> Reason:
    """The row that begins so."""
    fitting = [one for one in reasons() if one.bun.startswith(beginning)]
    if len(fitting) != 1:
        raise ValueError(f"{len(fitting)} rows of {PAGE.name} begin with {beginning!r}")
    return fitting[0]

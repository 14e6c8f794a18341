"""The documentation's pages as what can be run of them: their blocks, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

# A comment in front of a block says how it is run, or why it is not:
#   <!-- serves -->          it goes on while what follows runs, and ends with the page
#   <!-- file: NAME -->      it is a file, which what follows imports or runs in a process
#   <!-- bun -->             it is read by Node, and not run: it is for Bun
#   <!-- not run: REASON -->
_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^>]*) -->\n+)?"
    r"^(?P<fence>`{3,})(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: ```` ```python ````."""

    kind: str
    text: str
    note: str
    line: int

    @property
    def serves(self) -> bool:
        return self.note == "serves"

    @property
    def file(self) -> str:
        """The name of the file that it is; "" if it is none."""
        return self.note.removeprefix("file: ") if self.note.startswith("file: ") else ""

    @property
    def skipped(self) -> str:
        """Why it is not run; "" if it is."""
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else ""


def pages() -> dict[str, Path]:
    """All pages by their names, `guides/streams`."""
    return {
        str(path.relative_to(DOCS).with_suffix("")): path for path in sorted(DOCS.rglob("*.md"))
    }


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    return [
        Block(
            match["kind"].strip(),
            match["text"],
            match["note"] or "",
            text.count("\n", 0, match.start("fence")) + 2,
        )
        for match in _BLOCK.finditer(text)
    ]

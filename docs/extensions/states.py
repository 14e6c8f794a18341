"""`{states}`: the state machine as a picture, drawn from `reference/states.csv`.

That file is the engine's table as one of its tests prints it, so the picture cannot differ from it.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TABLE = Path(__file__).resolve().parents[1] / "reference" / "states.csv"

# From left to right.
PARTS: Mapping[str, tuple[str, ...]] = {
    "life": ("Open", "Closing", "Lingering", "Closed"),
    "read half": ("Open", "Piped", "Discarding", "Ended"),
    "write half": ("Open", "Finishing", "Ended"),
}
# What the inputs of the table are to a reader.
INPUTS: Mapping[str, str] = {
    "Close": "close()",
    "End": "end()",
    "EndHandled": "end handler returned",
    "FinSent": "our FIN is out",
    "Gone": "reset, timeout, terminate()",
    "Leave": "TLS close()",
    "PeerFin": "peer's FIN",
    "Pipe": "pipe()",
    "Shutdown": "shutdown()",
    "StopReading": "shutdown(True)",
}

WIDTH, NODE, HIGH, LINE = 700, 92, 34, 15
ROW = 190


class States(SphinxDirective):
    """The picture: of lines and text in the colours of the page."""

    def run(self) -> list[nodes.Node]:
        """Docutils' hook."""
        self.env.note_dependency(str(TABLE))
        return [nodes.raw("", picture(), format="html")]


def picture() -> str:
    """The picture as SVG."""
    rows = [_row(part, number * ROW) for number, part in enumerate(PARTS)]
    return (
        f'<div class="states"><svg viewBox="0 0 {WIDTH} {ROW * len(PARTS)}" width="{WIDTH}" '
        'role="img" aria-label="The states of a connection; the table below says the same">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        + "".join(rows)
        + "</svg></div>"
    )


def _row(part: str, top: float) -> str:
    names = PARTS[part]
    step = (WIDTH - NODE - 20) / 3
    middle = top + 105
    place = {name: 10 + NODE / 2 + step * number for number, name in enumerate(names)}
    drawn = [f'<text class="part" x="10" y="{top + 18}">{part}</text>']
    for name, x in place.items():
        drawn.append(
            f'<rect x="{x - NODE / 2}" y="{middle - HIGH / 2}" '
            f'width="{NODE}" height="{HIGH}" rx="8"/>' + _text(x, middle + 5, name)
        )
    for (froms, to), labels in _edges(part):
        if len(froms) == len(names) - 1:
            drawn.append(_from_all(place[to], middle, labels))
        else:
            for before in froms:
                drawn.append(_arrow(place[before], place[to], middle, labels, step))
    return "".join(drawn)


def _edges(part: str) -> Iterator[tuple[tuple[tuple[str, ...], str], list[str]]]:
    """What is drawn as one arrow: states, where they lead, and by what."""
    sources = defaultdict[tuple[str, str], list[str]](list)
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["part"] == part:
                label = INPUTS[row["input"]]
                if row["write half"] == "Ended":
                    label += ", FIN was out"
                if row["half-open"] == "not allowed":
                    label += ", unless half-open"
                if row["from"] not in sources[label, row["to"]]:
                    sources[label, row["to"]].append(row["from"])
    merged = defaultdict[tuple[tuple[str, ...], str], list[str]](list)
    for (label, to), froms in sources.items():
        others = len(PARTS[part]) - 1
        if len(froms) == others:
            merged[tuple(froms), to].append(label)
        else:
            for before in froms:
                merged[(before,), to].append(label)
    yield from merged.items()


def _arrow(start: float, end: float, middle: float, labels: list[str], step: float) -> str:
    x = (start + end) / 2
    if end - start < step * 1.5:
        left, right = start + NODE / 2, end - NODE / 2 - 2
        line = f'<path class="way" d="M{left} {middle}H{right}"/>'
        return line + _texts(x, middle - 8, labels)
    high = middle - HIGH / 2 - 62
    top = middle - HIGH / 2
    path = f"M{start} {top}C{start + 40} {high} {end - 40} {high} {end} {top - 2}"
    return f'<path class="way" d="{path}"/>' + _texts(x, middle - HIGH / 2 - 52, labels)


def _from_all(x: float, middle: float, labels: list[str]) -> str:
    low = middle + HIGH / 2
    below = low + 24
    text = [f"from any: {labels[0]}", *labels[1:]]
    lines = "".join(
        f'<text class="label" x="{x + NODE / 2}" y="{below + 12 + LINE * number}" '
        f'text-anchor="end">{line}</text>'
        for number, line in enumerate(text)
    )
    return f'<path class="way" d="M{x} {below}V{low + 2}"/>' + lines


def _texts(x: float, lowest: float, lines: list[str]) -> str:
    return "".join(
        _text(x, lowest - LINE * (len(lines) - 1 - number), line, "label")
        for number, line in enumerate(lines)
    )


def _text(x: float, y: float, text: str, kind: str = "state") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="middle">{text}</text>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_directive("states", States)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

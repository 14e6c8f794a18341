"""Bar charts as SVG, light and small."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

WIDTH, LABELS, FIGURES = 860, 190, 120
ROW, GAP, TOP = 20, 34, 52
INK, FAINT, GRID = "#24292f", "#6e7781", "#d8dee4"
COLOURS = {
    "floor": "#57606a",
    "mantou": "#d4622a",
    "bun": "#c9a227",
    "node": "#6b9a4e",
    "uvloop": "#4f8fc0",
    "asyncio": "#8fb8d8",
    "aiofastnet": "#8b6fb3",
    "rloop": "#b0799a",
}


@dataclass
class Bar:
    """How many times the floor, with the spread, and the figure itself."""

    name: str
    label: str
    value: float
    lowest: float
    highest: float
    figure: str


@dataclass
class Block:
    """Bars under a heading."""

    title: str
    bars: list[Bar]


def colour(name: str) -> str:
    return COLOURS.get(name.split("-", maxsplit=1)[0], FAINT)


def text(x: float, y: float, content: str, style: str = "", fill: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" {style}>{escape(content)}</text>'


def step(limit: float) -> float:
    """Return the distance of the grid's lines: at most eight of them."""
    return next((s for s in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100) if limit / s <= 8), limit)


def draw(title: str, blocks: list[Block]) -> str:
    """Return a chart: all blocks share the axis, which starts at 0."""
    blocks = [block for block in blocks if block.bars]
    limit = max((bar.value for block in blocks for bar in block.bars), default=1.0) * 1.04
    scale = (WIDTH - LABELS - FIGURES) / limit
    height = TOP + sum(GAP + ROW * len(block.bars) for block in blocks) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(12, 24, title, 'font-size="15" font-weight="600"'),
    ]
    mark, distance = 0.0, step(limit)
    while mark <= limit:
        x = LABELS + mark * scale
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 8}" stroke="{GRID}"/>'
        )
        parts.append(text(x, TOP - 6, f"{mark:g}", 'text-anchor="middle" font-size="11"', FAINT))
        mark += distance
    y = TOP
    for block in blocks:
        y += GAP
        parts.append(text(12, y - 9, block.title, 'font-weight="600"'))
        for bar in block.bars:
            parts += draw_bar(bar, y, scale)
            y += ROW
    return "\n".join([*parts, "</svg>", ""])


def draw_bar(bar: Bar, y: float, scale: float) -> list[str]:
    own = 'font-weight="600"' if bar.name == "mantou" else ""
    end, middle = LABELS + bar.value * scale, y + ROW / 2 - 1
    low, high = LABELS + bar.lowest * scale, min(LABELS + bar.highest * scale, WIDTH - FIGURES)
    return [
        text(LABELS - 8, y + 13, bar.label, f'text-anchor="end" {own}'),
        f'<rect x="{LABELS}" y="{y + 2:.1f}" width="{end - LABELS:.1f}" height="{ROW - 6}"'
        f' rx="2" fill="{colour(bar.name)}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"'
        f' stroke="{INK}" stroke-opacity="0.45"/>',
        text(max(end, high) + 6, y + 13, f"{bar.value:.2f}  ({bar.figure})", own, INK),
    ]

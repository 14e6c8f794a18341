"""Lists every `unsafe` of the package, with its reason, on a page: `make unsafe-page`.

The reason is the `SAFETY:` comment in front of a block, or the `# Safety` section of a function's
documentation. Clippy insists on the former; that each `unsafe` has one of the two, and is on the
page, is what `tests/test_unsafe_page.py` asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "unsafe.md"
# What is in the package. The load generator is not.
CRATES = ("crates/engine/src", "crates/binding/src")
# Above it the page is written by hand.
MARK = "<!-- From here on: make unsafe-page -->\n"

_UNSAFE = re.compile(r'\bunsafe\b(?P<kind> extern "C" \{| extern "C" fn| fn| impl)?')
_FUNCTION = re.compile(r"\bfn (\w+)")
_CALLED = re.compile(r"\b(?:(?:ffi|libc|compat)::)?(\w+)(?:::<[^>]*>)?\(")
# Called inside such blocks as well, and safe.
_SAFE = re.compile(
    "Done|Err|Ok|Some|Waits|as_(mut|mut_ptr|ptr|raw_fd|type_ptr)|call|cast(_signed|_unsigned)?|fetch"
    "|get|is_null|last_os_error|len|map|null_mut|py|size_of|to_owned|try_from|unsigned_abs|unwrap_or"
    "|wrapping_add"
)


@dataclass(frozen=True)
class Unsafe:
    """One of them: the function that it is in or is, what it does, and why that is sound."""

    file: str
    place: str
    does: str
    reason: str


def found(file: str, text: str) -> Iterator[Unsafe]:
    """All that are in a file's text."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        for match in _UNSAFE.finditer(line.split("//")[0]):
            kind = (match["kind"] or "").strip()
            yield Unsafe(file, *_described(lines, number, kind), _reason(lines, number))


def _described(lines: Sequence[str], number: int, kind: str) -> tuple[str, str]:
    line = lines[number]
    if kind.endswith("fn"):
        return f"`{_function(lines, number)}`", f"is an `unsafe {kind}`"
    if kind == "impl":
        return f"`{line.strip().removeprefix('unsafe ').removesuffix(' {}')}`", "is promised"
    if kind.endswith("{"):
        names = _FUNCTION.findall(_braced(lines, number))
        return ", ".join(f"`{name}`" for name in names), "declared for C"
    return f"`{_function(lines, number)}`", _operations(_braced(lines, number))


def _function(lines: Sequence[str], number: int) -> str:
    for line in reversed(lines[: number + 1]):
        if name := _FUNCTION.search(line.split("//")[0]):
            return name[1]
    raise ValueError(f"in no function: {lines[number]}")


def _operations(block: str) -> str:
    names = dict.fromkeys(_CALLED.findall(block))
    called = [f"`{name}`" for name in names if not _SAFE.fullmatch(name)]
    if re.search(r"\(\*\w|&mut \*|&\*|\*\w+ =", block):
        called.append("follows a pointer")
    return ", ".join(called)


def _braced(lines: Sequence[str], number: int) -> str:
    """The block that begins in the line."""
    text = "\n".join(line.split("//")[0] for line in lines[number:])
    start = text.index("{", text.index("unsafe"))
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start : place + 1]
    raise ValueError(f"does not end: {lines[number]}")


def _reason(lines: Sequence[str], number: int) -> str:
    """The comment in front of the statement, from where it speaks of safety."""
    first = number
    while first > 0 and not re.search(r"[;{}]$|^$", lines[first - 1].strip()):
        first -= 1
    front = [line.strip() for line in lines[first:number]]
    comment = " ".join(line.lstrip("/ ") for line in front if line.startswith("//"))
    told = re.search(r"(?:SAFETY:|# Safety) ?(.+)", comment)
    return told[1].replace("|", "\\|") if told else ""


def everything() -> list[Unsafe]:
    """All of the package, in the order of the files."""
    return [
        one
        for crate in CRATES
        for path in sorted((ROOT / crate).rglob("*.rs"))
        for one in found(str(path.relative_to(ROOT)), path.read_text())
    ]


def written(page: str) -> str:
    """The page as it is to be: what was written by hand, and the tables."""
    listed = everything()
    parts = [page.partition(MARK)[0] + MARK]
    for crate in CRATES:
        of_crate = [one for one in listed if one.file.startswith(crate)]
        name = crate.split("/")[1]
        files = dict.fromkeys(one.file for one in of_crate)
        parts.append(f"\n## {name.capitalize()}: {len(of_crate)} in {len(files)} files\n")
        for file in files:
            rows = [one for one in of_crate if one.file == file]
            parts.append(
                f"\n### `{file}`: {len(rows)}\n\n| in | | sound, because |\n|---|---|---|\n"
            )
            parts += [f"| {one.place} | {one.does} | {one.reason} |\n" for one in rows]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))

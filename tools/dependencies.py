"""Keeps the tables of docs/project/dependencies.md in step with Cargo.lock and requirements/.

Which crates there are, versions and crates' licences are written; what a dependency is for is a
person's to say, so a new crate gets a row that lacks it. `--check` only says whether the page is
what it would be.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from tools.third_party import ROOT, built_crates, linked_crates, packages

PAGE = ROOT / "docs" / "project" / "dependencies.md"
_ROW = re.compile(
    r"\| `(?P<name>\S+)` \| (?P<version>.*?) \| (?P<licence>.*?) \| (?P<reason>.*?) ?\|\n"
)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it; fail while a row has no reason."""
    written = PAGE.read_text(encoding="utf-8")
    text = in_step(written)
    if arguments != ["--check"]:
        PAGE.write_text(text, encoding="utf-8")
    elif text != written:
        print(f"{PAGE.name} is out of date: run `python -m tools.dependencies`", file=sys.stderr)
        return 1
    lacking = [row["name"] for row in _ROW.finditer(text) if not row["reason"]]
    for name in lacking:
        print(f"{PAGE.name} does not say what {name} is for", file=sys.stderr)
    return 1 if lacking else 0


def in_step(text: str) -> str:
    """The page with the tables that there should be."""
    linked = linked_crates()
    crates = {
        "Linked into the module": linked,
        "To build the module": [crate for crate in built_crates() if crate not in linked],
        "To test the engine": tested_with(),
    }
    sections = re.split(r"(?m)^(?=## )", text)
    for number, section in enumerate(sections):
        heading = section.partition("\n")[0].removeprefix("## ")
        if heading in crates:
            sections[number] = with_crates(section, crates.pop(heading))
        elif heading == "Python packages":
            sections[number] = with_pins(section)
    if crates:
        raise SystemExit(f"{PAGE.name} has no section of {', '.join(crates)}")
    return "".join(sections)


def with_crates(section: str, crates: list[dict[str, Any]]) -> str:
    """The section with a row for each of them."""
    rows = list(_ROW.finditer(section))
    reasons = {row["name"]: row["reason"] for row in rows}
    table = "".join(
        f"| `{crate['name']}` | {crate['version']} | {crate['license']} "
        f"| {reasons.get(crate['name'], '')} |\n"
        for crate in crates
    )
    return section[: rows[0].start()] + table + section[rows[-1].end() :]


def with_pins(section: str) -> str:
    """The section with the versions that are required; what it names is chosen by hand."""
    pins: dict[str, set[str]] = {}
    for file in (ROOT / "requirements").glob("*.txt"):
        for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", file.read_text()):
            pins.setdefault(name, set()).add(version)

    def pinned(row: re.Match[str]) -> str:
        if row["name"] not in pins:
            raise SystemExit(f"{PAGE.name} names {row['name']}, which nothing requires")
        versions = ", ".join(sorted(pins[row["name"]]))
        return f"| `{row['name']}` | {versions} | {row['licence']} | {row['reason']} |\n"

    return _ROW.sub(pinned, section)


def tested_with() -> list[dict[str, Any]]:
    """List the crates that only our tests name; what these take in turn is in Cargo.lock."""
    needs = [
        need for package in packages() if not package["source"] for need in package["dependencies"]
    ]
    names = {need["name"] for need in needs if need["kind"] == "dev"}
    return [package for package in packages() if package["source"] and package["name"] in names]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

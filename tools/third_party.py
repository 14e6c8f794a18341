"""Writes the licences of the crates that the native module is linked from.

They are those that cargo builds for the module itself, not for macros or build scripts. `--check`
only says whether the file is what it would be.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "THIRD-PARTY-LICENSES.txt"
TARGET = "x86_64-unknown-linux-gnu"
RULE = "=" * 80

INTRODUCTION = """\
The native module of mantou is linked from the Rust standard library (MIT OR Apache-2.0, its texts
are those of most crates below) and from these crates.
`python -m tools.third_party` writes this file.
"""


def main(arguments: list[str]) -> int:
    """Write the file, or compare it."""
    text = whole_text(linked_crates())
    if arguments != ["--check"]:
        FILE.write_text(text, encoding="utf-8")
        return 0
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        print(
            f"{FILE.name} is not of these crates: run `python -m tools.third_party`",
            file=sys.stderr,
        )
        return 1
    return 0


def linked_crates() -> list[dict[str, Any]]:
    """List the packages that end up in the module, without our own."""
    return crates_by("normal,no-proc-macro")


def built_crates() -> list[dict[str, Any]]:
    """List those, and the macros and build scripts that run while it is built."""
    return crates_by("normal,build")


def crates_by(edges: str) -> list[dict[str, Any]]:
    """List the packages that the module reaches by edges of these kinds."""
    # Unlike the metadata, the tree knows which features, and so which crates, the module has.
    tree = cargo(
        *("tree", "--package", "mantou-binding", "--edges", edges),
        *("--target", TARGET, "--prefix", "none", "--format", "{p}"),
    )
    names = {tuple(line.replace(" v", " ").split()[:2]) for line in tree.splitlines() if line}
    return [
        package
        for package in packages()
        if package["source"] and (package["name"], package["version"]) in names
    ]


@functools.cache
def packages() -> list[dict[str, Any]]:
    """List all that Cargo.lock has for any target, ours too."""
    metadata: dict[str, Any] = json.loads(cargo("metadata", "--format-version", "1"))
    return sorted(metadata["packages"], key=lambda package: (package["name"], package["version"]))


def cargo(*arguments: str) -> str:
    """Ask cargo about this workspace as it is locked."""
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def whole_text(crates: list[dict[str, Any]]) -> str:
    """Give each text once, below the names of all crates that have it."""
    crates_of: dict[str, list[str]] = {}
    lines = [INTRODUCTION]
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        lines.append(f"  {name}: {crate['license']}")
        for text in license_texts(Path(crate["manifest_path"]).parent):
            crates_of.setdefault(text, []).append(name)
    for text, names in crates_of.items():
        lines += ["", RULE, ", ".join(names), RULE, "", text]
    return "\n".join(lines) + "\n"


def license_texts(folder: Path) -> list[str]:
    """Read the files that a crate brings as its licence."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))
    )
    if not files:
        raise SystemExit(f"{folder.name} brings no text of its licence")
    return [
        "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").strip().splitlines())
        for path in files
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

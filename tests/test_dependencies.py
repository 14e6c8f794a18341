"""What mantou is made of and made with is listed, and asks for no newer Rust than we say."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from tools import dependencies, third_party

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_lists_what_there_is() -> None:
    assert dependencies.main(["--check"]) == 0


def test_the_licences_are_of_what_is_linked() -> None:
    assert third_party.main(["--check"]) == 0


def test_a_crate_that_nobody_gave_a_reason_is_found() -> None:
    page = dependencies.PAGE.read_text()
    without = re.sub(r"\| `rustls` .*\n", "", page)
    found = dependencies.in_step(without)
    [row] = re.findall(r"\| `rustls` .*", found)
    assert row.endswith(" |  |")
    assert dependencies.in_step(page.replace("| `libc` | ", "| `libc` | 0.0.1, not ")) == page


def test_each_package_of_the_tests_is_listed_or_needed_by_one_that_is() -> None:
    pinned = {normal(name) for name in re.findall(r"(?m)^([\w.-]+)==", requirements())}
    listed = {
        normal(name) for name in re.findall(r"(?m)^\| `(\S+)` \|", dependencies.PAGE.read_text())
    }
    explained = set[str]()
    waiting = pinned & listed
    while waiting:
        name = waiting.pop()
        explained.add(name)
        # Extras too: pyright takes its Node from one.
        needs = {normal(re.split(r"[^\w.-]", need)[0]) for need in metadata.requires(name) or []}
        waiting |= (needs & pinned) - explained
    assert explained == pinned


def requirements() -> str:
    return (ROOT / "requirements/dev.txt").read_text()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_crate_needs_a_newer_rust_than_we_say() -> None:
    oldest = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"][
        "rust-version"
    ]
    needed = {crate["name"]: crate["rust_version"] or "1" for crate in third_party.packages()}
    assert {name: needs for name, needs in needed.items() if release(needs) > release(oldest)} == {}


def release(version: str) -> tuple[int, ...]:
    """In full: 1.88 is 1.88.0."""
    numbers = [int(number) for number in version.split(".")]
    return (*numbers, *[0] * (3 - len(numbers)))

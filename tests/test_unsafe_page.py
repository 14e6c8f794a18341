"""The page that lists every `unsafe`: it has them all, each with a reason, where they may be."""

from __future__ import annotations

import re

import pytest

from tools import unsafe_page
from tools.unsafe_page import CRATES, PAGE, ROOT, everything, found


def test_the_page_is_what_the_source_says() -> None:
    page = PAGE.read_text()
    assert page == unsafe_page.written(page), "run `make unsafe-page`, and read what it changes"


def test_each_has_a_reason_and_is_listed() -> None:
    listed = everything()
    assert [one for one in listed if not one.reason or not one.does] == []
    words = 0
    for crate in CRATES:
        for path in (ROOT / crate).rglob("*.rs"):
            code = re.sub(r"//.*|\"[^\"\n]*\"", "", path.read_text())
            words += len(re.findall(r"\bunsafe\b", code))
    assert len(listed) == words


def test_only_files_have_them_that_say_so() -> None:
    files = {one.file for one in everything()}
    says_so = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "crates/binding/src").rglob("*.rs")
        if "One of the files with `unsafe`." in re.sub(r"\n//! ", " ", path.read_text())
    }
    assert {file for file in files if not file.startswith("crates/engine/src/sys/")} == says_so
    row = re.search(r"\| how is native code kept sound\? \|(.+)\|", _architecture())
    assert row is not None
    assert {f"crates/binding/src/{name}" for name in _files(row[1])} == says_so


def _architecture() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text()


def _files(row: str) -> list[str]:
    return [name.removeprefix("crates/binding/src/") for name in re.findall(r"`(\S+\.rs)`", row)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fn f() {\n    unsafe { g() }\n}", ""),
        ("fn f() {\n    // Quick.\n    unsafe { g() }\n}", ""),
        ("fn f() {\n    // SAFETY: it is.\n    g();\n    unsafe { g() }\n}", ""),
        (
            "fn f() {\n    // SAFETY: it\n    // is.\n    let a =\n        unsafe { g() };\n}",
            "it is.",
        ),
        ("/// Does.\n///\n/// # Safety\n/// It is.\nunsafe fn f() {}", "It is."),
    ],
    ids=["none", "another", "further-up", "in-front", "of-a-function"],
)
def test_a_reason_is_right_in_front(text: str, reason: str) -> None:
    assert [one.reason for one in found("f.rs", text)] == [reason]

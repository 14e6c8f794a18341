"""What a package says of itself."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import mantou

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_is_the_one_of_the_workspace() -> None:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    assert mantou.__version__ == workspace["package"]["version"] == metadata.version("mantou")


def test_the_changelog_begins_with_this_version_or_the_next() -> None:
    headings = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    version, date = headings[1]
    assert version == mantou.__version__
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", date)


def test_the_metadata_names_what_is_tested() -> None:
    about = metadata.metadata("mantou")
    versions = re.findall(
        r"Python :: (3\.\d+)$", "\n".join(about.get_all("Classifier") or []), re.M
    )
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in versions
    assert about["Requires-Python"] == f">={versions[0]}"
    assert about["License-Expression"] == "MIT"
    assert {"LICENSE", "THIRD-PARTY-LICENSES.txt"} <= set(about.get_all("License-File") or [])
    assert about["Description-Content-Type"].startswith("text/markdown")
    assert not [need for need in metadata.requires("mantou") or [] if "extra ==" not in need]

"""What a package says of itself, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import mantou

ROOT = Path(__file__).resolve().parents[1]

# What is imported beside asyncio itself: modules that are heavy, or that few programs use.
HEAVY = {"anyio", "cryptography", "http", "inspect.compat", "pathlib", "prometheus_client", "rich"}


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
    versions = re.findall(r"Python :: (3\.\d+)$", "\n".join(about.get_all("Classifier") or []), re.M)
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in versions
    assert about["Requires-Python"] == f">={versions[0]}"
    assert about["License-Expression"] == "MIT"
    assert {"LICENSE", "THIRD-PARTY-LICENSES.txt"} <= set(about.get_all("License-File") or [])
    assert about["Description-Content-Type"].startswith("text/markdown")
    assert not [need for need in metadata.requires("mantou") or [] if "extra ==" not in need]


def modules_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-I", "-c", program]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("name", ["mantou"])
def test_importing_brings_little_beside_asyncio(name: str) -> None:
    brought = modules_after(f"import asyncio, {name}") - modules_after("import asyncio")
    brought = {module for module in brought if not module.startswith("mantou")}
    assert not {module.partition(".")[0] for module in brought} & HEAVY
    assert len(brought) <= 10, sorted(brought)

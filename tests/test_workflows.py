"""The workflows run our make targets, and of others' actions just what was looked at."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z_]+) [?:]?=", MAKEFILE, re.MULTILINE)) | {"TARGETS"}
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))

every_workflow = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["jobs"]
    return found


def steps(file: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(file).values():
        yield from job["steps"]


@every_workflow
def test_each_step_is_a_make_target_that_there_is(file: Path) -> None:
    for step in steps(file):
        assert len(step.keys() & {"run", "uses"}) == 1, step
        if "run" not in step:
            continue
        [command, target, *settings] = shlex.split(re.sub(r"\$\{\{.*?\}\}", "", step["run"]))
        assert command == "make"
        assert target in TARGETS
        assert {setting.split("=")[0] for setting in settings} <= VARIABLES, step


@every_workflow
def test_an_action_is_one_commit(file: Path) -> None:
    """A tag can be moved to other code, a commit can't; the tag stands beside it for readers."""
    for used in re.findall(r"uses: (.*)", file.read_text()):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+(\.\d+)+", used)


def test_an_action_is_the_same_commit_everywhere() -> None:
    used = {step["uses"] for file in FILES for step in steps(file) if "uses" in step}
    assert len(used) == len({action.split("@")[0] for action in used})


@every_workflow
def test_a_token_may_only_read_but_where_it_publishes(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"] == {"contents": "read"}
    writing = {name: job["permissions"] for name, job in jobs(file).items() if "permissions" in job}
    assert writing == ({"publish": {"id-token": "write"}} if file.name == "release.yml" else {})


@every_workflow
def test_jobs_need_jobs_that_there_are(file: Path) -> None:
    for job in jobs(file).values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= jobs(file).keys()


def test_every_supported_python_is_tested() -> None:
    supported = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    matrix = jobs(ROOT / ".github/workflows/ci.yml")["test"]["strategy"]["matrix"]
    assert matrix["python"] == supported

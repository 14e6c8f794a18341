"""BetterTLS, Netflix's tests of chains: made anew by its own program, which is a module for Go."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.certificates.building import key
from tests.certificates.verdicts import Shown, Verdict

VERSION = "v0.0.0-20250909192348-e1e99e353074"
_MODULE = "github.com/Netflix/bettertls/test-suites/cmd/bettertls"
_FOLDER = Path(__file__).resolve().parents[2] / "build" / "bettertls"


@dataclass(frozen=True)
class Vector:
    suite: str
    number: int
    needs: str
    """What a verifier has to be able to."""
    expected: bool
    """Whether it is to be accepted."""
    shown: Shown


def is_there() -> bool:
    return shutil.which("go") is not None


def vectors() -> Iterator[Vector]:
    """All of them, with certificates of today."""
    told = json.loads(_exported().read_text())
    root = base64.b64decode(told["trustRoot"])
    for suite, content in told["suites"].items():
        for case in content["testCases"]:
            # Nobody has the keys of the certificates: what is signed is refused, but afterwards.
            chain = [base64.b64decode(one) for one in case["certificates"]]
            yield Vector(
                suite,
                case["id"],
                ", ".join(sorted(_words(case["requiredFeatures"]))),
                case["expected"] == "ACCEPT",
                Shown(chain, key("p256", "nobody"), [root], case["hostname"]),
            )


def _words(features: list[str] | None) -> list[str]:
    return [one.lower().replace("_", " ") for one in features or []]


def _exported() -> Path:
    environment: Mapping[str, Any] = {
        **os.environ,
        "GOPATH": str(_FOLDER),
        "GOFLAGS": "-modcacherw",
    }
    program = _FOLDER / "bin" / "bettertls"
    if not program.exists():
        subprocess.run(["go", "install", f"{_MODULE}@{VERSION}"], check=True, env=environment)
    found = _FOLDER / "vectors.json"
    with found.open("w") as file:
        subprocess.run([program, "export-tests"], check=True, stdout=file)
    return found


def of_chain(verdict: Verdict) -> Verdict:
    """The verdict on a chain whose key has signed nothing: that comes up after it was accepted."""
    unsigned = verdict.words.startswith("the handshake is not signed")
    return Verdict(True) if unsigned or verdict.words == "BAD_SIGNATURE" else verdict

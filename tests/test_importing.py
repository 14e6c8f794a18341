"""What `import mantou` takes with it, counted in modules: time differs from machine to machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mantou

# Of Python's own, beyond what asyncio has imported.
EXPECTED = {"__future__", "_typing", "copy", "dataclasses", "ipaddress", "typing"}

# Each of them takes time, and is for what many programs never do.
LATER = [
    "_asyncio_open",
    "_asyncio_server",
    "_asyncio_streams",
    "_certificates",
    "_cli",
    "_send_file",
    "_ssl_context",
    "_ssl_driver",
    "_ssl_faithful",
    "_ssl_inject",
    "_ssl_judge",
    "_ssl_object",
    "_ssl_twin",
    "_stats",
    "_stream_errors",
    "_stream_info",
    "_stream_server",
    "_streams",
    "_tcp_info",
    "prometheus",
    "testing",
]

PROGRAM = """
import asyncio, sys
before = set(sys.modules)
import mantou
print(*sorted(set(sys.modules) - before), sep="\\n")
"""


def imported(*more: str) -> set[str]:
    program = "\n".join((PROGRAM, *more))
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return set(answer.stdout.decode().split())


def test_nothing_is_imported_before_it_is_used() -> None:
    found = imported()
    ours = {name.partition(".")[2] for name in found if name.startswith("mantou.")}
    assert not ours.intersection(LATER)
    others = {name for name in found if not name.startswith("mantou")}
    assert others <= EXPECTED


def test_what_is_imported_later_exists() -> None:
    folder = Path(mantou.__file__).parent
    modules = {path.stem for path in folder.iterdir()}
    assert [name for name in LATER if name not in modules] == []


def test_all_names_are_found() -> None:
    imported("for name in mantou.__all__: getattr(mantou, name)", "from mantou import *")

"""What a run leaves behind: its figures in results.json, and the circumstances they depend on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

RESULTS = Path(__file__).resolve().parent / "results"


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line of a benchmark that has rounds and keeps its figures."""
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let CPUs be shared")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--add", action="store_true", help="keep the figures it has already")
    options = parser.parse_args(arguments)
    if options.rounds <= 0 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be above 0")
    return options


def read(folder: Path, name: str = "results.json") -> dict[str, Any]:
    """Return the result that is there, or one without any figures."""
    file = folder / name
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"scenarios": {}}
    return result


def write(result: dict[str, Any], folder: Path, name: str = "results.json") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(result, indent=1) + "\n")


def this_run(missing: dict[str, str], method: str) -> dict[str, Any]:
    """Describe this run. Each scenario keeps its own: a page may hold figures of several."""
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    versions = peers.versions()
    return {
        "command": shlex.join(["python", script, *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "method": method,
        "commit": versions.pop("mantou (commit)"),
        "machine": machine(),
        "versions": versions,
        "missing": missing,
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = "unknown"
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        model = next((x.partition(":")[2].strip() for x in lines if "model name" in x), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def distinct(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs that the figures are from, each once."""
    measured = [*result["scenarios"].values()]
    if "instructions" in result:
        measured.append(result["instructions"])
    found: list[dict[str, Any]] = []
    for each in measured:
        if each["run"] not in found:
            found.append(each["run"])
    return found

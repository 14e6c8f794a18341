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
from typing import Any

import peers

RESULTS = Path(__file__).resolve().parent / "results"


def read(folder: Path) -> dict[str, Any]:
    """Return the result that is there, or one without any figures."""
    file = folder / "results.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"scenarios": {}}
    return result


def write(result: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(result, indent=1) + "\n")


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

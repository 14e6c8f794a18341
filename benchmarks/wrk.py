"""wrk as a driver: HTTP on connections that are kept alive, new ones for each round."""

from __future__ import annotations

import json
import resource
import subprocess
from typing import Any

import debian
from peers import HERE, reason
from processes import MORE_THAN_A_ROUND, ProgramError

SCRIPT = HERE / "programs" / "figures.lua"


class Wrk:
    """Runs wrk once a round; a server must answer every request, or there is no figure."""

    def __init__(self, port: int, tls: bool, connections: int, cpu: int | None) -> None:
        self.url = f"http{'s' * tls}://127.0.0.1:{port}/"
        self.connections = connections
        pinned = [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]
        self.command = [*pinned, *debian.command("wrk"), "--threads", "1"]

    def ask(self, amount: str) -> dict[str, Any]:
        """Run a round of whole seconds and return the figures of it."""
        patience = int(amount.removesuffix("s")) + MORE_THAN_A_ROUND
        options = ["--connections", str(self.connections), "--duration", amount]
        before = cpu_seconds()
        try:
            done = subprocess.run(
                [*self.command, *options, "--script", str(SCRIPT), self.url],
                capture_output=True,
                text=True,
                timeout=patience,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise ProgramError(f"wrk did not end within {patience:g} s") from None
        except subprocess.CalledProcessError as error:
            raise ProgramError(f"wrk failed: {reason(error)}") from None
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        if failed := figures.pop("failed"):
            raise ProgramError(f"{failed} of {figures['messages']} requests failed")
        return {**figures, "load_cpu": cpu_seconds() - before, "resumed": 0}

    def stop(self) -> None:
        """Nothing is left of a round."""


def cpu_seconds() -> float:
    """Return the CPU time of all programs that were run and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

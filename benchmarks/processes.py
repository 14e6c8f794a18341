"""Programs under test and their load: started, pinned, read, accounted for."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE = 120.0  # under callgrind, everything is slow
MORE_THAN_A_ROUND = 10.0


class ProgramError(Exception):
    """A program did not start, did not answer, or ended."""


class Program:
    """A running program that prints lines; pinned to a CPU if one is given."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        cpu: int | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()
        own = os.sched_getaffinity(0)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})  # inherited, so that all its threads have it
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            self._errors.close()
            raise ProgramError(f"{name} does not start: {error}") from None
        finally:
            os.sched_setaffinity(0, own)
        self.pid = self._process.pid

    def line(self, patience: float = PATIENCE) -> str:
        """Return its next line; what says nothing for long is ended."""
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(patience, end)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            return line.strip()
        if late.is_set():
            raise ProgramError(f"{self.name} said nothing for {patience:g} s")
        code = self._process.wait()
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if line.strip()]
        said = [line for line in said if "rror" in line] or said or ["nothing said"]
        raise ProgramError(f"{self.name} ended with {code}: {said[-1].strip()}")

    def ask(self, amount: str) -> dict[str, Any]:
        """Have it run a round and return the figures of it.

        What hangs must not hold up a long run: a round in seconds may take little more than these.
        """
        patience = PATIENCE
        if amount.endswith("s"):
            patience = float(amount.removesuffix("s")) + MORE_THAN_A_ROUND
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{amount}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.line(patience)  # says why
        answer: dict[str, Any] = json.loads(self.line(patience))
        return answer

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used so far, all its threads together."""
        try:
            threads = Path(f"/proc/{self.pid}/task").iterdir()
            return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9
        except FileNotFoundError:
            pass
        # A kernel without scheduler statistics has nothing finer.
        return sum(self.user_and_system())

    def user_and_system(self) -> tuple[float, float]:
        """Return its CPU time in seconds, told apart, counted in ticks (usually 10 ms)."""
        try:
            after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            raise ProgramError(f"{self.name} has gone") from None
        tick = os.sysconf("SC_CLK_TCK")
        return int(after_name[11]) / tick, int(after_name[12]) / tick

    def rss(self) -> int:
        """Return its resident memory in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End it, if that has not been done."""
        if self._errors.closed:
            return
        self._process.send_signal(by)
        self._process.communicate()
        self._errors.close()


def allow_descriptors() -> None:
    """Let us and what we start open as many files as we may: 10,000 connections need as many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""Programs that run in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

LIMIT = 30.0  # seconds for any of them


def printed(folder: Path, *arguments: str | Path, stdin: str = "", **environment: str) -> str:
    """What `python ARGUMENTS` prints, there: nothing but that, and it ends by itself."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def run_script(text: str, *, interrupt: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a Python program, and with `interrupt` presses Ctrl-C once it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = ""
    if interrupt:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=LIMIT)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, first + out, err)

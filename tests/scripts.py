"""Programs that run in a process of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap


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
        out, err = process.communicate(timeout=30)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, first + out, err)

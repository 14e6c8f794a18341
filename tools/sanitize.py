"""Runs the tests with a core that AddressSanitizer watches: `make sanitize`.

Python's own allocator is left out, so that its objects are watched as well. What the sanitizer
finds in whatever process of the tests is kept, and fails the run, also where no test notices.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPORTS = Path(os.environ["SANITIZED"]).resolve() / "reports"

# They measure memory or time, of which the sanitizer takes several times as much.
MEASURING = (
    "tests/test_leaks.py",
    "tests/test_transports_memory.py",
)
# They compare with, or build, what is not the core.
OTHERS = (
    "tests/test_packaging.py",
    "tests/test_docstrings.py",
)

# A buffer that is shorter than it says. Whoever does not see this read sees nothing.
LIE = """
import ctypes
import mantou

async def main():
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    buffer = (ctypes.c_char * 64).from_address(malloc(16))
    with mantou.listen(hostname="127.0.0.1", port=0, socket={"data": print}) as listener:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket={"data": print}
        )
        socket.write(buffer)

mantou.run(main())
"""


def main(arguments: list[str]) -> int:
    """Returns pytest's exit code, or 1 if the sanitizer found something."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    for report in reports():
        report.unlink()
    watched = os.environ | environment()
    subprocess.run([sys.executable, "-c", LIE], env=watched, check=False)
    (seen,) = reports()
    if "heap-buffer-overflow" not in seen.read_text():
        raise RuntimeError(f"the sanitizer does not see what it should: {seen.read_text()}")
    seen.unlink()
    ignored = [f"--ignore={path}" for path in (*MEASURING, *OTHERS)]
    command = [sys.executable, "-m", "pytest", *ignored, *arguments]
    code = subprocess.run(command, env=watched, check=False).returncode
    found = reports()
    for report in found:
        print(report.read_text())
    print(f"AddressSanitizer: {len(found)} reports")
    return code or bool(found)


def reports() -> list[Path]:
    """What it has found, in a file for each process."""
    return sorted(REPORTS.iterdir())


def environment() -> dict[str, str]:
    """What has a process watched, and those that it starts."""
    runtime = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return {
        "LD_PRELOAD": runtime.stdout.strip(),
        "PYTHONMALLOC": "malloc",
        # CPython itself leaves things behind as it ends.
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={REPORTS}/report",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs the tests with a core that a sanitizer watches: `make sanitize`, `make races`.

python -m tools.sanitize address|thread [pytest's arguments]

What it finds, in whatever process of the tests, is kept and fails the run, also where no test
notices.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

REPORTS = Path(os.environ["SANITIZED"]).resolve() / "reports"

# They measure memory or time, of which a sanitizer takes several times as much.
MEASURING = (
    "tests/test_leaks.py",
    "tests/test_transports_memory.py",
    "tests/test_hostile.py",
    "tests/test_pipe.py::test_a_thousand_pipes_hold_little_and_keep_nothing",
)
# They compare with, or build, what is not the core; have a library of their own go first; or take
# away what a sanitizer needs.
OTHERS = (
    "tests/test_packaging.py",
    "tests/test_docstrings.py",
    "tests/test_dependencies.py",
    "tests/test_command.py::test_the_command_is_installed",
    "tests/test_trials.py",
    "tests/test_operations.py::test_with_a_poor_file_system[without-proc]",
)


@dataclasses.dataclass(frozen=True)
class Sanitizer:
    """One that the compiler brings."""

    name: str
    runtime: str
    """What has to be in a process before everything else."""
    environment: dict[str, str]
    fault: str
    """A program with a fault. Whoever does not see this one sees nothing."""
    told: str
    """How the fault is called."""
    left_out: tuple[str, ...] = ()
    """What does not survive it."""


ADDRESS = Sanitizer(
    "AddressSanitizer",
    "libasan.so",
    {
        # Without Python's own allocator its objects are watched as well.
        "PYTHONMALLOC": "malloc",
        # CPython itself leaves things behind as it ends.
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={REPORTS}/report",
    },
    """
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
""",
    "heap-buffer-overflow",
)

# Of what Python does, it sees the locks and the calls of the C library: enough to know that two
# accesses of the core both had the interpreter's lock.
THREAD = Sanitizer(
    "ThreadSanitizer",
    "libtsan.so",
    {
        "TSAN_OPTIONS": f"log_path={REPORTS}/report:history_size=7:die_after_fork=0"
        f":suppressions={Path(__file__).with_name('races.supp')}",
    },
    """
import ctypes
import threading
import mantou

async def main():
    buffer = bytearray(65536)
    address = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
    memset = ctypes.CDLL(None).memset  # called without the interpreter's lock
    memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    with mantou.listen(hostname="127.0.0.1", port=0, socket={"data": print}) as listener:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket={"data": print}
        )
        thread = threading.Thread(target=memset, args=(address, 1, len(buffer)))
        thread.start()
        socket.write(buffer)
        thread.join()
        socket.terminate()

mantou.run(main())
""",
    "data race",
    # Debian's sh; and more bytes than there is time for.
    left_out=("tests/test_cli_connect.py", "tests/test_transfers.py::test_a_gibibyte"),
)

SANITIZERS = {"address": ADDRESS, "thread": THREAD}


def main(arguments: list[str]) -> int:
    """Returns pytest's exit code, or 1 if the sanitizer found something."""
    sanitizer = SANITIZERS[arguments[0]]
    REPORTS.mkdir(parents=True, exist_ok=True)
    for report in reports():
        report.unlink()
    run_watched(sanitizer, ["-c", sanitizer.fault])
    seen = [report.read_text() for report in reports()]
    if len(seen) != 1 or sanitizer.told not in seen[0]:
        raise RuntimeError(f"{sanitizer.name} does not see what it should: {seen}")
    reports()[0].unlink()
    left_out = (*MEASURING, *OTHERS, *sanitizer.left_out)
    deselected = [f"--deselect={name}" for name in left_out]
    code = run_watched(sanitizer, ["-m", "pytest", *deselected, *arguments[1:]])
    found = reports()
    for report in found:
        print(report.read_text())
    print(f"{sanitizer.name}: {len(found)} reports")
    return code or bool(found)


def run_watched(sanitizer: Sanitizer, arguments: list[str]) -> int:
    """Runs Python with it, and whatever that starts."""
    runtime = subprocess.run(
        ["cc", f"-print-file-name={sanitizer.runtime}"], capture_output=True, text=True, check=True
    )
    watched = os.environ | sanitizer.environment | {"LD_PRELOAD": runtime.stdout.strip()}
    # Both keep their notes at fixed addresses, where a randomized layout may have put something.
    command = ["setarch", "--addr-no-randomize", sys.executable, *arguments]
    return subprocess.run(command, env=watched, check=False).returncode


def reports() -> list[Path]:
    """What it has found, in a file for each process."""
    return sorted(REPORTS.iterdir())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

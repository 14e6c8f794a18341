"""Compiles the shim, and tells it what is to fail, in a process that was begun with it."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
# The order is that of `enum call` in shim.c.
CALLS = [
    "accept4",
    "socket",
    "bind",
    "listen",
    "connect",
    "recv",
    "send",
    "sendmsg",
    "sendfile",
    "splice",
    "shutdown",
    "close",
    "getsockopt",
    "setsockopt",
    "getsockname",
    "getpeername",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd",
    "timerfd_create",
    "timerfd_settime",
    "pipe2",
    "read",
    "write",
    "fcntl",
    "ioctl",
    "poll",
    "dup3",
    "pread",
]
# Of the two that Linux has for one number, the manual pages use the other.
_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is to happen to the calls of one conversation."""

    call: str = ""
    error: int = 0
    first: int = 1
    """Which of the calls fails, counted from 1."""
    times: int = 1
    lasting: float = 0.0
    """For so many seconds from then on, instead."""
    seed: int = 0
    """Any call may be interrupted, find nothing or be cut short, by chance."""

    def __str__(self) -> str:
        if self.seed:
            return f"seed {self.seed}"
        if not self.call:
            return "nothing"
        often = f"for {self.lasting} s" if self.lasting else f"{self.times} times"
        return f"{self.call} #{self.first} {_NAMES[self.error]} {often}"


def compile_into(directory: Path) -> Path:
    """The shim as a library."""
    library = directory / "shim.so"
    subprocess.run(
        # Without tail calls, so that each call has its caller's address.
        ["cc", "-O1", "-shared", "-fPIC", "-fno-optimize-sibling-calls"]  # noqa: RUF005
        + ["-Wall", "-Wextra", "-o", str(library), str(SOURCE), "-ldl"],
        check=True,
    )
    return library


def environment(library: Path) -> dict[str, str]:
    """That of a process with the shim in it."""
    return os.environ | {"LD_PRELOAD": str(library)}


class Shim:
    """The shim in this process, for calls of this thread."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._arm = library.faults_arm
        self._arm.argtypes = [ctypes.c_int, *[ctypes.c_long] * 3, ctypes.c_int, ctypes.c_uint64]
        self._disarm = library.faults_disarm
        self._disarm.restype = ctypes.c_long
        self._seen = library.faults_seen
        self._seen.restype = ctypes.c_long

    def arm(self, fault: Fault) -> None:
        """From now on calls are counted, and fail as told."""
        call = CALLS.index(fault.call) if fault.call else -1
        lasting = int(fault.lasting * 1e9)
        # Neighbouring seeds are to have little in common.
        seed = fault.seed * 0x9E3779B97F4A7C15 % 2**64
        self._arm(call, fault.first, fault.times, lasting, fault.error, seed)

    def disarm(self) -> int:
        """Everything works again. How many calls did not."""
        return int(self._disarm())

    def seen(self) -> dict[str, int]:
        """How often each call was made while armed, of those that were made."""
        counts = {name: int(self._seen(index)) for index, name in enumerate(CALLS)}
        return {name: count for name, count in counts.items() if count}

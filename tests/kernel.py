"""What the kernel says about sockets, and peers that behave badly at its level."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

SYN_SENT = "02"
TIME_WAIT = "06"

_SHARING = {
    "nothing": (),
    "SO_REUSEADDR": (socket.SO_REUSEADDR,),
    "SO_REUSEPORT": (socket.SO_REUSEPORT,),
    "both": (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
}


def option(fd: int, level: int, name: int) -> int:
    """An integer option of the socket behind a descriptor."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.getsockopt(level, name)


def intruders(host: str, port: int) -> set[str]:
    """With which options a foreign socket can bind the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    admitted = set()
    for name, options in _SHARING.items():
        with socket.socket(family) as sock:
            for one in options:
                sock.setsockopt(socket.SOL_SOCKET, one, 1)
            with contextlib.suppress(OSError):
                sock.bind((host, port))
                admitted.add(name)
    return admitted


def tcp_states(port: int) -> list[str]:
    """The states of all TCP sockets that have the port on either side."""
    states = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if f"{port:04X}" in (local[-4:], remote[-4:]):
                states.append(state)
    return states


def unused_port(host: str = "127.0.0.1") -> int:
    """A port where nobody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


class FullListener:
    """A listener whose queue is full: over TCP, SYNs that come to it are dropped."""

    def __init__(self, address: Any = ("127.0.0.1", 0), family: int = socket.AF_INET) -> None:
        self.sock = socket.socket(family)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(address)
        self.sock.listen(0)
        self._filling = []
        for _ in range(3):
            filling = socket.socket(family)
            filling.setblocking(False)
            filling.connect_ex(self.sock.getsockname())
            self._filling.append(filling)

    @property
    def port(self) -> int:
        port: int = self.sock.getsockname()[1]
        return port

    def accept_all(self) -> None:
        """Makes room."""
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sock.accept()[0].close()

    def close(self) -> None:
        for filling in self._filling:
            filling.close()
        self.sock.close()

    def __enter__(self) -> FullListener:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

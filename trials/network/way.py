"""Lays a way from this network to one of its own: two tunnels, and a forwarder between them."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

from tests.wire import Namespace, bring_up, cannot, ip, new_network
from trials.network.forwarder import Conditions

T = TypeVar("T")

# linux/if_tun.h. Packets are IP's, and nothing goes before them: what comes out of such a tunnel
# has all its checksums, and they are looked at where it goes in.
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


class Way:
    """`local` is our address, `remote` the other's. It takes the right to make both networks."""

    def __init__(self, seed: int = 1) -> None:
        self.local, self.remote, self._near = new_network("way")
        self._far = f"{self._near}far"
        self._seed = seed
        self._namespace = Namespace()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Way:
        with self._stack:
            self._stack.enter_context(self._namespace)
            near = _tunnel(self._near)
            self._stack.callback(os.close, near)
            far = self.inside(lambda: _tunnel(self._far))
            self._stack.callback(os.close, far)
            bring_up(self._near, self.local)
            self.inside(lambda: bring_up(self._far, self.remote))
            self._forwarder = subprocess.Popen(
                [sys.executable, "-m", "trials.network.forwarder"]  # noqa: RUF005
                + [str(near), str(far), str(self._seed)],
                stdin=subprocess.PIPE,
                pass_fds=(near, far),
                text=True,
            )
            self._stack.push(self._forwarder)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def inside(self, act: Callable[[], T]) -> T:
        """Does something in the other network."""
        return self._namespace.inside(act)

    def become(self, conditions: Conditions) -> None:
        """From now on it is like that."""
        assert self._forwarder.stdin is not None
        print(json.dumps(dataclasses.asdict(conditions)), file=self._forwarder.stdin, flush=True)

    def set_mtu(self, size: int) -> None:
        """The largest packet that either end sends."""
        ip("link", "set", self._near, "mtu", str(size))
        self.inside(lambda: ip("link", "set", self._far, "mtu", str(size)))

    def set_up(self, near: bool, up: bool) -> None:
        """Takes one of the ends down, or up again."""
        state = "up" if up else "down"
        if near:
            ip("link", "set", self._near, state)
        else:
            self.inside(lambda: ip("link", "set", self._far, state))


def _tunnel(name: str) -> int:
    """The descriptor where packets of a new device come out and go in."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        cannot(f"no tunnel can be made: {error}")
    try:
        request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        os.close(fd)
        cannot(f"no tunnel can be made: {error}")
    return fd

"""Peers that vanish: behind a cable that can be pulled, or struck deaf."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import socket as kernel
import struct
import subprocess
import termios
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import pytest

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
# Of no network that a machine which runs tests is likely to have.
_NETWORK = "198.18.{}.{}"
_numbers = itertools.count(os.getpid() % 250)


class Namespace:
    """A network of its own, with nothing in it.

    It takes the right to make network namespaces, which root has, also in most containers.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Namespace:
        with self._stack:
            # Somebody has to be in a namespace, or it is gone.
            holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo; exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            self._stack.push(holder)
            self._stack.callback(holder.stdin.close)  # type: ignore[union-attr]
            if not holder.stdout.readline():  # type: ignore[union-attr]
                cannot(f"no network namespace: {holder.stderr.read().decode()}")  # type: ignore[union-attr]
            self.pid = holder.pid
            self._namespace = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._stack.callback(os.close, self._namespace)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def inside(self, act: Callable[[], T]) -> T:
        """Does something in the other network. Sockets stay where they were made."""
        results: list[T] = []

        def there() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(self._namespace, _CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), "setns")
            results.append(act())

        # A thread may be in another network than its process.
        thread = threading.Thread(target=there)
        thread.start()
        thread.join()
        return results[0]


class Wire:
    """A network of its own at the other end of a cable: `local` is our address, `remote` its."""

    def __init__(self) -> None:
        self.local, self.remote, self._device = new_network("wire")
        self._far = f"{self._device}far"
        self._namespace = Namespace()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Wire:
        with self._stack:
            self._stack.enter_context(self._namespace)
            ip(
                *("link", "add", self._device, "type", "veth"),
                *("peer", "name", self._far, "netns", str(self._namespace.pid)),
            )
            self._stack.callback(ip, "link", "delete", self._device)
            bring_up(self._device, self.local)
            self.inside(lambda: bring_up(self._far, self.remote))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def inside(self, act: Callable[[], T]) -> T:
        """Does something in the other network. Sockets stay where they were made."""
        return self._namespace.inside(act)

    def pull(self) -> None:
        """From now on nothing arrives at the other end, and nothing comes back."""
        self.inside(lambda: ip("link", "set", self._far, "down"))


def new_network(name: str) -> tuple[str, str, str]:
    """Two addresses of a network that nobody has yet, and the name of a device for it."""
    number = next(_numbers) % 250 + 1
    return _NETWORK.format(number, 1), _NETWORK.format(number, 2), f"{name}{number}"


def bring_up(device: str, address: str) -> None:
    """Gives a device its address."""
    ip("address", "add", f"{address}/24", "dev", device)
    ip("link", "set", device, "up")


def ip(*arguments: str) -> None:
    """Runs the command of this name, which makes networks."""
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        cannot("the command 'ip' is missing; Debian has it in iproute2")
    except subprocess.CalledProcessError as error:
        cannot(f"ip {' '.join(arguments)}: {error.stderr}")


def cannot(why: str) -> NoReturn:
    """Here is no network to be made: that is a failure, unless it was said to be known."""
    if os.environ.get("ALLOW_MISSING") == "1":
        pytest.skip(why)
    pytest.fail(f"{why}\nRoot can make networks; ALLOW_MISSING=1 leaves out what needs one.")


def strike_deaf(sock: kernel.socket) -> None:
    """What comes to a socket is dropped before its kernel sees it: it acknowledges nothing."""
    # One instruction of the classic Berkeley packet filter: accept no byte.
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    so_attach_filter = 26
    sock.setsockopt(kernel.SOL_SOCKET, so_attach_filter, program)


def unacknowledged(sock: kernel.socket) -> int:
    """Bytes that were sent and not acknowledged yet."""
    (count,) = struct.unpack("=i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def tcp_option(fd: int, name: int) -> Any:
    """An option of TCP, as the kernel has it."""
    with kernel.socket(fileno=os.dup(fd)) as sock:
        return sock.getsockopt(kernel.IPPROTO_TCP, name)

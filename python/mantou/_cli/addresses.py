"""Where to connect to, where to listen: `HOST:PORT` or `unix:PATH`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from mantou import Socket
from mantou._addresses import parse_host, shown_address

_LAST_PORT = 65535


class Address(NamedTuple):
    """A host and a port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    unix: str = ""

    def options(self) -> dict[str, Any]:
        """As `connect()` and `listen()` take it."""
        if self.unix:
            return {"unix": self.unix}
        return {"hostname": self.host, "port": self.port}

    def __str__(self) -> str:
        if self.unix:
            return "unix:" + self.unix.replace("\0", "@", 1)
        return shown_address(self.host or "*", self.port)


def target(text: str) -> Address:
    """An address to connect to, for argparse."""
    return _parse(text, first_port=1)


def target_or_host(port: int) -> Callable[[str], Address]:
    """The same, where a host alone stands for this port of it."""

    def parse(text: str) -> Address:
        brackets = text.startswith("[") and text.endswith("]")
        if brackets or (":" not in text and not text.isdigit()):
            text = f"{text}:{port}"
        return _parse(text, first_port=1)

    return parse


def place(text: str) -> Address:
    """An address to listen on, for argparse: `:PORT` is every address of this machine."""
    return _parse(text, first_port=0, every=True)


def bound(address: Address, **options: Any) -> dict[str, Any]:
    """The options of a listener there."""
    if address.unix:
        # A name without a file has none to be left over.
        stale = {} if address.unix.startswith("\0") else {"unlink_stale": True}
        return {**address.options(), **stale, **options}
    hostname = address.host or ("::" if os.path.exists("/proc/net/if_inet6") else "0.0.0.0")
    return {"hostname": hostname, "port": address.port, **options}


def shown_place(listener: Any) -> str:
    """Where a listener listens."""
    if hasattr(listener, "port"):
        return str(Address(listener.hostname, listener.port))
    return str(Address(unix=os.fsdecode(listener.unix)))


def shown_peer(socket: Socket[Any]) -> str:
    """Who is at the other end."""
    if socket.remote_address is not None:
        # IPv4, of a listener for both.
        address = socket.remote_address.removeprefix("::ffff:")
        return str(Address(address, socket.remote_port or 0))
    return "a process on this machine"


def _parse(text: str, *, first_port: int, every: bool = False) -> Address:
    if text.startswith("unix:"):
        return Address(unix=_path(text.removeprefix("unix:")))
    host, colon, port = text.rpartition(":")
    if not colon:
        hint = f"localhost:{text}" if text.isdigit() else f"{text}:PORT"
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither HOST:PORT nor unix:PATH; did you mean {hint}?"
        )
    if not (port.isascii() and port.isdigit() and first_port <= int(port) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(
            f"the port in {text!r} must be a number from {first_port} to {_LAST_PORT}"
        )
    if ":" in host and not host.startswith("["):
        raise argparse.ArgumentTypeError(
            f"an IPv6 address needs brackets: [{host}]:{port}, not {text!r}"
        )
    if every and host in ("", "*"):
        return Address(port=int(port))
    try:
        parse_host(host, "HOST")
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"HOST must be a host name or an IP address, got {host!r} in {text!r}"
        ) from None
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _path(path: str) -> str:
    if not path:
        raise argparse.ArgumentTypeError("unix: needs a path: unix:/run/server.sock, unix:@name")
    # A name without a file, as ss and systemd write it.
    return "\0" + path[1:] if path.startswith("@") else path

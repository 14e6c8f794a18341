"""Who comes to a listener: as the kernel sees them, with a handshake, from another address."""

from __future__ import annotations

import itertools
import os
import socket as kernel
from typing import Any

import mantou
from tests.support import Peer, listen
from tests.tls_support import secured

_names = itertools.count()


def listen_over(link: str, recorder: Any, **options: Any) -> Any:
    if link == "unix":
        name = f"\0mantou limits {os.getpid()} {next(_names)}"
        return mantou.listen(unix=name, socket=recorder, **options)
    return listen(recorder, link, **options)


def arrive(listener: Any) -> Peer:
    """A peer that has connected, as far as the kernel is concerned."""
    if isinstance(listener, mantou.UnixSocketListener):
        return Peer.connect_at_once(listener.unix, kernel.AF_UNIX)
    return Peer.connect_at_once(("127.0.0.1", listener.port))


async def come_in(link: str, peer: Peer) -> Peer:
    """Does its handshake, where there is one."""
    return await secured(peer.sock, server_side=False) if link in ("tls", "context") else peer


def echo(socket: mantou.Socket[Any], data: bytes) -> None:
    socket.write_all(data)


def arrive_from(address: str, listener: Any) -> Peer:
    sock = kernel.socket()
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", listener.port))
    return Peer(sock)

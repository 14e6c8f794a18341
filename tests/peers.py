"""Peers made of raw sockets."""

from __future__ import annotations

import asyncio
import socket as kernel
from typing import Any


class RawPeer:
    """A raw socket on the other end, and how it ends: FIN and RST as the wire has them."""

    def __init__(self, sock: kernel.socket) -> None:
        self.sock = sock

    def finish(self) -> None:
        """Sends a FIN."""
        self.sock.shutdown(kernel.SHUT_WR)

    def reset(self) -> None:
        """Sends a RST."""
        self.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        """Lets go of it."""
        self.sock.close()


class Peer(RawPeer):
    """One that gives way to the loop while it waits."""

    def __init__(self, sock: kernel.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)

    @classmethod
    async def connect(cls, address: Any, family: int = kernel.AF_INET) -> Peer:
        """Connects to a listener."""
        sock = kernel.socket(family, kernel.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    def connect_at_once(cls, address: Any, family: int = kernel.AF_INET) -> Peer:
        """Connects before anybody accepts: the kernel does it, as long as its queue has room."""
        sock = kernel.socket(family, kernel.SOCK_STREAM)
        sock.connect(address)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, size: int) -> bytes:
        """Exactly so many bytes, or fewer if a FIN comes first."""
        received = bytearray()
        while len(received) < size:
            piece = await self.receive_some(size - len(received))
            if not piece:
                break
            received += piece
        return bytes(received)

    async def receive_some(self, most: int = 65536) -> bytes:
        """What one read gets: nothing is a FIN, a RST raises ConnectionResetError."""
        return await asyncio.get_running_loop().sock_recv(self.sock, most)

    async def receive_until_fin(self) -> bytes:
        received = bytearray()
        while piece := await self.receive_some():
            received += piece
        return bytes(received)

    def receive_now(self, most: int) -> bytes:
        """What has arrived; BlockingIOError if nothing has."""
        return self.sock.recv(most)


class RawListener:
    """A listening raw socket, on a port of the kernel's choice if not told otherwise."""

    def __init__(
        self, address: Any = ("127.0.0.1", 0), family: int = kernel.AF_INET, backlog: int = 16
    ) -> None:
        self.sock = kernel.socket(family, kernel.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.bind(address)
        self.sock.listen(backlog)

    @property
    def port(self) -> int:
        port: int = self.sock.getsockname()[1]
        return port

    async def accept(self) -> Peer:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return Peer(sock)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> RawListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

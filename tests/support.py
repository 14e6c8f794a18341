"""What many tests need: handlers that write down what happens, and peers made of raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
from collections.abc import AsyncIterator, Callable
from typing import Any

import mantou

Event = tuple[Any, ...]


class Recorder(mantou.SocketHandler[Any]):
    """Writes down every event, and lets a test wait for one.

    Keyword arguments are handlers that are called after the event was written down; what they
    return is returned.
    """

    def __init__(self, **handlers: Callable[..., object]) -> None:
        self.events: list[Event] = []
        self.received = bytearray()
        self.sockets: list[mantou.Socket[Any]] = []
        self.errors: list[BaseException | None] = []
        self._handlers = handlers
        self._changed: asyncio.Event | None = None

    @property
    def names(self) -> list[str]:
        """The events so far, without repetitions of `data` in a row."""
        names: list[str] = []
        for name, *_ in self.events:
            if name != "data" or names[-1:] != ["data"]:
                names.append(name)
        return names

    async def until(self, name: str, count: int = 1) -> Event:
        """Waits for the event of that name, or for the `count`th of them, and returns it."""
        return (await self.until_true(lambda: self.of(name)[count - 1 : count]))[0]

    async def until_received(self, size: int) -> bytes:
        """Waits until so many bytes have come, and returns all that came."""
        await self.until_true(lambda: len(self.received) >= size)
        return bytes(self.received)

    async def until_true(self, condition: Callable[[], Any]) -> Any:
        """Waits until the condition holds after some event, and returns its value."""
        while not (value := condition()):
            self._changed = asyncio.Event()
            await self._changed.wait()
        return value

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event[0] == name]

    def _note(self, name: str, socket: mantou.Socket[Any], *arguments: Any) -> object:
        self.events.append((name, *arguments))
        if socket not in self.sockets:
            self.sockets.append(socket)
        if self._changed is not None:
            self._changed.set()
        handler = self._handlers.get(name)
        return None if handler is None else handler(socket, *arguments)

    def open(self, socket: mantou.Socket[Any]) -> object:
        return self._note("open", socket)

    def data(self, socket: mantou.Socket[Any], data: Any) -> object:
        self.received += data
        return self._note("data", socket, bytes(data))

    def drain(self, socket: mantou.Socket[Any]) -> object:
        return self._note("drain", socket)

    def end(self, socket: mantou.Socket[Any]) -> object:
        return self._note("end", socket)

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> object:
        self.errors.append(error)
        return self._note("close", socket, error)

    def error(self, socket: mantou.Socket[Any], error: BaseException) -> object:
        return self._note("error", socket, error)

    def timeout(self, socket: mantou.Socket[Any]) -> object:
        return self._note("timeout", socket)

    def connect_error(self, socket: mantou.Socket[Any], error: BaseException) -> object:
        return self._note("connect_error", socket, error)


class Peer:
    """A raw socket on the other end: it sees FIN and RST as the wire has them."""

    def __init__(self, sock: kernel.socket) -> None:
        self.sock = sock
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

    def finish(self) -> None:
        """Sends a FIN."""
        self.sock.shutdown(kernel.SHUT_WR)

    def reset(self) -> None:
        """Sends a RST."""
        self.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


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


@contextlib.asynccontextmanager
async def accepted(
    recorder: Recorder, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """A socket that a mantou listener has accepted, and the raw peer that connected to it."""
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, **options) as listener:
        peer = await Peer.connect(("127.0.0.1", listener.port))
        try:
            await recorder.until("open")
            yield recorder.sockets[0], peer
        finally:
            peer.close()


@contextlib.asynccontextmanager
async def connected(
    recorder: Recorder, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """A socket that mantou has connected, and the raw peer that accepted it."""
    with RawListener() as raw:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=raw.port, socket=recorder, **options
        )
        peer = await raw.accept()
        try:
            yield socket, peer
        finally:
            peer.close()


LINKS = ["tcp", "unix"]


@contextlib.asynccontextmanager
async def linked(
    link: str, recorder: Recorder, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """As `connected`, over TCP or over a unix socket without a file."""
    if link == "tcp":
        async with connected(recorder, **options) as pair:
            yield pair
        return
    with RawListener("", kernel.AF_UNIX) as raw:
        socket = await mantou.connect(unix=raw.sock.getsockname(), socket=recorder, **options)
        peer = await raw.accept()
        try:
            yield socket, peer
        finally:
            peer.close()


def fill(socket: mantou.Socket[Any]) -> int:
    """Writes until the kernel takes no more, and returns how many bytes it took."""
    block = bytes(1024 * 1024)
    total = 0
    while (taken := socket.write(block)) == len(block):
        total += taken
    return total + max(taken, 0)


async def others_had_their_turn() -> None:
    """Returns when the loop has handled everything that was ready before.

    Events are handled in the order in which they came, so an echo over another connection comes
    after them all.
    """
    echo = Recorder(data=lambda socket, data: socket.write(data))
    async with accepted(echo) as (socket, peer):
        for _ in range(2):
            await peer.send(b"ping")
            assert await peer.receive(4) == b"ping"
        socket.terminate()
        await echo.until("close")

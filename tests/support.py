"""What many tests need: handlers that write down what happens, and connections to peers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket as kernel
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import mantou
from tests.peers import Peer, RawListener
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, context, secured

__all__ = [
    "Event",
    "Gate",
    "Handshaker",
    "Peer",
    "RawListener",
    "Recorder",
    "accepted",
    "connected",
    "descriptors_left",
    "dial",
    "every_engine",
    "every_link",
    "every_path",
    "every_stream",
    "fill",
    "linked",
    "listen",
    "others_had_their_turn",
    "reach",
    "run_turns",
]

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

    @property
    def packets(self) -> list[bytes]:
        """What `data` was called with, one by one."""
        return [data for _, data in self.of("data")]

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


class Handshaker(Recorder):
    """A recorder that has a `handshake` handler, so that `open` comes before the handshake."""

    def handshake(self, socket: mantou.Socket[Any], success: bool, error: Any) -> object:
        return self._note("handshake", socket, success, error)


class Gate:
    """Something that coroutines wait for, and what became of them."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0
        self.cancelled = 0

    async def wait(self) -> None:
        self.entered += 1
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


# What a connection runs over. The peer speaks Python's ssl for "tls"; what its tests expect is the
# same, with `close_notify` and FIN for a FIN.
every_link = pytest.mark.parametrize("link", ["tcp", "unix", "tls"])
TLS_LINKS = ("tls", "context")
# All of these: the links above, and an `ssl.SSLContext` that drives TLS on our side.
every_path = pytest.mark.parametrize("link", ["tcp", "unix", *TLS_LINKS])
# For what only TCP has: a RST, the ports, the listeners below.
every_stream = pytest.mark.parametrize("link", ["tcp", "tls"])
# Both engines of TLS on our side: rustls, and an `ssl.SSLContext`.
every_engine = pytest.mark.parametrize("link", TLS_LINKS)


def listen(recorder: Any, link: str = "tcp", **options: Any) -> mantou.TCPSocketListener[Any]:
    """A listener of mantou's, on a port of the kernel's choice."""
    if link == "tls":
        options["tls"] = SERVER_OPTIONS | options.pop("tls", {})
    elif link == "context":
        options.setdefault("tls", context(server_side=True))
    return mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, **options)


async def dial(listener: mantou.TCPSocketListener[Any], link: str = "tcp") -> Peer:
    """A peer that connects to such a listener. Over TLS it has done its handshake."""
    peer = Peer.connect_at_once(("127.0.0.1", listener.port))
    return await secured(peer.sock, server_side=False) if link in TLS_LINKS else peer


async def reach(
    listener: mantou.TCPSocketListener[Any], recorder: Any, link: str = "tcp", **options: Any
) -> mantou.Socket[Any]:
    """A socket of mantou's that connects to such a listener."""
    if link == "tls":
        options["tls"] = CLIENT_OPTIONS
    return await mantou.connect(
        hostname="127.0.0.1", port=listener.port, socket=recorder, **options
    )


@contextlib.asynccontextmanager
async def accepted(
    recorder: Any, link: str = "tcp", **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """A socket that a mantou listener has accepted, and the peer that connected to it."""
    with listen(recorder, link, **options) as listener:
        peer = await dial(listener, link)
        try:
            await recorder.until("open")
            yield recorder.sockets[0], peer
        finally:
            peer.close()


@contextlib.asynccontextmanager
async def connected(
    recorder: Any, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """A socket that mantou has connected, and the raw peer that accepted it."""
    async with linked("tcp", recorder, **options) as pair:
        yield pair


@contextlib.asynccontextmanager
async def linked(
    link: str, recorder: Any, *, version: str | None = None, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """A socket that mantou has connected over such a link, and the peer that accepted it.

    A unix socket has no file; a TLS peer speaks `version` only, if told.
    """
    if link == "unix":
        raw = RawListener("", kernel.AF_UNIX)
        options["unix"] = raw.sock.getsockname()
    else:
        raw = RawListener()
        options |= {"hostname": "127.0.0.1", "port": raw.port}
    if link == "tls":
        options["tls"] = CLIENT_OPTIONS | options.pop("tls", {})
    elif link == "context":
        options["tls"] = context(server_side=False)
    with raw:
        connecting = asyncio.ensure_future(mantou.connect(socket=recorder, **options))
        peer = await raw.accept()
        try:
            if link in TLS_LINKS:
                peer = await secured(peer.sock, server_side=True, version=version)
            yield await connecting, peer
        finally:
            connecting.cancel()
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

    Events are handled in the order in which they came, but for crowds of handshakes, so an echo
    over another connection comes after them all.
    """
    echo = Recorder(data=lambda socket, data: socket.write(data))
    async with accepted(echo) as (socket, peer):
        for _ in range(2):
            await peer.send(b"ping")
            assert await peer.receive(4) == b"ping"
        socket.terminate()
        await echo.until("close")


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Only so many new descriptors can be had."""
    limit = 0
    while count:
        try:
            os.fstat(limit)
        except OSError:
            count -= 1
        limit += 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def run_turns(loop: asyncio.AbstractEventLoop, count: int = 1) -> None:
    """Has a loop that does not run take so many turns."""
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()

"""asyncio's protocols that write down what they are told, and connected pairs of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.tls import client_context, server_context

LINKS = ("tcp", "unix", "tls")


class Events:
    """What both kinds of protocol write down, and futures for what is waited for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = bytearray()
        self.error: BaseException | None = None
        self.transport: Any = None
        self.made = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()
        self.eof = asyncio.get_running_loop().create_future()
        self.keeps_open = False
        self.paused = False
        self._changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.calls.append("made")
        self.transport = transport
        self.made.set_result(None)

    def connection_lost(self, error: BaseException | None) -> None:
        self.calls.append("lost")
        self.error = error
        self.lost.set_result(None)
        self._changed.set()

    def eof_received(self) -> bool:
        self.calls.append("eof")
        self.eof.set_result(None)
        return self.keeps_open

    def pause_writing(self) -> None:
        self.calls.append("pause")
        self.paused = True
        self._changed.set()

    def resume_writing(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self._changed.set()

    def got(self, data: bytes) -> None:
        if self.calls[-1:] != ["data"]:
            self.calls.append("data")
        self.received += data
        self._changed.set()

    async def wait_for(self, size: int) -> bytes:
        """Waits until so many bytes came in all."""
        await self.until(lambda: len(self.received) >= size)
        return bytes(self.received)

    async def until(self, condition: Any) -> None:
        """Waits until something that is told makes this true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class Plain(Events, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.got(data)


class Buffered(Events, asyncio.BufferedProtocol):
    size = 1000

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(self.size)

    def get_buffer(self, sizehint: int) -> memoryview:
        # No bytearray: asyncio's TLS fills a copy of its end.
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.got(self.buffer[:nbytes])


@contextlib.asynccontextmanager
async def serving(link: str, factory: Any, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A server, and where it is to be reached."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as directory:
        address: Any
        if link == "unix":
            address = str(Path(directory) / "socket")
            server: Any = await loop.create_unix_server(factory, address, **options)
        else:
            if link == "tls":
                options.setdefault("ssl", server_context())
            server = await loop.create_server(factory, "127.0.0.1", 0, **options)
            address = server.sockets[0].getsockname()
        try:
            yield server, address
        finally:
            server.close()


async def connect(link: str, address: Any, factory: Any, **options: Any) -> Any:
    """The client's protocol, connected."""
    loop = asyncio.get_running_loop()
    if link == "unix":
        _, protocol = await loop.create_unix_connection(factory, address, **options)
    else:
        if link == "tls":
            options.setdefault("ssl", client_context())
            options.setdefault("server_hostname", "localhost")
        _, protocol = await loop.create_connection(factory, *address[:2], **options)
    return protocol


@contextlib.asynccontextmanager
async def paired(
    link: str, client: Any = Plain, server: Any = Plain
) -> AsyncIterator[tuple[Any, Any]]:
    """Two protocols, connected with each other; both are closed and gone at the end."""
    accepted: asyncio.Queue[Any] = asyncio.Queue()

    def accept() -> Any:
        protocol = server()
        accepted.put_nowait(protocol)
        return protocol

    async with serving(link, accept) as (_, address):
        ours = await connect(link, address, client)
        theirs = await accepted.get()
        await theirs.made
        try:
            yield ours, theirs
        finally:
            for protocol in (ours, theirs):
                if not protocol.lost.done():
                    protocol.transport.abort()
                await protocol.lost


def raw_pair() -> tuple[kernel.socket, kernel.socket]:
    """Two connected TCP sockets."""
    with kernel.create_server(("127.0.0.1", 0)) as listener:
        one = kernel.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return one, other

"""A stage for whole programs: as they are printed, but over any link and on the test's loop."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import itertools
import socket as kernel
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import mantou
from tests.peers import Peer
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, context, secured

# An `ssl.SSLContext` on mantou's side is "context", its own TLS is "tls".
LINKS = ("tcp", "unix", "tls", "context")

LIMIT = 10.0  # seconds for anything that a program does

every_link = pytest.mark.parametrize("link", LINKS)


@contextlib.asynccontextmanager
async def stage(link: str) -> AsyncIterator[Stage]:
    """Makes `mantou.listen()`, `connect()`, `run()` those of a stage, and clears it afterwards."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        made = Stage(link, Path(directory), patch)
        patch.setattr(mantou, "listen", made.listen)
        patch.setattr(mantou, "connect", made.connect)
        patch.setattr(mantou, "connect_stream", made.connect_stream)
        patch.setattr(mantou, "serve_streams", made.serve_streams)
        patch.setattr(mantou, "run", made.run)
        patch.setattr(asyncio, "open_connection", made.open_connection)
        patch.setattr(asyncio, "run", made.run)
        try:
            async with asyncio.timeout(LIMIT):
                yield made
        finally:
            await made.clear()


class Stage:
    """What its programs connect to is what others of them listen on, found by the port's number."""

    def __init__(self, link: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self._link = link
        self._directory = directory
        self._patch = patch
        self._numbers = itertools.count(1)
        self._listeners: dict[int, Any] = {}
        self._mains: list[Coroutine[Any, Any, object]] = []
        self._serving: list[asyncio.Task[None]] = []
        self._servers: list[mantou.StreamServer] = []
        self._listens = asyncio.Event()
        self._really = (mantou.listen, mantou.connect, asyncio.open_connection)
        self._really_streams = (mantou.serve_streams, mantou.connect_stream)

    async def perform(
        self,
        text: str,
        *arguments: str,
        names: dict[str, Any] | None = None,
        page: str = "program",
    ) -> None:
        """Runs the program; returns when its coroutines have, or when it has begun to listen.

        It may await where asyncio's own prompt would let it.
        """
        self._patch.setattr(sys, "argv", ["program", *arguments])
        code = compile(text, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names = {"__name__": "__main__"} if names is None else names
        with contextlib.suppress(SystemExit):
            if code.co_flags & inspect.CO_COROUTINE:
                await FunctionType(code, names)()
            else:
                exec(code, names)
        while self._mains:
            await self._mains.pop(0)

    async def serve(self, text: str, names: dict[str, Any], page: str) -> None:
        """Runs a program that serves until it is stopped; returns when it has begun to listen."""
        self._listens.clear()
        task = asyncio.create_task(self.perform(text, names=names, page=page))
        self._serving.append(task)
        listens = asyncio.create_task(self._listens.wait())
        await asyncio.wait([task, listens], return_when=asyncio.FIRST_COMPLETED)
        listens.cancel()
        if task.done():
            await task

    @contextlib.asynccontextmanager
    async def visitor(self, port: int) -> AsyncIterator[Peer]:
        """A peer that is not mantou, connected to the program that listens on the port."""
        family, address = kernel.AF_INET, self._address(port)
        if self._link == "unix":
            family = kernel.AF_UNIX
        peer = Peer.connect_at_once(address, family)
        if self._over_tls:
            peer = await secured(peer.sock, server_side=False)
        try:
            yield peer
        finally:
            peer.close()

    async def clear(self) -> None:
        for task in self._serving:
            task.cancel()
        for task in self._serving:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for server in self._servers:
            await server.aclose()
        for listener in self._listeners.values():
            listener.stop(True)
            await listener.closed()

    # What programs call; what they do with unix sockets and servers of their own is left alone.

    def listen(self, **options: Any) -> Any:
        listen, _, _ = self._really
        if "port" not in options:
            self._listens.set()
            return listen(**options)
        hostname, port = options["hostname"], options["port"] or next(self._numbers)
        place: dict[str, Any] = {"hostname": hostname, "port": 0}
        if self._link == "unix":
            place = {"unix": self._directory / str(port)}
        self._listeners[port] = listen(**self._moved(options, place, SERVER_OPTIONS, True))
        self._listens.set()
        return Listener(self._listeners[port], hostname, port)

    def serve_streams(self, handler: Any, **options: Any) -> Any:
        serve_streams, _ = self._really_streams
        if "port" not in options:
            self._listens.set()
            return serve_streams(handler, **options)
        place: dict[str, Any] = {"hostname": options["hostname"], "port": 0}
        if self._link == "unix":
            place = {"unix": self._directory / str(options["port"])}
        server = serve_streams(handler, **self._moved(options, place, SERVER_OPTIONS, True))
        self._servers.append(server)
        self._listeners[options["port"]] = server.listener
        self._listens.set()
        return Server(server, options["port"])

    async def connect(self, **options: Any) -> mantou.Socket[Any]:
        _, connect, _ = self._really
        return await self._connected(connect, options)

    async def connect_stream(self, **options: Any) -> mantou.Stream:
        _, connect_stream = self._really_streams
        return await self._connected(connect_stream, options)

    async def _connected(self, connect: Any, options: dict[str, Any]) -> Any:
        if options.get("port") not in self._listeners:
            return await connect(**options)
        address = self._address(options["port"])
        place: dict[str, Any] = {"hostname": options["hostname"], "port": address[1]}
        if self._link == "unix":
            place = {"unix": address}
        return await connect(**self._moved(options, place, CLIENT_OPTIONS, False))

    def _moved(
        self, options: dict[str, Any], place: dict[str, Any], tls: Any, server_side: bool
    ) -> dict[str, Any]:
        """The program's options, but for another place."""
        rest = {name: value for name, value in options.items() if name not in ("hostname", "port")}
        if self._over_tls:
            place["tls"] = tls if self._link == "tls" else context(server_side)
        return rest | place

    def run(self, main: Coroutine[Any, Any, object] | None = None) -> None:
        """The loop runs already: `perform()` awaits what is given, and sockets need no more."""
        if main is not None:
            self._mains.append(main)

    async def open_connection(self, hostname: str, port: int) -> Any:
        _, _, open_connection = self._really
        if port not in self._listeners:
            return await open_connection(hostname, port)
        if self._link == "unix":
            return await asyncio.open_unix_connection(self._address(port))
        tls = context(False) if self._over_tls else None
        return await open_connection(*self._address(port), ssl=tls)

    @property
    def _over_tls(self) -> bool:
        return self._link in ("tls", "context")

    def _address(self, port: int) -> Any:
        listener = self._listeners[port]
        return listener.unix if self._link == "unix" else (listener.hostname, listener.port)


class Listener:
    """A listener that tells the address which the program asked for."""

    def __init__(self, listener: Any, hostname: str, port: int) -> None:
        self._listener = listener
        self.hostname = hostname
        self.port = port

    @property
    def __class__(self) -> type:
        # Whoever asks for what it is, by isinstance(), gets what it stands for.
        return type(self._listener)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.stop()


class Server:
    """The same for a server of streams."""

    def __init__(self, server: mantou.StreamServer, port: int) -> None:
        self._server = server
        self.port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.aclose()

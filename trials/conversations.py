"""Our halves: an echo over every kind of connection, and what is none but carries bytes as well."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import socket as kernel
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import mantou
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, context
from trials.peers import GO_AHEAD, PATTERN, PROXY_HEADER, STARTTLS, Peer, echo_in_thread
from trials.verdict import Told

_names = itertools.count()


class Stage:
    """Where one conversation is played: with whom, over which link, and what became of it."""

    def __init__(
        self,
        conversation: Conversation,
        link: str,
        *,
        size: int,
        host: str = "127.0.0.1",
        far_host: str = "127.0.0.1",
        make_socket: Callable[[int], kernel.socket] = kernel.socket,
        patience: float = 3.0,
        slow: bool = False,
    ) -> None:
        self.conversation = conversation
        self.link = link
        self.size = size
        self.told = Told()
        self.times: dict[str, Any] = {"close_timeout": patience, "handshake_timeout": patience}
        self.options: dict[str, Any] = {}
        """What else `listen()` or `connect()` are to get."""
        self._host, self._far_host = host, far_host
        self._patience = patience
        family = kernel.AF_UNIX if link == "unix" else kernel.AF_INET
        self._name = f"\0mantou trials {os.getpid()} {next(_names)}"
        # Made beforehand, when nothing fails yet.
        sock = make_socket(family)
        if slow:
            sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 16384)
        if conversation.connects:
            sock.bind(self._name if link == "unix" else (far_host, 0))
            sock.listen(1)
        self.peer_address: Any = sock.getsockname()
        self.peer = Peer(sock, link, size=size, preface=conversation.preface, patience=patience)
        self.echo_port = 0
        self.dismiss_echo: Callable[[], None] = lambda: None
        if conversation.proxies:
            self.echo_port, self.dismiss_echo = echo_in_thread()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - `leave()` closes it
        self.file.write(PATTERN * (size // len(PATTERN) + 1))
        self.file.flush()

    def here(self) -> dict[str, Any]:
        """Options to listen with."""
        place: dict[str, Any] = (
            {"unix": self._name} if self.link == "unix" else {"hostname": self._host, "port": 0}
        )
        tls = {"tls": SERVER_OPTIONS, "context": context(True)}.get(self.link)
        return place | self.times | self.options | ({} if tls is None else {"tls": tls})

    def there(self) -> dict[str, Any]:
        """Options to connect with."""
        place: dict[str, Any] = (
            {"unix": self._name}
            if self.link == "unix"
            else {"hostname": self._far_host, "port": self.peer_address[1]}
        )
        times = self.times | {"connect_timeout": self._patience}
        client = CLIENT_OPTIONS | {"server_name": "localhost"}
        theirs = context(False)
        # It would look for the address that it connects to.
        theirs.check_hostname = False
        tls = {"tls": client, "context": theirs}.get(self.link)
        return place | times | self.options | ({} if tls is None else {"tls": tls})

    def ssl(self, server_side: bool) -> dict[str, Any]:
        """The same for asyncio's functions: with rustls for "tls"."""
        if self.link not in ("tls", "context"):
            return {}
        kind = mantou.SSLContext if self.link == "tls" else type(context(False))
        made: dict[str, Any] = {"ssl": context(server_side, kind=kind)}
        made |= {f"ssl_{what}_timeout": self._patience for what in ("handshake", "shutdown")}
        return made if server_side else made | {"server_hostname": "localhost"}

    async def play(self, port: int | None = None) -> None:
        """Has the peer play its part: towards the port, or whoever connects to it."""
        if not self.conversation.connects:
            self.peer.address = self._name if self.link == "unix" else (self._host, port)
        self.peer.start()
        await asyncio.get_running_loop().run_in_executor(None, self.peer.join)

    def peer_is_not_needed(self) -> None:
        """We could not connect: it waits for nothing."""
        self.peer.dismiss()

    def leave(self) -> None:
        """Whatever happened, nothing is left open."""
        self.peer.dismiss()
        if self.peer.is_alive():
            self.peer.join()
        self.dismiss_echo()
        self.file.close()


@dataclasses.dataclass(frozen=True)
class Conversation:
    """What our side does."""

    play: Callable[[Stage], Awaitable[None]]
    links: tuple[str, ...] = ("tcp", "tls", "context", "unix")
    connects: bool = False
    """We connect to the peer, and not the peer to us."""
    proxies: bool = False
    peeks: bool = False
    """It looks before it reads."""
    quiet: bool = False
    """Nobody is told of a connection that did not come to be: it is logged at most."""
    ends_with_the_loop: bool = False
    """Nobody is told of the end of one that the loop leaves open: it is a task's, or asyncio's."""
    preface: bytes = b""
    loops: tuple[str, ...] = ("mantou",)

    @property
    def name(self) -> str:
        return self.play.__name__


class Echo(mantou.SocketHandler[None]):
    """The echo of the README."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def open(self, socket: mantou.Socket[None]) -> object:
        self.told.note_open(socket)
        return None

    def data(self, socket: mantou.Socket[None], data: bytes) -> object:
        self.told.came.take(data)
        try:
            socket.write_all(data)
        except BrokenPipeError:
            return None  # `close` says why
        if socket.buffered:
            socket.pause()
        return None

    def drain(self, socket: mantou.Socket[None]) -> object:
        socket.resume()
        return None

    def close(self, socket: mantou.Socket[None], error: BaseException | None) -> object:
        self.told.note_close(socket, error)
        return None

    def connect_error(self, socket: mantou.Socket[None], error: BaseException) -> object:
        self.told.errors.append(error)
        return None


class HalfOpen(Echo):
    """Finishes when it likes."""

    def end(self, socket: mantou.Socket[None]) -> object:
        socket.end()
        return None


class Clear(Echo):
    """Agrees to speak TLS, with another handler."""

    heard = b""

    def data(self, socket: mantou.Socket[None], data: bytes) -> object:
        self.heard += data
        if len(self.heard) < len(STARTTLS):
            return None
        assert self.heard.startswith(STARTTLS)
        socket.write_all(GO_AHEAD)
        with contextlib.suppress(ConnectionError):  # `close` says why
            initial = self.heard[len(STARTTLS) :]
            socket.upgrade_tls(tls=SERVER_OPTIONS, socket=Echo(self.told), initial=initial)
        return None


class Files(Echo):
    """Sends a file and swallows what comes."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.told)
        self.stage = stage

    async def open(self, socket: mantou.Socket[None]) -> object:
        self.told.note_open(socket)
        try:
            await socket.send_file(self.stage.file, 0, self.stage.size)
        except OSError as error:
            self.told.errors.append(error)
        socket.end()
        return None

    def data(self, socket: mantou.Socket[None], data: bytes) -> object:
        self.told.came.take(data)
        return None


class Front(Echo):
    """A proxy's: joins who comes with the echo behind it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.told)
        self.port = stage.echo_port

    async def open(self, socket: mantou.Socket[None]) -> object:
        self.told.note_open(socket)
        back = Echo(self.told)
        mantou.pipe(
            socket,
            await mantou.connect(
                hostname="127.0.0.1", port=self.port, socket=back, connect_timeout=3.0
            ),
        ).add_done_callback(lambda done: done.cancelled() or done.exception())
        return None


async def handlers_serve(stage: Stage) -> None:
    """An echo server of handlers."""
    await _serve(stage, Echo(stage.told))


async def half_open(stage: Stage) -> None:
    """The same, which finishes by itself."""
    await _serve(stage, HalfOpen(stage.told), allow_half_open=True)


async def starttls(stage: Stage) -> None:
    """It begins in the clear."""
    clear = stage.here()
    clear.pop("tls", None)
    listener = mantou.listen(socket=Clear(stage.told), **clear)
    await _through(stage, listener)


async def proxy_header(stage: Stage) -> None:
    """A PROXY header goes first."""
    trusted = {"proxy_protocol": "require", "proxy_trusted": ["127.0.0.0/8"]}
    await _serve(stage, Echo(stage.told), **trusted)


async def pipe(stage: Stage) -> None:
    """A proxy, with an echo behind it."""
    await _serve(stage, Front(stage))


async def send_file(stage: Stage) -> None:
    """A file goes out, and what comes in is swallowed."""
    await _serve(stage, Files(stage), allow_half_open=True)


async def handlers_connect(stage: Stage) -> None:
    """A client that echoes."""
    playing = asyncio.ensure_future(stage.play())
    try:
        socket = await mantou.connect(socket=Echo(stage.told), **stage.there())
    except OSError as error:
        stage.told.errors.append(error)
        stage.peer_is_not_needed()
    else:
        await playing
        await socket.closed()
    await playing


async def streams_serve(stage: Stage) -> None:
    """An echo server of streams."""
    ended: list[asyncio.Future[None]] = []

    async def echo(stream: mantou.Stream) -> None:
        ended.append(asyncio.get_running_loop().create_future())
        await _echo_stream(stage.told, stream)
        ended[-1].set_result(None)

    async with mantou.serve_streams(echo, **stage.here()) as server:
        await stage.play(None if stage.link == "unix" else server.port)
        await asyncio.gather(*ended)


async def streams_connect(stage: Stage) -> None:
    """A stream that echoes."""
    playing = asyncio.ensure_future(stage.play())
    try:
        stream = await mantou.connect_stream(**stage.there())
    except OSError as error:
        stage.told.errors.append(error)
        stage.peer_is_not_needed()
    else:
        await _echo_stream(stage.told, stream)
    await playing


async def protocols_serve(stage: Stage) -> None:
    """An asyncio protocol's server."""
    loop = asyncio.get_running_loop()
    protocols: list[EchoProtocol] = []

    def made() -> EchoProtocol:
        protocols.append(EchoProtocol(stage))
        return protocols[-1]

    if stage.link == "unix":
        server = await loop.create_unix_server(made, stage.here()["unix"])
    else:
        server = await loop.create_server(made, stage.here()["hostname"], 0, **stage.ssl(True))
    async with server:
        await stage.play(None if stage.link == "unix" else server.sockets[0].getsockname()[1])
        for protocol in protocols:
            if stage.told.opened[protocol]:
                await protocol.is_lost


async def protocols_connect(stage: Stage) -> None:
    """An asyncio protocol that connects."""
    loop = asyncio.get_running_loop()
    playing = asyncio.ensure_future(stage.play())
    protocol = EchoProtocol(stage)
    place = stage.there()
    try:
        if stage.link == "unix":
            await loop.create_unix_connection(lambda: protocol, place["unix"])
        else:
            await loop.create_connection(
                lambda: protocol, place["hostname"], place["port"], **stage.ssl(False)
            )
    except OSError as error:
        stage.told.errors.append(error)
        stage.peer_is_not_needed()
    else:
        await playing
        await protocol.is_lost
    await playing


async def readers_serve(stage: Stage) -> None:
    """A server of asyncio's streams."""
    ended: list[asyncio.Future[None]] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.get_running_loop().create_future())
        _give_up(writer.transport, stage.options.get("dead_after"))
        stage.told.note_open(writer)
        error: BaseException | None = None
        try:
            while data := await reader.read(65536):
                stage.told.came.take(data)
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError as broken:
            # asyncio's drain() says no more than that it is lost if that is just being told.
            error = reader.exception() or broken
            writer.transport.abort()
        finally:
            stage.told.note_close(writer, error)
        ended[-1].set_result(None)

    if stage.link == "unix":
        server = await asyncio.start_unix_server(echo, stage.here()["unix"])
    else:
        server = await asyncio.start_server(echo, stage.here()["hostname"], 0, **stage.ssl(True))
    async with server:
        await stage.play(None if stage.link == "unix" else server.sockets[0].getsockname()[1])
        await asyncio.gather(*ended)


class EchoProtocol(asyncio.Protocol):
    """asyncio's way to echo with backpressure."""

    transport: asyncio.Transport

    def __init__(self, stage: Stage) -> None:
        self.told = stage.told
        self.dead_after = stage.options.get("dead_after")
        self.is_lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        _give_up(transport, self.dead_after)
        self.told.note_open(self)

    def data_received(self, data: bytes) -> None:
        self.told.came.take(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.note_close(self, exc)
        if not self.is_lost.done():
            self.is_lost.set_result(None)


def _give_up(transport: asyncio.BaseTransport, dead_after: float | None) -> None:
    """What an asyncio program does to find out that its peer is gone, sending or not."""
    if dead_after is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_USER_TIMEOUT, int(dead_after * 1000))
        sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_KEEPALIVE, 1)
        sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_KEEPIDLE, int(dead_after) - 2)
        sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_KEEPINTVL, 1)
        sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_KEEPCNT, 2)


async def _serve(stage: Stage, handler: Echo, **options: Any) -> None:
    await _through(stage, mantou.listen(socket=handler, **stage.here() | options))


async def _through(stage: Stage, listener: Any) -> None:
    with listener:
        await stage.play(None if stage.link == "unix" else listener.port)
    await listener.closed()


async def _echo_stream(told: Told, stream: mantou.Stream) -> None:
    told.note_open(stream)
    error: BaseException | None = None
    try:
        async with stream:
            async for chunk in stream:
                told.came.take(chunk)
                await stream.send(chunk)
            await stream.send_eof()
    except OSError as broken:
        error = broken
    finally:
        told.note_close(stream, error)


BOTH = ("mantou", "asyncio")
CONVERSATIONS = [
    Conversation(handlers_serve, loops=BOTH),
    Conversation(handlers_connect, connects=True, loops=BOTH),
    Conversation(half_open),
    Conversation(starttls, links=("tls",), preface=STARTTLS),
    Conversation(proxy_header, links=("tcp", "tls"), preface=PROXY_HEADER, peeks=True),
    Conversation(pipe, links=("tcp", "tls", "unix"), proxies=True),
    Conversation(send_file, links=("tcp", "tls", "unix")),
    Conversation(streams_serve, loops=BOTH, quiet=True, ends_with_the_loop=True),
    Conversation(streams_connect, connects=True, loops=BOTH, ends_with_the_loop=True),
    Conversation(protocols_serve, quiet=True, ends_with_the_loop=True),
    Conversation(protocols_connect, connects=True, ends_with_the_loop=True),
    Conversation(readers_serve, quiet=True, ends_with_the_loop=True),
]

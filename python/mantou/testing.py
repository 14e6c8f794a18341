"""Connections for the tests of handlers: pairs of sockets, and peers that misbehave when told to.

No address to choose, no server to start, and nothing is left open behind the block::

    async def test_echo():
        async with mantou.testing.peer(Echo(), fragments=[1, 2, 3], finish_after=5) as peer:
            await peer.send(b"hello world")
            assert await peer.receive_until_end() == b"hello"

Both ends run in one loop: mantou's, asyncio's or uvloop's. Not in Bun.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import importlib
import socket as kernel
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ._connect import connect
from ._core import Socket
from ._handlers import Handlers
from ._listen import listen
from ._listener import TCPSocketListener, UnixSocketListener
from ._option_types import TLSOptions
from ._ready_state import ReadyState
from ._testing_peer import Peer, TLSPeer, check_manners
from ._validate import integer, wrong_type

__all__ = ["Certificates", "Peer", "TLSPeer", "certificates", "peer", "socket_pair"]

TLS = bool | TLSOptions | ssl.SSLContext
AnyListener = TCPSocketListener[Any] | UnixSocketListener[Any]


@contextlib.asynccontextmanager
async def socket_pair(
    accepted: Handlers[Any],
    connected: Handlers[Any],
    *,
    tls: bool | tuple[TLS, TLS] = False,
    unix: bool = False,
    accepted_options: Mapping[str, Any] | None = None,
    connected_options: Mapping[str, Any] | None = None,
) -> AsyncGenerator[tuple[Socket[Any], Socket[Any]], None]:
    """Two sockets that are connected to each other, the accepted one first.

    Both have run their `open`, and their handshake under TLS. Behind the block what is still open
    is terminated, and both `close` handlers have run.

    :param accepted: The handlers of the side that `listen()` makes.
    :param connected: Those of the side that `connect()` makes.
    :param tls: True for certificates made for the purpose (see `certificates()`), or what `tls`
        is to be for `listen()` and for `connect()`. Default: False.
    :param unix: Over a unix socket instead of TCP on 127.0.0.1. Default: False.
    :param accepted_options: More options of `listen()`, `{"idle_timeout": 0.1}`. Default: None.
    :param connected_options: More options of `connect()`. Default: None.
    :raises OSError: They could not be connected: what `connect()` raises.
    :raises TypeError: `tls` is neither a bool nor a pair.
    """
    server_tls, client_tls = _tls_of_both(tls)
    options: dict[str, Any] = {"tls": server_tls, **(accepted_options or {})}
    async with _listening(accepted, options, unix) as listening:
        address = _place(listening.address)
        options = {"tls": client_tls, **(connected_options or {}), **address}
        second = await connect(socket=connected, **options)
        try:
            yield await listening.accepted(), second
        finally:
            second.terminate()
            await second.closed()


@contextlib.asynccontextmanager
async def peer(
    handlers: Handlers[Any],
    *,
    accepts: bool = False,
    tls: bool | tuple[TLS, ssl.SSLContext] = False,
    unix: bool = False,
    receive_buffer: int | None = None,
    fragments: Sequence[int] = (),
    pause: float = 0.0,
    finish_after: int | None = None,
    reset_after: int | None = None,
    preface: bytes = b"",
    **options: Any,
) -> AsyncGenerator[Peer, None]:
    """A peer of one connection that is served, or made, by the handlers under test.

    Behind the block the peer has closed its end, what is still open is terminated, and the
    handlers' `close` has run.

    :param handlers: What is tested, as for `listen()`.
    :param accepts: False: they serve, and the peer connects. True: they connect, by `connect()`,
        and the peer accepts. Default: False.
    :param tls: True for certificates made for the purpose, or what `tls` is to be for mantou's side
        and a context for the peer's, whose `ssl` is Python's. Default: False.
    :param unix: Over a unix socket, which has no RST. Default: False, TCP on 127.0.0.1.
    :param receive_buffer: The bytes that the kernel keeps for the peer while it does not read
        (SO_RCVBUF), so that a slow peer is felt soon. Default: None, the system's.
    :param fragments: See `Peer.fragments`; so with `pause`, `finish_after` and `reset_after`.
    :param preface: What the peer sends as soon as it has connected, even before TLS: the header
        that `proxy_protocol` waits for, `bytes(ProxyHeader(...))`. Default: b"", nothing.
    :param options: More options of `listen()` or `connect()`.
    :raises OSError: They could not be connected.
    :raises TypeError: A parameter is of the wrong type.
    :raises ValueError: A parameter is negative, or a fragment empty; `reset_after` together with
        `unix`; `preface` together with `accepts`.
    """
    if unix and reset_after is not None:
        raise ValueError("reset_after needs TCP: a unix socket has no RST")
    if accepts and preface:
        raise ValueError("preface is for a peer that connects, accepts=False")
    check_manners(fragments, pause, finish_after, reset_after)
    if receive_buffer is not None:
        integer({"receive_buffer": receive_buffer}, "receive_buffer", 1, 1, 2**31 - 1)
    ours, theirs = _tls_of_peer(tls, accepts)
    own: dict[str, Any] = {"tls": ours, **options}
    if accepts:
        connecting = _connected(handlers, own, theirs, unix, receive_buffer)
    else:
        connecting = _accepted(handlers, own, theirs, unix, receive_buffer, preface=preface)
    async with connecting as made:
        made.fragments, made.pause = fragments, pause
        made.finish_after, made.reset_after = finish_after, reset_after
        yield made


@dataclass(frozen=True)
class Certificates:
    """A certificate for "localhost", "127.0.0.1" and "::1", and who trusts it."""

    server: TLSOptions
    """What `tls` is for `listen()`."""
    client: TLSOptions
    """What `tls` is for `connect()`."""
    server_context: ssl.SSLContext
    """The same for Python's `ssl`."""
    client_context: ssl.SSLContext
    """The same for Python's `ssl`."""


@functools.cache
def certificates() -> Certificates:
    """Certificates that are made once in a process, and kept in its memory only.

    :raises ImportError: trustme, which makes them, is not installed: `mantou[testing]` brings it.
    """
    try:
        trustme: Any = importlib.import_module("trustme")
    except ImportError as error:
        raise ImportError(
            "tls=True needs trustme to make certificates: pip install 'mantou[testing]'"
        ) from error
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    return Certificates(
        {"key": issued.private_key_pem.bytes(), "cert": chain},
        {"ca": authority.cert_pem.bytes(), "server_name": "localhost"},
        server,
        client,
    )


def _tls_of_both(tls: bool | tuple[TLS, TLS]) -> tuple[TLS, TLS]:
    if isinstance(tls, tuple):
        return tls
    _check_tls(tls)
    return (certificates().server, certificates().client) if tls else (False, False)


def _tls_of_peer(
    tls: bool | tuple[TLS, ssl.SSLContext], accepts: bool
) -> tuple[TLS, ssl.SSLContext | None]:
    if isinstance(tls, tuple):
        return tls
    _check_tls(tls)
    if not tls:
        return False, None
    made = certificates()
    if accepts:
        return made.client, made.server_context
    return made.server, made.client_context


def _check_tls(tls: object) -> None:
    if not isinstance(tls, bool):
        raise wrong_type("tls", "a bool, or a pair of what it is for either side", tls)


@contextlib.asynccontextmanager
async def _accepted(
    handlers: Handlers[Any],
    options: Mapping[str, Any],
    theirs: ssl.SSLContext | None,
    unix: bool,
    receive_buffer: int | None,
    *,
    preface: bytes,
) -> AsyncGenerator[Peer, None]:
    async with _listening(handlers, options, unix) as listening:
        sock = _new_socket(unix, receive_buffer)
        with sock:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, listening.address)
            await loop.sock_sendall(sock, preface)
            made = await _peer_on(sock, theirs, server_side=False)
            made.socket = await listening.accepted()
            yield made


@contextlib.asynccontextmanager
async def _connected(
    handlers: Handlers[Any],
    options: Mapping[str, Any],
    theirs: ssl.SSLContext | None,
    unix: bool,
    receive_buffer: int | None,
) -> AsyncGenerator[Peer, None]:
    with _new_socket(unix, receive_buffer) as raw:
        # Without a name the kernel chooses an abstract address, which no file stands for.
        raw.bind("" if unix else ("127.0.0.1", 0))
        raw.listen(1)
        place: dict[str, Any] = {**options, **_place(raw.getsockname())}
        connecting = asyncio.ensure_future(connect(socket=handlers, **place))
        meeting = asyncio.ensure_future(_meet(raw, theirs))
        try:
            socket, made = await asyncio.gather(connecting, meeting)
            made.socket = socket
            yield made
        finally:
            # What one of them made is cleared even if the other one failed.
            for task in (meeting, connecting):
                task.cancel()
            met, reached = await asyncio.gather(meeting, connecting, return_exceptions=True)
            if isinstance(met, Peer):
                met.close()
            if isinstance(reached, Socket):
                reached.terminate()
                await reached.closed()


async def _meet(raw: kernel.socket, tls: ssl.SSLContext | None) -> Peer:
    sock, _ = await asyncio.get_running_loop().sock_accept(raw)
    try:
        return await _peer_on(sock, tls, server_side=True)
    except BaseException:
        sock.close()
        raise


def _new_socket(unix: bool, receive_buffer: int | None) -> kernel.socket:
    sock = kernel.socket(kernel.AF_UNIX if unix else kernel.AF_INET, kernel.SOCK_STREAM)
    sock.setblocking(False)
    if receive_buffer is not None:
        # Before it connects: the window that it offers is then as small.
        sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, receive_buffer)
    return sock


async def _peer_on(sock: kernel.socket, tls: ssl.SSLContext | None, server_side: bool) -> Peer:
    if tls is None:
        return Peer(sock)
    made = TLSPeer(sock, tls, server_side=server_side)
    await made.handshake()
    return made


def _place(address: Any) -> dict[str, Any]:
    """The options of `connect()` for an address of the kernel's."""
    if isinstance(address, tuple):
        host, port = cast("tuple[str, int]", address)
        return {"hostname": host, "port": port}
    return {"unix": address}


class _Listening:
    """A listener for one connection, which is noticed before its handlers are called."""

    listener: AnyListener
    """Set once it listens."""

    def __init__(self, sock: kernel.socket, data_of: Callable[[Socket[Any]], Any]) -> None:
        self.address: Any = sock.getsockname()
        self._data_of = data_of
        self._socket: Socket[Any] | None = None

    def data_factory(self, socket: Socket[Any]) -> Any:
        self._socket = socket
        return self._data_of(socket)

    async def accepted(self) -> Socket[Any]:
        """The socket, when it can carry data. Its handlers may have closed it by then."""
        while self._socket is None:
            if self.listener.stats().accepted and not self.listener.connections:
                raise ConnectionAbortedError(
                    errno.ECONNABORTED, "the listener turned the connection away"
                )
            await asyncio.sleep(0)
        while self._socket.ready_state is ReadyState.ELSE:
            await asyncio.sleep(0)
        return self._socket


@contextlib.asynccontextmanager
async def _listening(
    handlers: Handlers[Any], options: Mapping[str, Any], unix: bool
) -> AsyncGenerator[_Listening, None]:
    own = dict(options)
    data = own.pop("data", None)

    def constant(_: Socket[Any]) -> Any:
        return data

    factory: Callable[[Socket[Any]], Any] = own.pop("data_factory", constant)
    # It has passed to the listener once that exists.
    with kernel.socket(kernel.AF_UNIX if unix else kernel.AF_INET, kernel.SOCK_STREAM) as sock:
        sock.bind("" if unix else ("127.0.0.1", 0))
        sock.listen(1)
        made = _Listening(sock, factory)
        own |= {"data_factory": made.data_factory, "fd": sock.fileno()}
        opening: Any = listen
        made.listener = opening(socket=handlers, **own)
        sock.detach()
    try:
        yield made
    finally:
        made.listener.stop(True)
        await made.listener.closed()

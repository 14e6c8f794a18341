"""The loop ends while connections are open: `close` tells whether accepted bytes are lost."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket as kernel
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS
from tests.peers import Peer
from tests.support import (
    Handshaker,
    Recorder,
    every_path,
    fill,
    linked,
    listen,
    others_had_their_turn,
)

MIB = 1 << 20

Left = Callable[[mantou.Socket[Any], Peer], Awaitable[None]]

every_loop = pytest.mark.parametrize("kind", LOOPS)


def close_after(kind: str, link: str, leave: Left, **options: Any) -> BaseException | None:
    """What `close` is told when the loop ends with the connection as `leave` left it."""
    client = Recorder()
    # The peer outlives the loop: it does not end the connection before.
    with contextlib.ExitStack() as kept:

        async def main() -> None:
            opened = contextlib.AsyncExitStack()
            socket, peer = await opened.enter_async_context(linked(link, client, **options))
            kept.callback(peer.close)
            await leave(socket, peer)
            assert client.of("close") == []
            # Nobody leaves the block: it would close the peer.
            kept.callback(opened.pop_all)

        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(main())
    (error,) = client.errors
    assert client.names[-1] == "close"
    return error


def says_so(error: BaseException | None) -> bool:
    assert isinstance(error, ConnectionAbortedError), repr(error)
    assert error.errno == errno.ECONNABORTED
    return "before everything was sent" in str(error)


@every_loop
@every_path
def test_what_is_queued_is_lost(kind: str, link: str) -> None:
    async def leave(socket: mantou.Socket[Any], _: Peer) -> None:
        socket.write_all(bytes(8 * MIB))
        assert socket.buffered > 0

    assert says_so(close_after(kind, link, leave))


@every_loop
@every_path
@pytest.mark.parametrize("way", ["end", "shutdown"])
def test_so_is_what_waits_for_our_fin(kind: str, link: str, way: str) -> None:
    async def leave(socket: mantou.Socket[Any], _: Peer) -> None:
        socket.write_all(bytes(8 * MIB))
        getattr(socket, way)()

    assert says_so(close_after(kind, link, leave))


@every_loop
@every_path
def test_so_is_what_a_cork_holds(kind: str, link: str) -> None:
    corks = contextlib.ExitStack()

    async def leave(socket: mantou.Socket[Any], _: Peer) -> None:
        corks.enter_context(socket.cork())
        assert socket.write(b"gathered") == 8

    assert says_so(close_after(kind, link, leave))
    corks.close()


@every_loop
@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
def test_so_is_what_the_kernel_has_not_sent(kind: str, link: str) -> None:
    """The peer's window is full: what the kernel took last has not left."""

    async def leave(socket: mantou.Socket[Any], peer: Peer) -> None:
        # The window does not grow while some of it is read.
        peer.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 128 * 1024)
        size = 8 * MIB
        socket.write_all(bytes(size))
        # A part of it is read, so that everything that was queued is in the kernel.
        while socket.buffered:
            size -= len(await peer.receive_some())
            await others_had_their_turn()
        assert size > 0

    assert says_so(close_after(kind, link, leave))


@every_loop
def test_what_a_unix_socket_took_is_delivered(kind: str) -> None:
    held: list[Peer] = []

    async def leave(socket: mantou.Socket[Any], peer: Peer) -> None:
        fill(socket)
        held.append(Peer(peer.sock.dup()))

    assert close_after(kind, "unix", leave) is None
    # The kernel keeps it for the peer.
    (peer,) = held
    assert peer.receive_now(MIB)
    peer.close()


@every_loop
@every_path
def test_nothing_is_lost_where_everything_was_sent(kind: str, link: str) -> None:
    async def leave(socket: mantou.Socket[Any], peer: Peer) -> None:
        socket.write_all(b"all of it")
        assert await peer.receive(9) == b"all of it"

    assert close_after(kind, link, leave) is None


@every_loop
@every_path
def test_nothing_is_lost_behind_our_fin(kind: str, link: str) -> None:
    """The kernel goes on by itself with what it has, our FIN included."""

    async def leave(socket: mantou.Socket[Any], peer: Peer) -> None:
        socket.end(b"the end")
        assert await peer.receive_until_fin() == b"the end"

    assert close_after(kind, link, leave, allow_half_open=True) is None


@every_loop
@pytest.mark.parametrize("link", ["tls", "context"])
def test_what_waits_for_a_handshake_is_lost(kind: str, link: str) -> None:
    server = Handshaker(open=lambda socket: socket.write_all(b"never sealed"))
    peers: list[Peer] = []

    async def main() -> None:
        listener = listen(server, link)
        peers.append(Peer.connect_at_once(("127.0.0.1", listener.port)))
        await server.until("open")

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
    assert says_so(server.errors[0])
    assert server.names == ["open", "handshake", "close"]
    peers[0].close()

"""Somebody else holds our open file, here by a dup(), elsewhere in a forked process.

What we close ends on the wire at once all the same, and leaves the loop's queue: a file that stays
there reports for ever, and nobody can take it out any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket as kernel
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou._attach import running_engine
from tests.conftest import LOOPS
from tests.kernel import FullListener
from tests.support import (
    Peer,
    RawListener,
    Recorder,
    accepted,
    connected,
    every_link,
    every_stream,
    linked,
)
from tests.tls_support import SERVER_OPTIONS

TCP_SYN_SENT, TCP_CLOSE = 2, 7  # linux/tcp_states.h


class Duplicate:
    """Another descriptor of the same open file."""

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)

    @property
    def is_watched(self) -> bool:
        """Whether the file is in the queue of the running loop's sockets."""
        return os.fstat(self.fd).st_ino in queue_of(running_engine().fileno())

    def close(self) -> None:
        os.close(self.fd)


Duplicating = Callable[[int], Duplicate]


@pytest.fixture
def duplicates() -> Iterator[Duplicating]:
    """Makes duplicates that are closed with the test."""
    with contextlib.ExitStack() as stack:

        def duplicate(fd: int) -> Duplicate:
            made = Duplicate(fd)
            stack.callback(made.close)
            return made

        yield duplicate


def queue_of(epoll: int) -> dict[int, int]:
    """The files in an epoll queue: inode and the descriptor that it was added by."""
    found = {}
    for line in Path(f"/proc/self/fdinfo/{epoll}").read_text().splitlines():
        if line.startswith("tfd:"):
            inode = line.partition("ino:")[2].split()[0]
            found[int(inode, 16)] = int(line.split()[1])
    return found


def attempts() -> list[int]:
    """The descriptors of connections in the making."""
    watched = queue_of(running_engine().fileno()).values()
    sockets = [fd for fd in watched if stat.S_ISSOCK(os.fstat(fd).st_mode)]
    return [fd for fd in sockets if tcp_state(fd) == TCP_SYN_SENT]


def tcp_state(fd: int) -> int | None:
    with kernel.socket(fileno=os.dup(fd)) as sock:
        if sock.family != kernel.AF_INET:
            return None
        return sock.getsockopt(kernel.IPPROTO_TCP, kernel.TCP_INFO, 1)[0]


async def keep_sending(peer: Peer) -> None:
    while True:
        await peer.send(b"anybody there?")
        await asyncio.sleep(0)


@every_stream
async def test_terminate_resets_at_once(link: str, duplicates: Duplicating) -> None:
    recorder = Recorder()
    async with accepted(recorder, link) as (socket, peer):
        held = duplicates(socket.fileno())
        assert held.is_watched
        socket.terminate()
        assert not held.is_watched
        with pytest.raises(ConnectionResetError):
            await peer.receive(1)
        await recorder.until("close")
    assert recorder.errors == [None]


async def test_terminate_ends_a_unix_connection_at_once(
    duplicates: Duplicating,
) -> None:
    recorder = Recorder()
    async with linked("unix", recorder) as (socket, peer):
        held = duplicates(socket.fileno())
        socket.terminate()
        assert not held.is_watched
        assert await peer.receive(1) == b""
        await recorder.until("close")


@every_link
@pytest.mark.parametrize("first", ["peer", "ours"])
async def test_both_ends_finish(link: str, first: str, duplicates: Duplicating) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        held = duplicates(socket.fileno())
        socket.write_all(b"last words")
        if first == "ours":
            socket.end()
            assert await peer.receive_until_fin() == b"last words"
        peer.finish()
        assert await peer.receive_until_fin() == (b"last words" if first == "peer" else b"")
        await recorder.until("close")
        assert not held.is_watched
    assert recorder.errors == [None]


async def test_a_reset_of_the_peer_leaves_the_queue(
    duplicates: Duplicating,
) -> None:
    recorder = Recorder()
    async with connected(recorder) as (socket, peer):
        held = duplicates(socket.fileno())
        peer.reset()
        await recorder.until("close")
        assert not held.is_watched
    assert isinstance(recorder.errors[0], ConnectionResetError)


@pytest.mark.parametrize("kind", ["idle", "closing", "lingering"])
async def test_a_timeout_ends_it_at_once(kind: str, duplicates: Duplicating) -> None:
    recorder = Recorder()
    async with connected(recorder, close_timeout=0.05) as (socket, peer):
        held = duplicates(socket.fileno())
        if kind == "idle":
            socket.timeout(0.05)
            assert await peer.receive(1) == b""
        elif kind == "closing":
            socket.end()
            assert await peer.receive(1) == b""
        else:
            socket.close()
            assert await peer.receive(1) == b""
        await recorder.until("close")
        while held.is_watched:
            await asyncio.sleep(0.01)
        # Nothing listens to what comes now.
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await keep_sending(peer)


async def test_a_handshake_that_takes_too_long(duplicates: Duplicating) -> None:
    def opened(socket: mantou.Socket[Any]) -> None:
        held.append(duplicates(socket.fileno()))

    held: list[Duplicate] = []
    recorder = Recorder(open=opened)
    handlers: Any = {
        "open": recorder.open,
        "close": recorder.close,
        "handshake": lambda *_: None,
    }
    options: Any = {"tls": SERVER_OPTIONS, "handshake_timeout": 0.05}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=handlers, **options) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        assert await peer.receive(1) == b""
        await recorder.until("close")
        assert not held[0].is_watched
        peer.close()


async def test_a_connection_that_is_refused(
    duplicates: Duplicating,
) -> None:
    def refuse(socket: mantou.Socket[Any]) -> None:
        held.append(duplicates(socket.fileno()))
        raise LookupError("not you")

    held: list[Duplicate] = []
    recorder = Recorder()
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, data_factory=refuse
    ) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        with pytest.raises(ConnectionResetError):
            await peer.receive(1)
        await recorder.until("connect_error")
        assert not held[0].is_watched
        peer.close()


@pytest.mark.parametrize("end", ["cancelled", "late"])
async def test_an_attempt_that_is_given_up(end: str, duplicates: Duplicating) -> None:
    with FullListener() as full:
        connecting = asyncio.ensure_future(
            mantou.connect(
                hostname="127.0.0.1",
                port=full.port,
                socket=Recorder(),
                connect_timeout=30 if end == "cancelled" else 0.1,
            )
        )
        while not (made := attempts()):
            await asyncio.sleep(0)
        held = duplicates(made[0])
        if end == "cancelled":
            connecting.cancel()
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await connecting
        assert not held.is_watched
        # It does not connect later, either.
        assert tcp_state(held.fd) == TCP_CLOSE


async def test_the_loser_of_a_race(
    duplicates: Duplicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: object, **__: object) -> list[Any]:
        addresses = [("127.0.0.1", full.port), ("127.0.0.1", raw.port)]
        return [(kernel.AF_INET, kernel.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with FullListener() as full, RawListener() as raw:
        connecting = asyncio.ensure_future(
            mantou.connect(hostname="two.example", port=1, socket=Recorder())
        )
        while not (made := attempts()):
            await asyncio.sleep(0)
        held = duplicates(made[0])
        socket = await connecting
        assert not held.is_watched
        socket.terminate()


async def test_a_listener_that_is_stopped(duplicates: Duplicating) -> None:
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder())
    held = duplicates(listener.fileno())
    assert held.is_watched
    listener.stop()
    assert not held.is_watched


async def serve_one(recorder: Recorder, duplicates: Duplicating) -> Peer:
    """A peer of a connection whose descriptor somebody else has, too."""
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)
    peer = await Peer.connect(("127.0.0.1", listener.port))
    await recorder.until("open")
    duplicates(recorder.sockets[0].fileno())
    return peer


@pytest.mark.parametrize("kind", LOOPS)
def test_the_end_of_the_loop(kind: str, duplicates: Duplicating) -> None:
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        peer = runner.run(serve_one(Recorder(), duplicates))
    with pytest.raises(ConnectionResetError):
        peer.receive_now(1)
    peer.close()


def test_a_loop_that_is_only_dropped(duplicates: Duplicating) -> None:
    """Nobody is told, but the peer sees an end, and the connection is counted no more."""
    before = mantou.stats().connections
    recorder = Recorder()
    loop = asyncio.SelectorEventLoop()
    peer = loop.run_until_complete(serve_one(recorder, duplicates))
    loop.close()
    del loop
    recorder.sockets.clear()
    gc.collect()
    peer.sock.settimeout(10)
    assert peer.sock.recv(1) == b""
    peer.close()
    assert mantou.stats().connections == before

"""What listeners offer: their members, how they stop, and what keeps run() going."""

from __future__ import annotations

import asyncio
import errno
import os
import socket as kernel
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS
from tests.support import (
    Peer,
    Recorder,
    accepted,
    dial,
    every_stream,
    fill,
    listen,
    others_had_their_turn,
)


def connect_to(listener: mantou.TCPSocketListener[Any]) -> Peer:
    """Connects before the listener accepts."""
    return Peer.connect_at_once(("127.0.0.1", listener.port))


def is_refused(listener: mantou.TCPSocketListener[Any]) -> bool:
    with kernel.socket() as sock:
        return sock.connect_ex(("127.0.0.1", listener.port)) == errno.ECONNREFUSED


# Members


async def test_a_listener_knows_where_it_listens() -> None:
    with listen(Recorder()) as listener:
        assert listener.hostname == "127.0.0.1"
        copy = kernel.socket(fileno=os.dup(listener.fileno()))
        assert copy.getsockname() == ("127.0.0.1", listener.port)
        assert copy.getsockopt(kernel.SOL_SOCKET, kernel.SO_ACCEPTCONN)
        copy.close()
        assert f"listening hostname='127.0.0.1' port={listener.port}" in repr(listener)
    assert listener.fileno() == -1
    assert listener.port > 0
    assert "stopped" in repr(listener)


@every_stream
async def test_sockets_get_the_very_data_of_their_listener(link: str) -> None:
    recorder = Recorder()
    data = {"shared": True}
    with listen(recorder, link, data=data) as listener:
        assert listener.data is data
        first = await dial(listener, link)
        await recorder.until("open")
        other = object()
        listener.data = other
        second = await dial(listener, link)
        await recorder.until("open", 2)
        assert recorder.sockets[0].data is data
        assert recorder.sockets[1].data is other
        assert all(socket.listener is listener for socket in recorder.sockets)
        # Each socket's is its own to replace.
        recorder.sockets[1].data = None
        assert listener.data is other
        first.close()
        second.close()
        await recorder.until("close", 2)


@every_stream
async def test_a_factory_makes_data_before_open(link: str) -> None:
    seen: list[object] = []
    made: list[mantou.Socket[Any]] = []
    ports: list[int | None] = []

    def factory(socket: mantou.Socket[Any]) -> str:
        made.append(socket)
        ports.append(socket.remote_port)
        return f"number {len(made)}"

    recorder = Recorder(open=lambda socket: seen.append(socket.data))
    with listen(recorder, link, data_factory=factory) as listener:
        peers = [await dial(listener, link) for _ in range(3)]
        await recorder.until("open", 3)
        assert seen == ["number 1", "number 2", "number 3"]
        assert made == recorder.sockets
        assert ports == [peer.sock.getsockname()[1] for peer in peers]
        for peer in peers:
            peer.close()
        await recorder.until("close", 3)


@every_stream
async def test_connections_are_counted(link: str) -> None:
    counts: list[int] = []
    recorder = Recorder(open=lambda socket: counts.append(socket.listener.connections))
    with listen(recorder, link) as listener:
        assert listener.connections == 0
        peers = [await dial(listener, link) for _ in range(3)]
        await recorder.until("open", 3)
        assert counts == [1, 2, 3]
        peers[0].finish()
        peers[1].reset()
        await recorder.until("close", 2)
        assert listener.connections == 1
        listener.stop()
        assert listener.connections == 1
        peers[2].close()
        await listener.closed()
        assert listener.connections == 0
        peers[0].close()


@every_stream
async def test_reload_replaces_the_handlers_of_all(link: str) -> None:
    first, second = Recorder(), Recorder()
    with listen(first, link) as listener:
        old = await dial(listener, link)
        await first.until("open")
        listener.reload(second)
        new = await dial(listener, link)
        await second.until("open")
        await old.send(b"old")
        await new.send(b"new")
        await second.until_received(6)
        for wrong in ({}, {"opne": print}, None):
            with pytest.raises(TypeError):
                listener.reload(wrong)  # type: ignore[arg-type]
        old.close()
        new.close()
        await second.until("close", 2)
    assert first.names == ["open"]


# stop() and closed()


@every_stream
async def test_stop_refuses_and_leaves_the_open_ones(link: str) -> None:
    echo = Recorder(data=lambda socket, data: socket.write(data))
    listener = listen(echo, link)
    peer = await dial(listener, link)
    await echo.until("open")
    listener.stop()
    assert is_refused(listener)
    assert listener.fileno() == -1
    await peer.send(b"still here")
    assert await peer.receive(10) == b"still here"
    waiting = asyncio.ensure_future(listener.closed())
    await others_had_their_turn()
    assert not waiting.done()
    peer.close()
    await waiting
    assert echo.names[-1] == "close"
    await listener.closed()


@every_stream
async def test_stop_may_escalate(link: str) -> None:
    recorder = Recorder()
    listener = listen(recorder, link)
    peer = await dial(listener, link)
    await recorder.until("open")
    recorder.sockets[0].write_all(b"accepted")
    listener.stop()
    listener.stop()
    listener.stop(True)
    assert await peer.receive_until_fin() == b"accepted"
    await listener.closed()
    assert recorder.errors == [None]
    listener.stop(True)
    peer.close()


@every_stream
async def test_stop_closes_only_its_own(link: str) -> None:
    mine, other = Recorder(), Recorder()
    async with accepted(other, link) as (socket, _):
        listener = listen(mine, link)
        peer = await dial(listener, link)
        await mine.until("open")
        listener.stop(True)
        await listener.closed()
        assert socket.ready_state == mantou.ReadyState.ESTABLISHED
        peer.close()
    assert other.names[:1] == ["open"]


@every_stream
@pytest.mark.parametrize("stage", ["open", "data", "end", "close", "drain", "timeout", "error"])
@pytest.mark.parametrize("escalate", [False, True])
async def test_stop_inside_a_handler(link: str, stage: str, escalate: bool) -> None:
    def stop(socket: mantou.Socket[Any], *_: object) -> None:
        assert socket.listener is not None
        socket.listener.stop()
        if escalate:
            socket.listener.stop(True)

    recorder = Recorder(**{stage: stop})
    if stage == "error":
        recorder = Recorder(error=stop, data=lambda socket, data: 1 / 0)
    listener = listen(recorder, link)
    peer = await dial(listener, link)
    await recorder.until("open")
    socket = recorder.sockets[0]
    if stage == "drain":
        fill(socket)
    elif stage == "timeout":
        socket.timeout(0.01)
    elif stage in ("data", "error"):
        await peer.send(b"x")
    elif stage != "open":
        peer.finish()
    reading = asyncio.ensure_future(peer.receive_until_fin())
    await recorder.until(stage)
    assert is_refused(listener)
    if not escalate and stage in ("open", "data", "drain"):
        peer.finish()
    await listener.closed()
    await reading
    peer.close()
    assert recorder.names.count("close") == 1


async def test_stop_in_the_middle_of_accepting_refuses_the_rest() -> None:
    recorder = Recorder(open=lambda socket: socket.listener.stop())
    listener = listen(recorder)
    first, second = connect_to(listener), connect_to(listener)
    with pytest.raises(ConnectionResetError):
        await second.receive(1)
    second.close()
    first.close()
    await listener.closed()
    assert recorder.names == ["open", "end", "close"]


async def test_a_refused_connection_in_the_queue_gets_a_reset() -> None:
    listener = listen(Recorder())
    peer = connect_to(listener)
    listener.stop()
    with pytest.raises(ConnectionResetError):
        await peer.receive(1)
    peer.close()
    await listener.closed()


@every_stream
async def test_stop_inside_the_factory_closes_the_one_being_made(link: str) -> None:
    recorder = Recorder()

    def factory(socket: mantou.Socket[Any]) -> None:
        assert socket.listener is not None
        socket.listener.stop(True)

    listener = listen(recorder, link, data_factory=factory)
    peer = connect_to(listener)
    assert await peer.receive_until_fin() == b""
    await listener.closed()
    peer.close()
    # Without its handshake it was never open.
    assert recorder.names == (["connect_error"] if link == "tls" else ["open", "close"])


async def test_many_may_wait_for_the_end() -> None:
    listener = listen(Recorder())
    waiting = [asyncio.ensure_future(listener.closed()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    listener.stop()
    await asyncio.gather(*waiting[1:])


async def test_leaving_the_block_stops() -> None:
    with pytest.raises(ZeroDivisionError), listen(Recorder()) as listener:
        raise ZeroDivisionError
    assert is_refused(listener)


async def test_a_listener_belongs_to_its_thread() -> None:
    with listen(Recorder()) as listener:
        caught: list[str] = []

        def call() -> None:
            for method in (listener.stop, listener.fileno, listener.ref, listener.unref):
                try:
                    method()
                except mantou.WrongThreadError:
                    caught.append(method.__name__)
            try:
                listener.reload(Recorder())
            except mantou.WrongThreadError:
                caught.append("reload")

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert caught == ["stop", "fileno", "ref", "unref", "reload"]
        assert not is_refused(listener)


# Unix


async def test_a_unix_listener_removes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    recorder = Recorder()
    listener = mantou.listen(unix=path, socket=recorder)
    assert listener.unix == str(path)
    assert stat.S_ISSOCK(path.lstat().st_mode)
    peer = Peer.connect_at_once(str(path), kernel.AF_UNIX)
    await recorder.until("open")
    listener.stop()
    assert not path.exists()
    listener.stop(True)
    assert await peer.receive_until_fin() == b""
    await listener.closed()
    peer.close()


async def test_a_file_that_is_not_its_own_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = mantou.listen(unix=path, socket=Recorder())
    path.unlink()
    with mantou.listen(unix=path, socket=Recorder()):
        first.stop()
        assert path.exists()
        Peer.connect_at_once(str(path), kernel.AF_UNIX).close()
    assert not path.exists()
    third = mantou.listen(unix=path, socket=Recorder())
    third.stop()
    path.write_text("somebody else's")
    third.stop()
    assert path.read_text() == "somebody else's"


async def test_the_file_is_found_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = mantou.listen(unix="socket", socket=Recorder())
    assert listener.unix == "socket"
    monkeypatch.chdir("/")
    listener.stop()
    assert not (tmp_path / "socket").exists()


async def test_an_abstract_listener_has_no_file(tmp_path: Path) -> None:
    name = f"\0{tmp_path}"
    recorder = Recorder()
    with mantou.listen(unix=name, socket=recorder) as listener:
        assert listener.unix == name
        peer = Peer.connect_at_once(name, kernel.AF_UNIX)
        await recorder.until("open")
        peer.close()
        await recorder.until("close")


# run()


def test_run_ends_when_the_last_listener_stops() -> None:
    def stop(socket: mantou.Socket[Any]) -> None:
        assert socket.listener is not None
        socket.listener.stop()

    recorder = Recorder(open=stop, data=lambda socket, data: socket.end(data))
    # Bound before there is a loop.
    listener = listen(recorder)
    peer = connect_to(listener)
    peer.sock.send(b"hello")
    peer.finish()
    assert mantou.run() is None
    assert recorder.names == ["open", "data", "end", "close"]
    peer.sock.setblocking(True)
    assert peer.sock.recv(10) == b"hello"
    peer.close()
    assert listener.fileno() == -1


def test_run_does_not_wait_for_what_is_unreferenced() -> None:
    listener = listen(Recorder())
    listener.unref()
    listener.unref()
    mantou.run()
    # The loop is over, and what was open with it.
    assert is_refused(listener)


def test_ref_takes_unref_back() -> None:
    recorder = Recorder(open=lambda socket: socket.listener.stop())
    listener = listen(recorder)
    listener.unref()
    listener.ref()
    peer = connect_to(listener)
    peer.finish()
    mantou.run()
    assert recorder.names == ["open", "end", "close"]
    peer.close()


def test_an_unreferenced_socket_is_terminated_at_the_end() -> None:
    def let_go(socket: mantou.Socket[Any]) -> None:
        assert socket.listener is not None
        socket.listener.stop()
        socket.unref()

    recorder = Recorder(open=let_go)
    listener = listen(recorder)
    peer = connect_to(listener)
    mantou.run()
    assert recorder.names == ["open", "close"]
    peer.sock.setblocking(True)
    with pytest.raises(ConnectionResetError):
        peer.sock.recv(1)
    peer.close()


@every_stream
def test_everything_is_told_when_run_ends(link: str) -> None:
    recorder = Recorder()

    async def main() -> str:
        listener = listen(recorder, link)
        peers.extend([await dial(listener, link) for _ in range(3)])
        await recorder.until("open", 3)
        return "done"

    peers: list[Peer] = []
    assert mantou.run(main()) == "done"
    assert recorder.names.count("close") == 3
    assert recorder.errors == [None] * 3
    for peer in peers:
        peer.close()


# Waiting where no loop could ever tell


def test_waiting_for_a_listener_that_no_loop_runs_yet() -> None:
    listener = listen(Recorder())
    with pytest.raises(RuntimeError, match="no event loop runs this socket yet"):
        asyncio.run(listener.closed())
    listener.stop()
    # Takes over what was waiting for a loop.
    mantou.run()


@pytest.mark.parametrize("kind", LOOPS)
def test_waiting_once_the_loop_is_closed(kind: str) -> None:
    recorder = Recorder()

    async def main() -> None:
        listeners.append(listen(recorder))
        peer = await dial(listeners[0])
        await recorder.until("open")
        peer.close()

    listeners: list[mantou.TCPSocketListener[Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())

    async def drained() -> None:
        await recorder.sockets[0].drained()

    for waiting in (listeners[0].closed, drained):
        with pytest.raises(RuntimeError, match="the event loop of this socket is closed"):
            asyncio.run(waiting())

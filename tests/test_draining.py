"""`listener.drain()`: nobody new, connections told and left to finish, the rest cut and counted."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import signal
import socket as kernel
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.conftest import LoopErrors
from tests.limits import arrive, come_in, listen_over
from tests.support import (
    Gate,
    Handshaker,
    Peer,
    Recorder,
    dial,
    every_path,
    listen,
    others_had_their_turn,
)
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, secured


class Draining(Recorder):
    """A recorder that is told when its listener drains."""

    def draining(self, socket: mantou.Socket[Any]) -> object:
        return self._note("draining", socket)


def echo(socket: mantou.Socket[Any], data: bytes) -> None:
    socket.write_all(data)


@every_path
async def test_connections_finish_and_nobody_new_comes(link: str) -> None:
    recorder = Draining(data=echo)
    listener = listen_over(link, recorder)
    peers = [await come_in(link, arrive(listener)) for _ in range(3)]
    await recorder.until("open", 3)
    draining = asyncio.ensure_future(listener.drain())
    await recorder.until("draining", 3)
    with kernel.socket(kernel.AF_UNIX if link == "unix" else kernel.AF_INET) as sock:
        address = listener.unix if link == "unix" else ("127.0.0.1", listener.port)
        assert sock.connect_ex(address) == errno.ECONNREFUSED
    for peer in peers:
        await peer.send(b"last words")
        assert await peer.receive(10) == b"last words"
        assert not draining.done()
        peer.close()
    assert await draining == 0
    assert recorder.errors == [None] * 3 or link in ("tls", "context")
    assert recorder.names.count("draining") == 3


@every_path
async def test_what_is_left_after_grace_is_cut_and_counted(link: str) -> None:
    recorder = Draining()
    listener = listen_over(link, recorder)
    peers = [await come_in(link, arrive(listener)) for _ in range(3)]
    await recorder.until("open", 3)
    peers[0].close()
    await recorder.until("close")
    begun = time.monotonic()
    assert await listener.drain(0.2) == 2
    assert time.monotonic() - begun >= 0.2
    # As terminate() has it, and told before drain() returns.
    assert len(recorder.of("close")) == 3
    assert recorder.errors[1:] == [None, None]
    assert listener.connections == 0
    for peer in peers[1:]:
        if link == "unix":
            assert await peer.receive_some() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await peer.receive_some()
        peer.close()


async def test_a_handler_that_ends_its_connection_ends_the_drain() -> None:
    recorder = Draining(draining=lambda socket: socket.end(b"bye"))
    listener = listen(recorder)
    peer = await dial(listener)
    await recorder.until("open")
    draining = asyncio.ensure_future(listener.drain(None))
    assert await peer.receive_until_fin() == b"bye"
    peer.close()
    assert await draining == 0
    assert recorder.names == ["open", "draining", "end", "close"]


async def test_the_drain_of_a_listener_without_connections_is_over_at_once() -> None:
    listener = listen(Draining())
    assert await listener.drain(None) == 0
    assert listener.fileno() == -1
    assert await listener.drain(0) == 0


async def test_without_a_draining_handler_connections_just_go_on() -> None:
    recorder = Recorder(data=echo)
    listener = listen(recorder)
    peer = await dial(listener)
    await recorder.until("open")
    draining = asyncio.ensure_future(listener.drain())
    await peer.send(b"still there")
    assert await peer.receive(11) == b"still there"
    peer.close()
    assert await draining == 0


@pytest.mark.parametrize("link", ["tls", "context"])
async def test_a_connection_that_opens_later_is_told_right_after_open(link: str) -> None:
    recorder = Draining(draining=lambda socket: socket.end(b"too late"))
    listener = listen(recorder, link)
    peer = arrive(listener)
    await recorder.until_true(lambda: True)
    while listener.connections == 0:
        await asyncio.sleep(0)
    draining = asyncio.ensure_future(listener.drain())
    peer = await secured(peer.sock, server_side=False)
    assert await peer.receive_until_fin() == b"too late"
    peer.close()
    assert await draining == 0
    assert recorder.names[:2] == ["open", "draining"]


async def test_who_opened_before_its_handshake_is_told_at_once() -> None:
    class Both(Handshaker, Draining):
        pass

    recorder = Both()
    listener = listen(recorder, "tls")
    peer = arrive(listener)
    await recorder.until("open")
    assert await listener.drain(0) == 1
    assert recorder.names == ["open", "draining", "handshake", "close"]
    peer.close()


async def test_upgraded_connections_are_told_and_cut_too() -> None:
    upgraded = Draining()

    def upgrade(socket: mantou.Socket[Any], data: bytes) -> None:
        socket.write("go")
        socket.upgrade_tls(socket=upgraded, tls=SERVER_OPTIONS)

    listener = listen(Draining(data=upgrade))
    plain = Recorder()
    client = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=plain)
    client.write("upgrade")
    await plain.until("data")
    ours = Recorder()
    client.upgrade_tls(socket=ours, tls=CLIENT_OPTIONS)
    await ours.until("open")
    await upgraded.until("open")
    assert await listener.drain(0) == 1
    assert upgraded.names == ["open", "draining", "close"]
    await ours.until("close")


async def test_draining_is_told_while_another_handler_waits() -> None:
    gate = Gate()

    async def data(socket: mantou.Socket[Any], data: bytes) -> None:
        await gate.wait()
        socket.end(b"done")

    recorder = Draining(data=data)
    listener = listen(recorder)
    peer = await dial(listener)
    await peer.send(b"request")
    await recorder.until("data")
    draining = asyncio.ensure_future(listener.drain())
    await recorder.until("draining")
    gate.opened.set()
    assert await peer.receive_until_fin() == b"done"
    peer.close()
    assert await draining == 0
    assert gate.cancelled == 0


async def test_coroutines_of_what_is_cut_are_cancelled_first() -> None:
    gate = Gate()
    recorder = Draining(data=lambda socket, data: gate.wait())
    listener = listen(recorder)
    peer = await dial(listener)
    await peer.send(b"request")
    await recorder.until("data")
    assert await listener.drain(0.05) == 1
    assert (gate.entered, gate.cancelled) == (1, 1)
    assert recorder.names == ["open", "data", "draining", "close"]
    peer.close()


async def test_a_coroutine_that_does_not_end_does_not_keep_drain_from_returning() -> None:
    stubborn = asyncio.Event()

    async def data(socket: mantou.Socket[Any], data: bytes) -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue

    recorder = Draining(data=data)
    listener = listen(recorder)
    peer = await dial(listener)
    await peer.send(b"request")
    await recorder.until("data")
    assert await listener.drain(0) == 1
    assert listener.connections == 1
    stubborn.set()
    await listener.closed()
    peer.close()


@pytest.mark.parametrize("grace", [0, 30])
async def test_it_waits_for_async_close_handlers(grace: float) -> None:
    """Cut or not: whoever returns from `main()` behind it would cancel them."""
    cleaned_up = 0

    async def close(socket: mantou.Socket[Any], error: BaseException | None) -> None:
        nonlocal cleaned_up
        await asyncio.sleep(0.05)
        cleaned_up += 1

    recorder = Recorder()
    listener = listen({"open": recorder.open, "close": close})
    peers = [await dial(listener) for _ in range(3)]
    await recorder.until("open", 3)
    if grace:
        for peer in peers:
            peer.finish()
    assert await listener.drain(grace) == (3 if grace == 0 else 0)
    assert cleaned_up == 3
    assert listener.connections == 0
    await listener.closed()
    for peer in peers:
        peer.close()


async def test_an_async_close_that_does_not_end_keeps_drain_for_a_second_at_most() -> None:
    over = asyncio.Event()

    async def close(socket: mantou.Socket[Any], error: BaseException | None) -> None:
        await over.wait()

    recorder = Recorder()
    listener = listen({"open": recorder.open, "close": close})
    peer = await dial(listener)
    await recorder.until("open")
    assert await listener.drain(0) == 1
    closed = asyncio.ensure_future(listener.closed())
    await others_had_their_turn()
    assert not closed.done()
    over.set()
    await closed
    peer.close()


async def test_an_async_draining_handler_may_take_its_time() -> None:
    async def draining(socket: mantou.Socket[Any]) -> None:
        socket.write("one more")
        await asyncio.sleep(0)
        socket.end()

    recorder = Draining(draining=draining)
    listener = listen(recorder)
    peer = await dial(listener)
    await recorder.until("open")
    drained = asyncio.ensure_future(listener.drain())
    assert await peer.receive_until_fin() == b"one more"
    peer.close()
    assert await drained == 0


async def test_a_draining_handler_that_raises_closes_its_connection(
    loop_errors: LoopErrors,
) -> None:
    trouble = RuntimeError("in draining")

    def draining(socket: mantou.Socket[Any]) -> None:
        raise trouble

    recorder = Recorder()
    listener = listen({"open": recorder.open, "close": recorder.close, "draining": draining})
    peer = await dial(listener)
    await recorder.until("open")
    drained = asyncio.ensure_future(listener.drain())
    assert await peer.receive_until_fin() == b""
    peer.close()
    assert await drained == 0
    assert recorder.errors == [trouble]
    assert loop_errors.pop()["exception"] is trouble


async def test_a_draining_handler_may_end_others() -> None:
    """Those that are gone when their turn comes are not told."""
    recorder = Draining(draining=lambda _: [each.terminate() for each in recorder.sockets])
    listener = listen(recorder)
    peers = [await dial(listener) for _ in range(3)]
    await recorder.until("open", 3)
    assert await listener.drain() == 0
    assert len(recorder.of("draining")) == 1
    assert len(recorder.of("close")) == 3
    for peer in peers:
        peer.close()


async def test_a_cancelled_drain_cuts_nothing_and_may_be_repeated() -> None:
    recorder = Draining(data=echo)
    listener = listen(recorder)
    peer = await dial(listener)
    await recorder.until("open")
    draining = asyncio.ensure_future(listener.drain(None))
    await recorder.until("draining")
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert listener.fileno() == -1
    await peer.send(b"alive")
    assert await peer.receive(5) == b"alive"
    assert await listener.drain(0) == 1
    # Told once only.
    assert len(recorder.of("draining")) == 1
    peer.close()


async def test_a_second_drain_may_be_more_impatient() -> None:
    recorder = Draining()
    listener = listen(recorder)
    peer = await dial(listener)
    await recorder.until("open")
    patient = asyncio.ensure_future(listener.drain(None))
    await recorder.until("draining")
    assert await listener.drain(0) == 1
    assert await patient == 0
    peer.close()


async def test_a_paused_and_limited_listener_drains_like_any_other() -> None:
    recorder = Draining()
    listener = listen(recorder, max_connections=1)
    peer, waiting = arrive(listener), arrive(listener)
    await recorder.until("open")
    listener.pause()
    draining = asyncio.ensure_future(listener.drain())
    await recorder.until("draining")
    with pytest.raises(ConnectionResetError):
        await waiting.receive_some()
    peer.close()
    assert await draining == 0
    assert len(recorder.of("open")) == 1
    waiting.close()


async def test_draining_under_load_loses_no_answer() -> None:
    """Each request that was taken is answered; each connection is told, and ends after it."""

    class Server(mantou.SocketHandler[str]):
        def open(self, socket: mantou.Socket[str]) -> None:
            socket.data = "serving"

        def data(self, socket: mantou.Socket[str], data: bytes) -> None:
            if socket.data == "serving":
                socket.write_all(data)
            elif socket.data == "draining":
                socket.data = "ended"
                socket.end(data)

        def draining(self, socket: mantou.Socket[str]) -> None:
            socket.data = "draining"

    answered = 0
    ended = 0

    async def client() -> None:
        nonlocal answered, ended
        peer = await Peer.connect(("127.0.0.1", listener.port))
        while True:
            await peer.send(b"request!")
            answer = await peer.receive(8)
            if not answer:
                break
            assert answer == b"request!"
            answered += 1
        ended += 1
        peer.close()

    listener = listen(Server())
    clients = [asyncio.ensure_future(client()) for _ in range(50)]
    while answered < 500:
        await asyncio.sleep(0)
    assert await listener.drain(20) == 0
    await asyncio.gather(*clients)
    assert ended == 50


async def test_what_was_cut_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with caplog.at_level(logging.INFO, "mantou"):
        listener = listen(recorder)
        peer = await dial(listener)
        await recorder.until("open")
        await listener.drain(0)
    peer.close()
    began, stopped, cut = [record.getMessage() for record in caplog.records]
    assert (
        began == f"<mantou.TCPSocketListener listening hostname='127.0.0.1' port={listener.port}>"
    )
    assert stopped.endswith("1 connections are open")
    assert cut.endswith("1 connections did not finish and were cut")


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "1", True])
async def test_grace_is_a_time(wrong: Any) -> None:
    with listen(Recorder()) as listener:
        with pytest.raises((TypeError, ValueError), match="option 'grace' must be"):
            await listener.drain(wrong)
        assert listener.fileno() >= 0


def test_the_program_of_the_documentation_drains_on_sigterm() -> None:
    text = (Path(__file__).parent.parent / "docs" / "guides" / "serving.md").read_text()
    programs = re.findall(r"```python\n(import asyncio\n.*?)```", text, re.DOTALL)
    (program,) = (program for program in programs if "SIGTERM" in program)
    program = program.replace("port=7000", "port=0")
    program = program.replace("    stop = ", "    print(listener.port, flush=True)\n    stop = ")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        idle, busy = (kernel.create_connection(address, timeout=20) for _ in range(2))
        busy.sendall(b"first")
        assert busy.recv(100) == b"first"
        busy.sendall(b"second")
        process.send_signal(signal.SIGTERM)
        assert idle.recv(100) == b""
        assert busy.recv(100) == b"second"
        assert busy.recv(100) == b""
        idle.close()
        busy.close()
        assert process.stdout.read() == b"0 connections did not finish\n"
    assert process.returncode == 0


def test_without_a_loop_nothing_is_stopped() -> None:
    with listen(Recorder()) as listener:
        draining = listener.drain()
        with pytest.raises(RuntimeError, match="no event loop runs this socket yet"):
            draining.send(None)
        assert listener.fileno() >= 0
        mantou.run(listener.drain())
        assert listener.fileno() == -1

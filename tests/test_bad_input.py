"""Peers and circumstances that behave badly: nothing is lost, nobody else suffers."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import time
from typing import Any

import pytest

import mantou
from tests.conftest import LoopErrors
from tests.support import (
    Peer,
    RawListener,
    Recorder,
    accepted,
    dial,
    every_stream,
    linked,
    listen,
    reach,
)

MIB = 1 << 20


def echo(**handlers: Any) -> Recorder:
    return Recorder(data=lambda socket, data: socket.write_all(data), **handlers)


async def still_answers(listener: mantou.TCPSocketListener[Any], link: str) -> None:
    peer = await dial(listener, link)
    await peer.send(b"alive?")
    assert await peer.receive(6) == b"alive?"
    peer.reset()


# Floods and drips


@every_stream
async def test_a_flood_that_nobody_wants(link: str) -> None:
    """Without a `data` handler input is read and dropped; the connection goes on."""
    server = Recorder()
    opened = asyncio.Event()
    handlers = {"open": lambda socket: (server.sockets.append(socket), opened.set())}
    with listen(handlers, link) as listener:
        peer = await dial(listener, link)
        await peer.send(bytes(32 * MIB))
        await opened.wait()
        assert server.sockets[0].write(b"so what") == 7
        peer.finish()
        assert await peer.receive_until_fin() == b"so what"
        peer.close()
    await listener.closed()
    assert server.sockets[0].bytes_read == 32 * MIB


@every_stream
async def test_a_flood_behind_close_does_not_destroy_the_last_bytes(link: str) -> None:
    recorder = Recorder(data=lambda socket, _: (socket.write_all(b"x" * 100_000), socket.close()))
    async with accepted(recorder, link) as (_, peer):
        flood = asyncio.create_task(peer.send(bytes(8 * MIB)))
        assert await peer.receive(100_001) == b"x" * 100_000
        await flood
        await recorder.until("close")
    assert recorder.names == ["open", "data", "close"]
    assert recorder.errors == [None]


@every_stream
async def test_a_drip_of_single_bytes(link: str) -> None:
    text = bytes(range(256)) * 8
    async with accepted(echo(), link) as (_, peer):
        peer.sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
        for position in range(0, len(text), 4):
            for number in range(4):
                await peer.send(text[position + number : position + number + 1])
            assert await peer.receive(4) == text[position : position + 4]


@every_stream
async def test_a_reader_that_takes_single_bytes(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        sent = socket.write(b"ab" * 8 * MIB)
        assert 0 < sent < 16 * MIB
        for number in range(3000):
            assert await peer.receive(1) == b"ab"[number % 2 : number % 2 + 1]
        assert len(await peer.receive(sent - 3000)) == sent - 3000
        await recorder.until("drain")
    assert len(recorder.of("drain")) == 1


# RST


@every_stream
@pytest.mark.parametrize("stage", ["open", "data", "writing", "queued", "end", "half", "paused"])
async def test_a_reset_at_every_stage(link: str, stage: str) -> None:
    handlers = {"data": lambda socket, _: socket.pause()} if stage == "paused" else {}
    recorder = Recorder(**handlers)
    with listen(recorder, link, allow_half_open=stage == "half") as listener:
        peer = await dial(listener, link)
        await recorder.until("open")
        socket = recorder.sockets[0]
        if stage in ("data", "paused"):
            await peer.send(b"last words")
            await recorder.until_received(10)
        elif stage == "writing":
            while socket.write(bytes(MIB)):
                pass
        elif stage == "queued":
            socket.write_all(bytes(8 * MIB))
        elif stage == "end":
            assert socket.end(b"bye") == 3
            assert await peer.receive_until_fin() == b"bye"
        elif stage == "half":
            peer.finish()
            await recorder.until("end")
        peer.reset()
        if stage == "paused":
            # Held back until resume(); writing finds out earlier.
            while socket.write(b"?") != -1:
                await asyncio.sleep(0)
            assert recorder.names == ["open", "data"]
            socket.resume()
        await recorder.until("close")
        assert len(recorder.of("close")) == 1
        assert isinstance(recorder.errors[0], ConnectionResetError | BrokenPipeError)
        assert socket.write(b"x") == -1
        with pytest.raises(BrokenPipeError):
            socket.write_all(b"x")
        assert listener.connections == 0


async def test_data_before_a_reset_is_delivered() -> None:
    recorder = Recorder()
    with listen(recorder) as listener:
        for _ in range(20):
            with kernel.create_connection(("127.0.0.1", listener.port)) as sock:
                # Both are there before the loop looks.
                sock.sendall(b"x" * 1000)
                sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await recorder.until("close", 20)
    # Linux drops what was not read when a RST comes: what is delivered is whole or nothing.
    assert len(recorder.received) % 1000 == 0
    assert len(recorder.of("open")) == 20


@every_stream
async def test_peers_that_are_gone_before_they_are_accepted(link: str) -> None:
    recorder = echo()
    with listen(recorder, link) as listener:
        for _ in range(100):
            with kernel.create_connection(("127.0.0.1", listener.port)) as sock:
                sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await still_answers(listener, link)
        await recorder.until("close", 1 if link == "tls" else 101)
        # Without a handshake they were never open.
        assert len(recorder.of("connect_error")) == (100 if link == "tls" else 0)
        assert listener.connections == 0


@every_stream
async def test_a_reset_while_connecting(link: str) -> None:
    """The connection is made and reset before anybody looks at it."""
    recorder = Recorder()
    with RawListener() as raw:
        task = asyncio.create_task(reach(raw, recorder, link))
        while True:
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                sock, _ = raw.sock.accept()
                break
        Peer(sock).reset()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if link == "tls" or isinstance(outcome, BaseException):
            assert isinstance(outcome, ConnectionResetError)
            assert recorder.names == ["connect_error"]
        else:
            await recorder.until("close")
            assert recorder.names == ["open", "close"]
            assert isinstance(recorder.errors[0], ConnectionResetError)


# Pausing


@every_stream
async def test_a_fin_while_paused_comes_after_the_data(link: str) -> None:
    recorder = Recorder(data=lambda socket, _: socket.pause())
    async with accepted(recorder, link) as (socket, peer):
        await peer.send(b"first")
        await recorder.until_received(5)
        await peer.send(b"second")
        peer.finish()
        # Writing goes on meanwhile, and shows that events are handled.
        for _ in range(3):
            assert socket.write(b"still here") == 10
            assert await peer.receive(10) == b"still here"
        assert recorder.names == ["open", "data"]
        assert bytes(recorder.received) == b"first"
        socket.resume()
        await recorder.until_received(11)
        assert recorder.of("end") == []
        socket.resume()
        await recorder.until("close")
    assert recorder.names == ["open", "data", "end", "close"]
    assert bytes(recorder.received) == b"firstsecond"
    assert recorder.errors == [None]


@every_stream
@pytest.mark.loops("mantou", "asyncio")
@pytest.mark.parametrize("way", ["fin", "reset"])
async def test_a_paused_socket_whose_peer_is_gone_costs_nothing(link: str, way: str) -> None:
    recorder = Recorder(open=lambda socket: socket.pause())
    async with linked(link, recorder) as (socket, peer):
        await peer.send(b"unread")
        if way == "fin":
            peer.close()
        else:
            peer.reset()
        before = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - before < 0.05
        socket.resume()
        await recorder.until("close")


@every_stream
async def test_a_socket_paused_until_drain_learns_of_a_reset(link: str) -> None:
    """The usual way to handle backpressure must not leave a zombie."""

    def on_data(socket: mantou.Socket[Any], data: bytes) -> None:
        socket.write_all(bytes(8 * MIB))
        socket.pause()

    recorder = Recorder(data=on_data, drain=lambda socket: socket.resume())
    async with accepted(recorder, link) as (socket, peer):
        await peer.send(b"much, please")
        await recorder.until("data")
        assert socket.buffered > 0
        peer.reset()
        await recorder.until("close")
    assert isinstance(recorder.errors[0], ConnectionError)


@every_stream
async def test_who_waits_for_drained_while_paused_learns_of_a_reset(link: str) -> None:
    recorder = Recorder()
    async with accepted(recorder, link) as (socket, peer):
        socket.pause()
        socket.write_all(bytes(8 * MIB))
        waiting = asyncio.ensure_future(socket.drained())
        await asyncio.sleep(0)
        peer.reset()
        with pytest.raises(ConnectionError):
            await waiting
        with pytest.raises(ConnectionError):
            await socket.drained()
        # write_all() had asked for it; what it means is: look again.
        assert recorder.names == ["open", "drain"]
        assert socket.write(b"x") == -1
        socket.resume()
        await recorder.until("close")


# Handlers


@pytest.mark.alone
@every_stream
async def test_a_handler_that_blocks_delays_but_loses_nothing(link: str) -> None:
    blocked = []

    def block(socket: mantou.Socket[Any], data: bytes) -> None:
        if data.startswith(b"block"):
            blocked.append(time.monotonic())
            time.sleep(0.3)
        socket.write(data)

    recorder = Recorder(data=block)
    with listen(recorder, link, idle_timeout=0.2) as listener:
        peers = [await dial(listener, link) for _ in range(3)]
        await recorder.until("open", 3)
        await peers[0].send(b"block")
        assert await peers[0].receive(5) == b"block"
        for peer in peers[1:]:
            await peer.send(b"others")
        for peer in peers:
            await peer.receive_until_fin()
            peer.close()
        await recorder.until("close", 3)
    assert len(blocked) == 1
    # Idle from the last byte on, not from before the handler that blocked.
    assert len(recorder.of("timeout")) == 3


EVENTS = ["open", "data", "drain", "end", "close", "timeout"]


@every_stream
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("handled", [True, False], ids=["error-handler", "no-error-handler"])
async def test_a_handler_that_raises_at_every_event(
    link: str, event: str, handled: bool, loop_errors: LoopErrors
) -> None:
    class Broken(Exception):
        pass

    def fail(*_: object) -> None:
        raise Broken(event)

    def opened(socket: mantou.Socket[Any]) -> None:
        if event == "drain":
            socket.write_all(bytes(8 * MIB))
        if event == "timeout":
            socket.timeout(0.05)

    recorder = Recorder(**({"open": opened} | {event: fail}))
    if not handled:
        recorder.error = None  # type: ignore[assignment, method-assign]
    with listen(recorder, link) as listener:
        peer = await dial(listener, link)
        with contextlib.suppress(ConnectionError):
            if event != "timeout":
                await peer.send(b"x")
            if event in ("end", "close"):
                peer.finish()
            await peer.receive_until_fin()
        peer.close()
        await recorder.until("close")
        bystander = {"open": lambda socket: socket.end(b"all is well")}
        listener.reload(bystander)
        peer = await dial(listener, link)
        assert await peer.receive_until_fin() == b"all is well"
        peer.close()
    await listener.closed()
    assert len(recorder.of("close")) == 1
    reported = [type(context["exception"]) for context in loop_errors]
    if event == "close":
        assert recorder.errors == [None]
        assert (recorder.of("error"), reported) == ([], [Broken])
    else:
        assert isinstance(recorder.errors[0], Broken)
        assert len(recorder.of("error")) == int(handled)
        assert reported == ([] if handled else [Broken])
    loop_errors.clear()

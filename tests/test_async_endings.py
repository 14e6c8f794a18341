"""Async handlers end with their connection, or before it: none outlives it, `close` comes last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.conftest import LoopErrors
from tests.support import (
    Gate,
    Peer,
    Recorder,
    accepted,
    dial,
    every_stream,
    listen,
    others_had_their_turn,
)
from tests.tls_support import SERVER_OPTIONS, secured

Socket = mantou.Socket[Any]

ENDINGS: dict[str, Callable[[Socket, Peer], object]] = {
    "reset": lambda socket, peer: peer.reset(),
    "terminate": lambda socket, peer: socket.terminate(),
    "close": lambda socket, peer: socket.close(),
    "timeout": lambda socket, peer: socket.timeout(0.01),
}


@every_stream
@pytest.mark.parametrize("ending", ENDINGS)
async def test_no_coroutine_outlives_its_connection(link: str, ending: str) -> None:
    gate = Gate()
    order: list[str] = []

    async def on_data(socket: Socket, data: bytes) -> None:
        try:
            await gate.wait()
        finally:
            await asyncio.sleep(0)
            order.append("coroutine ends")

    recorder = Recorder(data=on_data, close=lambda socket, error: order.append("close"))
    async with accepted(recorder, link) as (socket, peer):
        await peer.send(b"x")
        await recorder.until("data")
        ENDINGS[ending](socket, peer)
        await recorder.until("close")
    assert order == ["coroutine ends", "close"]
    assert (gate.entered, gate.cancelled) == (1, 1)
    kinds = {"reset": ConnectionResetError, "timeout": TimeoutError}
    (error,) = recorder.errors
    assert isinstance(error, kinds.get(ending, type(None)))


@every_stream
async def test_what_a_cancelled_coroutine_raises_is_told_before_close(link: str) -> None:
    async def on_data(socket: Socket, data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError("while cleaning up") from None

    recorder = Recorder(data=on_data)
    async with accepted(recorder, link) as (socket, peer):
        await peer.send(b"x")
        await recorder.until("data")
        socket.terminate()
        await recorder.until("close")
    assert recorder.names == ["open", "data", "error", "close"]
    assert isinstance(recorder.of("error")[0][1], LookupError)


@every_stream
async def test_data_before_a_reset_is_not_lost_to_a_coroutine(link: str) -> None:
    """The coroutine is cancelled for the reset; then comes what had arrived, then the end."""
    gate = Gate()

    async def on_data(socket: Socket, data: bytes) -> None:
        if data.startswith(b"first"):
            await gate.wait()

    recorder = Recorder(data=on_data)
    async with accepted(recorder, link) as (_, peer):
        await peer.send(b"first")
        await recorder.until("data")
        await peer.send(b"second")
        peer.reset()
        await recorder.until("close")
    assert gate.cancelled == 1
    assert bytes(recorder.received) == b"firstsecond"
    assert isinstance(recorder.errors[0], ConnectionResetError)


@every_stream
@pytest.mark.parametrize("keep", [True, False])
async def test_timeout_is_asked_although_a_coroutine_waits(link: str, keep: bool) -> None:
    gate = Gate()
    recorder = Recorder(data=lambda socket, data: gate.wait(), timeout=lambda socket: keep)
    async with accepted(recorder, link, idle_timeout=0.02) as (_, peer):
        await peer.send(b"x")
        await recorder.until("timeout")
        if keep:
            gate.opened.set()
            await others_had_their_turn()
            peer.finish()
        await recorder.until("close")
    assert gate.cancelled == (0 if keep else 1)
    assert isinstance(recorder.errors[0], type(None) if keep else TimeoutError)


@every_stream
async def test_an_async_timeout_is_asked_once_at_a_time(link: str) -> None:
    gate = Gate()

    async def decide(socket: Socket) -> bool:
        await gate.wait()
        return False

    recorder = Recorder(timeout=decide)
    async with accepted(recorder, link, idle_timeout=0.01) as (socket, peer):
        await recorder.until("timeout")
        socket.timeout(0.001)
        again = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, again.set_result, None)
        await again
        assert gate.entered == 1
        gate.opened.set()
        assert await peer.receive_until_fin() == b""
        await recorder.until("close")
    assert isinstance(recorder.errors[0], TimeoutError)


# The loop's end


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_end_of_the_loop_ends_coroutines_first(stubborn: bool) -> None:
    order: list[str] = []

    async def on_data(socket: Socket, data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if stubborn:
                await asyncio.sleep(0.01)
            order.append("coroutine ends")

    recorder = Recorder(data=on_data, close=lambda socket, error: order.append("close"))

    async def main() -> None:
        listener = listen(recorder)
        peer = await dial(listener)
        await peer.send(b"x")
        await recorder.until("data")
        peer.close()

    mantou.run(main())
    assert order == ["coroutine ends", "close"]


# Upgraded


async def test_a_coroutine_may_upgrade_and_go_on() -> None:
    """It belongs to the raw socket; the TLS socket's handlers do not wait for it."""
    opened = asyncio.get_running_loop().create_future()
    finished: list[str] = []

    class Secure(Recorder):
        def open(self, socket: Socket) -> object:
            opened.set_result(None)
            return super().open(socket)

    secure = Secure(data=lambda socket, data: socket.write(data))

    async def on_data(socket: Socket, data: bytes) -> None:
        socket.write_all(b"go")
        socket.upgrade_tls(tls=SERVER_OPTIONS, socket=secure)
        await opened
        finished.append("opened")
        try:
            await asyncio.Event().wait()
        finally:
            finished.append("ended")

    raw = Recorder(data=on_data, close=lambda socket, error: finished.append("raw close"))
    async with accepted(raw) as (_, peer):
        await peer.send(b"STARTTLS")
        assert await peer.receive(2) == b"go"
        over_tls = await secured(peer.sock, server_side=False)
        await over_tls.send(b"secret")
        assert await over_tls.receive(6) == b"secret"
        over_tls.finish()
        await over_tls.receive_until_fin()
        await secure.until("close")
    assert finished == ["opened", "ended", "raw close"]


async def test_nobody_else_hears_of_a_handlers_coroutine(loop_errors: LoopErrors) -> None:
    """What a cancelled coroutine leaves behind is no 'Task exception was never retrieved'."""
    recorder = Recorder(data=lambda socket, data: asyncio.sleep(60))
    async with accepted(recorder) as (socket, peer):
        await peer.send(b"x")
        await recorder.until("data")
        socket.terminate()
        await recorder.until("close")
    assert loop_errors == []

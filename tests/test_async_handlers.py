"""Async handlers: the first step at once, one after another, and none outlives its connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Any

import pytest

import mantou
from tests.support import (
    Gate,
    Peer,
    RawListener,
    Recorder,
    accepted,
    dial,
    every_link,
    every_stream,
    linked,
    listen,
    others_had_their_turn,
)
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, TlsPeer, context, secured

Socket = mantou.Socket[Any]


# One after another


@every_link
async def test_answers_come_in_the_order_of_the_questions(link: str) -> None:
    """The first takes longest, and the peer ends its side before any of them is answered."""
    pauses = [0.03, 0.02, 0.01]

    async def answer(socket: Socket, data: bytes) -> None:
        for letter in data.decode():
            await asyncio.sleep(pauses["abc".index(letter)])
            socket.write_all(letter.upper())

    recorder = Recorder(data=answer)
    async with linked(link, recorder) as (_, peer):
        await peer.send(b"a")
        await recorder.until("data")
        await peer.send(b"b")
        await peer.send(b"c")
        peer.finish()
        assert await peer.receive_until_fin() == b"ABC"
        await recorder.until("close")
    assert recorder.names == ["open", "data", "end", "close"]
    assert recorder.errors == [None]


@every_link
async def test_nothing_is_read_while_a_coroutine_waits(link: str) -> None:
    gate = Gate()

    async def on_data(socket: Socket, data: bytes) -> None:
        if data == b"first":
            await gate.wait()

    recorder = Recorder(data=on_data)
    async with linked(link, recorder) as (socket, peer):
        await peer.send(b"first")
        await recorder.until("data")
        flood = asyncio.ensure_future(peer.send(bytes(32 * 1024 * 1024)))
        await others_had_their_turn()
        await others_had_their_turn()
        assert not flood.done()
        assert socket.bytes_read < 1024 * 1024
        assert len(recorder.of("data")) == 1
        gate.opened.set()
        await flood
        await recorder.until_received(32 * 1024 * 1024 + 5)
        socket.terminate()
        await recorder.until("close")


@every_stream
async def test_the_first_step_is_part_of_the_event(link: str) -> None:
    """So that what it sets is there for whatever comes next."""
    gate = Gate()
    order: list[str] = []

    async def on_data(socket: Socket, data: bytes) -> None:
        order.append("first step")
        await gate.wait()
        order.append("second step")

    def note(socket: Socket, data: bytes) -> Awaitable[None]:
        coroutine = on_data(socket, data)
        order.append("called")
        asyncio.get_running_loop().call_soon(order.append, "later")
        return coroutine

    recorder = Recorder(data=note)
    async with accepted(recorder, link) as (_, peer):
        await peer.send(b"x")
        await recorder.until("data")
        await others_had_their_turn()
        assert order == ["called", "first step", "later"]
        gate.opened.set()
        await others_had_their_turn()
        assert order[-1] == "second step"


@every_stream
async def test_whoever_never_waits_costs_no_task(link: str) -> None:
    created: list[asyncio.Task[Any]] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        created.append(task)
        return task

    async def echo(socket: Socket, data: bytes) -> None:
        async with asyncio.timeout(5):
            socket.write_all(data)

    recorder = Recorder(data=echo)
    async with accepted(recorder, link) as (_, peer):
        everybody = asyncio.all_tasks()
        loop.set_task_factory(factory)
        for _ in range(5):
            await peer.send(b"x")
            assert await peer.receive(1) == b"x"
        loop.set_task_factory(None)
        assert asyncio.all_tasks() == everybody
    # At most the one that stands by.
    assert len(created) <= 1


@every_stream
async def test_timeouts_and_tasks_work_in_every_step(link: str) -> None:
    seen: list[object] = []

    async def on_data(socket: Socket, data: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("timed out")
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0)).add_done_callback(lambda _: seen.append("child"))
        assert asyncio.current_task() is task
        assert task in asyncio.all_tasks()
        assert "on_data" in repr(task)
        socket.write_all(b"done")

    async with accepted(Recorder(data=on_data), link) as (_, peer):
        for _ in range(2):
            await peer.send(b"x")
            assert await peer.receive(4) == b"done"
    assert seen == ["timed out", "child"] * 2


@every_stream
async def test_a_coroutine_may_cancel_its_own_task_before_it_waits(link: str) -> None:
    outcomes: list[str] = []

    async def on_data(socket: Socket, data: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise

    recorder = Recorder(data=on_data)
    async with accepted(recorder, link) as (_, peer):
        for count in (1, 2):
            await peer.send(b"x")
            await recorder.until("data", count)
            await others_had_their_turn()
            assert outcomes == ["cancelled"] * count


@every_stream
async def test_drain_and_end_wait_their_turn(link: str) -> None:
    gate = Gate()

    async def on_data(socket: Socket, data: bytes) -> None:
        block = bytes(1 << 20)
        while socket.write(block) == len(block):
            pass
        await gate.wait()

    recorder = Recorder(data=on_data)
    async with accepted(recorder, link) as (socket, peer):
        await peer.send(b"x")
        await recorder.until("data")
        peer.finish()
        await peer.receive(socket.bytes_written)
        await others_had_their_turn()
        assert recorder.names == ["open", "data"]
        gate.opened.set()
        await recorder.until("end")
        await peer.receive_until_fin()
        await recorder.until("close")
    assert recorder.names == ["open", "data", "drain", "end", "close"]


@every_stream
async def test_an_async_end_has_the_last_word(link: str) -> None:
    async def on_end(socket: Socket) -> None:
        await asyncio.sleep(0.01)
        socket.write_all(b"last")

    recorder = Recorder(end=on_end)
    async with accepted(recorder, link) as (_, peer):
        peer.finish()
        assert await peer.receive_until_fin() == b"last"
        await recorder.until("close")
    assert recorder.errors == [None]


@every_link
async def test_different_sockets_do_not_wait_for_each_other(link: str) -> None:
    gate = Gate()

    async def on_data(socket: Socket, data: bytes) -> None:
        if data == b"slow":
            await gate.wait()
        socket.write_all(data)

    recorder = Recorder(data=on_data)
    async with linked(link, recorder) as (_, slow), linked(link, recorder) as (_, quick):
        await slow.send(b"slow")
        await quick.send(b"quick")
        assert await quick.receive(5) == b"quick"
        gate.opened.set()
        assert await slow.receive(4) == b"slow"


# open


@every_stream
async def test_no_data_before_an_async_open_has_returned(link: str) -> None:
    gate = Gate()
    order: list[str] = []

    async def on_open(socket: Socket) -> None:
        order.append("open starts")
        await gate.wait()
        order.append("open returns")

    def on_data(socket: Socket, data: bytes) -> None:
        order.append("data")

    recorder = Recorder(open=on_open, data=on_data)
    with RawListener() as raw:
        options: Any = {"hostname": "127.0.0.1", "port": raw.port}
        if link == "tls":
            options["tls"] = CLIENT_OPTIONS
        connecting = asyncio.ensure_future(mantou.connect(socket=recorder, **options))
        peer = await raw.accept()
        if link == "tls":
            peer = await secured(peer.sock, server_side=True)
        await recorder.until("open")
        await peer.send(b"early")
        await others_had_their_turn()
        assert order == ["open starts"]
        assert not connecting.done()
        gate.opened.set()
        socket = await connecting
        await recorder.until("data")
        assert order == ["open starts", "open returns", "data"]
        socket.terminate()
        await recorder.until("close")
        peer.close()


@pytest.mark.parametrize("engine", ["rustls", "ssl"])
async def test_the_first_request_finds_an_opened_connection(engine: str) -> None:
    """It comes in one segment with the last message of the handshake."""
    order: list[str] = []

    async def on_open(socket: Socket) -> None:
        order.append("open")
        socket.data = "set up"
        await asyncio.sleep(0.01)

    def on_data(socket: Socket, data: bytes) -> None:
        order.append(f"{data.decode()} {socket.data}")

    recorder = Recorder(open=on_open, data=on_data)
    tls = SERVER_OPTIONS if engine == "rustls" else context(server_side=True)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        raw = Peer.connect_at_once(("127.0.0.1", listener.port))
        peer = TlsPeer(raw.sock, server_side=False)
        while True:
            try:
                peer.ssl.do_handshake()
                break
            except ssl.SSLWantReadError:
                await raw.send(peer.outgoing.read())
                peer._incoming.write(await raw.receive_some())
        peer.ssl.write(b"request")
        await raw.send(peer.outgoing.read())
        await recorder.until("data")
        raw.close()
        await recorder.until("close")
    assert order[:2] == ["open", "request set up"]


@pytest.mark.parametrize("engine", ["rustls", "ssl"])
async def test_a_handshake_goes_on_while_open_waits(engine: str) -> None:
    """Its news, and the data behind it, wait for the coroutine."""
    gate = Gate()

    class Handlers(Recorder):
        def handshake(self, socket: Socket, success: bool, error: object) -> object:
            return self._note("handshake", socket, success)

    recorder = Handlers(open=lambda socket: gate.wait())
    tls = SERVER_OPTIONS if engine == "rustls" else context(server_side=True)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        peer = await dial(listener, "tls")
        await peer.send(b"behind")
        await others_had_their_turn()
        assert recorder.names == ["open"]
        gate.opened.set()
        await recorder.until_received(6)
        peer.close()
        await recorder.until("close")
    assert recorder.names[:3] == ["open", "handshake", "data"]


async def test_what_an_async_open_raises_is_raised_by_connect() -> None:
    failure = OSError("not today")

    async def on_open(socket: Socket) -> None:
        await asyncio.sleep(0)
        raise failure

    recorder = Recorder(open=on_open)
    with listen(Recorder()) as listener, pytest.raises(OSError, match="not today") as caught:
        await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=recorder)
    assert caught.value is failure
    assert recorder.names == ["open", "error", "close"]
    assert recorder.errors == [failure]


async def test_a_first_step_may_begin_another_handler() -> None:
    """It connects at once, and the new socket's `open` waits before this one does."""
    gate = Gate()
    order: list[str] = []

    async def on_open(socket: Socket) -> None:
        await gate.wait()
        order.append("opened")

    client = Recorder(open=on_open)
    with listen(Recorder()) as listener:

        async def on_data(socket: Socket, data: bytes) -> None:
            other = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=client)
            order.append("connected")
            other.terminate()
            socket.write(b"done")

        async with accepted(Recorder(data=on_data)) as (_, peer):
            await peer.send(b"x")
            await client.until("open")
            gate.opened.set()
            assert await peer.receive(4) == b"done"
        await client.until("close")
    assert order == ["opened", "connected"]

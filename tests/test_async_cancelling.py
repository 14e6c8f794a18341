"""Async handlers at the end of their connection: who is cancelled, once, and who has its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS
from tests.support import (
    Handshaker,
    Peer,
    Recorder,
    accepted,
    every_engine,
    every_path,
    every_stream,
    linked,
    listen,
    others_had_their_turn,
    reach,
)

Socket = mantou.Socket[Any]


class Work:
    """Something that takes its time, and some more to clean up."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.begun = asyncio.Event()
        self.enough = asyncio.Event()
        self.cleaned = asyncio.Event()

    async def do(self, *_: object) -> None:
        self.begun.set()
        try:
            await self.enough.wait()
            self.steps.append("done")
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            await self.cleaned.wait()
            self.steps.append("cleaned")
            raise


# Both sides finish


@every_path
async def test_a_coroutine_goes_on_when_both_sides_have_finished(link: str) -> None:
    """Nothing was lost: it has said its last word, and the peer has as well."""
    work = Work()

    async def answer(socket: Socket, data: bytes) -> None:
        socket.end(b"answer")
        await work.do()

    recorder = Recorder(data=answer)
    async with linked(link, recorder) as (_, peer):
        await peer.send(b"question")
        assert await peer.receive_until_fin() == b"answer"
        peer.finish()
        await others_had_their_turn()
        assert (recorder.names, work.steps) == (["open", "data"], [])
        work.enough.set()
        await recorder.until("close")
    assert work.steps == ["done"]
    assert recorder.names == ["open", "data", "end", "close"]
    assert recorder.errors == [None]


@every_path
async def test_an_async_end_that_has_ended_itself_goes_on(link: str) -> None:
    work = Work()

    async def on_end(socket: Socket) -> None:
        socket.end(b"bye")
        await work.do()

    recorder = Recorder(end=on_end)
    async with linked(link, recorder) as (_, peer):
        peer.finish()
        assert await peer.receive_until_fin() == b"bye"
        await others_had_their_turn()
        assert (recorder.names, work.steps) == (["open", "end"], [])
        work.enough.set()
        await recorder.until("close")
    assert work.steps == ["done"]
    assert recorder.errors == [None]


@every_stream
async def test_a_reset_behind_our_end_is_a_loss(link: str) -> None:
    work = Work()
    work.cleaned.set()

    async def answer(socket: Socket, data: bytes) -> None:
        socket.end(b"answer")
        await work.do()

    recorder = Recorder(data=answer)
    async with accepted(recorder, link) as (_, peer):
        await peer.send(b"question")
        assert await peer.receive_until_fin() == b"answer"
        peer.reset()
        await recorder.until("close")
    assert work.steps == ["cancelled", "cleaned"]
    assert isinstance(recorder.errors[0], ConnectionResetError)


# Cancelled once


@every_engine
async def test_a_reset_within_a_handshake_cancels_open_once(link: str) -> None:
    work = Work()
    recorder = Handshaker(open=work.do)
    with listen(recorder, link) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        await work.begun.wait()
        peer.reset()
        await others_had_their_turn()
        assert work.steps == ["cancelled"]
        work.cleaned.set()
        await recorder.until("close")
    assert work.steps == ["cancelled", "cleaned"]
    assert recorder.names == ["open", "handshake", "close"]


ENDINGS: dict[str, Callable[[Socket], object]] = {
    "terminate": lambda socket: socket.terminate(),
    "close": lambda socket: socket.close(),
    "timeout": lambda socket: socket.timeout(0.001),
}


@every_stream
@pytest.mark.parametrize("ending", ENDINGS)
async def test_who_cleans_up_is_not_cancelled_again(link: str, ending: str) -> None:
    """The reset was enough; what is done with the lost connection then changes nothing."""
    work = Work()
    recorder = Recorder(data=work.do)
    async with accepted(recorder, link) as (socket, peer):
        await peer.send(b"x")
        await recorder.until("data")
        peer.reset()
        while not work.steps:
            await others_had_their_turn()
        ENDINGS[ending](socket)
        if ending == "timeout":
            await recorder.until("timeout")
        await others_had_their_turn()
        work.cleaned.set()
        await recorder.until("close")
    assert work.steps == ["cancelled", "cleaned"]


# connect() and an async `open`


@every_stream
async def test_connect_raises_what_its_open_was_cancelled_for(link: str) -> None:
    work = Work()
    work.cleaned.set()
    server, client = Recorder(), Recorder(open=work.do)
    with listen(server, link) as listener:
        connecting = asyncio.ensure_future(reach(listener, client, link))
        await work.begun.wait()
        await server.until("open")
        server.sockets[0].terminate()
        with pytest.raises(ConnectionResetError) as caught:
            await connecting
    assert client.names == ["open", "close"]
    assert client.errors == [caught.value]


@every_stream
async def test_connect_raises_the_timeout_that_ended_its_open(link: str) -> None:
    async def on_open(socket: Socket) -> None:
        socket.timeout(0.01)
        await asyncio.Event().wait()

    client = Recorder(open=on_open)
    with listen(Recorder(), link) as listener, pytest.raises(TimeoutError) as caught:
        await reach(listener, client, link)
    assert client.names == ["open", "timeout", "close"]
    assert client.errors == [caught.value]


@every_stream
async def test_a_connect_that_is_cancelled_again_still_waits_for_close(link: str) -> None:
    work = Work()
    client = Recorder(open=work.do)
    with listen(Recorder(), link) as listener:
        connecting = asyncio.ensure_future(reach(listener, client, link))
        await work.begun.wait()
        for _ in range(3):
            connecting.cancel()
            await others_had_their_turn()
        assert not connecting.done()
        work.cleaned.set()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert client.names == ["open", "close"]


# Beginning and leaving


async def test_a_first_step_that_gives_way_lets_others_go_first() -> None:
    """Also where no task stood by and it got the one that was just made."""
    order: list[str] = []

    async def child() -> None:
        order.append("child")

    async def on_data(socket: Socket, data: bytes) -> None:
        task = asyncio.create_task(child())
        asyncio.get_running_loop().call_soon(order.append, "callback")
        await asyncio.sleep(0)
        order.append("handler")
        await task

    recorder = Recorder(data=on_data)
    async with accepted(recorder) as (_, peer):
        for count in (1, 2):
            await peer.send(b"x")
            while order.count("handler") < count:
                await others_had_their_turn()
    assert order == ["child", "callback", "handler"] * 2


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_leaves_it_once(kind: str, exception: type[BaseException]) -> None:
    """Raised by a coroutine that had waited: `main()` and all sockets still have their end."""
    order: list[str] = []

    async def on_data(socket: Socket, data: bytes) -> None:
        await asyncio.sleep(0)
        raise exception

    async def on_close(socket: Socket, error: BaseException | None) -> None:
        await asyncio.sleep(0)
        order.append("closed")

    async def main() -> None:
        recorder = Recorder(data=on_data, close=on_close)
        listener = mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)
        peers = [Peer.connect_at_once(("127.0.0.1", listener.port)) for _ in range(2)]
        try:
            await recorder.until("open", 2)
            await peers[0].send(b"x")
            await asyncio.Event().wait()
        finally:
            order.append("main ends")
            for peer in peers:
                peer.close()

    with pytest.raises(exception), asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
    assert order == ["main ends", "closed", "closed"]

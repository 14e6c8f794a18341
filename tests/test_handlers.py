"""Handlers as sockets call them: their forms, what they are given, and what becomes of errors."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS, LoopErrors
from tests.support import (
    Peer,
    RawListener,
    Recorder,
    accepted,
    every_path,
    every_stream,
    linked,
    others_had_their_turn,
)


class Oops(Exception):
    """What handlers raise here."""


def raise_oops(socket: object, *_: object) -> None:
    raise Oops("a handler's own")


def taken(loop_errors: LoopErrors) -> list[dict[str, Any]]:
    """What the loop's exception handler got so far, taken out."""
    found = loop_errors[:]
    loop_errors.clear()
    return found


# Forms

EVENTS = ("open", "data", "drain", "end", "timeout", "close")


def as_object(recorder: Recorder) -> Any:
    return SimpleNamespace(**as_mapping(recorder))


def as_mapping(recorder: Recorder) -> Any:
    return {name: getattr(recorder, name) for name in EVENTS}


def as_subclass(recorder: Recorder) -> Any:
    return recorder


def as_async(recorder: Recorder) -> Any:
    def slowly(name: str) -> Any:
        async def handler(*arguments: Any) -> object:
            await asyncio.sleep(0)
            return getattr(recorder, name)(*arguments)

        return handler

    return {name: slowly(name) for name in EVENTS}


@pytest.mark.parametrize("form", [as_object, as_mapping, as_subclass, as_async])
async def test_every_form_gets_every_event(form: Any) -> None:
    recorder = Recorder(timeout=lambda socket: True)
    with RawListener() as raw:
        socket = await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=form(recorder))
        peer = await raw.accept()
        block = bytes(1024 * 1024)
        while socket.write(block) == len(block):
            pass
        total = socket.bytes_written
        await peer.receive(total)
        await recorder.until("drain")
        await peer.send(b"bytes")
        await recorder.until("data")
        socket.timeout(0.01)
        await recorder.until("timeout")
        socket.timeout(0)
        peer.finish()
        await recorder.until("close")
        peer.close()
    assert [name for name in recorder.names if name != "timeout"] == [
        "open",
        "drain",
        "data",
        "end",
        "close",
    ]
    assert recorder.received == b"bytes"
    assert recorder.sockets == [socket]


@pytest.mark.parametrize("form", [as_object, as_mapping])
async def test_absent_handlers_are_nobodys_business(form: Any) -> None:
    closed = asyncio.get_running_loop().create_future()
    handlers = {"close": lambda socket, error: closed.set_result(error)}
    with mantou.listen(hostname="127.0.0.1", port=0, socket=handlers) as listener:  # type: ignore[arg-type]
        peer = await Peer.connect(("127.0.0.1", listener.port))
        await peer.send(bytes(4 * 1024 * 1024))
        peer.finish()
        assert await peer.receive_until_fin() == b""
        peer.close()
        assert await closed is None


@every_stream
async def test_async_handlers_start_in_the_order_of_the_events(link: str) -> None:
    started: list[str] = []

    async def on_open(socket: object) -> None:
        started.append("open")
        await asyncio.sleep(0.02)

    async def on_data(socket: object, data: bytes) -> None:
        started.append(data.decode())

    async def on_close(socket: object, error: object) -> None:
        started.append("close")

    recorder = Recorder(open=on_open, data=on_data, close=on_close)
    async with accepted(recorder, link) as (_, peer):
        for letter in "abc":
            await peer.send(letter.encode())
            await recorder.until("data", "abc".index(letter) + 1)
        peer.finish()
        await recorder.until("close")
        await asyncio.sleep(0)
    assert started == ["open", "a", "b", "c", "close"]


@every_stream
async def test_the_task_of_an_async_handler_is_held(link: str) -> None:
    done = asyncio.get_running_loop().create_future()

    async def on_data(socket: object, data: bytes) -> None:
        own: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, own.set_result, None)
        await own
        done.set_result(data)

    recorder = Recorder(data=on_data)
    async with accepted(recorder, link) as (_, peer):
        await peer.send(b"x")
        await recorder.until("data")
        gc.collect()
        assert await done == b"x"


# What data is called with


@every_stream
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_data_comes_as_asked_for(link: str, kind: type) -> None:
    kinds: list[type] = []

    class Handler(Recorder):
        binary_type = kind.__name__  # type: ignore[assignment]

        def data(self, socket: mantou.Socket[Any], data: Any) -> object:
            kinds.append(type(data))
            return super().data(socket, data)

    handler = Handler()
    async with accepted(handler, link) as (_, peer):
        await peer.send(b"steamed")
        assert await handler.until_received(7) == b"steamed"
    assert kinds == [kind]


@every_stream
async def test_a_lent_view_is_released_after_the_call(link: str) -> None:
    kept: list[memoryview] = []
    handlers: Any = {
        "binary_type": "memoryview",
        "open": lambda socket: None,
        "data": lambda socket, data: [kept.append(data), socket.write(data)],
    }
    async with linked(link, handlers) as (_, peer):
        await peer.send(b"lent")
        assert await peer.receive(4) == b"lent"
    with pytest.raises(ValueError, match="released"):
        kept[0][0]
    with pytest.raises(ValueError, match="released"):
        bytes(kept[0])


@every_stream
async def test_no_view_is_lent_once_the_call_is_over(link: str) -> None:
    kept: list[Any] = []
    handlers: Any = {
        "binary_type": "memoryview",
        "data": lambda socket, data: [kept.append(data.obj), socket.write(data)],
    }
    async with linked(link, handlers) as (_, peer):
        for _ in range(2):
            await peer.send(b"lent")
            assert await peer.receive(4) == b"lent"
            with pytest.raises(BufferError, match="for the time of the call"):
                memoryview(kept[-1])


@every_stream
async def test_a_slice_that_is_kept_stays_what_it_was(link: str) -> None:
    kept: list[memoryview] = []

    def data(socket: mantou.Socket[Any], data: memoryview) -> None:
        assert data.readonly
        kept.append(data[1:])
        socket.write(b"got it")

    handlers: Any = {"binary_type": "memoryview", "data": data}
    async with linked(link, handlers) as (_, peer):
        for letter in b"abc":
            await peer.send(bytes([letter]) * 1000)
            assert await peer.receive(6) == b"got it"
    gc.collect()
    assert [bytes(view) for view in kept] == [bytes([letter]) * 999 for letter in b"abc"]


@every_path
async def test_a_view_is_there_for_the_first_step_of_a_coroutine(link: str) -> None:
    async def on_data(socket: mantou.Socket[Any], data: memoryview) -> None:
        first = bytes(data)
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="released"):
            bytes(data)
        socket.write_all(first)

    handlers: Any = {"binary_type": "memoryview", "data": on_data}
    async with linked(link, handlers) as (_, peer):
        for word in (b"steamed", b"bun"):
            await peer.send(word)
            assert await peer.receive(len(word)) == word


@every_stream
async def test_a_lent_view_may_be_released_by_the_handler(link: str) -> None:
    recorder = Recorder()

    def data(socket: Any, data: memoryview) -> None:
        recorder.data(socket, data)
        data.release()

    handlers: Any = {"binary_type": "memoryview", "data": data}
    async with linked(link, handlers) as (_, peer):
        for _ in range(3):
            await peer.send(b"abc")
            await others_had_their_turn()
    assert recorder.received == b"abcabcabc"


# Handlers that raise


@every_stream
@pytest.mark.parametrize("stage", ["data", "drain", "end", "timeout"])
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "async"])
async def test_what_a_handler_raises_goes_to_error_and_closes(
    link: str, stage: str, wrap: bool
) -> None:
    recorder = Recorder(**{stage: in_a_task(raise_oops) if wrap else raise_oops})
    async with accepted(recorder, link) as (socket, peer):
        await provoke(stage, socket, peer)
        assert await drained_until_fin(peer)
        await recorder.until("close")
        await recorder.until("error")
    (_, told), (_, why) = recorder.of("error")[0], recorder.of("close")[0]
    assert isinstance(told, Oops)
    assert told.__traceback__ is not None
    assert recorder.names.count("error") == 1
    assert why is told
    assert recorder.names[-2:] == ["error", "close"]


@every_stream
@pytest.mark.parametrize("stage", ["data", "drain", "timeout"])
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "async"])
async def test_without_error_the_loop_is_told(
    link: str, stage: str, wrap: bool, loop_errors: LoopErrors
) -> None:
    closed = asyncio.get_running_loop().create_future()
    handlers: Any = {
        stage: in_a_task(raise_oops) if wrap else raise_oops,
        "close": lambda socket, error: closed.set_result(error),
    }
    async with linked(link, handlers) as (socket, peer):
        await provoke(stage, socket, peer)
        assert await drained_until_fin(peer)
        why = await closed
        (context,) = taken(loop_errors)
        assert context["exception"] is why
        assert isinstance(why, Oops)
        assert f"the {stage} handler" in context["message"]
        assert context["protocol"] is socket


@every_stream
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("wrap_error", [False, True], ids=["plain-error", "async-error"])
async def test_error_may_keep_the_connection(link: str, wrap: bool, wrap_error: bool) -> None:
    async def keep(socket: object, error: object) -> bool:
        await asyncio.sleep(0)
        return True

    recorder = Recorder(
        data=in_a_task(raise_oops) if wrap else raise_oops,
        error=keep if wrap_error else lambda socket, error: True,
    )
    async with accepted(recorder, link) as (socket, peer):
        for count in (1, 2):
            await peer.send(b"x")
            await recorder.until("error", count)
            await others_had_their_turn()
        assert socket.write(b"alive") == 5
        assert await peer.receive(5) == b"alive"
    assert recorder.names[:5] == ["open", "data", "error", "data", "error"]


@every_stream
@pytest.mark.parametrize("stage", ["timeout", "error"])
async def test_what_a_cancelled_handler_leaves_undecided_is_done(link: str, stage: str) -> None:
    async def cancelled(*_: object) -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return True

    recorder = Recorder(data=raise_oops, **{stage: cancelled})
    async with accepted(recorder, link) as (socket, peer):
        await provoke("data" if stage == "error" else stage, socket, peer)
        assert await drained_until_fin(peer)
        await recorder.until("close")
    assert recorder.names == ["open", *["data"] * (stage == "error"), stage, "close"]


@every_stream
@pytest.mark.parametrize("stage", ["error", "close"])
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "async"])
async def test_what_error_and_close_raise_goes_to_the_loop(
    link: str, stage: str, wrap: bool, loop_errors: LoopErrors
) -> None:
    recorder = Recorder(
        data=lambda socket, data: 1 / 0, **{stage: in_a_task(raise_oops) if wrap else raise_oops}
    )
    async with accepted(recorder, link) as (_, peer):
        await peer.send(b"x")
        await recorder.until("close")
        assert await peer.receive_until_fin() == b""
        await others_had_their_turn()
        (context,) = taken(loop_errors)
        assert isinstance(context["exception"], Oops)
        assert f"the {stage} handler" in context["message"]
    assert isinstance(recorder.errors[0], ZeroDivisionError)
    assert recorder.names.count("error") == recorder.names.count("close") == 1


@every_stream
async def test_open_that_raises_closes_an_accepted_socket(link: str) -> None:
    recorder = Recorder(open=raise_oops)
    async with accepted(recorder, link) as (_, peer):
        assert await peer.receive_until_fin() == b""
        await recorder.until("close")
    assert recorder.names == ["open", "error", "close"]
    assert isinstance(recorder.errors[0], Oops)


async def test_open_that_raises_is_raised_by_connect() -> None:
    recorder = Recorder(open=raise_oops)
    with RawListener() as raw:
        with pytest.raises(Oops) as caught:
            await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder)
        # After `close`, not before.
        assert recorder.names == ["open", "error", "close"]
        assert recorder.errors == [caught.value]
        peer = await raw.accept()
        assert await peer.receive_until_fin() == b""
        peer.close()


@every_stream
async def test_open_that_raises_can_be_forgiven(link: str) -> None:
    recorder = Recorder(open=raise_oops, error=lambda socket, error: True)
    async with linked(link, recorder) as (socket, peer):
        assert socket.write(b"alive") == 5
        assert await peer.receive(5) == b"alive"


def in_a_task(handler: Any) -> Any:
    async def later(*arguments: Any) -> object:
        await asyncio.sleep(0)
        return handler(*arguments)

    return later


async def provoke(stage: str, socket: mantou.Socket[Any], peer: Peer) -> None:
    """Makes the event happen."""
    if stage == "data":
        await peer.send(b"x")
    elif stage == "end":
        peer.finish()
    elif stage == "timeout":
        socket.timeout(0.01)
    else:
        block = bytes(1024 * 1024)
        while socket.write(block) == len(block):
            pass


async def drained_until_fin(peer: Peer) -> bool:
    await peer.receive_until_fin()
    return True


# connect_error


def unused_port() -> int:
    with RawListener() as raw:
        return raw.port


async def test_connect_error_is_told_before_connect_raises() -> None:
    recorder = Recorder()
    with pytest.raises(ConnectionRefusedError) as caught:
        await mantou.connect(hostname="127.0.0.1", port=unused_port(), socket=recorder, data=7)
    assert recorder.events == [("connect_error", caught.value)]
    (socket,) = recorder.sockets
    assert socket.data == 7
    assert socket.ready_state == mantou.ReadyState.DETACHED
    assert socket.write(b"x") == socket.end() == -1
    assert socket.fileno() == -1


@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "async"])
async def test_connect_error_that_raises_hides_nothing(wrap: bool, loop_errors: LoopErrors) -> None:
    handlers: Any = {"connect_error": in_a_task(raise_oops) if wrap else raise_oops}
    with pytest.raises(ConnectionRefusedError):
        await mantou.connect(hostname="127.0.0.1", port=unused_port(), socket=handlers)
    await others_had_their_turn()
    (context,) = taken(loop_errors)
    assert isinstance(context["exception"], Oops)


async def test_data_factory_that_raises_refuses_the_connection(loop_errors: LoopErrors) -> None:
    recorder = Recorder()
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, data_factory=raise_oops
    ) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        await recorder.until("connect_error")
        with pytest.raises(ConnectionResetError):
            await peer.receive(1)
        assert listener.connections == 0
        peer.close()
    assert isinstance(recorder.events[0][1], Oops)
    assert recorder.names == ["connect_error"]
    silent: Any = {"data": lambda socket, data: None}
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=silent, data_factory=raise_oops
    ) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        with pytest.raises(ConnectionResetError):
            await peer.receive(1)
        peer.close()
        (context,) = taken(loop_errors)
        assert isinstance(context["exception"], Oops)


# reload()


@every_stream
async def test_reload_of_a_client_takes_effect_with_the_next_event(link: str) -> None:
    second = Recorder()
    first = Recorder(data=lambda socket, data: socket.reload(second))
    async with linked(link, first) as (_, peer):
        await peer.send(b"first")
        await first.until_received(5)
        await peer.send(b"second")
        await second.until_received(6)
        # Another one has the handlers that it was made with.
        peer.finish()
        await second.until("close")
    assert first.names == ["open", "data"]
    assert second.names == ["data", "end", "close"]


async def test_reload_of_an_accepted_socket_is_that_of_its_listener() -> None:
    first, second = Recorder(), Recorder()
    with mantou.listen(hostname="127.0.0.1", port=0, socket=first) as listener:
        peers = [Peer.connect_at_once(("127.0.0.1", listener.port)) for _ in range(2)]
        await first.until("open", 2)
        first.sockets[0].reload(second)
        peers.append(Peer.connect_at_once(("127.0.0.1", listener.port)))
        await second.until("open")
        for peer in peers:
            await peer.send(b"x")
        await second.until_received(3)
        for peer in peers:
            peer.close()
        await second.until("close", 3)
    assert first.names == ["open", "open"]


@every_stream
async def test_reload_changes_the_binary_type_too(link: str) -> None:
    kinds: list[type] = []
    handlers: Any = {
        "binary_type": "bytearray",
        "data": lambda socket, data: kinds.append(type(data)),
    }
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        socket.reload(handlers)
        await peer.send(b"x")
        await others_had_their_turn()
    assert kinds == [bytearray]


@every_stream
async def test_reload_checks_what_it_gets(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        for wrong in ({}, {"dta": print}, {"data": 1}, None, Recorder):
            with pytest.raises(TypeError):
                socket.reload(wrong)  # type: ignore[arg-type]
        await peer.send(b"x")
        await recorder.until_received(1)


# Leaving the loop


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("stage", ["open", "data", "end", "close", "timeout", "error", "factory"])
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("kind", LOOPS)
def test_what_means_to_leave_leaves(
    exception: type[BaseException], stage: str, wrap: bool, kind: str, loop_errors: LoopErrors
) -> None:
    def leave(socket: object, *_: object) -> None:
        raise exception

    if stage == "factory" and wrap:
        pytest.skip("a factory is never async")
    handler = in_a_task(leave) if wrap else leave
    recorder = Recorder(**{stage: handler})
    if stage == "error":
        recorder = Recorder(error=handler, data=raise_oops)
    factory = leave if stage == "factory" else None

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, found: loop_errors.append(found))
        listener = mantou.listen(
            hostname="127.0.0.1",
            port=0,
            socket=recorder,
            data_factory=factory,
            # Else it could come first.
            idle_timeout=0.05 if stage == "timeout" else None,
        )
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        try:
            await peer.send(b"x")
            if stage != "timeout":
                peer.finish()
            await asyncio.sleep(10)
        finally:
            peer.close()

    with pytest.raises(exception), asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
    assert recorder.names.count("close") == (0 if stage == "factory" else 1)

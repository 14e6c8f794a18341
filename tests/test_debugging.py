"""What helps to find faults: debug mode names slow handlers, and other threads may look."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.support import Recorder, accepted, every_stream, linked, listen

Socket = mantou.Socket[Any]

SLOW = 0.02


def block(*_: object) -> None:
    """Keeps the loop for longer than it should."""
    until = time.monotonic() + SLOW
    while time.monotonic() < until:
        pass


async def block_at_once(*_: object) -> None:
    block()


async def block_later(*_: object) -> None:
    await asyncio.sleep(0)
    block()


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, logger="asyncio")
    return lambda: [record.getMessage() for record in caplog.records if "handler" in record.msg]


class Slow(Recorder):
    def data(self, socket: Socket, data: Any) -> object:
        block()
        return super().data(socket, data)


def test_debug_mode_names_a_slow_handler(complaints: Callable[[], list[str]]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = SLOW / 2
        recorder = Slow()
        async with accepted(recorder) as (socket, peer):
            await peer.send(b"x")
            await recorder.until("data")
            assert complaints() == []
            asyncio.get_running_loop().set_debug(True)
            await peer.send(b"x")
            await recorder.until("data", 2)
            shown = repr(socket)
        (message,) = complaints()
        assert message.startswith(f"Executing handler Slow.data of {shown} took 0.0")
        assert message.endswith(" seconds")

    mantou.run(main())


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("name", ["open", "data", "end", "close", "timeout", "error"])
def test_every_event_is_watched(
    debug: bool, name: str, complaints: Callable[[], list[str]]
) -> None:
    def fail(*_: object) -> None:
        raise LookupError

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = SLOW / 2
        recorder = Recorder(**({"data": fail} if name == "error" else {}), **{name: block})
        async with accepted(recorder) as (socket, peer):
            await peer.send(b"x")
            if name == "timeout":
                socket.timeout(0.001)
            elif name != "error":
                peer.finish()
            await recorder.until("close")

    mantou.run(main(), debug=debug)
    named = [message for message in complaints() if f"Recorder.{name} " in message]
    assert len(named) == int(debug)


def test_a_data_factory_is_watched(complaints: Callable[[], list[str]]) -> None:
    class Factory:
        def make(self, socket: Socket) -> None:
            block()

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = SLOW / 2
        async with accepted(Recorder(), data_factory=Factory().make):
            pass

    mantou.run(main(), debug=True)
    (message,) = complaints()
    assert "Factory.data_factory of <mantou.Socket" in message


@pytest.mark.loops("asyncio", "uvloop")
async def test_on_other_loops_too(complaints: Callable[[], list[str]]) -> None:
    """If their debug mode was on when the first socket was made."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = SLOW / 2
    recorder = Slow()
    async with accepted(recorder) as (_, peer):
        await peer.send(b"x")
        await recorder.until("data")
    assert any("handler Slow.data of" in message for message in complaints())


def test_functions_are_named_as_they_are(complaints: Callable[[], list[str]]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = SLOW / 2
        closed = asyncio.get_running_loop().create_future()
        handlers: Any = {
            "data": block_at_once,
            "close": lambda socket, error: closed.set_result(error),
        }
        async with linked("tcp", handlers) as (_, peer):
            await peer.send(b"x")
            peer.finish()
            await closed

    mantou.run(main(), debug=True)
    (message,) = complaints()
    assert "handler block_at_once of <mantou.Socket established" in message


# Other threads


def in_a_thread(act: Callable[[], object]) -> object:
    """What it returned there; raises what it raised."""
    results: list[object] = []

    def work() -> None:
        try:
            results.append(act())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    return result


FIXED = (
    "local_address",
    "local_port",
    "local_family",
    "remote_address",
    "remote_port",
    "remote_family",
    "listener",
)


@every_stream
async def test_other_threads_may_see_what_is_fixed(link: str) -> None:
    recorder = Recorder()
    async with accepted(recorder, link) as (socket, peer):
        host, port = peer.sock.getsockname()[:2]
        # Nobody has asked here before: the thread is the first.
        assert in_a_thread(lambda: socket.local_port) == peer.sock.getpeername()[1]
        assert in_a_thread(lambda: socket.remote_address) == host
        shown = in_a_thread(lambda: repr(socket))
        assert shown == repr(socket) == f"<mantou.Socket established remote={host}:{port}>"
        known = {name: getattr(socket, name) for name in FIXED}
        listener = socket.listener
        assert in_a_thread(lambda: {name: getattr(socket, name) for name in FIXED}) == known
        assert in_a_thread(lambda: repr(listener)) == repr(listener)
        socket.terminate()
        await recorder.until("close")
        assert in_a_thread(lambda: {name: getattr(socket, name) for name in FIXED}) == known
        assert in_a_thread(lambda: repr(socket)) == repr(socket)


async def test_other_threads_may_do_nothing_else() -> None:
    async with accepted(Recorder()) as (socket, _):
        for act in (lambda: socket.write(b"x"), socket.close, lambda: socket.ready_state):
            with pytest.raises(mantou.WrongThreadError, match="call_soon_threadsafe"):
                in_a_thread(act)


async def test_a_queue_of_log_records_may_hold_sockets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As logging's QueueListener does: the message is made in another thread."""
    with listen(Recorder()) as listener:
        record = logging.LogRecord("x", logging.INFO, __file__, 1, "got %r", (listener,), None)
        assert f"port={listener.port}" in str(in_a_thread(record.getMessage))

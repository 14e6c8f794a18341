"""Everything that can be called, called from every handler: no crash, no leak, one `close`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.conftest import LoopErrors
from tests.support import Peer, RawListener, Recorder, fill
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS

Socket = mantou.Socket[Any]

STAGES = ("open", "data", "drain", "end", "timeout", "error", "close")


class Oops(Exception):
    """What handlers raise here."""


# What a handler does. Each is given the socket.


def stop(escalate: bool) -> Callable[[Socket], object]:
    def act(socket: Socket) -> None:
        if socket.listener is not None:
            socket.listener.stop(escalate)

    return act


def raise_oops(socket: Socket) -> None:
    raise Oops


def end_twice(socket: Socket) -> None:
    socket.end(b"x")
    socket.end(b"x")


def everything(socket: Socket) -> None:
    socket.pause()
    socket.write(b"x")
    with contextlib.suppress(BrokenPipeError):
        socket.write_all(b"x")
    socket.shutdown(True)
    socket.resume()
    socket.end()
    socket.close()
    socket.terminate()
    socket.close()
    gc.collect()


def write_all(socket: Socket) -> None:
    with contextlib.suppress(BrokenPipeError):
        socket.write_all(bytes(1024 * 1024))


def call_from_another_thread(socket: Socket) -> None:
    caught: list[BaseException] = []

    def call() -> None:
        for name in ("write", "write_all"):
            try:
                getattr(socket, name)(b"x")
            except mantou.WrongThreadError as error:
                caught.append(error)
        for name in ("end", "shutdown", "close", "terminate", "pause", "resume", "flush"):
            try:
                getattr(socket, name)()
            except mantou.WrongThreadError as error:
                caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(caught) == 9


def cork_and_raise(socket: Socket) -> None:
    with socket.cork():
        socket.write(b"x")
        raise Oops


def run_the_loop(socket: Socket) -> None:
    # Not `run_forever()`: asyncio's own loop does not survive that on CPython 3.13.0.
    loop = asyncio.get_running_loop()
    with pytest.raises(RuntimeError):
        loop.run_until_complete(loop.create_future())


ACTS: dict[str, Callable[[Socket], object]] = {
    "write": lambda socket: socket.write(b"x"),
    "write_all": write_all,
    "end": end_twice,
    "close": lambda socket: socket.close(),
    "terminate": lambda socket: socket.terminate(),
    "shutdown": lambda socket: socket.shutdown(),
    "shutdown(True)": lambda socket: socket.shutdown(True),
    "pause": lambda socket: socket.pause(),
    "resume": lambda socket: socket.resume(),
    "reload": lambda socket: None,  # see `meddle`
    "timeout": lambda socket: socket.timeout(0.01),
    "stop": stop(False),
    "stop(True)": stop(True),
    "forget": lambda socket: None,  # see `meddle`
    "raise": raise_oops,
    "raise in close": raise_oops,  # see `meddle`
    "cork and raise": cork_and_raise,
    "collect": lambda socket: gc.collect(),
    "another thread": call_from_another_thread,
    "run the loop": run_the_loop,
    "everything": everything,
}


def meddle(recorder: Recorder, stage: str, act: str) -> None:
    """Makes the handler of the stage do it, when it is called for the first time."""

    def handler(socket: Socket, *_: object) -> None:
        if recorder.names.count(stage) > 1:
            return
        if act == "reload":
            socket.reload(recorder)
        elif act == "forget":
            recorder.sockets.clear()
            gc.collect()
        else:
            ACTS[act](socket)

    recorder._handlers[stage] = handler
    if act == "raise in close":
        recorder._handlers["close"] = lambda socket, error: raise_oops(socket)
    if stage == "error":
        recorder._handlers["data"] = lambda socket, data: 1 / 0


async def provoke(stage: str, socket: Socket, peer: Peer) -> None:
    """Makes the event of the stage happen."""
    with contextlib.suppress(OSError):
        if stage == "drain":
            fill(socket)
        elif stage == "timeout":
            socket.timeout(0.01)
        elif stage in ("data", "error"):
            await peer.send(b"x")
        elif stage == "end":
            peer.finish()
        elif stage == "close":
            peer.reset()


async def see_it_off(recorder: Recorder, stage: str, socket: Socket, peer: Peer) -> None:
    """Waits for the event, then ends the connection from the outside."""
    await provoke(stage, socket, peer)

    async def read() -> None:
        with contextlib.suppress(OSError):
            await peer.receive_until_fin()

    reading = asyncio.ensure_future(read())
    await recorder.until(stage)
    socket.timeout(0)
    socket.resume()
    with contextlib.suppress(OSError):
        peer.finish()
    if socket.ready_state == mantou.ReadyState.ESTABLISHED:
        socket.end()
    await recorder.until("close")
    if stage == "close":
        reading.cancel()
    await asyncio.wait([reading])
    peer.close()


def check(recorder: Recorder, act: str, loop_errors: LoopErrors) -> None:
    assert recorder.names.count("close") == 1
    assert recorder.names[-1] == "close"
    assert "connect_error" not in recorder.names
    for context in loop_errors:
        assert isinstance(context["exception"], Oops), context
        assert "raise" in act
    loop_errors.clear()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("stage", STAGES)
async def test_an_accepted_socket_survives(stage: str, act: str, loop_errors: LoopErrors) -> None:
    recorder = Recorder()
    meddle(recorder, stage, act)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        made: list[Socket] = []
        opened = recorder.open

        def note(socket: Socket) -> object:
            made.append(socket)
            return opened(socket)

        recorder.open = note  # type: ignore[method-assign]
        listener.reload(recorder)
        await recorder.until("open")
        await see_it_off(recorder, stage, made.pop(), peer)
        listener.stop()
        await listener.closed()
        assert listener.connections == 0
    check(recorder, act, loop_errors)


class Shaking(Recorder):
    """Also writes down how the TLS handshake went."""

    def handshake(self, socket: Socket, success: bool, error: BaseException | None) -> object:
        return self._note("handshake", socket, success, error)


class Client(Peer):
    """The other end of a TLS connection: a mantou client that behaves."""

    def __init__(self, socket: Socket, recorder: Recorder) -> None:
        self.socket, self.recorder = socket, recorder

    async def send(self, data: bytes) -> None:
        self.socket.write(data)

    async def receive_until_fin(self) -> bytes:
        await self.recorder.until("close")
        return bytes(self.recorder.received)

    def finish(self) -> None:
        self.socket.end()

    def reset(self) -> None:
        self.socket.terminate()

    def close(self) -> None:
        self.socket.terminate()


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("stage", (*STAGES, "handshake"))
async def test_a_socket_over_tls_survives(stage: str, act: str, loop_errors: LoopErrors) -> None:
    recorder = Shaking() if stage == "handshake" else Recorder()
    meddle(recorder, stage, act)
    made: list[Socket] = []
    opened = recorder.open

    def note(socket: Socket) -> object:
        made.append(socket)
        return opened(socket)

    recorder.open = note  # type: ignore[method-assign]
    other = Recorder()
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=SERVER_OPTIONS
    ) as listener:
        client = await mantou.connect(
            hostname="localhost", port=listener.port, socket=other, tls=CLIENT_OPTIONS
        )
        await recorder.until("open")
        await see_it_off(recorder, stage, made.pop(), Client(client, other))
        listener.stop()
        await listener.closed()
    check(recorder, act, loop_errors)


@pytest.mark.parametrize("act", [act for act in ACTS if not act.startswith("stop")])
@pytest.mark.parametrize("stage", STAGES)
async def test_a_connected_socket_survives(stage: str, act: str, loop_errors: LoopErrors) -> None:
    recorder = Recorder()
    meddle(recorder, stage, act)
    with RawListener() as raw:
        try:
            socket = await mantou.connect(
                hostname="127.0.0.1", port=raw.port, socket=recorder, data=object()
            )
        except Oops:
            assert stage == "open"
            assert "raise" in act
        else:
            peer = await raw.accept()
            await see_it_off(recorder, stage, socket, peer)
    check(recorder, act, loop_errors)


@pytest.mark.parametrize("act", ACTS)
async def test_a_socket_that_never_opened_survives(act: str, loop_errors: LoopErrors) -> None:
    recorder = Recorder()
    meddle(recorder, "connect_error", act)
    with RawListener() as raw:
        port = raw.port
    with pytest.raises(ConnectionRefusedError):
        await mantou.connect(hostname="127.0.0.1", port=port, socket=recorder)
    assert recorder.names == ["connect_error"] + ["error"] * ("raise" in act)
    assert not loop_errors


@pytest.mark.parametrize("act", ACTS)
async def test_a_socket_that_was_refused_survives(act: str, loop_errors: LoopErrors) -> None:
    recorder = Recorder()
    meddle(recorder, "connect_error", act)
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, data_factory=raise_oops
    ) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        await recorder.until("connect_error")
        with pytest.raises(ConnectionResetError):
            await peer.receive(1)
        peer.close()
        listener.stop()
        await listener.closed()
    assert recorder.names == ["connect_error"] + ["error"] * ("raise" in act)

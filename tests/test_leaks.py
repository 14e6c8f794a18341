"""Nothing stays behind: descriptors, objects, memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou import _core
from tests import comings_and_goings
from tests.conftest import LOOPS
from tests.kernel import FullListener, unused_port
from tests.support import Peer, RawListener, Recorder
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS

CYCLES = 20_000
AT_ONCE = 50
PAGE = resource.getpagesize()


class Handlers(mantou.SocketHandler[Any]):
    """Counts only: recorded events would look like a leak."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    def open(self, socket: mantou.Socket[Any]) -> None:
        self.opened += 1

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
        self.closed += 1


def living(kind: type) -> int:
    gc.collect()
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@contextlib.contextmanager
def no_garbage_collector() -> Iterator[None]:
    """What goes away in here goes away by counting references."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.loops("mantou")
@pytest.mark.parametrize(
    ("cycles", "server_tls", "client_tls"),
    [(CYCLES, False, False), (CYCLES // 10, SERVER_OPTIONS, CLIENT_OPTIONS)],
    ids=["tcp", "tls"],
)
async def test_20000_connections_come_and_go(cycles: int, server_tls: Any, client_tls: Any) -> None:
    server, client = Handlers(), Handlers()
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, data=object(), tls=server_tls
    ) as listener:

        async def cycle(number: int) -> None:
            socket = await mantou.connect(
                hostname="127.0.0.1",
                port=listener.port,
                socket=client,
                data=[number],
                tls=client_tls,
            )
            # RST for most: TIME_WAIT would use up the ports.
            if number % 10:
                socket.terminate()
            else:
                socket.end(b"bye")

        async def batch(first: int) -> None:
            await asyncio.gather(*(cycle(number) for number in range(first, first + AT_ONCE)))
            while server.closed < server.opened or client.closed < client.opened:
                await asyncio.sleep(0)

        for first in range(0, cycles // 10, AT_ONCE):
            await batch(first)
        before = (descriptors(), living(mantou.Socket), living(_core.Attempt))
        size = resident()
        for first in range(cycles // 10, cycles, AT_ONCE):
            await batch(first)
        while listener.connections:
            await asyncio.sleep(0)
        assert (descriptors(), living(mantou.Socket), living(_core.Attempt)) == before
        assert before[1:] == (0, 0)
        # 100 bytes per connection at most, in case the allocator takes one more arena.
        assert resident() - size < 2 << 20
        assert client.opened == client.closed == cycles


@pytest.mark.parametrize("kind", comings_and_goings.KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.loops("mantou")
async def test_what_comes_and_goes_leaves_nothing(kind: comings_and_goings.Kind) -> None:
    """A few of each: `make leaks` has them by the hundred thousand."""
    before, after = await comings_and_goings.measured(kind, max(20, kind.times // 1000))
    assert comings_and_goings.is_flat(before, after), (before, after)


LEAKS: dict[str, Callable[[], Any]] = {
    "objects": lambda: [],
    "descriptors": tempfile.TemporaryFile,
    "memory": lambda: b"x" * 100_000,
}


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.loops("mantou")
async def test_what_stays_is_seen(leak: str) -> None:
    with contextlib.ExitStack() as kept:

        async def leaky(count: int) -> None:
            for _ in range(count):
                thing = LEAKS[leak]()
                kept.callback(getattr(thing, "close", thing.__repr__))

        kind = comings_and_goings.Kind(leaky, 300)
        before, after = await comings_and_goings.measured(kind, kind.times, patience=0)
        assert not comings_and_goings.is_flat(before, after)


@pytest.mark.parametrize("kind", comings_and_goings.KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.loops("mantou")
async def test_the_garbage_collector_may_come_at_any_time(kind: comings_and_goings.Kind) -> None:
    others = mantou.stats().connections
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        await kind.run(5)
        await comings_and_goings.settled(others)
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.loops("mantou")
async def test_connections_that_fail_leave_nothing() -> None:
    port = unused_port()
    handlers = Handlers()

    async def fail(count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(ConnectionRefusedError):
                await mantou.connect(hostname="127.0.0.1", port=port, socket=handlers)

    with FullListener() as full:

        async def give_up(count: int) -> None:
            for _ in range(count):
                task = asyncio.create_task(
                    mantou.connect(hostname="127.0.0.1", port=full.port, socket=handlers)
                )
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        await fail(200)
        await give_up(200)
        before = (descriptors(), living(mantou.Socket), living(_core.Attempt))
        size = resident()
        await fail(2000)
        await give_up(2000)
        assert (descriptors(), living(mantou.Socket), living(_core.Attempt)) == before
        assert resident() - size < 1 << 20
    assert handlers.opened == 0


async def test_messages_leave_nothing() -> None:
    count = 0

    def bounce(socket: mantou.Socket[Any], data: bytes) -> None:
        nonlocal count
        count += 1
        socket.write_all(data)

    with mantou.listen(hostname="127.0.0.1", port=0, socket={"data": bounce}) as listener:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket={"data": bounce}
        )
        socket.write(bytes(1000))
        while count < 2000:
            await asyncio.sleep(0)
        size = resident()
        while count < 50_000:
            await asyncio.sleep(0)
        assert resident() - size < 1 << 20
        socket.terminate()
    await listener.closed()


async def test_an_open_socket_lives_without_a_reference_and_is_freed_after() -> None:
    gone = asyncio.Event()

    def opened(socket: mantou.Socket[Any]) -> None:
        references.append(weakref.ref(socket, lambda _: gone.set()))

    references: list[weakref.ref[Any]] = []
    handlers = {"open": opened, "data": lambda socket, data: socket.write(data)}
    with no_garbage_collector(), RawListener() as raw:
        await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=handlers)
        peer = await raw.accept()
        gc.collect()
        await peer.send(b"are you there?")
        assert await peer.receive(14) == b"are you there?"
        assert references[0]() is not None
        peer.finish()
        assert await peer.receive_until_fin() == b""
        await gone.wait()
        peer.close()


async def test_data_and_handlers_go_with_the_socket() -> None:
    class Thing:
        pass

    closed = asyncio.Event()

    class Own(mantou.SocketHandler[Any]):
        def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
            closed.set()

    with RawListener() as raw:
        handlers, data = Own(), Thing()
        references = [weakref.ref(handlers), weakref.ref(data)]
        socket = await mantou.connect(
            hostname="127.0.0.1", port=raw.port, socket=handlers, data=data
        )
        # A circle through the socket itself.
        data.socket = socket  # type: ignore[attr-defined]
        del handlers, data
        gc.collect()
        assert all(reference() is not None for reference in references)
        peer = await raw.accept()
        socket.terminate()
        await closed.wait()
        peer.close()
        del socket
        await asyncio.sleep(0)
        gc.collect()
        assert [reference() for reference in references] == [None, None]


async def test_a_listener_lives_while_it_listens_and_is_freed_after() -> None:
    handlers = Recorder(data=lambda socket, data: socket.end(data))
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=handlers)
    port = listener.port
    references = [weakref.ref(listener), weakref.ref(handlers)]
    del listener, handlers
    gc.collect()
    peer = await Peer.connect(("127.0.0.1", port))
    await peer.send(b"unattended")
    assert await peer.receive_until_fin() == b"unattended"
    peer.close()
    found = references[0]()
    assert found is not None
    found.stop()
    await found.closed()
    del found
    await asyncio.sleep(0)
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_stopped_listener_lives_as_long_as_its_connections() -> None:
    async def main() -> None:
        handlers = Recorder()
        listener = mantou.listen(hostname="127.0.0.1", port=0, socket=handlers)
        peer = await Peer.connect(("127.0.0.1", listener.port))
        await handlers.until("open")
        listener.stop()
        reference = weakref.ref(listener)
        del listener
        gc.collect()
        assert handlers.sockets[0].listener is reference()
        assert reference() is not None
        peer.close()
        await handlers.until("close")

    mantou.run(main())


@pytest.mark.parametrize("kind", LOOPS)
def test_engines_are_freed_after_their_loops(kind: str) -> None:
    async def main() -> None:
        handlers = Recorder()
        listener = mantou.listen(hostname="127.0.0.1", port=0, socket=handlers)
        peer = await Peer.connect(("127.0.0.1", listener.port))
        await handlers.until("open")
        # Left open: the end of the loop is the end of them.
        peers.append(peer)

    peers: list[Peer] = []
    before = (living(_core.Engine), living(mantou.Socket), living(_core.Listener), descriptors())
    for _ in range(5):
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(main())
        peers.pop().close()
    after = (living(_core.Engine), living(mantou.Socket), living(_core.Listener), descriptors())
    assert after == before


async def test_sockets_that_linger_are_let_go() -> None:
    """After close() the descriptor waits for the peer, but not for ever."""
    recorder = Recorder()
    with RawListener() as raw:
        socket = await mantou.connect(
            hostname="127.0.0.1", port=raw.port, socket=recorder, close_timeout=0.1
        )
        sock, _ = raw.sock.accept()
        before = descriptors()
        socket.close()
        await recorder.until("close")
        assert recorder.errors == [None]
        # The peer keeps talking and never finishes.
        sock.setblocking(False)
        for _ in range(500):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                sock.send(b"and another thing")
            if descriptors() < before:
                break
            await asyncio.sleep(0.01)
        assert descriptors() == before - 1
        sock.close()


async def test_waiting_in_vain_does_not_pile_up() -> None:
    async def in_vain(wait: Callable[[], Any]) -> None:
        waiting = living(asyncio.Future)
        for _ in range(200):
            future = wait()
            future.cancel()
            del future
        assert living(asyncio.Future) - waiting < 20

    with RawListener() as raw:
        socket = await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=Recorder())
        peer = await raw.accept()
        while socket.write(bytes(1 << 20)):
            pass
        socket.write_all(bytes(1000))
        await in_vain(socket.drained)
        socket.terminate()
        peer.close()
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder()) as listener:
        await in_vain(lambda: asyncio.ensure_future(listener._native.closed()))


@pytest.mark.parametrize("ends", [True, False], ids=["closed", "open"])
def test_a_loop_that_was_closed_is_freed_at_once(ends: bool) -> None:
    async def serve_one() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        for _ in range(2):
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *server.sockets[0].getsockname()
            )
            transport.abort()
        if ends:
            server.close()

    warned = contextlib.nullcontext() if ends else pytest.warns(ResourceWarning, match="unclosed")
    with no_garbage_collector(), warned:
        with asyncio.Runner(loop_factory=mantou.new_event_loop) as runner:
            loop = weakref.ref(runner.get_loop())
            runner.run(serve_one())
        del runner
        assert loop() is None

"""mantou's loop as an asyncio loop: beside busy sockets, fair to all, stopped and threaded."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import gc
import os
import signal
import socket as kernel
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS, LoopErrors
from tests.support import (
    Handshaker,
    RawListener,
    Recorder,
    accepted,
    connected,
    descriptors_left,
    dial,
    listen,
)
from tests.tls_support import TlsPeer, context


def echo(**handlers: Any) -> Recorder:
    return Recorder(data=lambda socket, data: socket.write_all(data), **handlers)


# As an asyncio loop


@pytest.mark.loops("mantou")
async def test_asyncio_works_beside_busy_sockets() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, mantou.EventLoop)
    async with busy():
        # Subprocesses
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; sys.stdout.write(sys.stdin.read().upper())",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate(b"quiet")
        assert (out, process.returncode) == (b"QUIET", 0)
        # Signals
        came: asyncio.Future[str] = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, came.set_result, "signal")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await came == "signal"
        assert loop.remove_signal_handler(signal.SIGUSR1)
        # Executors and threads
        assert await asyncio.to_thread(threading.current_thread) is not threading.main_thread()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            assert await loop.run_in_executor(pool, sum, range(5)) == 10
        # Timers
        order: asyncio.Queue[int] = asyncio.Queue()
        for number in (3, 1, 2):
            loop.call_later(number / 100, order.put_nowait, number)
        loop.call_later(0.015, order.put_nowait, -1).cancel()
        assert [await order.get() for _ in range(3)] == [1, 2, 3]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.Event().wait()
        # Streams, over TCP and pipes
        server = await asyncio.start_server(_reverse, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"stressed\n")
        assert await reader.readline() == b"desserts\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        # Datagrams, and what has no transport
        ours, theirs = kernel.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        async with asyncio.TaskGroup() as group:
            received = group.create_task(loop.sock_recv(theirs, 9))
            group.create_task(loop.sock_sendall(ours, b"socketpair"[:9]))
        assert received.result() == b"socketpai"
        ours.close()
        theirs.close()


async def _reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = await reader.readline()
    writer.write(line.rstrip()[::-1] + b"\n")
    writer.close()


@contextlib.asynccontextmanager
async def busy(count: int = 8) -> Any:
    """Connections over which a message goes to and fro without a pause."""
    server = {"data": lambda socket, data: socket.write(data)}
    bounced = [0]

    def bounce(socket: mantou.Socket[Any], data: bytes) -> None:
        bounced[0] += 1
        socket.write(data)

    with mantou.listen(hostname="127.0.0.1", port=0, socket=server) as listener:
        clients = [
            await mantou.connect(hostname="127.0.0.1", port=listener.port, socket={"data": bounce})
            for _ in range(count)
        ]
        for client in clients:
            client.write(b"x" * 64)
        yield bounced
        for client in clients:
            client.terminate()
    await listener.closed()


async def test_call_soon_threadsafe_wakes_the_loop() -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    async with accepted(echo()) as (_, peer):
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
        thread.start()
        await woken.wait()
        thread.join()
        await peer.send(b"on")
        assert await peer.receive(2) == b"on"


async def test_a_handler_wakes_a_task_at_once() -> None:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bytes] = loop.create_future()
    async with accepted(Recorder(data=lambda _, data: came.set_result(data))) as (_, peer):
        # Nothing else happens on the loop that could wake the task.
        await loop.run_in_executor(None, os.write, peer.sock.fileno(), b"now")
        assert await came == b"now"


@pytest.mark.alone
async def test_a_handlers_timer_comes_in_time() -> None:
    loop = asyncio.get_running_loop()
    rang: asyncio.Future[float] = loop.create_future()

    def on_data(_: object, __: bytes) -> None:
        started = loop.time()
        loop.call_later(0.02, lambda: rang.set_result(loop.time() - started))

    async with accepted(Recorder(data=on_data)) as (_, peer):
        await peer.send(b"!")
        assert 0.015 < await rang < 1


# Fairness


@pytest.mark.alone
async def test_a_flood_of_echoes_does_not_starve_asyncio() -> None:
    async with busy() as bounced:
        before, started = bounced[0], time.monotonic()
        for _ in range(50):
            await asyncio.sleep(0.01)
        assert (time.monotonic() - started) / 50 < 0.02
        assert bounced[0] - before > 1000


@pytest.mark.alone
@pytest.mark.loops("mantou")
@pytest.mark.parametrize("connections", [1, 8])
async def test_a_flood_of_echoes_does_not_starve_threads(connections: int) -> None:
    def work() -> float:
        started = time.monotonic()
        for _ in range(1_000_000):
            pass
        return time.monotonic() - started

    alone = work()
    async with busy(connections):
        started = time.monotonic()
        for _ in range(20):
            # Each needs the interpreter's lock several times.
            await asyncio.to_thread(time.sleep, 0)
        assert time.monotonic() - started < 2
        assert await asyncio.to_thread(work) < 0.5 + 10 * alone


@pytest.mark.alone
@pytest.mark.loops("mantou")
@pytest.mark.parametrize("connections", [1, 8, 50])
async def test_a_thread_that_computes_does_not_starve_echoes(connections: int) -> None:
    def compute(bounced: list[int]) -> int:
        goal = bounced[0] + 10
        for _ in range(200_000_000):
            if bounced[0] >= goal:
                return goal
        return 0

    async with busy(connections) as bounced:
        assert await asyncio.to_thread(compute, bounced), "no echo came through in seconds"


@pytest.mark.alone
async def test_a_flood_of_callbacks_does_not_starve_an_echo() -> None:
    loop = asyncio.get_running_loop()
    running = True
    calls = 0

    def again() -> None:
        nonlocal calls
        calls += 1
        if running:
            loop.call_soon(again)

    for _ in range(10):
        loop.call_soon(again)
    started = time.monotonic()
    async with busy(1) as bounced:
        while bounced[0] < 200:
            assert time.monotonic() - started < 10
            await asyncio.sleep(0)
    running = False
    await asyncio.sleep(0)
    assert calls > 200


async def test_one_flooding_peer_does_not_starve_another() -> None:
    async with busy(1) as bounced, accepted(Recorder(data=lambda *_: None)) as (_, flooding):
        # The kernel's buffers are kept full, whatever is read.
        goal = bounced[0] + 100
        sent = 0
        while bounced[0] < goal:
            with contextlib.suppress(BlockingIOError):
                sent += flooding.sock.send(bytes(1 << 20))
            await asyncio.sleep(0)
        assert sent > 1 << 20


@contextlib.asynccontextmanager
async def strangers_at_the_door(count: int, hello: Any) -> AsyncIterator[None]:
    """So many have said hello, which the loop has not heard; `hello` is called for each."""
    greeted = context(server_side=True)
    greeted.sni_callback = lambda *_: hello()
    strangers = Handshaker()
    with listen(strangers, tls=greeted) as listener, contextlib.ExitStack() as stack:
        there = ("127.0.0.1", listener.port)
        socks = [stack.enter_context(kernel.create_connection(there)) for _ in range(count)]
        await strangers.until("open", count)
        for sock in socks:
            sock.send(await TlsPeer(sock, server_side=False).first_words())
        yield
    await strangers.until("close", count)


def be_busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@pytest.mark.alone
async def test_handshakes_come_behind_everybody_who_is_connected() -> None:
    order: list[str] = []

    def hello() -> None:
        order.append("hello")
        # More than what a turn gives to events.
        be_busy(0.002)
        if order.count("hello") == 5:
            friend.sock.send(b"again")

    told = Recorder(data=lambda *_: order.append("friend"))
    async with accepted(told) as (_, friend), strangers_at_the_door(40, hello):
        friend.sock.send(b"first")
        await told.until_received(len("first" + "again"))
        while order.count("hello") < 40:
            await asyncio.sleep(0)
    places = [at for at, who in enumerate(order) if who == "friend"]
    assert places[0] < 4
    # It came while a stranger had its turn, the fifth; all others came before.
    assert places[1] < 30


@pytest.mark.alone
async def test_handshakes_get_as_much_time_as_those_who_are_connected() -> None:
    order: list[str] = []

    def keep_busy(*_: object) -> None:
        order.append("friend")
        be_busy(0.1)
        if order.count("hello") < 60:
            friend.sock.send(b"again")

    told = Recorder(data=keep_busy)
    async with (
        accepted(told) as (_, friend),
        strangers_at_the_door(60, lambda: order.append("hello")),
    ):
        friend.sock.send(b"first")
        while order.count("hello") < 60:
            await asyncio.sleep(0)
    # The sixty take some milliseconds.
    assert order.count("friend") < 5


# Made, re-entered, stopped; threads, forks


# An engine takes three, asyncio's own pipe two.
@pytest.mark.parametrize("left", range(5))
def test_a_loop_that_cannot_be_made_leaves_nothing_behind(
    left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with descriptors_left(left), warnings.catch_warnings(action="error"):
        for _ in range(2):
            with pytest.raises(OSError, match="Too many open files") as failed:
                mantou.new_event_loop()
            assert failed.value.errno == errno.EMFILE
            del failed
            gc.collect()
    assert unraisable == []
    mantou.new_event_loop().close()


@pytest.mark.loops("mantou")
async def test_the_loop_cannot_be_run_from_a_handler() -> None:
    loop = asyncio.get_running_loop()
    raised: list[BaseException] = []

    def on_data(socket: mantou.Socket[Any], _: bytes) -> None:
        for run in (mantou.run, loop.run_forever, loop.engine.turn):  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError) as caught:
                run()
            raised.append(caught.value)
        assert asyncio.get_running_loop() is loop
        socket.write(b"alive")

    async with accepted(Recorder(data=on_data)) as (_, peer):
        await peer.send(b"?")
        assert await peer.receive(5) == b"alive"
    assert len(raised) == 3


@pytest.mark.parametrize("kind", LOOPS)
def test_stop_from_a_handler(kind: str) -> None:
    loop = LOOPS[kind]()
    recorder = Recorder(data=lambda *_: loop.stop())

    async def start() -> Any:
        return mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)

    listener = loop.run_until_complete(start())
    with kernel.create_connection(("127.0.0.1", listener.port)) as sock:
        for count in (1, 2):
            sock.sendall(b"stop")
            loop.run_forever()
            assert len(recorder.of("data")) == count
    loop.run_until_complete(recorder.until("close"))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.mark.parametrize("kind", LOOPS)
def test_each_thread_has_a_loop_of_its_own(kind: str) -> None:
    barrier = threading.Barrier(3)

    async def talk() -> int:
        server, client = echo(), Recorder()
        with mantou.listen(hostname="127.0.0.1", port=0, socket=server) as listener:
            await asyncio.to_thread(barrier.wait, 10)
            socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=client)
            for size in range(1, 101):
                socket.write(bytes(size))
                await client.until_received(size * (size + 1) // 2)
            socket.end()
            await server.until("close")
            await client.until("close")
        return len(client.received)

    def run() -> int:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            return runner.run(talk())

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert [task.result() for task in [pool.submit(run) for _ in range(3)]] == [5050] * 3


def test_run_says_that_another_thread_listens() -> None:
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder())
    raised: list[str] = []

    def run() -> None:
        try:
            mantou.run()
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert "another thread" in raised[0]
    listener.stop()
    mantou.run()


async def test_descriptors_go_by_their_file_objects_too() -> None:
    loop = asyncio.get_running_loop()
    ours, other = kernel.socketpair()
    with ours, other:
        for _ in range(2):
            readable, writable = loop.create_future(), loop.create_future()
            loop.add_reader(ours, lambda it: it.done() or it.set_result(None), readable)
            loop.add_writer(ours, lambda it: it.done() or it.set_result(None), writable)
            await writable
            # uvloop tells nothing of it, so the second one has to.
            loop.remove_writer(ours)
            assert not loop.remove_writer(ours.fileno())
            other.send(b"x")
            await readable
            loop.remove_reader(ours)
            assert not loop.remove_reader(ours.fileno())
            assert ours.recv(2) == b"x"


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("late", ["reader", "writer", "both"])
async def test_a_descriptor_that_became_a_socket_of_ours(late: str) -> None:
    """Closed without remove_reader(), and its number is one of our sockets' when that comes."""
    loop = asyncio.get_running_loop()
    with RawListener() as raw:
        closed, other = kernel.socketpair()
        number = closed.fileno()
        if late != "writer":
            loop.add_reader(number, lambda: None)
        if late != "reader":
            loop.add_writer(number, lambda: None)
        closed.close()
        recorder = Recorder()
        socket = await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder)
        assert socket.fileno() == number
        peer = await raw.accept()
        assert loop.remove_reader(number) == (late != "writer")
        assert loop.remove_writer(number) == (late != "reader")
        await peer.send(b"can you hear me?")
        await recorder.until_received(16)
        socket.terminate()
        peer.close()
        other.close()


@pytest.mark.loops("mantou")
async def test_our_descriptors_cannot_be_watched_by_others() -> None:
    loop = asyncio.get_running_loop()
    recorder = Recorder()
    with RawListener() as raw:
        closed, other = kernel.socketpair()
        loop.add_reader(closed.fileno(), lambda: None)
        closed.close()
        socket = await mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder)
        peer = await raw.accept()
        listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder())
        for fd, name in ((socket.fileno(), "Socket"), (listener.fileno(), "TCPSocketListener")):
            expected = f"File descriptor {fd} is used by transport <mantou.{name} "
            for add in (loop.add_reader, loop.add_writer, loop.add_reader):
                with pytest.raises(RuntimeError, match=expected):
                    add(fd, lambda: None)
            assert not loop.remove_reader(fd)
        await peer.send(b"can you hear me?")
        await recorder.until_received(16)
        (await dial(listener)).close()
        listener.stop()
        socket.terminate()
        peer.close()
        other.close()


@pytest.mark.loops("mantou")
async def test_a_descriptor_closed_behind_asyncios_back(loop_errors: LoopErrors) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = kernel.socketpair()
    loop.add_reader(ours, lambda: None)
    number = ours.fileno()
    ours.close()
    assert loop.remove_reader(number)
    theirs.close()
    async with connected(Recorder()) as (socket, peer):
        socket.write(b"fine")
        assert await peer.receive(4) == b"fine"
    assert not loop_errors

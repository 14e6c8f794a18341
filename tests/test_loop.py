"""The event loop: mantou's own as an asyncio loop, its end, its fairness, forks and threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import signal
import socket as kernel
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS, LoopErrors
from tests.support import Peer, RawListener, Recorder, accepted, connected, dial


def echo(**handlers: Any) -> Recorder:
    return Recorder(data=lambda socket, data: socket.write_all(data), **handlers)


def run_script(text: str, *, interrupt: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a Python program, and with `interrupt` presses Ctrl-C once it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = ""
    if interrupt:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=30)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, first + out, err)


# run()


def test_run_returns_the_result_of_main() -> None:
    async def main() -> tuple[str, type]:
        return "done", type(asyncio.get_running_loop())

    assert mantou.run(main()) == ("done", mantou.EventLoop)
    with pytest.raises(LookupError, match="out of main"):
        mantou.run(_raising(LookupError("out of main")))


async def _raising(error: BaseException) -> None:
    raise error


def test_run_without_main_lasts_as_long_as_something_is_open() -> None:
    recorder = echo(close=lambda *_: listener.stop())
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)

    def client() -> bytes:
        with kernel.create_connection(("127.0.0.1", listener.port), timeout=10) as sock:
            sock.sendall(b"knock")
            return sock.recv(5)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(client)
        assert mantou.run() is None
        assert answer.result() == b"knock"
    assert recorder.names == ["open", "data", "end", "close"]


def test_run_without_anything_to_do_returns() -> None:
    assert mantou.run() is None


@pytest.mark.parametrize("kind", ["listener", "socket"])
def test_what_is_unreferenced_does_not_keep_run_alive(kind: str) -> None:
    recorder = Recorder()
    ours, theirs = kernel.socketpair()
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)
    accepting = kernel.create_connection(("127.0.0.1", listener.port))
    if kind == "listener":
        listener.unref()
        accepting.close()
    else:
        recorder._handlers["open"] = lambda socket: (socket.unref(), listener.stop())
    mantou.run()
    assert listener.fileno() == -1
    if kind == "socket":
        # Open until the end, and then told so.
        assert recorder.names == ["open", "close"]
        with pytest.raises(ConnectionResetError):
            accepting.recv(1)
    for sock in (ours, theirs, accepting):
        sock.close()


def test_a_socket_can_keep_run_alive_again() -> None:
    def opened(socket: mantou.Socket[Any]) -> None:
        listener.stop()
        socket.unref()
        socket.ref()
        socket.timeout(0.05)

    recorder = Recorder(open=opened)
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)
    peer = kernel.create_connection(("127.0.0.1", listener.port))
    with peer:
        closer = threading.Timer(0.2, peer.shutdown, [kernel.SHUT_RDWR])
        closer.start()
        mantou.run()
        closer.join()
    assert recorder.names[:2] == ["open", "timeout"]
    assert recorder.names[-1] == "close"


async def test_run_inside_a_running_loop_is_refused() -> None:
    for main in (None, asyncio.sleep(0)):
        with pytest.raises(RuntimeError, match="running event loop"):
            mantou.run(main)


def test_run_wants_a_coroutine() -> None:
    with pytest.raises(TypeError, match="coroutine"):
        mantou.run(lambda: None)  # type: ignore[arg-type]


def test_leftover_tasks_are_cancelled_and_generators_closed() -> None:
    seen = []

    async def leftover() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def generator() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def main() -> None:
        tasks.append(asyncio.create_task(leftover()))
        generators.append(generator())
        await anext(generators[0])

    tasks: list[Any] = []
    generators: list[Any] = []
    mantou.run(main())
    assert sorted(seen) == ["cancelled", "closed"]


def test_ctrl_c_raises_keyboard_interrupt() -> None:
    for body in ("mantou.run()", "mantou.run(asyncio.Event().wait())"):
        done = run_script(
            f"""
            import asyncio, mantou
            class Handlers(mantou.SocketHandler):
                def open(self, socket):
                    print("ready", flush=True)
                def close(self, socket, error):
                    print("closed", error, flush=True)
            listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Handlers())
            import socket
            peer = socket.create_connection(("127.0.0.1", listener.port))
            try:
                {body}
            except KeyboardInterrupt:
                print("interrupted")
            peer.close()
            """,
            interrupt=True,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        assert done.stdout.split("\n")[:3] == ["ready", "closed None", "interrupted"]


def test_ctrl_c_inside_a_handler_leaves_the_loop() -> None:
    done = run_script(
        """
        import mantou, signal, socket
        class Handlers(mantou.SocketHandler):
            def open(self, socket):
                print("ready", flush=True)
                signal.default_int_handler(signal.SIGINT, None)
        listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Handlers())
        peer = socket.create_connection(("127.0.0.1", listener.port))
        try:
            mantou.run()
        except KeyboardInterrupt:
            print("interrupted")
        peer.close()
        """
    )
    assert (done.stdout, done.stderr) == ("ready\ninterrupted\n", "")


# The end


@pytest.mark.parametrize("kind", LOOPS)
def test_what_is_open_at_the_end_is_terminated(kind: str) -> None:
    server, client = Recorder(), Recorder()
    said = []

    async def last_words(socket: mantou.Socket[Any], error: BaseException | None) -> None:
        await asyncio.sleep(0)
        said.append(error)

    async def main() -> tuple[mantou.Socket[Any], Any]:
        listener = mantou.listen(hostname="127.0.0.1", port=0, socket=server)
        socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=client)
        await server.until("open")
        await mantou.connect(hostname="127.0.0.1", port=listener.port, socket={"close": last_words})
        await server.until("open", 2)
        return socket, listener

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        socket, listener = runner.run(main())
        assert client.names == ["open"]
    assert client.names == ["open", "close"]
    assert client.errors == [None]
    assert len(server.of("close")) == 2
    assert said == [None]
    assert (socket.fileno(), listener.fileno()) == (-1, -1)
    assert socket.write(b"nobody hears this") == -1


def test_a_loop_that_is_only_closed_terminates_too() -> None:
    recorder = Recorder()
    loop = mantou.new_event_loop()

    async def main() -> Any:
        return mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)

    listener = loop.run_until_complete(main())
    peer = kernel.create_connection(("127.0.0.1", listener.port))
    loop.run_until_complete(recorder.until("open"))
    loop.close()
    assert recorder.names == ["open", "close"]
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    peer.close()
    assert loop.is_closed()


def loop_with_a_connection(recorder: Recorder) -> tuple[mantou.EventLoop, kernel.socket]:
    """A loop that has stopped with a socket open, and the peer."""
    loop = mantou.new_event_loop()

    async def start() -> int:
        return mantou.listen(hostname="127.0.0.1", port=0, socket=recorder).port

    peer = kernel.create_connection(("127.0.0.1", loop.run_until_complete(start())))
    loop.run_until_complete(recorder.until("open"))
    return loop, peer


async def test_closing_another_loop_inside_a_running_one() -> None:
    recorder = Recorder()
    ran = []

    def open_another() -> tuple[mantou.EventLoop, kernel.socket]:
        loop, peer = loop_with_a_connection(recorder)
        loop.call_soon(ran.append, "what was queued")
        return loop, peer

    other, peer = await asyncio.to_thread(open_another)
    other.close()
    assert other.is_closed()
    assert recorder.names == ["open", "close"]
    assert recorder.errors == [None]
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    peer.close()
    assert ran == []


async def test_dropping_another_loop_inside_a_running_one() -> None:
    recorder = Recorder()
    made: list[tuple[mantou.EventLoop, kernel.socket]] = []
    thread = threading.Thread(target=lambda: made.append(loop_with_a_connection(recorder)))
    thread.start()
    thread.join()
    other, peer = made.pop()
    del other
    recorder.sockets.clear()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert recorder.names == ["open", "close"]
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    peer.close()


def test_a_loop_that_is_dropped_still_hears_of_errors() -> None:
    """Also of slow handlers, in debug mode."""
    told: list[dict[str, Any]] = []

    def fail(*_: object) -> None:
        raise LookupError("no such member")

    recorder = Recorder(close=fail)
    loop, peer = loop_with_a_connection(recorder)
    loop.set_debug(True)
    loop.set_exception_handler(lambda _, context: told.append(context))
    del loop
    recorder.sockets.clear()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    peer.close()
    assert [str(context["exception"]) for context in told] == ["no such member"]


def test_an_async_close_handler_cannot_run_in_a_closed_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def last_words(*_: object) -> None:
        raise AssertionError("there is no loop to run it")

    loop, peer = loop_with_a_connection(Recorder(close=last_words))
    loop.close()
    assert "last_words" in caplog.text
    assert "shutdown_asyncgens" in caplog.text
    peer.close()


def test_a_running_loop_cannot_be_closed() -> None:
    recorder = Recorder()
    loop, peer = loop_with_a_connection(recorder)

    async def close() -> None:
        with pytest.raises(RuntimeError, match="running"):
            loop.close()

    loop.run_until_complete(close())
    assert recorder.names == ["open"]
    loop.close()
    peer.close()


@pytest.mark.parametrize("closing", ["loop.close()", ""])
def test_a_loop_that_never_ran_goes_silently(closing: str) -> None:
    program = f"import mantou; loop = mantou.new_event_loop(); {closing}"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_nothing_can_be_opened_while_the_loop_ends() -> None:
    failures = []

    def closed(_: object, __: object) -> None:
        with pytest.raises(RuntimeError) as caught:
            mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)
        failures.append(caught.value)

    recorder = Recorder(close=closed)

    async def main() -> None:
        listener = mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)
        peers.append(await Peer.connect(("127.0.0.1", listener.port)))
        await recorder.until("open")

    peers: list[Peer] = []
    mantou.run(main())
    assert len(failures) == 1
    peers[0].close()


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
    async with busy(connections) as bounced:
        started = time.monotonic()
        for _ in range(20):
            # Each needs the interpreter's lock several times.
            await asyncio.to_thread(time.sleep, 0)
        assert time.monotonic() - started < 2
        before = bounced[0]
        assert await asyncio.to_thread(work) < 0.5 + 10 * alone
        assert bounced[0] > before


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


# Re-entry, stop, threads, forks


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

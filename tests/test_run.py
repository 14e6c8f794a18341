"""run(), and what becomes of a loop's sockets at its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import socket as kernel
import subprocess
import sys
import threading
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS
from tests.scripts import run_script
from tests.support import Peer, Recorder


def echo(**handlers: Any) -> Recorder:
    return Recorder(data=lambda socket, data: socket.write_all(data), **handlers)


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


def test_ctrl_c_cancels_main_first() -> None:
    # One loop waits within the kernel, the other one is busy.
    for wait in ("await asyncio.Event().wait()", "while True: await asyncio.sleep(0)"):
        done = run_script(
            f"""
            import asyncio, mantou
            async def main():
                print("ready", flush=True)
                try:
                    {wait}
                except asyncio.CancelledError:
                    print("cancelled")
                    await asyncio.sleep(0)
                    print("cleaned up")
                    raise
            try:
                with asyncio.Runner(loop_factory=mantou.new_event_loop) as runner:
                    runner.run(main())
            except KeyboardInterrupt:
                print("interrupted")
            """,
            interrupt=True,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        assert done.stdout == "ready\ncancelled\ncleaned up\ninterrupted\n"


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

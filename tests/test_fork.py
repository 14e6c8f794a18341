"""Processes forked beside our sockets: what is theirs, what stays the parent's."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket as kernel
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou._attach import running_engine
from tests.support import Recorder, accepted, every_link, every_stream, listen
from tests.test_loop import run_script

# Said by Python 3.12 and later of a process with threads. The children here run nothing of theirs.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def echo(**handlers: Any) -> Recorder:
    return Recorder(data=lambda socket, data: socket.write_all(data), **handlers)


class Child:
    """A forked process that does something; its exit status is 0 if that raised nothing."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            # Nothing may escape into pytest.
            status = 1
            try:
                act()
                gc.collect()
                status = 0
            except BaseException as error:
                os.write(2, f"in the child: {error!r}\n".encode())
            finally:
                os._exit(status)

    async def succeeded(self) -> bool:
        _, status = await asyncio.to_thread(os.waitpid, self.pid, 0)
        return os.waitstatus_to_exitcode(status) == 0

    def holds(self, inode: int) -> bool:
        """Whether it has a descriptor of this socket."""
        targets = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                targets.append(os.readlink(entry))
        return f"socket:[{inode}]" in targets


@contextlib.contextmanager
def idle_worker() -> Iterator[Child]:
    """A forked process that waits, when its hooks have run."""
    ready, done = os.pipe()
    child = Child(lambda: (os.write(done, b"!"), signal.pause()))
    try:
        assert os.read(ready, 1) == b"!"
        yield child
    finally:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(ready)
        os.close(done)


# Connections stay the parent's


@every_stream
async def test_a_worker_does_not_keep_connections_open(link: str) -> None:
    server = echo()
    async with accepted(server, link) as (socket, peer):
        inode = os.fstat(socket.fileno()).st_ino
        with idle_worker() as worker:
            assert not worker.holds(inode)
            await peer.send(b"still here")
            assert await peer.receive(10) == b"still here"
            peer.finish()
            assert await peer.receive(1) == b""
            await server.until("close")
        assert server.errors == [None]


async def test_a_thread_beside_the_loop_may_fork() -> None:
    server = echo()
    with contextlib.ExitStack() as stack:
        async with accepted(server) as (socket, peer):
            assert socket.listener is not None
            inodes = [os.fstat(it.fileno()).st_ino for it in (socket, socket.listener)]
            worker = await asyncio.to_thread(stack.enter_context, idle_worker())
            assert not any(worker.holds(inode) for inode in inodes)
            await peer.send(b"still here")
            assert await peer.receive(10) == b"still here"


async def test_a_child_may_fork_again() -> None:
    def is_heard() -> None:
        with listen(echo()) as listener:
            kernel.create_connection(("127.0.0.1", listener.port)).close()

    def act() -> None:
        # What the hooks raise goes nowhere else.
        sys.unraisablehook = lambda _: os._exit(2)
        grandchild = Child(is_heard)
        _, status = os.waitpid(grandchild.pid, 0)
        assert status == 0

    async with accepted(echo()):
        assert await Child(act).succeeded()


async def test_a_worker_does_not_keep_a_reset_back() -> None:
    server = echo()
    async with accepted(server) as (socket, peer):
        with idle_worker():
            socket.terminate()
            with pytest.raises(ConnectionResetError):
                await peer.receive(1)
            await server.until("close")


async def test_a_worker_does_not_keep_a_listener_of_a_loop_open() -> None:
    with listen(echo()) as listener, idle_worker():
        listener.stop()
        with kernel.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", listener.port)) == errno.ECONNREFUSED


@every_stream
async def test_a_child_that_ends_leaves_no_trace_on_the_wire(link: str) -> None:
    server = echo()
    async with accepted(server, link) as (_, peer):
        assert await Child(gc.collect).succeeded()
        await peer.send(b"still here")
        assert await peer.receive(10) == b"still here"
        assert server.names == ["open", "data"]


async def test_a_child_has_a_loop_of_its_own() -> None:
    async def talk() -> None:
        server, client = echo(), Recorder()
        async with asyncio.timeout(10):
            with listen(server) as listener:
                socket = await mantou.connect(
                    hostname="127.0.0.1", port=listener.port, socket=client
                )
                socket.write(b"child")
                await client.until_received(5)

    def act() -> None:
        mantou.run(talk())
        with asyncio.Runner() as runner:
            runner.run(talk())

    server = echo()
    async with accepted(server) as (_, peer):
        assert await Child(act).succeeded()
        # The parent's connections live on, undisturbed.
        await peer.send(b"still here")
        assert await peer.receive(10) == b"still here"
        assert server.names == ["open", "data"]


async def test_what_is_inherited_from_a_loop_cannot_be_used() -> None:
    loop = asyncio.get_running_loop()
    server = echo()
    async with accepted(server) as (socket, peer):
        listener = socket.listener
        assert listener is not None
        uses: list[Callable[[], object]] = [
            lambda: socket.write(b"from the child"),
            socket.terminate,
            listener.stop,
            lambda: listener.reload(echo()),
            # There is nothing that it could serve.
            mantou.run,
        ]
        if isinstance(loop, mantou.EventLoop):
            uses += [loop.run_forever, lambda: loop.run_until_complete(loop.create_future())]
        else:
            # What the loop calls whenever the parent's sockets have something to do.
            uses.append(running_engine().turn)

        def act() -> None:
            for use in uses:
                with pytest.raises(RuntimeError, match="forked"):
                    use()

        assert await Child(act).succeeded()
        await peer.send(b"still here")
        assert await peer.receive(10) == b"still here"
        assert server.names == ["open", "data"]
        assert server.sockets[0] is socket


@every_link
async def test_what_is_inherited_from_a_loop_can_be_looked_at(link: str) -> None:
    async with accepted(echo(), link) as (socket, _):

        def known() -> list[object]:
            ends = [socket.local_address, socket.local_port, socket.local_family]
            return [*ends, socket.remote_address, socket.remote_port, socket.remote_family]

        before, listener = known(), socket.listener
        shown = repr(socket)
        assert "established" in shown

        def act() -> None:
            assert (known(), socket.listener) == (before, listener)
            # Ours is closed, whatever the parent's is.
            assert repr(socket) == shown.replace("established", "closed")
            assert "stopped" in repr(listener)

        assert await Child(act).succeeded()
        assert (repr(socket), known()) == (shown, before)


def test_a_loop_that_was_made_before_cannot_be_run() -> None:
    loop = mantou.new_event_loop()
    # Its queue has to be the parent's alone.
    watched, other = kernel.socketpair()
    loop.add_reader(watched, loop.stop)

    def act() -> None:
        loop.remove_reader(watched)
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="forked"):
            loop.run_until_complete(coroutine)
        coroutine.close()
        loop.close()

    child = Child(act)
    _, status = os.waitpid(child.pid, 0)
    assert status == 0
    other.send(b"!")
    loop.run_forever()
    loop.remove_reader(watched)
    loop.close()
    watched.close()
    other.close()


@pytest.mark.parametrize("place", ["handler", "coroutine"])
def test_a_child_that_goes_on_in_the_loop_is_stopped(place: str) -> None:
    result = run_script(f"""
        import asyncio, os, socket, mantou

        child = None

        def fork():
            global child
            child = os.fork()
            if child == 0:
                os.close(0)

        class Server(mantou.SocketHandler):
            def data(self, socket, data):
                if data == b"fork" and {place == "handler"}:
                    fork()
                socket.write(data)

        async def main():
            listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Server())
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"fork")
            if {place == "coroutine"}:
                fork()
            assert await reader.readexactly(4) == b"fork"
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 3
            writer.write(b"more")
            assert await reader.readexactly(4) == b"more"
            writer.close()
            await writer.wait_closed()
            listener.stop()

        try:
            mantou.run(main())
        except RuntimeError as error:
            assert "forked" in str(error)
            os._exit(3 if child == 0 else 4)
        os._exit(5 if child == 0 else 0)
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("place", ["handler", "coroutine"])
def test_a_child_may_exit_from_within_the_loop(place: str) -> None:
    if place == "coroutine" and sys.version_info >= (3, 14):
        pytest.skip("a forked task fails at its own loop, which asyncio says does not run")
    result = run_script(f"""
        import asyncio, os, sys, mantou

        child = None

        def fork():
            global child
            child = os.fork()
            if child == 0:
                sys.exit(7)

        class Server(mantou.SocketHandler):
            def data(self, socket, data):
                if data == b"fork" and {place == "handler"}:
                    fork()
                socket.write(data)

        async def main():
            listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Server())
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            if {place == "coroutine"}:
                fork()
            writer.write(b"fork")
            assert await reader.readexactly(4) == b"fork"
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            writer.close()
            await writer.wait_closed()
            listener.stop()
            return os.waitstatus_to_exitcode(status)

        sys.exit(mantou.run(main()))
    """)
    assert result.returncode == 7, result.stderr
    # The parent's loop is not what the child failed at.
    assert "belong to the process" not in result.stderr


@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run"])
def test_a_child_that_exits_from_within_a_foreign_loop_says_nothing(runner: str) -> None:
    result = run_script(f"""
        import asyncio, os, sys, mantou, uvloop

        async def main():
            mantou.listen(hostname="127.0.0.1", port=0, socket={{"open": print}})
            child = os.fork()
            if child == 0:
                sys.exit(7)
            # The child has taken the loop's own descriptors out of the queue that they share.
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status))

        {runner}(main())
    """)
    assert result.returncode == 7, result.stderr
    assert "mantou" not in result.stderr
    assert "_end_with" not in result.stderr


# Listeners that no loop has run yet are everybody's


def test_listen_fork_run(tmp_path: Path) -> None:
    """Each process serves one connection and stops listening, which leaves the others alone."""

    def opened(socket: mantou.Socket[Any]) -> None:
        assert socket.listener is not None
        socket.listener.stop()
        socket.end(f"{os.getpid()}".encode())

    path = tmp_path / "shared"
    listener = mantou.listen(unix=path, socket={"open": opened})
    children = {child.pid for child in (Child(mantou.run), Child(mantou.run), Child(mantou.run))}
    served = set()
    try:
        for _ in children:
            with kernel.socket(kernel.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(path))
                served.add(int(sock.recv(10)))
                assert sock.recv(1) == b""
    except BaseException:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        # The file is removed by the process that made it.
        assert path.is_socket()
        listener.stop()
        assert not path.exists()
        # Nothing is left that this process could serve.
        mantou.run()
    assert served == children
    assert statuses == [0, 0, 0]


def test_forked_by_another_thread_than_listened() -> None:
    handlers = {"open": lambda socket: socket.end(f"{os.getpid()}".encode())}
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=handlers)
    children: list[Child] = []
    thread = threading.Thread(target=lambda: children.append(Child(mantou.run)))
    thread.start()
    thread.join()
    try:
        with kernel.create_connection(("127.0.0.1", listener.port), timeout=10) as sock:
            assert int(sock.recv(10)) == children[0].pid
    finally:
        os.kill(children[0].pid, signal.SIGKILL)
        os.waitpid(children[0].pid, 0)
    listener.stop()
    mantou.run()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("runner", ["mantou.run", "asyncio.run", "uvloop.run"])
def test_multiprocessing_beside_open_sockets(method: str, runner: str) -> None:
    result = run_script(f"""
        import asyncio, multiprocessing, os, mantou, uvloop, warnings

        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)

        class Echo(mantou.SocketHandler):
            def data(self, socket, data):
                socket.write(data)

        def work(pool):
            return len(set(pool.map(abs, range(100))))

        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60
            listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Echo())
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                assert await asyncio.to_thread(work, pool) == 100
                writer.write(b"beside")
                assert await reader.readexactly(6) == b"beside"
                # The processes hold nothing back.
                writer.write_eof()
                assert await reader.read() == b""
                listener.stop()
                await listener.closed()
                try:
                    await asyncio.open_connection("127.0.0.1", listener.port)
                except ConnectionRefusedError:
                    print("done")
                pool.close()
                await asyncio.to_thread(pool.join)
            writer.close()

        if __name__ == "__main__":
            {runner}(main())
    """)
    assert (result.stdout, result.stderr) == ("done\n", "")

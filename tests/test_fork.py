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


def test_processes_that_share_a_listener_each_hear_their_proxies() -> None:
    """A header that comes late, or never, keeps nobody from being served, in no process."""
    header = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"

    def opened(socket: mantou.Socket[Any]) -> None:
        socket.end(f"{os.getpid()} for {socket.remote_address}".encode())

    listener = mantou.listen(
        hostname="127.0.0.1",
        port=0,
        socket={"open": opened, "connect_error": lambda *_: None},
        proxy_protocol="require",
        proxy_trusted=["127.0.0.0/8"],
        # So that each process gets some of them.
        max_connections=2,
    )
    # One connection waits in the queue that they share.
    early = kernel.create_connection(("127.0.0.1", listener.port), timeout=10)
    early.sendall(header[:20])
    children = [Child(mantou.run), Child(mantou.run)]

    def visit() -> kernel.socket:
        sock = kernel.create_connection(("127.0.0.1", listener.port), timeout=10)
        sock.sendall(header + b"and more")
        return sock

    def answer(sock: kernel.socket) -> str:
        with sock, sock.makefile() as lines:
            return lines.read()

    try:
        answers = {answer(sock) for sock in [visit() for _ in range(20)]}
        # What is malformed is turned away, and that is all.
        with kernel.create_connection(("127.0.0.1", listener.port), timeout=10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        early.sendall(header[20:])
        answers.add(answer(early))
        answers |= {answer(sock) for sock in [visit() for _ in range(20)]}
    finally:
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        listener.stop()
        mantou.run()
    assert answers <= {f"{child.pid} for 192.0.2.1" for child in children}
    assert answers

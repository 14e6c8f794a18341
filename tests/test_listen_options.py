"""Every option of listen(), as the kernel and the peers see it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket as kernel
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.kernel import TIME_WAIT, FullListener, intruders, option, tcp_states, unused_port
from tests.support import Peer, Recorder, accepted, fill

V6 = kernel.AF_INET6


def echo() -> Recorder:
    return Recorder(data=lambda socket, data: socket.write(data))


async def answers(address: Any, family: int = kernel.AF_INET) -> None:
    """Asserts that an echo answers at the address."""
    peer = await Peer.connect(address, family)
    await peer.send(b"anybody?")
    assert await peer.receive(8) == b"anybody?"
    peer.finish()
    assert await peer.receive_until_fin() == b""
    peer.close()


@contextlib.asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[Any]:
    """An echo listener whose connections are gone when it is left."""
    target = {} if {"unix", "fd"} & set(options) else {"hostname": "127.0.0.1", "port": 0}
    with mantou.listen(**({"socket": echo()} | target | options)) as listener:
        yield listener
    await listener.closed()


# Ports


async def test_port_zero_picks_one() -> None:
    async with listening() as listener:
        with kernel.socket(fileno=os.dup(listener.fileno())) as sock:
            assert sock.getsockname() == ("127.0.0.1", listener.port)
        await answers(("127.0.0.1", listener.port))


@pytest.mark.parametrize("hostname", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("options", [{}, {"reuse_port": True}, {"exclusive": True}], ids=str)
async def test_a_second_listener_is_refused(hostname: str, options: dict[str, bool]) -> None:
    async with listening(**options) as listener:
        with pytest.raises(OSError, match="in use") as caught:
            mantou.listen(hostname=hostname, port=listener.port, socket=echo())
        assert caught.value.errno == errno.EADDRINUSE
        assert str(listener.port) in caught.value.__notes__[0]
        await answers(("127.0.0.1", listener.port))


async def test_two_listeners_that_both_reuse_the_port() -> None:
    servers = [Recorder(), Recorder()]
    async with (
        listening(reuse_port=True, socket=servers[0]) as first,
        listening(reuse_port=True, socket=servers[1], port=first.port) as second,
    ):
        assert second.port == first.port
        # The kernel spreads connections by a hash of their addresses: soon both have some.
        peers = []
        while not all(server.of("open") for server in servers):
            assert len(peers) < 200
            peers.append(await Peer.connect(("127.0.0.1", first.port)))
            await _until_opened(servers, len(peers))
        for peer in peers:
            peer.close()


async def _until_opened(servers: list[Recorder], count: int) -> None:
    while sum(len(server.of("open")) for server in servers) < count:
        await asyncio.sleep(0)


@pytest.mark.parametrize("hostname", ["127.0.0.1", "0.0.0.0"])
async def test_an_exclusive_listener_admits_nobody(hostname: str) -> None:
    async with listening(hostname=hostname, exclusive=True) as listener:
        assert intruders("127.0.0.1", listener.port) == set()
        assert intruders("0.0.0.0", listener.port) == set()


@pytest.mark.parametrize("before", [False, True], ids=["shared-before", "exclusive-before"])
@pytest.mark.parametrize("after", [False, True], ids=["shared-after", "exclusive-after"])
async def test_leftovers_of_connections_do_not_stop_a_restart(before: bool, after: bool) -> None:
    port = unused_port()
    recorder = Recorder(open=lambda socket: socket.end())
    async with listening(port=port, exclusive=before, socket=recorder):
        peer = await Peer.connect(("127.0.0.1", port))
        assert await peer.receive_until_fin() == b""
        peer.close()
        await recorder.until("close")
    assert TIME_WAIT in tcp_states(port)
    async with listening(port=port, exclusive=after):
        await answers(("127.0.0.1", port))


async def test_a_port_is_free_after_stop() -> None:
    async with listening() as listener:
        port = listener.port
        listener.stop()
        assert listener.fileno() == -1
        assert listener.port == port
        with pytest.raises(ConnectionRefusedError):
            await Peer.connect(("127.0.0.1", port))
        async with listening(port=port):
            await answers(("127.0.0.1", port))


# Families


async def test_dual_stack_unless_ipv6_only() -> None:
    async with listening(hostname="::") as listener:
        assert option(listener.fileno(), kernel.IPPROTO_IPV6, kernel.IPV6_V6ONLY) == 0
        await answers(("::1", listener.port), V6)
        await answers(("127.0.0.1", listener.port))
    async with listening(hostname="::", ipv6_only=True) as listener:
        assert option(listener.fileno(), kernel.IPPROTO_IPV6, kernel.IPV6_V6ONLY) == 1
        await answers(("::1", listener.port), V6)
        with pytest.raises(ConnectionRefusedError):
            await Peer.connect(("127.0.0.1", listener.port))
    # A port that is free for IPv4, which other programs use more, is the one to begin with.
    async with (
        listening(hostname="0.0.0.0") as other,
        listening(hostname="::", port=other.port, ipv6_only=True),
    ):
        await answers(("127.0.0.1", other.port))
        await answers(("::1", other.port), V6)


@pytest.mark.parametrize("hostname", ["0.0.0.0", "::ffff:127.0.0.1"])
async def test_ipv6_only_refuses_ipv4(hostname: str) -> None:
    with pytest.raises(ValueError, match=r"'hostname'.*'ipv6_only'"):
        mantou.listen(hostname=hostname, port=0, ipv6_only=True, socket=echo())


@pytest.mark.parametrize("hostname", ["[::1]", "::1"])
async def test_an_ipv6_literal(hostname: str) -> None:
    async with listening(hostname=hostname) as listener:
        assert listener.hostname == hostname
        await answers(("::1", listener.port), V6)


async def test_a_name_is_bound_at_its_first_address_that_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def getaddrinfo(host: str, port: int, family: int = 0, **_: object) -> list[Any]:
        asked.append((host, family))
        addresses = ["203.0.113.1", "127.0.0.2", "127.0.0.1"]
        return [(kernel.AF_INET, kernel.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "getaddrinfo", getaddrinfo)
        listener = mantou.listen(hostname="several.test", port=0, socket=echo())
    with listener:
        assert asked == [("several.test", 0)]
        with kernel.socket(fileno=os.dup(listener.fileno())) as sock:
            assert sock.getsockname() == ("127.0.0.2", listener.port)
        await answers(("127.0.0.2", listener.port))
    await listener.closed()


async def test_a_name_of_which_nothing_can_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as listener:
        port = listener.port
        found = [
            (kernel.AF_INET, kernel.SOCK_STREAM, 6, "", (one, port))
            for one in ("127.0.0.1", "203.0.113.1")
        ]
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "getaddrinfo", lambda *_, **__: found)
            with pytest.raises(OSError, match="in use") as caught:
                mantou.listen(hostname="several.test", port=port, socket=echo())
        assert caught.value.errno == errno.EADDRINUSE
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "getaddrinfo", lambda *_, **__: [])
        with pytest.raises(kernel.gaierror, match=r"nowhere\.test") as caught:
            mantou.listen(hostname="nowhere.test", port=0, socket=echo())
    assert caught.value.errno == kernel.EAI_NONAME
    with pytest.raises(kernel.gaierror):
        mantou.listen(hostname="127.1", port=0, ipv6_only=True, socket=echo())


# Queue, settings, data


@pytest.mark.parametrize("backlog", [0, 3])
def test_the_backlog_is_how_many_wait(backlog: int) -> None:
    listener = mantou.listen(hostname="127.0.0.1", port=0, backlog=backlog, socket=echo())
    # No loop runs: nobody accepts. The kernel lets in one more than it is told to.
    with contextlib.ExitStack() as stack:
        waiting = 0
        for _ in range(backlog + 4):
            sock = stack.enter_context(kernel.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", listener.port))
            # TCP_INFO begins with the state: 1 is ESTABLISHED.
            waiting += sock.getsockopt(kernel.IPPROTO_TCP, kernel.TCP_INFO, 1)[0] == 1
        assert waiting == backlog + 1
    listener.stop()
    mantou.run()


@pytest.mark.parametrize("no_delay", [True, False])
async def test_accepted_sockets_have_the_settings(no_delay: bool) -> None:
    options = {"no_delay": no_delay, "keep_alive": 7 if no_delay else None}
    async with accepted(Recorder(), **options) as (socket, _):
        fd = socket.fileno()
        assert option(fd, kernel.IPPROTO_TCP, kernel.TCP_NODELAY) == no_delay
        assert option(fd, kernel.SOL_SOCKET, kernel.SO_KEEPALIVE) == no_delay
        if no_delay:
            assert option(fd, kernel.IPPROTO_TCP, kernel.TCP_KEEPIDLE) == 7
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)


async def test_accepted_sockets_have_the_limits() -> None:
    recorder = Recorder()
    async with accepted(recorder, write_limit=10) as (socket, peer):
        fill(socket)
        socket.write_all(b"1")
        with pytest.raises(BufferError, match="write_limit=10"):
            socket.write_all(b"2345678901")
        socket.terminate()
    recorder = Recorder()
    async with accepted(recorder, idle_timeout=0.1) as (socket, peer):
        assert await peer.receive_until_fin() == b""
        await recorder.until("close")
    assert recorder.names == ["open", "timeout", "close"]
    recorder = Recorder()
    async with accepted(recorder, close_timeout=0.1) as (socket, peer):
        socket.end()
        assert await peer.receive_until_fin() == b""
        await recorder.until("close")
    assert isinstance(recorder.errors[0], TimeoutError)


async def test_all_accepted_sockets_get_the_same_data() -> None:
    data = object()
    seen = []
    recorder = Recorder(open=lambda socket: seen.append(socket.data))
    async with listening(socket=recorder, data=data) as listener:
        peers = [await Peer.connect(("127.0.0.1", listener.port)) for _ in range(3)]
        await recorder.until("open", 3)
        assert all(one is data for one in seen)
        listener.data = "another"
        peers.append(await Peer.connect(("127.0.0.1", listener.port)))
        await recorder.until("open", 4)
        assert seen[3] == "another"
        assert recorder.sockets[0].data is data
        for peer in peers:
            peer.close()


async def test_a_data_factory_makes_data_for_each() -> None:
    made = {}

    def factory(socket: mantou.Socket[Any]) -> object:
        assert socket.remote_port is not None
        return made.setdefault(socket, object())

    seen = []
    recorder = Recorder(open=lambda socket: seen.append(socket.data))
    async with listening(socket=recorder, data_factory=factory) as listener:
        peers = [await Peer.connect(("127.0.0.1", listener.port)) for _ in range(2)]
        await recorder.until("open", 2)
        assert seen == [made[socket] for socket in recorder.sockets]
        assert seen[0] is not seen[1]
        for peer in peers:
            peer.close()


async def test_a_data_factory_that_raises_refuses_the_connection() -> None:
    def factory(_: object) -> object:
        raise LookupError("no data")

    recorder = Recorder()
    async with listening(socket=recorder, data_factory=factory) as listener:
        peer = Peer(kernel.create_connection(("127.0.0.1", listener.port)))
        with pytest.raises(ConnectionResetError):
            await peer.receive_some()
        peer.close()
        name, error = await recorder.until("connect_error")
        assert recorder.sockets[0].remote_address == "127.0.0.1"
        assert listener.connections == 0
    assert (name, str(error)) == ("connect_error", "no data")
    assert len(recorder.events) == 1


# unix


@pytest.fixture
def path() -> Iterator[Path]:
    # Shorter than tmp_path: a unix path has 107 bytes at most.
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "s"


@pytest.mark.parametrize("mask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o700, 0o000])
async def test_the_mode_is_never_wider_than_asked_for(
    path: Path, mode: int, mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    chmod = os.chmod

    def watched(target: Any, bits: int) -> None:
        # The only moment at which the file is there and not finished.
        seen.append(stat.S_IMODE(os.stat(target).st_mode))
        chmod(target, bits)

    monkeypatch.setattr(os, "chmod", watched)
    before = os.umask(mask)
    try:
        listener = mantou.listen(unix=path, mode=mode, socket=echo())
    finally:
        os.umask(before)
    with listener:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert all(bits & ~mode == 0 for bits in seen)
    await listener.closed()


async def test_without_a_mode_the_umask_counts(path: Path) -> None:
    before = os.umask(0o027)
    try:
        listener = mantou.listen(unix=path, socket=echo())
    finally:
        os.umask(before)
    with listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o750


async def test_a_stale_file_is_replaced_if_asked_for(path: Path) -> None:
    with kernel.socket(kernel.AF_UNIX) as sock:
        sock.bind(os.fspath(path))
    with pytest.raises(OSError, match="in use") as caught:
        mantou.listen(unix=path, socket=echo())
    assert caught.value.errno == errno.EADDRINUSE
    assert stat.S_ISSOCK(path.stat().st_mode)
    async with listening(unix=path, unlink_stale=True):
        await answers(os.fspath(path), kernel.AF_UNIX)
    assert not path.exists()


@pytest.mark.parametrize("kind", ["live", "busy"])
async def test_a_live_socket_is_never_replaced(path: Path, kind: str) -> None:
    # A busy one cannot take another connection.
    live = FullListener(os.fspath(path), kernel.AF_UNIX)
    if kind == "live":
        live.accept_all()
    before = path.stat().st_ino
    with live, pytest.raises(OSError, match="in use") as caught:
        mantou.listen(unix=path, unlink_stale=True, socket=echo())
    assert caught.value.errno == errno.EADDRINUSE
    assert path.stat().st_ino == before


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "fifo"])
async def test_another_kind_of_file_is_never_replaced(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        target = path.with_name("target")
        if kind == "link":
            with kernel.socket(kernel.AF_UNIX) as sock:
                sock.bind(os.fspath(target))
        path.symlink_to(target)
    before = path.lstat()
    with pytest.raises(OSError, match="in use") as caught:
        mantou.listen(unix=path, unlink_stale=True, socket=echo())
    assert caught.value.errno == errno.EADDRINUSE
    assert path.lstat().st_ino == before.st_ino


async def test_stop_removes_the_file_only_if_it_is_still_its_own(path: Path) -> None:
    async with listening(unix=path):
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


async def test_a_relative_path_survives_a_change_of_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    async with listening(unix="s") as listener:
        assert listener.unix == "s"
        monkeypatch.chdir("/")
    assert not path.exists()


async def test_an_abstract_name_and_a_directory_that_is_missing(path: Path) -> None:
    name = f"\0mantou-{os.getpid()}-listen"
    async with listening(unix=name):
        await answers(name, kernel.AF_UNIX)
        with pytest.raises(OSError, match="in use"):
            mantou.listen(unix=name, socket=echo())
    with pytest.raises(FileNotFoundError) as caught:
        mantou.listen(unix=path / "deeper", socket=echo())
    assert "deeper" in caught.value.__notes__[0]


# fd


async def test_a_listening_descriptor_is_taken_over(path: Path) -> None:
    for family, address in ((kernel.AF_INET, ("127.0.0.1", 0)), (kernel.AF_UNIX, str(path))):
        sock = kernel.socket(family)
        sock.bind(address)
        sock.listen()
        name = sock.getsockname()
        fd = sock.detach()
        async with listening(fd=fd) as listener:
            assert listener.fileno() == fd
            await answers(name, family)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    assert isinstance(listener, mantou.UnixSocketListener)
    # Whoever made the file removes it.
    assert path.exists()


@pytest.mark.parametrize("kind", ["pipe", "datagram", "connected", "bound"])
async def test_a_descriptor_of_another_kind_is_left_alone(kind: str) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            fd, writing = os.pipe()
            stack.callback(os.close, fd)
            stack.callback(os.close, writing)
        elif kind == "connected":
            pair = [stack.enter_context(sock) for sock in kernel.socketpair()]
            fd = pair[0].fileno()
        else:
            sock_type = kernel.SOCK_DGRAM if kind == "datagram" else kernel.SOCK_STREAM
            sock = stack.enter_context(kernel.socket(kernel.AF_INET, sock_type))
            sock.bind(("127.0.0.1", 0))
            fd = sock.fileno()
        wrong = OSError if kind == "pipe" else ValueError
        with pytest.raises(wrong):
            mantou.listen(fd=fd, socket=echo())
        assert os.get_blocking(fd)


# Before a loop


def test_a_listener_made_before_run_accepts_when_it_runs() -> None:
    recorder = echo()
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=recorder)
    with pytest.raises(OSError, match="in use"):
        mantou.listen(hostname="127.0.0.1", port=listener.port, socket=echo())
    early = kernel.create_connection(("127.0.0.1", listener.port))
    early.sendall(b"early")

    async def main() -> None:
        await recorder.until_received(5)
        await answers(("127.0.0.1", listener.port))
        peer = Peer(early)
        assert await peer.receive(5) == b"early"
        peer.close()
        listener.stop()
        await listener.closed()

    mantou.run(main())


def test_a_listener_that_never_ran_can_be_stopped(path: Path) -> None:
    listener = mantou.listen(unix=path, socket=echo())
    assert path.exists()
    listener.stop()
    assert not path.exists()
    assert listener.fileno() == -1
    # The engine that waited for a loop goes with it.
    mantou.run()

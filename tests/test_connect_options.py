"""Every option of connect(), as the kernel and the peer see it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket as kernel
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.kernel import (
    SYN_SENT,
    TIME_WAIT,
    FullListener,
    intruders,
    option,
    tcp_states,
    unused_port,
)
from tests.support import Peer, RawListener, Recorder, connected, others_had_their_turn
from tests.tls_support import CLIENT_OPTIONS

V6 = kernel.AF_INET6


@contextlib.asynccontextmanager
async def joined(
    recorder: Recorder, raw: RawListener, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], Peer]]:
    """A connection to the raw listener."""
    target = {"hostname": "127.0.0.1", "port": raw.port}
    socket = await mantou.connect(socket=recorder, **(target | options))
    peer = await raw.accept()
    try:
        yield socket, peer
    finally:
        peer.close()


async def part(recorder: Recorder, socket: mantou.Socket[Any], peer: Peer) -> None:
    """Ends a connection, the socket first: its address is left in TIME_WAIT."""
    socket.end()
    assert await peer.receive_until_fin() == b""
    peer.close()
    await recorder.until("close")
    assert recorder.errors == [None]


# exclusive


@pytest.mark.parametrize("chosen", [True, False], ids=["local_port", "ephemeral"])
@pytest.mark.parametrize("local", ["127.0.0.1", None])
async def test_an_exclusive_port_admits_nobody(chosen: bool, local: str | None) -> None:
    port = unused_port() if chosen else None
    options = {"exclusive": True, "local_port": port, "local_address": local}
    async with connected(Recorder(), **options) as (socket, _):
        assert chosen is (socket.local_port == port)
        assert intruders("127.0.0.1", socket.local_port) == set()
        assert intruders("0.0.0.0", socket.local_port) == set()


async def test_an_exclusive_port_that_is_taken() -> None:
    recorder = Recorder()
    async with connected(Recorder(), exclusive=True) as (first, _):
        with RawListener() as raw, pytest.raises(OSError, match="in use") as caught:
            await mantou.connect(
                hostname="127.0.0.1",
                port=raw.port,
                local_port=first.local_port,
                exclusive=True,
                socket=recorder,
            )
    assert caught.value.errno == errno.EADDRINUSE
    assert recorder.events == [("connect_error", caught.value)]


@pytest.mark.parametrize("before", [False, True], ids=["shared-before", "exclusive-before"])
async def test_a_leftover_does_not_stop_an_exclusive_bind(before: bool) -> None:
    port = unused_port()
    recorder = Recorder()
    async with connected(recorder, local_port=port, exclusive=before) as (socket, peer):
        await part(recorder, socket, peer)
    assert TIME_WAIT in tcp_states(port)
    async with connected(Recorder(), local_port=port, exclusive=True) as (socket, _):
        assert socket.local_port == port
        assert intruders("127.0.0.1", port) == set()
        assert intruders("0.0.0.0", port) == set()


async def test_a_local_port_that_is_not_exclusive_can_be_shared() -> None:
    async with connected(Recorder(), local_port=unused_port()) as (socket, _):
        assert intruders("127.0.0.1", socket.local_port) == {"SO_REUSEADDR", "both"}
        assert option(socket.fileno(), kernel.SOL_SOCKET, kernel.SO_REUSEADDR) == 1


# reuse_port


async def test_one_local_port_towards_two_peers_and_a_listener() -> None:
    server = Recorder(data=lambda socket, data: socket.end(data))
    with RawListener() as one, RawListener() as other:
        async with (
            joined(Recorder(), one, reuse_port=True) as (first, peer),
            joined(Recorder(), other, reuse_port=True, local_port=first.local_port) as (second, _),
        ):
            port = first.local_port
            assert second.local_port == port
            assert peer.sock.getpeername()[1] == port
            with mantou.listen(
                hostname="0.0.0.0", port=port, reuse_port=True, socket=server
            ) as listener:
                assert listener.port == port
                third = await Peer.connect(("127.0.0.1", port))
                await third.send(b"found")
                assert await third.receive_until_fin() == b"found"
                third.close()
                await server.until("close")
            assert first.write(b"still") == 5
            assert await peer.receive(5) == b"still"


# ipv6_only


@pytest.mark.parametrize("only", [True, False])
async def test_ipv6_only_is_set_on_the_socket(only: bool) -> None:
    with RawListener(("::1", 0), V6) as raw:
        async with joined(Recorder(), raw, hostname="::1", ipv6_only=only) as (socket, _):
            assert option(socket.fileno(), kernel.IPPROTO_IPV6, kernel.IPV6_V6ONLY) == only
            assert socket.remote_family == "IPv6"


@pytest.mark.parametrize("hostname", ["127.0.0.1", "::ffff:127.0.0.1", "[::ffff:7f00:1]"])
async def test_ipv6_only_refuses_ipv4(hostname: str) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match=r"'hostname'.*'ipv6_only'"):
        await mantou.connect(hostname=hostname, port=1, ipv6_only=True, socket=recorder)
    assert recorder.events == []


async def test_ipv6_only_asks_for_ipv6_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawListener(("::1", 0), V6) as raw:
        asked = resolve(monkeypatch, ("127.0.0.1", raw.port), ("::1", raw.port))
        async with joined(Recorder(), raw, hostname="x.test", ipv6_only=True) as (socket, _):
            assert socket.remote_address == "::1"
    assert asked == [V6]


async def test_ipv6_only_for_a_name_without_ipv6_addresses() -> None:
    recorder = Recorder()
    # For the resolver a name, which has an IPv4 address only.
    with RawListener() as raw:
        async with joined(Recorder(), raw, hostname="127.1") as (socket, _):
            assert socket.remote_address == "127.0.0.1"
    with pytest.raises(kernel.gaierror) as caught:
        await mantou.connect(hostname="127.1", port=1, ipv6_only=True, socket=recorder)
    assert recorder.events == [("connect_error", caught.value)]


# hostname


def resolve(
    monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int], delay: asyncio.Event | None = None
) -> list[int]:
    """Has the running loop resolve names to these addresses; tells which family was asked for."""
    asked = []

    async def getaddrinfo(*_: object, family: int = 0, **__: object) -> list[Any]:
        asked.append(family)
        if delay is not None:
            await delay.wait()
        found = []
        for host, port in addresses:
            own = V6 if ":" in host else kernel.AF_INET
            if family in (0, own):
                address = (host, port, 0, 0) if own == V6 else (host, port)
                found.append((own, kernel.SOCK_STREAM, 6, "", address))
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("hostname", ["::1", "[::1]", "0:0:0:0:0:0:0:1"])
async def test_ipv6_literals(hostname: str) -> None:
    with RawListener(("::1", 0), V6) as raw:
        async with joined(Recorder(), raw, hostname=hostname) as (socket, peer):
            assert peer.sock.getpeername()[:2] == (socket.local_address, socket.local_port)
            assert (socket.remote_address, socket.remote_port) == ("::1", raw.port)


@pytest.mark.parametrize("port", [str, int])
async def test_a_name_and_a_port_in_digits(port: type) -> None:
    with RawListener() as raw:
        async with joined(Recorder(), raw, hostname="localhost", port=port(raw.port)) as (
            socket,
            peer,
        ):
            assert socket.remote_address == "127.0.0.1"
            assert socket.write(b"hi") == 2
            assert await peer.receive(2) == b"hi"


async def test_a_link_local_address_with_its_zone() -> None:
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        packed, _, _, scope, _, interface = line.split()
        if scope == "20":
            break
    else:
        pytest.skip("no interface has a link-local address")
    address = kernel.inet_ntop(V6, bytes.fromhex(packed))
    index = kernel.if_nametoindex(interface)
    with RawListener((address, 0, 0, index), V6) as raw:
        for hostname in (f"{address}%{interface}", f"[{address}%{index}]"):
            async with joined(Recorder(), raw, hostname=hostname) as (_, peer):
                assert peer.sock.getpeername()[3] == index
    recorder = Recorder()
    with pytest.raises(OSError, match="interface") as caught:
        await mantou.connect(hostname="fe80::1%nosuchif0", port=1, socket=recorder)
    assert recorder.events == [("connect_error", caught.value)]


async def test_a_name_that_cannot_be_resolved() -> None:
    recorder = Recorder()
    with pytest.raises(kernel.gaierror) as caught:
        await mantou.connect(hostname="nowhere.invalid", port=80, socket=recorder)
    assert recorder.events == [("connect_error", caught.value)]


async def test_a_resolver_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise LookupError("no resolver is configured")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    recorder = Recorder()
    with pytest.raises(LookupError) as caught:
        await mantou.connect(hostname="some.test", port=80, socket=recorder)
    assert recorder.events == [("connect_error", caught.value)]


async def test_a_resolver_that_answers_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with FullListener() as silent:
        # Noticed while the first attempt is under way.
        resolve(monkeypatch, ("127.0.0.1", silent.port), ("another.test", silent.port))
        before = tcp_states(silent.port).count(SYN_SENT)
        recorder = Recorder()
        with pytest.raises(ValueError, match="not an address") as caught:
            await mantou.connect(hostname="some.test", port=silent.port, socket=recorder)
        assert recorder.events == [("connect_error", caught.value)]
        assert tcp_states(silent.port).count(SYN_SENT) == before


async def test_a_resolver_that_answers_with_other_families(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    found: list[Any] = [(kernel.AF_UNIX, kernel.SOCK_STREAM, 0, "", "/run/some")]
    recorder = Recorder()
    with pytest.raises(kernel.gaierror) as caught:
        await mantou.connect(hostname="some.test", port=80, socket=recorder)
    assert recorder.events == [("connect_error", caught.value)]
    with RawListener() as raw:
        address = ("127.0.0.1", raw.port)
        found.append((kernel.AF_INET, kernel.SOCK_STREAM, 6, "", address))
        async with joined(Recorder(), raw, hostname="some.test") as (socket, _):
            assert (socket.remote_address, socket.remote_port) == address


@pytest.mark.alone
async def test_the_next_address_follows_a_refusal_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawListener() as raw:
        resolve(monkeypatch, ("127.0.0.2", raw.port), ("::1", raw.port), ("127.0.0.1", raw.port))
        recorder = Recorder()
        started = time.monotonic()
        async with joined(recorder, raw, hostname="several.test") as (socket, _):
            assert time.monotonic() - started < 0.25
            assert socket.remote_address == "127.0.0.1"
        assert recorder.names[:1] == ["open"]


@pytest.mark.alone
async def test_a_silent_address_delays_the_next_by_250_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawListener() as raw, FullListener(("127.0.0.2", raw.port)):
        resolve(monkeypatch, ("127.0.0.2", raw.port), ("127.0.0.1", raw.port))
        before = tcp_states(raw.port).count(SYN_SENT)
        started = time.monotonic()
        async with joined(Recorder(), raw, hostname="several.test") as (socket, _):
            assert 0.25 <= time.monotonic() - started < 1
            assert socket.remote_address == "127.0.0.1"
            # The attempt that lost is closed.
            assert tcp_states(raw.port).count(SYN_SENT) == before


async def test_attempts_go_on_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    with FullListener() as full:
        others = [FullListener((f"127.0.0.{n}", full.port)) for n in (2, 3)]
        resolve(monkeypatch, *((f"127.0.0.{n}", full.port) for n in (1, 2, 3)))
        before = tcp_states(full.port).count(SYN_SENT)
        task = asyncio.create_task(
            mantou.connect(hostname="several.test", port=full.port, socket=Recorder())
        )
        while tcp_states(full.port).count(SYN_SENT) < before + 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tcp_states(full.port).count(SYN_SENT) == before
        for other in others:
            other.close()


async def test_each_failed_attempt_has_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    recorder = Recorder()
    with FullListener(("127.0.0.2", port)):
        resolve(monkeypatch, ("127.0.0.1", port), ("::1", port), ("127.0.0.2", port))
        with pytest.raises(TimeoutError) as late:
            await mantou.connect(
                hostname="several.test", port=port, connect_timeout=0.1, socket=recorder
            )
    assert late.value.errno == errno.ETIMEDOUT
    notes = late.value.__notes__
    assert [note.split()[0] for note in notes] == ["127.0.0.1", "::1", "127.0.0.2"]
    assert ["ECONNREFUSED" in note for note in notes] == [True, True, False]
    assert all(" ms" in note for note in notes)
    assert recorder.events == [("connect_error", late.value)]
    resolve(monkeypatch, ("127.0.0.1", port), ("127.0.0.2", port))
    with pytest.raises(ConnectionRefusedError) as refused:
        await mantou.connect(hostname="several.test", port=port, socket=Recorder())
    assert len(refused.value.__notes__) == 2


async def test_an_exclusive_local_port_serves_one_attempt_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local_port = unused_port()
    with RawListener() as raw:
        resolve(monkeypatch, ("127.0.0.2", raw.port), ("127.0.0.1", raw.port))
        options = {"hostname": "x.test", "exclusive": True, "local_port": local_port}
        async with joined(Recorder(), raw, **options) as (_, peer):
            assert peer.sock.getpeername() == ("127.0.0.1", local_port)


async def test_a_refused_connection() -> None:
    recorder = Recorder()
    with pytest.raises(ConnectionRefusedError) as caught:
        await mantou.connect(hostname="127.0.0.1", port=unused_port(), socket=recorder)
    assert recorder.events == [("connect_error", caught.value)]
    assert not hasattr(caught.value, "__notes__")


# local_address, local_port


async def test_the_local_address_is_bound() -> None:
    port = unused_port("127.0.0.3")
    options = {"local_address": "127.0.0.3", "local_port": port}
    async with connected(Recorder(), **options) as (socket, peer):
        assert peer.sock.getpeername() == ("127.0.0.3", port)
        assert (socket.local_address, socket.local_port) == ("127.0.0.3", port)


async def test_a_local_address_selects_the_family(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawListener(("::1", 0), V6) as raw:
        asked = resolve(monkeypatch, ("127.0.0.1", raw.port), ("::1", raw.port))
        async with joined(Recorder(), raw, hostname="x.test", local_address="::1") as (_, peer):
            assert peer.sock.getpeername()[0] == "::1"
    assert asked == [V6]


async def test_a_local_address_that_is_not_ours() -> None:
    recorder = Recorder()
    with RawListener() as raw, pytest.raises(OSError, match="assign") as caught:
        await mantou.connect(
            hostname="127.0.0.1", port=raw.port, local_address="203.0.113.1", socket=recorder
        )
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert recorder.events == [("connect_error", caught.value)]


# Times


@pytest.mark.alone
async def test_a_black_hole_ends_with_the_connect_timeout() -> None:
    recorder = Recorder()
    with FullListener() as full:
        before = tcp_states(full.port).count(SYN_SENT)
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"127\.0\.0\.1 port \d+ within 0.2 s") as caught:
            await mantou.connect(
                hostname="127.0.0.1", port=full.port, connect_timeout=0.2, socket=recorder
            )
        assert 0.2 <= time.monotonic() - started < 1
        assert tcp_states(full.port).count(SYN_SENT) == before
    assert caught.value.errno == errno.ETIMEDOUT
    assert recorder.events == [("connect_error", caught.value)]


async def test_resolving_counts_towards_the_connect_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve(monkeypatch, delay=asyncio.Event())
    recorder = Recorder()
    with pytest.raises(TimeoutError) as caught:
        await mantou.connect(hostname="slow.test", port=1, connect_timeout=0.05, socket=recorder)
    assert caught.value.errno == errno.ETIMEDOUT
    assert recorder.events == [("connect_error", caught.value)]


@pytest.mark.alone
async def test_a_silent_connection_is_closed_after_the_idle_timeout() -> None:
    recorder = Recorder()
    async with connected(recorder, idle_timeout=0.15) as (_, peer):
        started = time.monotonic()
        await peer.send(b"a sign of life")
        assert await peer.receive_until_fin() == b""
        assert 0.15 <= time.monotonic() - started < 1
        await recorder.until("close")
    assert recorder.names == ["open", "data", "timeout", "close"]
    assert isinstance(recorder.errors[0], TimeoutError)


@pytest.mark.alone
async def test_a_peer_that_never_finishes_is_cut_after_the_close_timeout() -> None:
    recorder = Recorder()
    async with connected(recorder, close_timeout=0.15) as (socket, peer):
        started = time.monotonic()
        assert socket.end(b"last") == 4
        assert await peer.receive_until_fin() == b"last"
        await recorder.until("close")
        assert 0.15 <= time.monotonic() - started < 1
        # A RST, not a second FIN.
        assert peer.sock.getsockopt(kernel.SOL_SOCKET, kernel.SO_ERROR) == errno.EPIPE
    assert isinstance(recorder.errors[0], TimeoutError)


# Settings of the connection


@pytest.mark.parametrize("no_delay", [True, False])
async def test_no_delay(no_delay: bool) -> None:
    async with connected(Recorder(), no_delay=no_delay) as (socket, _):
        assert option(socket.fileno(), kernel.IPPROTO_TCP, kernel.TCP_NODELAY) == no_delay


async def test_no_delay_is_on_by_default_and_keep_alive_off() -> None:
    async with connected(Recorder()) as (socket, _):
        assert option(socket.fileno(), kernel.IPPROTO_TCP, kernel.TCP_NODELAY) == 1
        assert option(socket.fileno(), kernel.SOL_SOCKET, kernel.SO_KEEPALIVE) == 0


@pytest.mark.parametrize(("given", "seconds"), [(7, 7), (0.5, 1), (2.5, 3), (1e9, 32767)])
async def test_keep_alive(given: float, seconds: int) -> None:
    async with connected(Recorder(), keep_alive=given) as (socket, _):
        assert option(socket.fileno(), kernel.SOL_SOCKET, kernel.SO_KEEPALIVE) == 1
        assert option(socket.fileno(), kernel.IPPROTO_TCP, kernel.TCP_KEEPIDLE) == seconds


async def test_data_is_there_before_open_and_is_the_same_object() -> None:
    data = object()
    seen = []
    recorder = Recorder(open=lambda socket: seen.append(socket.data))
    async with connected(recorder, data=data) as (socket, _):
        assert seen[0] is data
        assert socket.data is data
    async with connected(Recorder()) as (socket, _):
        assert socket.data is None


async def test_nothing_of_a_call_over_the_write_limit_is_taken() -> None:
    recorder = Recorder()
    async with connected(recorder, write_limit=1000) as (socket, peer):
        sent = 0
        while (n := socket.write(b"\0" * 65536)) > 0:
            sent += n
        socket.write_all(b"1" * 600)
        with pytest.raises(BufferError, match="1000"):
            socket.write_all(b"2" * 401)
        with pytest.raises(BufferError):
            socket.end(b"3" * 401)
        socket.write_all(b"4" * 400)
        assert socket.end(b"") == 0
        received = await peer.receive_until_fin()
    assert len(received) == sent + 1000
    assert received[sent:] == b"1" * 600 + b"4" * 400


# Cancelling


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_after_some_turns(turns: int) -> None:
    recorder = Recorder()
    with RawListener() as raw:
        task = asyncio.create_task(
            mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        async with joined(Recorder(), raw):
            # Time for whatever should not happen.
            pass
        if isinstance(done[0], mantou.Socket):
            assert recorder.names == ["open"]
            done[0].terminate()
        else:
            assert isinstance(done[0], asyncio.CancelledError)
            assert recorder.events == []


async def test_cancelled_while_resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    asked = resolve(monkeypatch, delay=asyncio.Event())
    task = asyncio.create_task(mantou.connect(hostname="slow.test", port=1, socket=recorder))
    while not asked:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.events == []


@pytest.mark.parametrize("told", [False, True])
async def test_cancelled_within_the_handshake(told: bool) -> None:
    recorder = Recorder()
    outcomes = []
    handlers: Any = {
        "open": recorder.open,
        "close": recorder.close,
        "connect_error": recorder.connect_error,
    }
    if told:
        handlers["handshake"] = lambda _, success, error: outcomes.append((success, type(error)))
    with RawListener() as raw:
        task = asyncio.create_task(
            mantou.connect(hostname="127.0.0.1", port=raw.port, socket=handlers, tls=CLIENT_OPTIONS)
        )
        peer = await raw.accept()
        assert await peer.receive(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        names = ["open", "close"] if told else []
        assert recorder.names == names
        with pytest.raises(ConnectionResetError):
            await peer.receive_until_fin()
        await others_had_their_turn()
        peer.close()
    assert recorder.names == names
    assert recorder.errors == [None] * told
    assert outcomes == [(False, ConnectionAbortedError)] * told


async def test_cancelled_while_what_open_raised_is_told() -> None:
    def fail(socket: mantou.Socket[Any]) -> None:
        socket.write_all(bytes(8 << 20))
        raise LookupError("open failed")

    recorder = Recorder(open=fail)
    with RawListener() as raw:
        task = asyncio.create_task(
            mantou.connect(hostname="127.0.0.1", port=raw.port, socket=recorder)
        )
        peer = await raw.accept()
        await recorder.until("error")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert recorder.names == ["open", "error", "close"]
        await others_had_their_turn()
        peer.close()
    assert recorder.names == ["open", "error", "close"]
    assert isinstance(recorder.errors[0], LookupError)


async def test_a_resolver_that_answers_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    resolve(monkeypatch)
    with pytest.raises(kernel.gaierror, match=r"nowhere\.test") as caught:
        await mantou.connect(hostname="nowhere.test", port=1, socket=recorder)
    assert caught.value.errno == kernel.EAI_NONAME
    assert recorder.events == [("connect_error", caught.value)]


async def test_cancelled_by_a_timeout_of_the_callers() -> None:
    recorder = Recorder()
    with FullListener() as full:
        before = tcp_states(full.port).count(SYN_SENT)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await mantou.connect(hostname="127.0.0.1", port=full.port, socket=recorder)
        assert caught.value.errno is None
        assert tcp_states(full.port).count(SYN_SENT) == before
    assert recorder.events == []


# unix


@pytest.fixture
def directory() -> Any:
    # Shorter than tmp_path: a unix path has 107 bytes at most.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


async def test_unix_file_and_abstract_name(directory: Path) -> None:
    for path in (directory / "s", f"\0mantou-{os.getpid()}-{time.monotonic_ns()}"):
        recorder = Recorder()
        with RawListener(os.fspath(path), kernel.AF_UNIX) as raw:
            socket = await mantou.connect(unix=path, socket=recorder, data=path)
            peer = await raw.accept()
            await peer.send(b"over there")
            assert await recorder.until_received(10) == b"over there"
            assert (socket.data, socket.remote_port, socket.local_family) == (path, None, None)
            peer.close()
            await recorder.until("close")


async def test_unix_missing_and_refused(directory: Path) -> None:
    path = directory / "s"
    for error in (FileNotFoundError, ConnectionRefusedError):
        recorder = Recorder()
        with pytest.raises(error) as caught:
            await mantou.connect(unix=path, socket=recorder)
        assert recorder.events == [("connect_error", caught.value)]
        with kernel.socket(kernel.AF_UNIX) as sock:
            path.unlink(missing_ok=True)
            sock.bind(os.fspath(path))


async def test_unix_full_backlog(directory: Path) -> None:
    path = os.fspath(directory / "s")
    with FullListener(path, kernel.AF_UNIX) as full:
        recorder = Recorder()
        with pytest.raises(TimeoutError) as caught:
            await mantou.connect(unix=path, connect_timeout=0.05, socket=recorder)
        assert caught.value.errno == errno.ETIMEDOUT
        assert recorder.events == [("connect_error", caught.value)]
        task = asyncio.create_task(mantou.connect(unix=path, socket=Recorder()))
        done, _ = await asyncio.wait([task], timeout=0.02)
        assert not done
        full.accept_all()
        (await task).terminate()


# fd


async def test_a_connected_descriptor_is_adopted() -> None:
    ours, theirs = kernel.socketpair()
    recorder = Recorder()
    peer = Peer(theirs)
    fd = ours.detach()
    socket = await mantou.connect(fd=fd, socket=recorder, data="x")
    assert (socket.fileno(), socket.data) == (fd, "x")
    assert not os.get_blocking(fd)
    await peer.send(b"hello")
    assert await recorder.until_received(5) == b"hello"
    socket.end(b"bye")
    assert await peer.receive_until_fin() == b"bye"
    peer.close()
    await recorder.until("close")
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


@pytest.mark.parametrize("kind", ["pipe", "file", "datagram", "listening", "unconnected"])
async def test_a_descriptor_of_another_kind_is_left_alone(kind: str) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            reading, writing = os.pipe()
            stack.callback(os.close, writing)
            stack.callback(os.close, reading)
            fd = writing
        elif kind == "file":
            fd = stack.enter_context(tempfile.TemporaryFile()).fileno()
        else:
            sock_type = kernel.SOCK_DGRAM if kind == "datagram" else kernel.SOCK_STREAM
            sock = stack.enter_context(kernel.socket(kernel.AF_INET, sock_type))
            sock.bind(("127.0.0.1", 0))
            if kind == "datagram":
                sock.connect(sock.getsockname())
            if kind == "listening":
                sock.listen()
            fd = sock.fileno()
        blocking = os.get_blocking(fd)
        with pytest.raises((OSError, ValueError)) as caught:
            await mantou.connect(fd=fd, socket=Recorder())
        wrong = ValueError if kind in ("datagram", "listening") else OSError
        assert isinstance(caught.value, wrong)
        assert os.get_blocking(fd) == blocking


async def test_a_descriptor_that_is_not_open() -> None:
    with pytest.raises(OSError, match="Bad file") as caught:
        await mantou.connect(fd=2**31 - 1, socket=Recorder())
    assert caught.value.errno == errno.EBADF

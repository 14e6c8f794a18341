"""PROXY headers that are not as a listener demands: their connections end, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket as kernel
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou.errors import ProxyProtocolError, ProxyTimeoutError
from tests.proxies import FULL, V1, Echo, door
from tests.support import (
    Peer,
    Recorder,
    every_path,
    others_had_their_turn,
)

# Turned away

MALFORMED = [
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="none"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", id="ClientHello"),
    pytest.param(b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", id="v1"),
    pytest.param(b"PROXY " + b"x" * 200, id="v1 without end"),
    pytest.param(bytes(FULL)[:12] + b"\x11", id="version"),
    pytest.param(bytes(FULL)[:-1] + b"\0", id="checksum"),
    pytest.param(bytes(FULL)[:14] + b"\xff\xff", id="too long"),
]


@every_path
@pytest.mark.parametrize("wrong", MALFORMED)
async def test_what_is_malformed_is_turned_away_and_nothing_else_happens(
    link: str, wrong: bytes, tmp_path: Path
) -> None:
    recorder = Echo()
    async with door(recorder, link, tmp_path) as entrance:
        other = await entrance.enter(V1)
        peer = entrance.dial()
        await peer.send(wrong)
        _, error = await recorder.until("connect_error")
        assert isinstance(error, ProxyProtocolError)
        assert error.errno == errno.EPROTO
        with contextlib.suppress(ConnectionResetError):
            assert await peer.receive_some() == b""
        turned_away = recorder.sockets[-1]
        assert turned_away.ready_state == mantou.ReadyState.DETACHED
        assert turned_away.proxy is None
        if link != "unix":
            assert turned_away.remote_port == peer.sock.getsockname()[1]
        await other.send(b"well")
        assert await other.receive(4) == b"well"
        assert entrance.listener.connections == 1
        other.close()
        peer.close()
    assert recorder.names.count("connect_error") == 1
    assert recorder.names.count("open") == recorder.names.count("close") == 1


@pytest.mark.parametrize("mode", ["require", "optional"])
async def test_a_signed_header_that_is_wrong_is_never_data(mode: str) -> None:
    recorder = Recorder()
    async with door(recorder, "tcp", proxy_protocol=mode) as entrance:
        for wrong in (b"PROXY TCP9\r\n", bytes(FULL)[:12] + b"\x99"):
            peer = await entrance.enter(wrong)
            with pytest.raises(ConnectionResetError):
                await peer.receive_some()
            peer.close()
        for cut_off in (b"PROXY TCP4 192.0.2.1", bytes(FULL)[:-1]):
            peer = await entrance.enter(cut_off)
            peer.finish()
            with pytest.raises(ConnectionResetError):
                await peer.receive_some()
            peer.close()
        await recorder.until("connect_error", 4)
    assert recorder.names == ["connect_error"] * 4


@every_path
@pytest.mark.parametrize("begin", [b"", b"PROX", V1[:-1], bytes(FULL)[:20]])
async def test_a_header_has_to_come_in_time(link: str, begin: bytes, tmp_path: Path) -> None:
    recorder = Recorder()
    async with door(recorder, link, tmp_path, handshake_timeout=0.05) as entrance:
        peer = entrance.dial()
        await peer.send(begin)
        _, error = await recorder.until("connect_error")
        assert isinstance(error, ProxyTimeoutError)
        assert isinstance(error, TimeoutError)
        assert error.errno == errno.ETIMEDOUT
        assert entrance.listener.connections == 0
        with contextlib.suppress(ConnectionResetError):
            assert await peer.receive_some() == b""
        peer.close()
    assert recorder.names == ["connect_error"]


@pytest.mark.parametrize("begin", [b"", b"PROXY", V1[:-2]])
async def test_who_leaves_within_the_header_is_told_as_cut_off(begin: bytes) -> None:
    recorder = Recorder()
    async with door(recorder, "tcp") as entrance:
        peer = entrance.dial()
        await peer.send(begin)
        peer.finish()
        _, error = await recorder.until("connect_error")
        assert isinstance(error, ProxyProtocolError)
        assert "ended before" in str(error)
        peer.close()
        peer = entrance.dial()
        await peer.send(begin)
        await others_had_their_turn()
        peer.reset()
        _, error = await recorder.until("connect_error", 2)
        assert isinstance(error, ConnectionError)
    assert recorder.names == ["connect_error"] * 2


async def test_without_connect_error_nobody_is_told() -> None:
    opened = asyncio.Event()

    class Quiet(mantou.SocketHandler[None]):
        def open(self, socket: mantou.Socket[None]) -> None:
            opened.set()

    async with door(Quiet(), "tcp") as entrance:
        peer = await entrance.enter(b"nonsense")
        with pytest.raises(ConnectionResetError):
            await peer.receive_some()
        other = await entrance.enter(V1)
        await opened.wait()
        peer.close()
        other.close()


# Trust


@pytest.mark.parametrize(
    "networks",
    [
        ["127.0.0.0/8"],
        ["127.0.0.1"],
        ["::/0", "127.0.0.0/24"],
        ["0.0.0.0/0"],
        (ipaddress.ip_network("127.0.0.0/31"), ipaddress.ip_address("::1")),
    ],
)
async def test_headers_of_trusted_networks_are_believed(networks: Any) -> None:
    recorder = Echo()
    async with door(recorder, "tcp", proxy_trusted=networks) as entrance:
        peer = await entrance.enter(V1)
        await recorder.until("open")
        assert recorder.sockets[0].remote_address == "192.0.2.1"
        peer.close()


@pytest.mark.parametrize("networks", [["10.0.0.0/8"], ["127.0.0.2", "::/0"], ["126.0.0.0/8"]])
@pytest.mark.parametrize("begin", [V1, b"", b"hello"])
async def test_require_turns_away_whom_nobody_trusts(networks: list[str], begin: bytes) -> None:
    recorder = Recorder()
    async with door(recorder, "tcp", proxy_trusted=networks) as entrance:
        peer = entrance.dial()
        with contextlib.suppress(ConnectionError):
            await peer.send(begin)
        _, error = await recorder.until("connect_error")
        assert isinstance(error, ProxyProtocolError)
        assert error.errno == errno.EACCES
        with pytest.raises(ConnectionResetError):
            await peer.receive_some()
        peer.close()
        assert entrance.listener.connections == 0
    assert recorder.names == ["connect_error"]


async def test_optional_serves_whom_nobody_trusts_without_a_header_only() -> None:
    recorder = Echo()
    options: Any = {"proxy_protocol": "optional", "proxy_trusted": ["10.0.0.0/8"]}
    async with door(recorder, "tcp", **options) as entrance:
        peer = await entrance.enter(b"hello")
        assert await peer.receive(5) == b"hello"
        peer.close()
        peer = await entrance.enter(V1)
        _, error = await recorder.until("connect_error")
        assert error.errno == errno.EACCES
        peer.close()


@pytest.mark.parametrize("hostname", ["127.0.0.1", "::"])
@pytest.mark.parametrize(
    ("network", "is_trusted"),
    [
        ("127.0.0.0/8", True),
        ("::ffff:127.0.0.0/104", True),
        ("::ffff:0:0/96", True),
        ("::/0", False),
        ("::127.0.0.1", False),
    ],
)
async def test_who_is_trusted_is_the_same_on_a_socket_for_both_families(
    hostname: str, network: str, is_trusted: bool
) -> None:
    recorder = Echo()
    listener = mantou.listen(
        hostname=hostname,
        port=0,
        socket=recorder,
        proxy_protocol="require",
        proxy_trusted=[network],
    )
    with listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        with contextlib.suppress(ConnectionError):
            await peer.send(V1)
        await recorder.until("open" if is_trusted else "connect_error")
        peer.close()
        if is_trusted:
            await recorder.until("close")
        if hostname == "::":
            other = Peer.connect_at_once(("::1", listener.port), kernel.AF_INET6)
            with contextlib.suppress(ConnectionError):
                await other.send(V1)
            await recorder.until("open" if network == "::/0" else "connect_error")
            other.close()
            if network == "::/0":
                await recorder.until("close")


async def test_peers_of_a_unix_socket_come_from_no_network() -> None:
    with kernel.socket(kernel.AF_UNIX) as sock:
        sock.bind("")
        sock.listen()
        with pytest.raises(ValueError, match="'proxy_trusted' must be None for a unix socket"):
            mantou.listen(
                fd=sock.fileno(),
                socket=Recorder(),
                proxy_protocol="require",
                proxy_trusted=["10.0.0.0/8"],
            )

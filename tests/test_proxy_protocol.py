"""PROXY headers in front of a listener: whom they introduce, and that no byte is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import time
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou.errors import ProxyTimeoutError
from tests.conftest import LOOPS
from tests.proxies import FULL, UNIX_HEADER, V1, Echo, door
from tests.support import (
    Peer,
    Recorder,
    accepted,
    every_path,
    listen,
    others_had_their_turn,
)
from tests.tls_support import SERVER_OPTIONS, context, secured

# Each with the client's address and port.
HEADERS = [
    pytest.param(V1, "192.0.2.1", 56324, id="v1"),
    pytest.param(bytes(FULL), "2001:db8::1", 40000, id="v2"),
]

# Let in


@every_path
@pytest.mark.parametrize("header, address, port", HEADERS)
async def test_a_connection_is_its_client_and_loses_no_byte(
    link: str, header: bytes, address: str, port: int, tmp_path: Path
) -> None:
    recorder = Echo()
    async with door(recorder, link, tmp_path) as entrance:
        peer = await entrance.enter(header + (b"at once" if link in ("tcp", "unix") else b""))
        await peer.send(b" and later")
        expected = b"at once and later" if link in ("tcp", "unix") else b" and later"
        assert await peer.receive(len(expected)) == expected
        socket = recorder.sockets[0]
        assert (socket.remote_address, socket.remote_port) == (address, port)
        assert socket.remote_family == ("IPv6" if ":" in address else "IPv4")
        if link != "unix":
            assert socket.local_address == "127.0.0.1"
            assert socket.local_port == entrance.listener.port
        assert bytes(socket.proxy) == header  # type: ignore[arg-type]
        assert socket.bytes_read == len(expected)
        peer.finish()
        await recorder.until("close")
        peer.close()
    assert recorder.names == ["open", "data", "end", "close"]
    assert recorder.errors == [None]
    # It is remembered, as the addresses are.
    assert recorder.sockets[0].remote_port == port
    assert recorder.sockets[0].proxy is not None


@every_path
@pytest.mark.parametrize("header, address, port", HEADERS)
async def test_a_header_may_be_cut_anywhere(
    link: str, header: bytes, address: str, port: int, tmp_path: Path
) -> None:
    # A few cuts where each costs a TLS handshake.
    step = 1 if link in ("tcp", "unix") else 7
    recorder = Echo()
    async with door(recorder, link, tmp_path) as entrance:
        peers = {cut: entrance.dial() for cut in range(0, len(header), step)}
        for cut, peer in peers.items():
            await peer.send(header[:cut])
        await others_had_their_turn()
        assert recorder.events == []
        assert entrance.listener.connections == len(peers)
        for cut, peer in peers.items():
            await peer.send(header[cut:])
            if link in ("tls", "context"):
                peers[cut] = await secured(peer.sock, server_side=False)
        for cut, peer in peers.items():
            await peer.send(b"%d" % cut)
            assert await peer.receive(len(b"%d" % cut)) == b"%d" % cut
            peer.close()
    assert {socket.remote_address for socket in recorder.sockets} == {address}
    assert len(recorder.sockets) == len(peers)


@every_path
async def test_all_may_have_been_said_when_it_is_heard(link: str, tmp_path: Path) -> None:
    recorder = Recorder()
    async with door(recorder, link, tmp_path, allow_half_open=True) as entrance:
        peer = await entrance.enter(V1)
        await peer.send(b"all")
        peer.finish()
        await recorder.until("end")
        assert recorder.received == b"all"
        recorder.sockets[0].end(b"answer")
        assert await peer.receive(6) == b"answer"
        await recorder.until("close")
        peer.close()
    assert recorder.errors == [None]


async def test_a_reset_behind_the_header_is_that_of_a_connection() -> None:
    recorder = Recorder()
    async with door(recorder, "tcp") as entrance:
        peer = await entrance.enter(V1 + b"last words")
        peer.reset()
        await recorder.until("close")
    assert recorder.names == ["open", "data", "close"]
    assert bytes(recorder.received) == b"last words"
    assert isinstance(recorder.errors[0], ConnectionResetError)


async def test_what_open_does_holds_for_what_came_with_the_header() -> None:
    recorder = Recorder(open=lambda socket: socket.pause())
    async with door(recorder, "tcp") as entrance:
        peer = await entrance.enter(V1 + b"later")
        await recorder.until("open")
        await others_had_their_turn()
        assert recorder.names == ["open"]
        entrance.listener.reload(successor := Recorder())
        recorder.sockets[0].resume()
        assert await successor.until_received(5) == b"later"
        peer.close()


async def test_a_turn_that_is_too_short_for_all_forgets_nobody() -> None:
    """An arrival is reported once: a turn that leaves it to the next has to see to that one."""

    def take_long(socket: mantou.Socket[Any], data: bytes) -> None:
        end = time.perf_counter() + 0.003
        while time.perf_counter() < end:
            pass

    slow, recorder = Recorder(data=take_long), Recorder()
    async with accepted(slow) as (_, busy), door(recorder, "tcp") as entrance:
        peers = [entrance.dial() for _ in range(3)]
        await others_had_their_turn()
        assert entrance.listener.connections == 3
        # All at once, and the slow one first.
        busy.sock.send(b"?")
        for peer in peers:
            peer.sock.send(V1)
        async with asyncio.timeout(5):
            await recorder.until("open", 3)
        for peer in peers:
            peer.close()


async def test_a_header_of_single_bytes_is_heard() -> None:
    recorder = Echo()
    async with door(recorder, "tcp") as entrance:
        peer = entrance.dial()
        peer.sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
        for byte in bytes(FULL) + b"!":
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await peer.receive(1) == b"!"
        assert recorder.sockets[0].proxy == FULL
        peer.close()


async def test_the_longest_header_is_heard_with_what_follows() -> None:
    recorder = Echo()
    longest = mantou.ProxyHeader(
        source_address="192.0.2.1",
        source_port=1,
        destination_address="192.0.2.2",
        destination_port=2,
        tlvs={0xE0: bytes(16 * 1024 - 16 - 12 - 3)},
    )
    assert len(bytes(longest)) == 16 * 1024
    async with door(recorder, "tcp") as entrance:
        peer = await entrance.enter(bytes(longest) + b"x" * 50_000)
        assert await peer.receive(50_000) == b"x" * 50_000
        assert recorder.sockets[0].proxy == longest
        peer.close()


@every_path
@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n",
        bytes(mantou.ProxyHeader(command="LOCAL")),
        bytes(mantou.ProxyHeader(authority="somewhere", transport=None)),
    ],
)
async def test_without_a_client_it_is_the_peer(link: str, header: bytes, tmp_path: Path) -> None:
    recorder = Echo()
    async with door(recorder, link, tmp_path) as entrance:
        peer = await entrance.enter(header)
        await peer.send(b"?")
        assert await peer.receive(1) == b"?"
        socket = recorder.sockets[0]
        if link != "unix":
            own = peer.sock.getsockname()
            assert (socket.remote_address, socket.remote_port) == own
        assert socket.proxy is not None
        assert socket.proxy.family is None
        peer.close()


async def test_a_client_may_be_a_unix_socket() -> None:
    recorder = Echo()
    async with door(recorder, "tcp") as entrance:
        peer = await entrance.enter(bytes(UNIX_HEADER))
        await recorder.until("open")
        socket = recorder.sockets[0]
        assert (socket.remote_address, socket.remote_port) == (None, None)
        assert socket.proxy == UNIX_HEADER
        assert socket.proxy.family == "unix"
        peer.close()


async def test_data_factory_is_asked_about_the_client() -> None:
    recorder = Recorder()
    seen = []

    def factory(socket: mantou.Socket[Any]) -> object:
        seen.append((socket.remote_address, socket.proxy))
        return "data"

    async with door(recorder, "tcp", data_factory=factory) as entrance:
        peer = await entrance.enter(bytes(FULL))
        await recorder.until("open")
        assert seen == [("2001:db8::1", FULL)]
        assert recorder.sockets[0].data == "data"
        peer.close()


async def test_an_upgraded_socket_has_the_header_of_the_plain_one() -> None:
    secure = Echo()
    plain = Recorder(
        data=lambda socket, data: socket.upgrade_tls(
            socket=secure, tls=SERVER_OPTIONS, initial=data
        )
    )
    async with door(plain, "tcp") as entrance:
        peer = await entrance.enter(bytes(FULL))
        await plain.until("open")
        peer = await secured(peer.sock, server_side=False)
        await peer.send(b"secret")
        assert await peer.receive(6) == b"secret"
        assert secure.sockets[0].proxy == FULL
        assert secure.sockets[0].remote_address == "2001:db8::1"
        assert plain.sockets[0].proxy == FULL
        peer.close()
        await plain.until("close")
    assert secure.sockets[0].proxy == FULL


async def test_tls_is_that_of_the_listener_when_the_header_has_come() -> None:
    recorder = Echo()
    async with door(recorder, "tls") as entrance:
        peer = entrance.dial()
        await others_had_their_turn()
        entrance.listener.set_tls(context(server_side=True))
        await peer.send(V1)
        peer = await secured(peer.sock, server_side=False)
        await peer.send(b"!")
        assert await peer.receive(1) == b"!"
        peer.close()


# Optional


@every_path
async def test_optional_serves_both_kinds(link: str, tmp_path: Path) -> None:
    recorder = Echo()
    async with door(recorder, link, tmp_path, proxy_protocol="optional") as entrance:
        for header, port in ((V1, 56324), (b"", None), (bytes(FULL), 40000)):
            peer = await entrance.enter(header)
            await peer.send(b"and more")
            assert await peer.receive(8) == b"and more"
            socket = recorder.sockets[-1]
            own = None if link == "unix" else peer.sock.getsockname()[1]
            assert socket.remote_port == (port or own)
            assert (socket.proxy is None) is (port is None)
            peer.close()


@pytest.mark.parametrize("begin", [b"P", b"PROXY", b"\r\n\r\n\0\r\nQUIT"])
async def test_what_only_begins_like_a_header_is_data(begin: bytes) -> None:
    recorder = Recorder()
    async with door(recorder, "tcp", proxy_protocol="optional") as entrance:
        peer = entrance.dial()
        await peer.send(begin)
        await others_had_their_turn()
        assert recorder.events == []
        await peer.send(b"RINT")
        assert await recorder.until_received(len(begin) + 4) == begin + b"RINT"
        assert recorder.sockets[0].proxy is None
        # The same if nothing more comes.
        other = entrance.dial()
        await other.send(begin)
        other.finish()
        await recorder.until("end")
        assert bytes(recorder.received) == begin + b"RINT" + begin
        peer.close()
        other.close()


async def test_optional_speaks_first_to_who_says_nothing_in_time() -> None:
    recorder = Recorder(open=lambda socket: socket.write(b"welcome"))
    options: Any = {"proxy_protocol": "optional", "handshake_timeout": 0.05}
    async with door(recorder, "tcp", **options) as entrance:
        peer = entrance.dial()
        assert await peer.receive(7) == b"welcome"
        assert recorder.sockets[0].remote_port == peer.sock.getsockname()[1]
        peer.close()
        # Who has begun a header is not one of those.
        peer = entrance.dial()
        await peer.send(b"PROXY ")
        _, error = await recorder.until("connect_error")
        assert isinstance(error, ProxyTimeoutError)
        peer.close()


@pytest.mark.parametrize("policy", ["optional", "require"])
async def test_a_reset_before_anything_was_said_is_told_as_one(policy: str) -> None:
    recorder = Recorder()
    async with door(recorder, "tcp", proxy_protocol=policy) as entrance:
        peer = entrance.dial()
        await others_had_their_turn()
        peer.reset()
        _, error = await recorder.until("connect_error")
    assert isinstance(error, ConnectionResetError)
    assert recorder.names == ["connect_error"]


# Listeners


@every_path
async def test_a_stopped_listener_hears_out_who_had_come(link: str, tmp_path: Path) -> None:
    recorder = Echo()
    async with door(recorder, link, tmp_path) as entrance:
        peer = entrance.dial()
        await others_had_their_turn()
        assert entrance.listener.connections == 1
        entrance.listener.stop()
        closed = asyncio.ensure_future(entrance.listener.closed())
        await others_had_their_turn()
        assert not closed.done()
        await peer.send(V1)
        if link in ("tls", "context"):
            peer = await secured(peer.sock, server_side=False)
        await peer.send(b"late")
        assert await peer.receive(4) == b"late"
        peer.finish()
        await recorder.until("close")
        await closed
        peer.close()


async def test_a_listener_that_closes_all_turns_away_who_was_not_heard() -> None:
    recorder = Recorder()
    async with door(recorder, "tcp") as entrance:
        peer = entrance.dial()
        await peer.send(V1[:5])
        await others_had_their_turn()
        entrance.listener.stop(True)
        assert recorder.events == []
        await entrance.listener.closed()
        (_, error), *rest = recorder.events
        assert isinstance(error, ConnectionAbortedError)
        assert rest == []
        with pytest.raises(ConnectionResetError):
            await peer.receive_some()
        peer.close()


@every_path
async def test_draining_cuts_who_was_not_heard(link: str, tmp_path: Path) -> None:
    recorder = Echo()
    async with door(recorder, link, tmp_path, handshake_timeout=None) as entrance:
        inside = await entrance.enter(V1)
        await recorder.until("open")
        with entrance.dial().sock as silent, entrance.dial().sock as halfway:
            halfway.send(V1[:9])
            await others_had_their_turn()
            assert entrance.listener.connections == 3
            assert await entrance.listener.drain(grace=0) == 3
            assert entrance.listener.connections == 0
            for sock in (silent, halfway):
                with contextlib.suppress(ConnectionResetError):
                    assert await Peer(sock).receive_some() == b""
        inside.close()
    assert sorted(recorder.names) == ["close", "connect_error", "connect_error", "open"]


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_that_ends_turns_away_who_was_not_heard(kind: str) -> None:
    recorder = Recorder()
    peers = []

    async def main() -> None:
        listener = listen(recorder, proxy_protocol="require")
        peers.append(Peer.connect_at_once(("127.0.0.1", listener.port)))
        await others_had_their_turn()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
    assert [type(error) for _, error in recorder.events] == [ConnectionAbortedError]
    with pytest.raises(ConnectionResetError):
        peers[0].receive_now(1)
    peers[0].close()


def test_run_waits_for_who_was_not_heard() -> None:
    recorder = Recorder()
    listener = listen(recorder, proxy_protocol="require", handshake_timeout=0.05)
    peer = Peer.connect_at_once(("127.0.0.1", listener.port))

    async def main() -> None:
        await others_had_their_turn()
        listener.stop()

    mantou.run(main())
    peer.close()
    # run() with a main() ends with that, whoever is there.
    assert [type(error) for _, error in recorder.events] == [ConnectionAbortedError]


# Misuse


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"proxy_protocol": True}, TypeError, "proxy_protocol"),
        ({"proxy_protocol": "required"}, ValueError, "'off', 'optional' or 'require'"),
        ({"proxy_trusted": ["::1"]}, ValueError, "without 'proxy_protocol'"),
        ({"proxy_protocol": "require", "proxy_trusted": "::1"}, TypeError, "list of networks"),
        ({"proxy_protocol": "require", "proxy_trusted": 5}, TypeError, "list of networks"),
        ({"proxy_protocol": "require", "proxy_trusted": [5]}, TypeError, "proxy_trusted"),
        ({"proxy_protocol": "require", "proxy_trusted": []}, ValueError, "at least one"),
        ({"proxy_protocol": "require", "proxy_trusted": ["nowhere"]}, ValueError, "nowhere"),
        ({"proxy_protocol": "require", "proxy_trusted": ["10.0.0.1/8"]}, ValueError, "host bits"),
        ({"proxy_protocol": "require", "proxy_trusted": ["fe80::1%lo"]}, ValueError, "a zone"),
        ({"proxy_header": True}, TypeError, "only for connect()"),
    ],
)
def test_misuse_is_named(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), **options)
    assert words in str(caught.value)


def test_unix_sockets_have_no_networks() -> None:
    options: Any = {"proxy_protocol": "require", "proxy_trusted": ["::1"]}
    with pytest.raises(TypeError, match="proxy_trusted"):
        mantou.listen(unix="\0x", socket=Recorder(), **options)

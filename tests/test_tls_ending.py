"""How a TLS connection ends: close_notify and FIN from either side, and what is truncated."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import mantou
from mantou import ReadyState
from mantou.errors import HandshakeTimeoutError
from tests.peers import Peer, RawListener
from tests.support import Recorder, accepted, linked, others_had_their_turn
from tests.tls_support import (
    ALERT,
    APPLICATION_DATA,
    CA,
    CLIENT_OPTIONS,
    SERVER_OPTIONS,
    VERSIONS,
    TlsPeer,
    records,
)

both_versions = pytest.mark.parametrize("version", VERSIONS)
both_modes = pytest.mark.parametrize("half_open", [False, True], ids=["full", "half-open"])

# What a close_notify is on the wire: in TLS 1.3 it looks like data, of 2 bytes, a content type and
# a tag; in TLS 1.2 there is a nonce as well.
CLOSE_NOTIFY = {"TLSv1.3": (APPLICATION_DATA, 2 + 1 + 16), "TLSv1.2": (ALERT, 8 + 2 + 16)}


class Handshaker(Recorder):
    """A recorder that has a `handshake` handler, so that `open` comes before the handshake."""

    def handshake(self, socket: mantou.Socket[Any], success: bool, error: Any) -> object:
        return self._note("handshake", socket, success, error)


@contextlib.asynccontextmanager
async def both_mantou(
    version: str, client: Recorder, server: Recorder, **options: Any
) -> AsyncIterator[tuple[mantou.Socket[Any], mantou.Socket[Any]]]:
    """A connection with mantou at both ends."""
    tls = SERVER_OPTIONS | {"min_version": version, "max_version": version}
    listening: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0, "tls": tls, **options}
    with mantou.listen(socket=server, **listening) as listener:
        connecting: dict[str, Any] = {"tls": CLIENT_OPTIONS, **options}
        socket = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=client, **connecting
        )
        await server.until("open")
        assert socket.get_tls_version() == version
        yield socket, server.sockets[0]


# The table


@both_versions
async def test_end_sends_close_notify_and_then_a_fin(version: str) -> None:
    client = Recorder()
    async with linked("tls", client, version=version) as (socket, peer):
        assert isinstance(peer, TlsPeer)
        assert socket.end(b"last words") == 10
        wire = await Peer.receive_until_fin(plain(peer))
        found = records(wire)
        assert len(found) == 2
        assert found[0][0] == APPLICATION_DATA
        assert found[1] == CLOSE_NOTIFY[version]
        assert peer.open(wire) == b"last words"
        peer.finish()
        await client.until("close")
    assert client.names == ["open", "end", "close"]
    assert client.errors == [None]


@both_versions
async def test_a_close_notify_alone_is_the_peers_end(version: str) -> None:
    client = Recorder()
    async with linked("tls", client, version=version) as (_, peer):
        await peer.send(b"all")
        peer.notify()  # type: ignore[attr-defined]
        assert await peer.receive_until_fin() == b""
        await client.until("close")
    assert client.events == [("open",), ("data", b"all"), ("end",), ("close", None)]


@both_versions
async def test_replies_after_the_peers_end(version: str) -> None:
    answer = bytes(range(256)) * 16 * 1024
    client = Recorder()
    async with linked("tls", client, version=version, allow_half_open=True) as (socket, peer):
        peer.finish()
        await client.until("end")
        await others_had_their_turn()
        assert socket.ready_state == ReadyState.ESTABLISHED
        socket.write_all(answer)
        assert await peer.receive(len(answer)) == answer
        assert socket.end(b"bye") == 3
        assert await peer.receive_until_fin() == b"bye"
        await client.until("close")
    assert client.errors == [None]


@both_versions
async def test_the_end_handler_has_the_last_word(version: str) -> None:
    answer = bytes(range(256)) * 16 * 1024
    client = Recorder(end=lambda socket: socket.write_all(answer))
    async with linked("tls", client, version=version) as (socket, peer):
        peer.finish()
        assert await peer.receive_until_fin() == answer
        await client.until("close")
        assert socket.write(b"late") == -1
    assert client.names == ["open", "end", "close"]
    assert client.errors == [None]


@both_versions
@both_modes
async def test_after_our_end_the_peer_may_go_on(version: str, half_open: bool) -> None:
    client = Recorder()
    async with linked("tls", client, version=version, allow_half_open=half_open) as (socket, peer):
        socket.end(b"question")
        assert await peer.receive_until_fin() == b"question"
        assert socket.ready_state == ReadyState.SHUTDOWN
        await peer.send(b"an ")
        await peer.send(b"answer")
        assert await client.until_received(9) == b"an answer"
        peer.finish()
        await client.until("close")
    assert client.names == ["open", "data", "end", "close"]
    assert client.errors == [None]


@both_versions
@both_modes
@pytest.mark.parametrize("first", ["client", "server"])
async def test_between_two_sockets(version: str, half_open: bool, first: str) -> None:
    """One side ends, the other answers in `end`, or whenever it likes."""
    ends: dict[str, Recorder] = {"client": Recorder(), "server": Recorder()}
    second = "server" if first == "client" else "client"
    if not half_open:
        ends[second]._handlers["end"] = lambda socket: socket.write_all(b"answer")
    async with both_mantou(
        version, ends["client"], ends["server"], allow_half_open=half_open
    ) as pair:
        sockets = dict(zip(("client", "server"), pair, strict=True))
        sockets[first].end(b"question")
        await ends[second].until("end")
        if half_open:
            await others_had_their_turn()
            assert "close" not in ends[first].names + ends[second].names
            sockets[second].end(b"answer")
        await ends["client"].until("close")
        await ends["server"].until("close")
    assert ends[second].received == b"question"
    assert ends[first].received == b"answer"
    for recorder in ends.values():
        assert recorder.names == ["open", "data", "end", "close"]
        assert recorder.errors == [None]


@both_versions
@pytest.mark.parametrize("who", ["openssl", "mantou"])
async def test_openssls_own_client(version: str, who: str) -> None:
    """The `openssl` program ends when its input does, and when we do."""
    server = Recorder(data=lambda socket, data: socket.end(b"bye\n") if who == "mantou" else None)
    flag = "-tls1_2" if version == "TLSv1.2" else "-tls1_3"
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=SERVER_OPTIONS) as listener:
        process = await asyncio.create_subprocess_exec(
            "openssl",
            *("s_client", "-connect", f"127.0.0.1:{listener.port}", flag, "-quiet"),
            *(() if who == "mantou" else ("-no_ign_eof",)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(b"hello\n")
        if who == "openssl":
            process.stdin.close()
        await server.until("close")
        process.stdin.close()
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert server.received == b"hello\n"
    assert output == (b"bye\n" if who == "mantou" else b"")
    assert server.errors == [None]
    assert "end" in server.names


async def test_pythons_blocking_ssl_sees_a_clean_end() -> None:
    """With ragged ends not suppressed, Python itself would call a truncation an error."""

    def talk(port: int) -> bytes:
        context = ssl.create_default_context(cadata=CA)
        with (
            kernel.create_connection(("127.0.0.1", port)) as sock,
            context.wrap_socket(
                sock, server_hostname="localhost", suppress_ragged_eofs=False
            ) as secure,
        ):
            secure.sendall(b"question")
            received = bytearray()
            while piece := secure.recv(1000):
                received += piece
            secure.unwrap().close()
            return bytes(received)

    server = Recorder(data=lambda socket, data: socket.end(b"answer"))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=SERVER_OPTIONS) as listener:
        assert await asyncio.to_thread(talk, listener.port) == b"answer"
        await server.until("close")
    assert server.errors == [None]


# Truncation


@both_versions
@both_modes
@pytest.mark.parametrize("after", ["nothing", "data", "our end", "half a record"])
async def test_a_fin_without_close_notify_is_an_error(
    version: str, half_open: bool, after: str
) -> None:
    client = Recorder()
    async with linked("tls", client, version=version, allow_half_open=half_open) as (socket, peer):
        assert isinstance(peer, TlsPeer)
        if after == "data":
            await peer.send(b"so far")
        elif after == "our end":
            socket.end()
        elif after == "half a record":
            await Peer.send(plain(peer), peer.seal(b"not all of it")[:-1])
        peer.truncate()
        _, error = await client.until("close")
        assert socket.write(b"x") == -1
    assert isinstance(error, ssl.SSLEOFError)
    assert client.received == (b"so far" if after == "data" else b"")
    assert "end" not in client.names
    assert client.names[-2:] == ["error", "close"]
    assert client.of("error") == [("error", error)]


async def test_a_truncation_while_paused_is_told_after_the_data() -> None:
    client = Recorder()
    async with linked("tls", client) as (socket, peer):
        socket.pause()
        await peer.send(b"so far")
        peer.truncate()  # type: ignore[attr-defined]
        await others_had_their_turn()
        assert client.names == ["open"]
        socket.resume()
        await client.until("close")
    assert client.names == ["open", "data", "error", "close"]
    assert isinstance(client.errors[0], ssl.SSLEOFError)


@pytest.mark.parametrize("link_end", ["accepted", "connected"])
async def test_a_reset_is_a_reset(link_end: str) -> None:
    recorder = Recorder()
    made = accepted(recorder, "tls") if link_end == "accepted" else linked("tls", recorder)
    async with made as (_, peer):
        peer.reset()
        await recorder.until("close")
    assert isinstance(recorder.errors[0], ConnectionResetError)


# close(), terminate(), shutdown(True)


@both_versions
async def test_close_sends_what_was_accepted_and_close_notify(version: str) -> None:
    client = Recorder()
    async with linked("tls", client, version=version) as (socket, peer):
        assert isinstance(peer, TlsPeer)
        socket.write_all(b"accepted")
        socket.close()
        wire = await Peer.receive_until_fin(plain(peer))
        assert records(wire)[-1] == CLOSE_NOTIFY[version]
        assert peer.open(wire) == b"accepted"
        await client.until("close")
        # What comes late does not become a RST that the peer would meet.
        await peer.send(b"late" * 1000)
        await others_had_their_turn()
        await peer.send(b"late" * 1000)
    assert client.events == [("open",), ("close", None)]


@both_versions
async def test_terminate_says_nothing(version: str) -> None:
    client = Recorder()
    async with linked("tls", client, version=version) as (socket, peer):
        socket.terminate()
        with pytest.raises(ConnectionResetError):
            await Peer.receive_some(peer)
        await client.until("close")
    assert client.events == [("open",), ("close", None)]


@both_versions
async def test_shutdown_of_reading_discards_and_writes_on(version: str) -> None:
    client = Recorder()
    async with linked("tls", client, version=version) as (socket, peer):
        socket.shutdown(True)
        await peer.send(bytes(8 * 1024 * 1024))
        assert socket.write(b"still writing") == 13
        assert await peer.receive(13) == b"still writing"
        assert socket.bytes_read == 0
        socket.end()
        assert await peer.receive_until_fin() == b""
        peer.finish()
        await client.until("close")
    assert "data" not in client.names
    assert client.errors == [None]


# Before the handshake is done


@pytest.mark.parametrize("ending", ["close", "terminate"])
async def test_ending_during_the_handshake(ending: str) -> None:
    client = Handshaker(open=lambda socket: getattr(socket, ending)())
    with RawListener() as raw:
        connecting = asyncio.ensure_future(
            mantou.connect(hostname="127.0.0.1", port=raw.port, socket=client, tls=CLIENT_OPTIONS)
        )
        peer = await raw.accept()
        with contextlib.suppress(ConnectionResetError):
            # No ClientHello, and no alert in clear.
            assert await peer.receive_until_fin() == b""
        with pytest.raises(ConnectionError):
            await connecting
        peer.close()
    assert client.names == ["open", "handshake", "close"]
    (_, success, error) = client.of("handshake")[0]
    assert success is False
    assert isinstance(error, Exception)
    assert client.errors == [None]


@pytest.mark.parametrize("ending", ["close", "terminate", "stop"])
async def test_a_server_that_ends_during_the_handshake(ending: str) -> None:
    server = Handshaker()
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=SERVER_OPTIONS) as listener:
        peer = await Peer.connect(("127.0.0.1", listener.port))
        await server.until("open")
        if ending == "stop":
            listener.stop(True)
        else:
            getattr(server.sockets[0], ending)()
        await server.until("close")
        with contextlib.suppress(ConnectionResetError):
            assert await peer.receive_until_fin() == b""
        peer.close()
        assert listener.connections == 0
    assert server.names == ["open", "handshake", "close"]
    assert server.of("handshake")[0][1] is False


async def test_what_is_ended_before_the_handshake_is_delivered() -> None:
    """write() takes nothing yet; write_all() and end() hold their bytes."""
    written: list[object] = []

    def act(socket: mantou.Socket[Any]) -> None:
        written.append(socket.write(b"no"))
        written.append(socket.write_all(b"held "))
        written.append(socket.end(b"and ended"))

    client = Handshaker(open=act)
    async with linked("tls", client) as (_, peer):
        assert await peer.receive_until_fin() == b"held and ended"
        peer.finish()
        await client.until("close")
    assert written == [0, None, 9]
    assert client.names == ["open", "handshake", "end", "close"]
    assert client.errors == [None]


@pytest.mark.parametrize("with_handler", [False, True], ids=["plain", "handshake"])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_handshake_must_not_take_too_long(side: str, with_handler: bool) -> None:
    recorder = Handshaker() if with_handler else Recorder()
    begin = time.monotonic()
    if side == "server":
        with mantou.listen(
            hostname="127.0.0.1",
            port=0,
            socket=recorder,
            tls=SERVER_OPTIONS,
            handshake_timeout=0.1,
        ) as listener:
            peer = await Peer.connect(("127.0.0.1", listener.port))
            with contextlib.suppress(ConnectionResetError):
                assert await peer.receive_until_fin() == b""
            peer.close()
            await recorder.until("close" if with_handler else "connect_error")
            assert listener.connections == 0
    else:
        with RawListener() as raw, pytest.raises(HandshakeTimeoutError):
            await mantou.connect(
                hostname="127.0.0.1",
                port=raw.port,
                socket=recorder,
                tls=CLIENT_OPTIONS,
                handshake_timeout=0.1,
            )
    assert 0.1 <= time.monotonic() - begin < 5
    error = recorder.events[-1][1]
    assert isinstance(error, ssl.SSLError)
    assert isinstance(error, TimeoutError)
    assert "handshake_timeout" in str(error)
    if with_handler:
        assert recorder.events == [("open",), ("handshake", False, error), ("close", error)]
    else:
        assert recorder.events == [("connect_error", error)]


async def test_open_that_raises_behind_the_handshake_is_raised_by_connect() -> None:
    client = Recorder(open=lambda socket: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        async with linked("tls", client):
            pass
    assert client.names == ["open", "error", "close"]
    assert client.errors == [caught.value]


def plain(peer: TlsPeer) -> Peer:
    """The same connection without the TLS."""
    return Peer(peer.sock)


async def test_what_was_accepted_before_the_handshake_leaves_behind_it_even_if_closed() -> None:
    def say_and_go(socket: Any) -> None:
        socket.write_all(b"last words")
        socket.close()
        assert socket.write(b"too late") == -1

    class Shaking(Recorder):
        def handshake(self, socket: Any, success: bool, error: BaseException | None) -> object:
            return self._note("handshake", socket, success, error)

    server, client = Recorder(), Shaking(open=say_and_go)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=server, tls=SERVER_OPTIONS) as listener:
        with pytest.raises(ConnectionAbortedError):
            await mantou.connect(
                hostname="localhost", port=listener.port, socket=client, tls=CLIENT_OPTIONS
            )
        await server.until("close")
    assert server.received == b"last words"
    assert server.errors == [None]
    assert client.events == [("open",), ("close", None)]

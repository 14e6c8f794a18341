"""TLS peers that leave in a hurry, and owners that are paused before there is a session."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

import pytest

import mantou
from tests.peers import Peer
from tests.support import (
    Handshaker,
    Recorder,
    dial,
    every_engine,
    linked,
    listen,
    others_had_their_turn,
)
from tests.tls_support import SERVER_OPTIONS, VERSIONS, TlsPeer, context, secured

ROUNDS = 30
MIB = 1 << 20

both_versions = pytest.mark.parametrize("version", VERSIONS)


def listening(link: str, version: str, recorder: Any) -> mantou.TCPSocketListener[Any]:
    tls: Any = SERVER_OPTIONS | {"min_version": version, "max_version": version}
    if link == "context":
        tls = context(server_side=True, version=version)
    return mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls)


async def dialled(listener: mantou.TCPSocketListener[Any]) -> TlsPeer:
    return await secured(Peer.connect_at_once(("127.0.0.1", listener.port)).sock, False)


async def readable(peer: Peer) -> None:
    """Returns when something lies unread in the peer's kernel."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()
    loop.add_reader(peer.sock, arrived.set_result, None)
    try:
        await arrived
    finally:
        loop.remove_reader(peer.sock)


def leave(peer: TlsPeer, words: bytes) -> None:
    """Says the words and goodbye in one send, and is gone. What lies unread makes that a RST."""
    parting = peer.seal(words)
    # It would wait for our goodbye.
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.ssl.unwrap()
    parting += peer.outgoing.read()
    assert peer.sock.send(parting) == len(parting)
    peer.close()


# The peer says goodbye and leaves; our tickets, or our own goodbye, do not reach it any more


@every_engine
@both_versions
@pytest.mark.parametrize("paused", [True, False])
async def test_a_goodbye_that_reaches_nobody_is_no_failure(
    link: str, version: str, paused: bool
) -> None:
    server = Recorder(open=lambda socket: socket.pause() if paused else None)
    with listening(link, version, server) as listener:
        for count in range(1, ROUNDS + 1):
            peer = await dialled(listener)
            await server.until("open", count)
            if version == "TLSv1.3":
                # The tickets.
                await readable(peer)
            leave(peer, b"thanks")
            if paused:
                server.sockets[-1].resume()
            await server.until("close", count)
    assert server.errors == [None] * ROUNDS
    assert server.received == b"thanks" * ROUNDS
    assert server.names == ["open", "data", "end", "close"] * ROUNDS


@every_engine
@both_versions
@pytest.mark.parametrize("when", ["data", "end"])
async def test_an_answer_that_reaches_nobody_is_one(link: str, version: str, when: str) -> None:
    """The server's own bytes are lost, and it hears of that."""

    def answer(socket: mantou.Socket[Any], *_: object) -> None:
        socket.write(b"you are welcome")

    handlers: dict[str, Any] = {"open": lambda socket: socket.pause(), when: answer}
    server = Recorder(**handlers)
    with listening(link, version, server) as listener:
        for count in range(1, ROUNDS + 1):
            peer = await dialled(listener)
            await server.until("open", count)
            if version == "TLSv1.2":
                # There are no tickets behind its handshake: something else lies unread.
                server.sockets[-1].write(b"hello")
            await readable(peer)
            leave(peer, b"thanks")
            server.sockets[-1].resume()
            await server.until("close", count)
    assert all(isinstance(error, ConnectionError) for error in server.errors), server.errors
    assert server.received == b"thanks" * ROUNDS


@every_engine
@both_versions
async def test_a_queue_that_reaches_nobody_is_one(link: str, version: str) -> None:
    server = Recorder(open=lambda socket: socket.pause())
    with listening(link, version, server) as listener:
        for count in range(1, 4):
            peer = await dialled(listener)
            await server.until("open", count)
            socket = server.sockets[-1]
            socket.write_all(bytes(8 * MIB))
            assert socket.buffered > 0
            await readable(peer)
            leave(peer, b"thanks")
            socket.resume()
            await server.until("close", count)
    assert all(isinstance(error, ConnectionError) for error in server.errors), server.errors
    assert server.received == b"thanks" * 3


# pause() before the handshake stops what the peer's application sends, and nothing else


@every_engine
async def test_a_client_paused_in_open_does_its_handshake(link: str) -> None:
    client = Handshaker(open=lambda socket: socket.pause())
    async with linked(link, client, handshake_timeout=10.0) as (socket, peer):
        assert client.names == ["open", "handshake"]
        assert client.events[-1] == ("handshake", True, None)
        await peer.send(b"waiting")
        await others_had_their_turn()
        assert client.names == ["open", "handshake"]
        # Writing goes on meanwhile.
        assert socket.write(b"hello") == 5
        assert await peer.receive(5) == b"hello"
        socket.resume()
        assert await client.until_received(7) == b"waiting"


@every_engine
async def test_a_server_paused_in_open_does_its_handshake(link: str) -> None:
    server = Handshaker(open=lambda socket: socket.pause())
    with listen(server, link, handshake_timeout=10.0) as listener:
        peer = await dial(listener, link)
        await peer.send(b"waiting")
        await server.until("handshake")
        await others_had_their_turn()
        assert server.names == ["open", "handshake"]
        server.sockets[0].resume()
        assert await server.until_received(7) == b"waiting"
        peer.close()
        await server.until("close")


@every_engine
async def test_what_came_with_the_handshake_waits_too(link: str) -> None:
    """The peer's Finished and its first words arrive in one piece."""
    server = Handshaker(open=lambda socket: socket.pause())
    with listen(server, link) as listener:
        peer = TlsPeer(Peer.connect_at_once(("127.0.0.1", listener.port)).sock, False, "TLSv1.3")
        held_back = await all_but_the_last_flight(peer)
        await Peer.send(peer, held_back + peer.seal(b"first words"))
        await server.until("handshake")
        await others_had_their_turn()
        assert server.names == ["open", "handshake"]
        server.sockets[0].resume()
        assert await server.until_received(11) == b"first words"
        peer.close()
        await server.until("close")


async def all_but_the_last_flight(peer: TlsPeer) -> bytes:
    """Does the peer's handshake up to its last flight, which is returned instead of sent."""
    with pytest.raises(ssl.SSLWantReadError):
        peer.ssl.do_handshake()
    await peer.flush()
    while True:
        peer.open(await Peer.receive_some(peer))
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.ssl.do_handshake()
            return peer.outgoing.read()


@every_engine
async def test_a_peer_that_leaves_a_paused_server_is_met_after_resume(link: str) -> None:
    server = Handshaker(open=lambda socket: socket.pause())
    with listen(server, link) as listener:
        peer = await dial(listener, link)
        await server.until("handshake")
        await peer.send(b"last words")
        peer.finish()
        await others_had_their_turn()
        assert server.names == ["open", "handshake"]
        server.sockets[0].resume()
        await server.until("close")
        peer.close()
    assert server.names == ["open", "handshake", "data", "end", "close"]
    assert server.errors == [None]


@every_engine
@pytest.mark.parametrize("inside", ["open", "handshake"])
async def test_pause_and_resume_around_the_handshake(link: str, inside: str) -> None:
    """Whoever resumes before the handshake is done is as if it never had paused."""

    def blink(socket: mantou.Socket[Any], *_: object) -> None:
        socket.pause()
        socket.resume()

    handlers: dict[str, Any] = {inside: blink}
    client = Handshaker(**handlers)
    async with linked(link, client) as (_, peer):
        await peer.send(b"data")
        assert await client.until_received(4) == b"data"
    assert client.names == ["open", "handshake", "data"]

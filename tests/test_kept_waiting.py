"""Nobody is late whom we have kept waiting: what came in time counts, however late we see it."""

from __future__ import annotations

import asyncio
import select
import time
from typing import Any

import mantou
from tests.support import (
    Peer,
    RawListener,
    Recorder,
    accepted,
    every_path,
    linked,
    listen,
    others_had_their_turn,
)

# Longer than any limit here; the loop is not asked for anything meanwhile.
BUSY = 0.4
LIMIT = 0.2


def be_busy() -> None:
    """What no handler should do, and what a busy machine or SIGSTOP do to any program."""
    time.sleep(BUSY)


@every_path
async def test_who_spoke_meanwhile_is_not_idle(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder, idle_timeout=LIMIT) as (_, peer):
        await peer.send(b"meanwhile")
        be_busy()
        await recorder.until("data")
        assert recorder.received == b"meanwhile"
        assert "timeout" not in recorder.names
        # Whoever says nothing from now on is.
        await recorder.until("close")
        assert recorder.names[-2:] == ["timeout", "close"]


@every_path
async def test_who_read_meanwhile_is_not_idle(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder, idle_timeout=LIMIT) as (socket, peer):
        while not socket.buffered:
            socket.write_all(bytes(1024 * 1024))
            await others_had_their_turn()
        waiting = socket.buffered
        until = time.monotonic() + BUSY
        while (left := until - time.monotonic()) > 0:
            if select.select([peer.sock], [], [], left)[0]:
                peer.sock.recv(1024 * 1024)
        await others_had_their_turn()
        assert "timeout" not in recorder.names
        assert socket.buffered < waiting
        socket.terminate()
        await recorder.until("close")


async def test_a_connection_made_meanwhile_is_not_late() -> None:
    recorder = Recorder()
    with RawListener() as raw:
        connecting = asyncio.ensure_future(
            mantou.connect(
                hostname="127.0.0.1", port=raw.port, socket=recorder, connect_timeout=LIMIT
            )
        )
        asyncio.get_running_loop().call_soon(be_busy)
        socket = await connecting
        assert recorder.names == ["open"]
        socket.terminate()
        await recorder.until("close")


async def test_a_proxys_header_that_came_meanwhile_is_not_late() -> None:
    recorder = Recorder()
    with listen(recorder, proxy_protocol="require", handshake_timeout=LIMIT) as listener:
        peer = Peer.connect_at_once(("127.0.0.1", listener.port))
        # The listener has accepted it when another, behind it, is answered.
        await _accepted_by(listener)
        await peer.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        be_busy()
        await recorder.until("open", 2)
        peer.close()
        await recorder.until("close", 2)


async def _accepted_by(listener: mantou.TCPSocketListener[Any]) -> None:
    peer = Peer.connect_at_once(("127.0.0.1", listener.port))
    await peer.send(b"PROXY UNKNOWN\r\n")
    while listener.connections < 1:
        await asyncio.sleep(0)
    peer.close()


async def test_a_fin_that_came_meanwhile_is_not_late() -> None:
    recorder = Recorder()
    async with accepted(recorder, close_timeout=LIMIT) as (socket, peer):
        socket.end()
        assert await peer.receive_until_fin() == b""
        peer.finish()
        be_busy()
        await recorder.until("close")
        assert recorder.errors == [None]

"""Packets before STARTTLS and behind it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import mantou
from tests.peers import Peer
from tests.support import (
    Recorder,
    accepted,
    every_engine,
)
from tests.tls_support import SERVER_OPTIONS, TlsPeer, context


def starttls(secure: Recorder, tls: Any, waits: bool = False) -> Recorder:
    def data(socket: mantou.Socket[Any], data: bytes) -> Any:
        if data != b"STARTTLS":
            return None
        if waits:
            return later(socket)
        upgrade(socket)
        return None

    def upgrade(socket: mantou.Socket[Any]) -> None:
        socket.write_all(b"220 go ahead\r\n")
        socket.upgrade_tls(tls=tls, socket=secure)

    async def later(socket: mantou.Socket[Any]) -> None:
        await asyncio.sleep(0)
        upgrade(socket)

    return Recorder(data=data)


async def first_flight(peer: Peer) -> tuple[TlsPeer, bytes]:
    """A client that has begun its handshake, and what it has to say."""
    over_tls = TlsPeer(peer.sock, server_side=False)
    with pytest.raises(ssl.SSLWantReadError):
        over_tls.ssl.do_handshake()
    return over_tls, over_tls.outgoing.read()


@every_engine
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "async"])
@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
async def test_lines_before_and_behind_starttls(link: str, waits: bool, together: bool) -> None:
    secure = Recorder(data=lambda socket, data: socket.write_all(data + b"!\r\n"))
    tls = SERVER_OPTIONS if link == "tls" else context(server_side=True)
    clear = starttls(secure, tls, waits)
    async with accepted(clear, packet="line", packet_size=100) as (_, peer):
        over_tls, hello = await first_flight(peer)
        await peer.send(b"EHLO me\r\nSTARTTLS\r\n" + (hello if together else b""))
        assert await peer.receive(14) == b"220 go ahead\r\n"
        if not together:
            await peer.send(hello)
        await over_tls.handshake()
        await over_tls.send(b"EHLO\r\nMAIL\r\n")
        assert await over_tls.receive(14) == b"EHLO!\r\nMAIL!\r\n"
        secure.sockets[0].set_packet(2)
        await over_tls.send(b"\0\4four")
        await secure.until("data", 3)
        assert (clear.packets, secure.packets) == (
            [b"EHLO me", b"STARTTLS"],
            [b"EHLO", b"MAIL", b"four"],
        )
        await over_tls.send(b"\0")
        over_tls.finish()
        _, error = await secure.until("close")
        assert isinstance(error, mantou.PacketIncomplete)


@every_engine
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "async"])
async def test_commands_behind_starttls_are_no_commands(link: str, waits: bool) -> None:
    secure = Recorder()
    tls = SERVER_OPTIONS if link == "tls" else context(server_side=True)
    clear = starttls(secure, tls, waits)
    async with accepted(clear, packet="line") as (_, peer):
        await peer.send(b"STARTTLS\r\nMAIL FROM:<me>\r\n")
        _, error = await secure.until("connect_error")
        assert isinstance(error, ssl.SSLError)
        await clear.until("close")
        assert clear.packets == [b"STARTTLS"]
        assert "data" not in secure.names

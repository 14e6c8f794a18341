"""The simplest conversations, over TCP and unix sockets."""

from __future__ import annotations

from pathlib import Path

import mantou
from tests.support import Recorder, accepted, connected


async def test_a_peer_gets_back_what_it_sent() -> None:
    echo = Recorder(data=lambda socket, data: socket.write(data))
    async with accepted(echo) as (_, peer):
        await peer.send(b"steamed bun")
        assert await peer.receive(11) == b"steamed bun"
        peer.finish()
        assert await peer.receive_until_fin() == b""
        await echo.until("close")
    assert echo.names == ["open", "data", "end", "close"]
    assert echo.errors == [None]


async def test_a_client_talks_to_a_raw_server() -> None:
    client = Recorder()
    async with connected(client) as (socket, peer):
        assert socket.write("grüß dich") == 11
        assert await peer.receive(11) == "grüß dich".encode()
        await peer.send(b"you too")
        assert await client.until_received(7) == b"you too"
        assert socket.end(b"bye") == 3
        assert await peer.receive_until_fin() == b"bye"
        peer.close()
        await client.until("close")
    assert client.names == ["open", "data", "end", "close"]


async def test_unix_sockets_talk_to_each_other(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = Recorder(data=lambda socket, data: socket.end(data))
    client = Recorder(open=lambda socket: socket.write(b"hello"))
    with mantou.listen(unix=path, socket=server) as listener:
        socket = await mantou.connect(unix=path, socket=client)
        await client.until("close")
        await server.until("close")
        assert client.received == b"hello"
        assert socket.remote_address is None
        assert socket.remote_family is None
        assert listener.unix == str(path)
    assert not path.exists()

"""The limit of connections for each host."""

from __future__ import annotations

import socket as kernel

import pytest

import mantou
from tests.limits import arrive, arrive_from, come_in, echo
from tests.proxies import door
from tests.support import (
    Peer,
    Recorder,
    dial,
    listen,
    others_had_their_turn,
)
from tests.tls_support import secured


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_too_many_of_one_host_are_reset_and_no_handler_hears_of_it(link: str) -> None:
    made: list[object] = []
    recorder = Recorder(data=echo)
    with listen(recorder, link, max_connections_per_host=2, data_factory=made.append) as listener:
        inside = [await dial(listener, link) for _ in range(2)]
        await recorder.until("open", 2)
        events = list(recorder.events)
        for _ in range(3):
            refused = arrive(listener)
            with pytest.raises(ConnectionResetError):
                await refused.receive_some()
            refused.close()
        assert recorder.events == events
        assert len(made) == 2
        assert listener.stats().refused == 3
        # Others are not concerned.
        other = await come_in(link, arrive_from("127.0.0.2", listener))
        await recorder.until("open", 3)
        inside[0].close()
        await recorder.until("close")
        again = await dial(listener, link)
        await recorder.until("open", 4)
        for peer in (*inside, other, again):
            peer.close()
        await recorder.until("close", 4)


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_behind_a_proxy_a_host_is_the_one_that_the_header_names(link: str) -> None:
    recorder = Recorder(data=echo)
    ann, bo = (f"PROXY TCP4 192.0.2.{host} 192.0.2.9 1000 80\r\n".encode() for host in (1, 2))
    async with door(recorder, link, max_connections_per_host=1, max_connections=3) as entrance:
        inside = await entrance.enter(ann)
        await recorder.until("open")
        events = list(recorder.events)
        refused = entrance.dial()
        await refused.send(ann)
        with pytest.raises(ConnectionResetError):
            await refused.receive_some()
        refused.close()
        assert recorder.events == events
        assert entrance.listener.stats().refused == 1
        assert entrance.listener.connections == 1
        other = await entrance.enter(bo)
        await recorder.until("open", 2)
        # Those who have not said who they are count for the other limit.
        silent, waiting = entrance.dial(), entrance.dial()
        await others_had_their_turn()
        assert entrance.listener.stats().pauses.max_connections == 1
        for peer in (silent, waiting, inside):
            peer.close()
        await recorder.until("close")
        await recorder.until("connect_error", 2)
        again = await entrance.enter(ann)
        await recorder.until("open", 3)
        for peer in (other, again):
            peer.close()


@pytest.mark.parametrize("link", ["tls", "context"])
async def test_handshakes_behind_a_proxy_count_from_the_header_on(link: str) -> None:
    recorder = Recorder(data=echo)
    header = b"PROXY UNKNOWN\r\n"
    async with door(recorder, link, max_handshakes=1) as entrance:
        slow = entrance.dial()
        await slow.send(header)
        await others_had_their_turn()
        held = entrance.dial()
        await others_had_their_turn()
        assert entrance.listener.stats().pauses.max_handshakes == 1
        slow.close()
        await recorder.until("connect_error")
        held.close()
        peer = await entrance.enter(header)
        await recorder.until("open")
        peer.close()


@pytest.mark.parametrize("link", ["tls", "context"])
async def test_handshakes_behind_a_proxy_are_never_too_many(link: str) -> None:
    """Neither those whose headers come at the same time, nor with those that never come."""
    recorder = Recorder(data=echo)
    header = b"PROXY UNKNOWN\r\n"
    async with door(recorder, link, max_handshakes=2) as entrance:
        peers = [entrance.dial() for _ in range(5)]
        await others_had_their_turn()
        assert entrance.listener.stats().accepted == 2
        for peer in peers:
            await peer.send(header)
        await others_had_their_turn()
        assert entrance.listener.stats().accepted == 2
        assert entrance.listener.stats().waiting == 3
        secure = [await secured(peer.sock, server_side=False) for peer in peers]
        await recorder.until("open", 5)
        assert entrance.listener.stats().handshakes == 5
        for peer in secure:
            peer.close()
        await recorder.until("close", 5)


async def test_an_ipv4_client_of_an_ipv6_listener_is_the_same_host() -> None:
    recorder = Recorder()
    with mantou.listen(
        hostname="::", port=0, socket=recorder, max_connections_per_host=1
    ) as listener:
        inside = arrive(listener)
        await recorder.until("open")
        by_ipv6 = Peer.connect_at_once(("::1", listener.port), kernel.AF_INET6)
        await recorder.until("open", 2)
        for address, family in (("127.0.0.1", kernel.AF_INET), ("::1", kernel.AF_INET6)):
            refused = Peer.connect_at_once((address, listener.port), family)
            with pytest.raises(ConnectionResetError):
                await refused.receive_some()
            refused.close()
        inside.close()
        by_ipv6.close()
        await recorder.until("close", 2)


async def test_a_flood_of_one_host_is_refused_while_others_are_served() -> None:
    recorder = Recorder(data=echo)
    with listen(recorder, max_connections_per_host=5) as listener:
        guest = arrive_from("127.0.0.2", listener)
        await recorder.until("open")
        flood = [arrive(listener) for _ in range(200)]
        await guest.send(b"still there?")
        assert await guest.receive(12) == b"still there?"
        await recorder.until_true(lambda: listener.stats().accepted == 6)
        resets = 0
        for peer in flood[5:]:
            with pytest.raises(ConnectionResetError):
                await peer.receive_some()
            resets += 1
        assert resets == listener.stats().refused == 195
        assert len(recorder.of("open")) == 6
        for peer in (guest, *flood):
            peer.close()
        await recorder.until("close", 6)


async def test_a_unix_socket_has_no_hosts() -> None:
    with kernel.socket(kernel.AF_UNIX) as sock:
        sock.bind("")
        sock.listen()
        with pytest.raises(ValueError, match="'max_connections_per_host' must be None for a unix"):
            mantou.listen(fd=sock.fileno(), socket=Recorder(), max_connections_per_host=1)

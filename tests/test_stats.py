"""Figures: what stats() says of sockets, listeners and the process is what happened on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mantou
from tests.conftest import LOOPS
from tests.limits import arrive, come_in, echo, listen_over
from tests.proxies import V1, door
from tests.support import (
    Peer,
    Recorder,
    accepted,
    connected,
    dial,
    every_path,
    fill,
    linked,
    listen,
)
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, secured

pytestmark = pytest.mark.usefixtures("stats_before")


# Connections and bytes


@every_path
async def test_connections_and_their_bytes_are_counted(
    link: str, stats_before: mantou.Stats
) -> None:
    recorder = Recorder(data=echo)
    with listen_over(link, recorder) as listener:
        peers = [await come_in(link, arrive(listener)) for _ in range(3)]
        for number, peer in enumerate(peers, 1):
            await peer.send(b"x" * 100 * number)
            assert len(await peer.receive(100 * number)) == 100 * number
        await recorder.until("open", 3)
        for connections in (3, 2):
            stats = listener.stats()
            assert stats.accepted == 3
            assert stats.connections == listener.connections == connections
            assert (stats.bytes_read, stats.bytes_written, stats.queued) == (600, 600, 0)
            everything = mantou.stats()
            assert everything.listeners == 1
            assert everything.connections == connections
            assert everything.accepted - stats_before.accepted == 3
            assert everything.connected == stats_before.connected
            assert everything.bytes_read - stats_before.bytes_read == 600
            assert everything.bytes_written - stats_before.bytes_written == 600
            if connections == 3:
                peers.pop().close()
                await recorder.until("close")
        for peer in peers:
            peer.close()
        await recorder.until("close", 3)
    stopped = listener.stats()
    assert (stopped.connections, stopped.accepted, stopped.bytes_read) == (0, 3, 600)
    assert (stopped.waiting, stopped.backlog) == (None, None)


async def test_who_is_not_heard_yet_behind_a_proxy_is_counted(stats_before: mantou.Stats) -> None:
    """Everybody who was accepted is open or closed, whatever became of the header."""
    recorder = Recorder(data=echo)
    async with door(recorder, "tcp", max_connections_per_host=1) as entrance:
        inside = await entrance.enter(V1)
        await recorder.until("open")
        silent, malformed, refused = entrance.dial(), entrance.dial(), entrance.dial()
        await malformed.send(b"GET / HTTP/1.1\r\n\r\n")
        await refused.send(V1)
        for peer in (malformed, refused):
            with pytest.raises(ConnectionResetError):
                await peer.receive_some()
        stats, process = entrance.listener.stats(), mantou.stats()
        assert (stats.accepted, stats.connections, stats.refused) == (4, 2, 1)
        assert process.accepted - stats_before.accepted == 4
        assert process.connections == entrance.listener.connections == 2
        for peer in (inside, silent, malformed, refused):
            peer.close()


@every_path
async def test_connections_of_our_own_are_counted(link: str, stats_before: mantou.Stats) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        socket.write(b"request")
        await peer.send(b"answer")
        await recorder.until_received(6)
        stats = mantou.stats()
        assert stats.connected - stats_before.connected == 1
        assert stats.accepted == stats_before.accepted
        assert stats.connections == 1
        assert stats.bytes_written - stats_before.bytes_written == 7
        assert stats.bytes_read - stats_before.bytes_read == 6
        socket.terminate()
        await recorder.until("close")
        assert mantou.stats() == dataclasses.replace(stats, connections=0)


async def test_bytes_that_wait_are_queued(stats_before: mantou.Stats) -> None:
    recorder = Recorder()
    async with accepted(recorder) as (socket, _):
        filled = fill(socket)
        socket.write_all(bytes(1000))
        assert socket.stats().queued == socket.buffered == 1000
        assert socket.listener.stats().queued == 1000
        assert mantou.stats().queued == 1000
        assert mantou.stats().bytes_written - stats_before.bytes_written == filled
        socket.terminate()
        await recorder.until("close")


async def test_an_upgraded_connection_is_one_connection(stats_before: mantou.Stats) -> None:
    recorder, secure = Recorder(), Recorder()
    async with connected(recorder) as (socket, peer):
        socket.write(b"STARTTLS")
        await peer.receive(8)
        _, tls = socket.upgrade_tls(socket=secure, tls=CLIENT_OPTIONS)
        secure_peer = await secured(peer.sock, server_side=True)
        await secure.until("open")
        stats = mantou.stats()
        assert stats.connected - stats_before.connected == 1
        assert stats.connections == 1
        assert stats.handshakes - stats_before.handshakes == 1
        tls.terminate()
        await secure.until("close")
        secure_peer.close()


@pytest.mark.parametrize("side", ["connected", "accepted"])
async def test_what_was_said_before_an_upgrade_stays_counted(
    side: str, stats_before: mantou.Stats
) -> None:
    recorder, secure = Recorder(), Recorder()
    is_server = side == "accepted"
    async with (accepted if is_server else connected)(recorder) as (socket, peer):
        socket.write(b"STARTTLS")
        await peer.receive(8)
        await peer.send(b"go on")
        await recorder.until_received(5)

        def counted() -> set[tuple[int, int]]:
            stats = mantou.stats()
            found = {
                (
                    stats.bytes_read - stats_before.bytes_read,
                    stats.bytes_written - stats_before.bytes_written,
                )
            }
            if socket.listener is not None:
                own = socket.listener.stats()
                found.add((own.bytes_read, own.bytes_written))
            return found

        assert counted() == {(5, 8)}
        tls = SERVER_OPTIONS if is_server else CLIENT_OPTIONS
        raw, upgraded = socket.upgrade_tls(socket=secure, tls=tls)
        assert counted() == {(5, 8)}
        secure_peer = await secured(peer.sock, server_side=not is_server)
        await secure.until("open")
        upgraded.write(b"secret")
        await secure_peer.receive(6)
        await secure_peer.send(b"yes")
        await secure.until_received(3)
        assert (upgraded.bytes_read, upgraded.bytes_written) == (3, 6)
        assert (raw.bytes_read, raw.bytes_written) == (5, 8)
        assert counted() == {(8, 14)}
        upgraded.terminate()
        await secure.until("close")
        assert counted() == {(8, 14)}
        secure_peer.close()


async def test_what_the_kernel_has_waiting_is_shown() -> None:
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), backlog=17) as listener:
        listener.pause()
        peers = [arrive(listener) for _ in range(5)]
        stats = listener.stats()
        assert (stats.waiting, stats.backlog) == (5, 17)
        for peer in peers:
            peer.close()


@pytest.mark.loops("mantou")
async def test_asyncio_s_connections_count_on_mantou_s_loop(stats_before: mantou.Stats) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    assert await reader.read() == b"hello"
    stats = mantou.stats()
    assert stats.accepted - stats_before.accepted == 1
    assert stats.connected - stats_before.connected == 1
    assert stats.bytes_read - stats_before.bytes_read == 10
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_running_out_of_descriptors_is_counted(stats_before: mantou.Stats) -> None:
    with listen(Recorder()) as listener:
        listener.pause()
        peer = arrive(listener)
        with no_descriptor_left():
            listener.resume()
            while not listener.stats().pauses.descriptors:
                await asyncio.sleep(0)
        assert mantou.stats().pauses.descriptors > stats_before.pauses.descriptors
        peer.close()


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# Threads, loops, processes


async def test_figures_may_be_asked_from_any_thread(stats_before: mantou.Stats) -> None:
    recorder = Recorder(data=echo)
    with listen(recorder) as listener:
        peer = await dial(listener)
        await peer.send(b"x" * 10)
        await peer.receive(10)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend([listener.stats(), mantou.stats()]))
        thread.start()
        thread.join()
        of_listener, of_process = found
        assert of_listener.bytes_read == 10
        assert of_process.bytes_read - stats_before.bytes_read == 10
        peer.close()
        await recorder.until("close")


@pytest.mark.parametrize("kind", LOOPS)
def test_what_a_loop_has_done_outlives_it(kind: str, stats_before: mantou.Stats) -> None:
    async def main() -> None:
        async with accepted(Recorder()) as (socket, peer):
            await peer.send(b"x" * 10)
            while socket.bytes_read < 10:
                await asyncio.sleep(0)

    for rounds in (1, 2):
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(main())
        stats = mantou.stats()
        assert stats.accepted - stats_before.accepted == rounds
        assert stats.bytes_read - stats_before.bytes_read == 10 * rounds


async def test_counts_never_go_back_while_connections_come_and_go() -> None:
    stop = threading.Event()
    wrong: list[object] = []

    def watch() -> None:
        last = mantou.stats()
        while not stop.is_set():
            now = mantou.stats()
            if not (now.bytes_read >= last.bytes_read and now.accepted >= last.accepted):
                wrong.append((last, now))
            last = now

    recorder = Recorder(data=echo)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with listen(recorder) as listener:
            for _ in range(100):
                peer = await Peer.connect(("127.0.0.1", listener.port))
                await peer.send(b"x" * 100)
                await peer.receive(100)
                peer.close()
            await recorder.until("close", 100)
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_a_forked_process_begins_with_nothing() -> None:
    """Neither with connections, nor with those that are not heard yet, nor with what has been."""

    async def main() -> None:
        recorder = Recorder()
        listeners = [listen(recorder), listen(recorder), listen(recorder, proxy_protocol="require")]
        peers = [arrive(listener) for listener in listeners]
        await recorder.until("open", 2)
        # No handler hears of it.
        while not listeners[2].connections:
            await asyncio.sleep(0)
        listeners[0].stop()
        if (child := os.fork()) == 0:
            figures = [mantou.stats(), *(listener.stats() for listener in listeners)]
            nothing = all((it.accepted, it.connections) == (0, 0) for it in figures)
            os._exit(0 if nothing and not any(it.connections for it in listeners) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [listener.stats().connections for listener in listeners] == [1, 1, 1]
        for peer in peers:
            peer.close()
        for listener in listeners:
            listener.stop(True)
            await listener.closed()

    mantou.run(main())

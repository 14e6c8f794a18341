"""Figures: what stats() says of sockets, listeners and the process is what happened on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import resource
import socket as kernel
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mantou
from mantou._tcp_info import parse_tcp_info
from tests.conftest import LOOPS
from tests.proxies import V1, door
from tests.support import (
    Handshaker,
    Peer,
    Recorder,
    accepted,
    connected,
    dial,
    every_engine,
    every_path,
    fill,
    linked,
    listen,
)
from tests.test_limits import arrive, come_in, listen_over
from tests.tls_support import CLIENT_OPTIONS, context, secured

NO_FAILURES = mantou.HandshakeFailures(0, 0, 0, 0, 0)


def echo(socket: mantou.Socket[Any], data: bytes) -> None:
    socket.write_all(data)


@pytest.fixture(autouse=True)
def before() -> Iterator[mantou.Stats]:
    """What other tests have done to the process. They leave nothing open."""
    yield mantou.stats()
    after = mantou.stats()
    assert (after.listeners, after.connections, after.queued) == (0, 0, 0)


# Connections and bytes


@every_path
async def test_connections_and_their_bytes_are_counted(link: str, before: mantou.Stats) -> None:
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
            assert everything.accepted - before.accepted == 3
            assert everything.connected == before.connected
            assert everything.bytes_read - before.bytes_read == 600
            assert everything.bytes_written - before.bytes_written == 600
            if connections == 3:
                peers.pop().close()
                await recorder.until("close")
        for peer in peers:
            peer.close()
        await recorder.until("close", 3)
    stopped = listener.stats()
    assert (stopped.connections, stopped.accepted, stopped.bytes_read) == (0, 3, 600)
    assert (stopped.waiting, stopped.backlog) == (None, None)


async def test_who_is_not_heard_yet_behind_a_proxy_is_counted(before: mantou.Stats) -> None:
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
        assert process.accepted - before.accepted == 4
        assert process.connections == entrance.listener.connections == 2
        for peer in (inside, silent, malformed, refused):
            peer.close()


@every_path
async def test_connections_of_our_own_are_counted(link: str, before: mantou.Stats) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        socket.write(b"request")
        await peer.send(b"answer")
        await recorder.until_received(6)
        stats = mantou.stats()
        assert stats.connected - before.connected == 1
        assert stats.accepted == before.accepted
        assert stats.connections == 1
        assert stats.bytes_written - before.bytes_written == 7
        assert stats.bytes_read - before.bytes_read == 6
        socket.terminate()
        await recorder.until("close")
        assert mantou.stats() == dataclasses.replace(stats, connections=0)


async def test_bytes_that_wait_are_queued(before: mantou.Stats) -> None:
    recorder = Recorder()
    async with accepted(recorder) as (socket, _):
        filled = fill(socket)
        socket.write_all(bytes(1000))
        assert socket.stats().queued == socket.buffered == 1000
        assert socket.listener.stats().queued == 1000
        assert mantou.stats().queued == 1000
        assert mantou.stats().bytes_written - before.bytes_written == filled
        socket.terminate()
        await recorder.until("close")


async def test_an_upgraded_connection_is_one_connection(before: mantou.Stats) -> None:
    recorder, secure = Recorder(), Recorder()
    async with connected(recorder) as (socket, peer):
        socket.write(b"STARTTLS")
        await peer.receive(8)
        _, tls = socket.upgrade_tls(socket=secure, tls=CLIENT_OPTIONS)
        secure_peer = await secured(peer.sock, server_side=True)
        await secure.until("open")
        stats = mantou.stats()
        assert stats.connected - before.connected == 1
        assert stats.connections == 1
        assert stats.handshakes - before.handshakes == 1
        tls.terminate()
        await secure.until("close")
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
async def test_asyncio_s_connections_count_on_mantou_s_loop(before: mantou.Stats) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    assert await reader.read() == b"hello"
    stats = mantou.stats()
    assert stats.accepted - before.accepted == 1
    assert stats.connected - before.connected == 1
    assert stats.bytes_read - before.bytes_read == 10
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_running_out_of_descriptors_is_counted(before: mantou.Stats) -> None:
    with listen(Recorder()) as listener:
        listener.pause()
        peer = arrive(listener)
        with no_descriptor_left():
            listener.resume()
            while not listener.stats().pauses.descriptors:
                await asyncio.sleep(0)
        assert mantou.stats().pauses.descriptors > before.pauses.descriptors
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


# Handshakes


@every_engine
async def test_handshakes_are_counted(link: str, before: mantou.Stats) -> None:
    recorder = Recorder()
    with listen(recorder, link) as listener:
        peers = [await dial(listener, link) for _ in range(3)]
        await recorder.until("open", 3)
        assert listener.stats().handshakes == 3
        assert listener.stats().handshake_failures == NO_FAILURES
        assert mantou.stats().handshakes - before.handshakes == 3
        for peer in peers:
            peer.close()
        await recorder.until("close", 3)
        assert listener.stats().handshakes == 3


async def fail(recorder: Recorder, listener: Any, data: bytes | None) -> None:
    peer = arrive(listener)
    if data is None:
        peer.reset()
    else:
        await peer.send(data)
    await recorder.until("connect_error")
    peer.close()


@every_engine
@pytest.mark.parametrize(
    ("kind", "data"),
    [("protocol", b"GET / HTTP/1.1\r\n\r\n"), ("lost", None), ("timeout", b"")],
)
async def test_failed_handshakes_are_counted_by_kind(
    link: str, kind: str, data: bytes | None, before: mantou.Stats
) -> None:
    recorder = Recorder()
    with listen(recorder, link, handshake_timeout=0.2) as listener:
        await fail(recorder, listener, data)
        expected = dataclasses.replace(NO_FAILURES, **{kind: 1})
        assert listener.stats().handshake_failures == expected
        assert listener.stats().handshakes == 0
        failures = dataclasses.asdict(mantou.stats().handshake_failures)
        known = dataclasses.asdict(before.handshake_failures)
        assert {name: failures[name] - known[name] for name in known} == dataclasses.asdict(
            expected
        )


@every_engine
async def test_a_client_that_refuses_us_is_an_alert(link: str) -> None:
    """It trusts nobody who has signed for us."""
    recorder = Recorder()
    with listen(recorder, link) as listener:
        with pytest.raises(ssl.SSLCertVerificationError):
            await mantou.connect(
                hostname="localhost",
                port=listener.port,
                socket=Recorder(),
                # So that the server is still in its handshake when it hears of that.
                tls={"max_version": "TLSv1.2"},
            )
        await recorder.until("connect_error")
        assert listener.stats().handshake_failures == dataclasses.replace(NO_FAILURES, alert=1)


@pytest.mark.parametrize("native", [True, False], ids=["rustls", "openssl"])
async def test_a_server_that_we_refuse_is_a_certificate(native: bool, before: mantou.Stats) -> None:
    tls: Any = True if native else ssl.create_default_context()
    with listen(Recorder(), "tls") as listener, pytest.raises(ssl.SSLCertVerificationError):
        await mantou.connect(hostname="localhost", port=listener.port, socket=Recorder(), tls=tls)
    certificate = mantou.stats().handshake_failures.certificate
    assert certificate - before.handshake_failures.certificate == 1


@every_engine
async def test_a_client_without_a_certificate_is_refused_for_that(link: str) -> None:
    recorder = Recorder()
    tls: Any = {"request_cert": True, "ca": CLIENT_OPTIONS["ca"]}
    if link == "context":
        tls = context(server_side=True)
        tls.verify_mode = ssl.CERT_REQUIRED
    with listen(recorder, link, tls=tls) as listener:
        peer = await dial(listener, link)
        await recorder.until("connect_error")
        expected = dataclasses.replace(NO_FAILURES, certificate=1)
        assert listener.stats().handshake_failures == expected
        peer.close()


async def test_with_a_handshake_handler_it_is_the_same() -> None:
    recorder = Handshaker()
    with listen(recorder, "tls") as listener:
        peer = arrive(listener)
        await peer.send(b"no TLS at all, as anybody can see")
        await recorder.until("close")
        assert listener.stats().handshake_failures == dataclasses.replace(NO_FAILURES, protocol=1)
        peer.close()


# What the kernel knows


async def test_a_socket_shows_what_the_kernel_knows_of_it() -> None:
    recorder = Recorder(data=echo)
    async with accepted(recorder) as (socket, peer):
        await peer.send(bytes(5000))
        await peer.receive(5000)
        tcp = socket.stats().tcp
        assert tcp is not None
        assert tcp.state == "ESTABLISHED"
        assert tcp.bytes_received == tcp.bytes_acked == tcp.bytes_sent == 5000
        assert tcp.snd_mss == socket_option(socket, kernel.TCP_MAXSEG)
        assert 0 < tcp.min_rtt <= tcp.rtt < 10
        assert tcp.rto >= 0.2
        assert tcp.data_segs_in >= 1
        assert tcp.segs_in >= tcp.data_segs_in
        assert tcp.last_data_recv < 10
        assert tcp.snd_ssthresh is None
        assert tcp.notsent_bytes == tcp.unacked == tcp.total_retrans == 0
        peer.finish()
        await recorder.until("close")
        assert socket.stats() == mantou.SocketStats(5000, 5000, 0, None)


async def test_every_figure_is_what_ss_shows() -> None:
    """The command reads the same structure: names, order and units are its."""
    async with accepted(Recorder(data=echo)) as (socket, peer):
        for _ in range(3):
            await peer.send(bytes(10_000))
            await peer.receive(10_000)
        # An acknowledgment that was put off may come while the command looks.
        output, before, after = "", lasting(socket), None
        while before != after:
            before = lasting(socket)
            output = shown_by_ss(socket)
            after = lasting(socket)
        tcp = before
        shown = dict(
            part.split(":", 1) for part in output.split() if ":" in part and part[0].isalpha()
        )
        assert shown["rto"] == f"{tcp.rto * 1000:g}"
        assert shown["rtt"] == f"{tcp.rtt * 1000:g}/{tcp.rttvar * 1000:g}"
        assert shown["minrtt"] == f"{tcp.min_rtt * 1000:g}"
        assert int(shown["mss"]) == tcp.snd_mss
        assert int(shown["rcvmss"]) == tcp.rcv_mss
        assert int(shown["advmss"]) == tcp.advmss
        assert int(shown["pmtu"]) == tcp.pmtu
        assert int(shown["cwnd"]) == tcp.snd_cwnd
        assert int(shown["bytes_sent"]) == tcp.bytes_sent
        assert int(shown["bytes_acked"]) == tcp.bytes_acked
        assert int(shown["bytes_received"]) == tcp.bytes_received
        assert int(shown["segs_out"]) == tcp.segs_out
        assert int(shown["segs_in"]) == tcp.segs_in
        assert int(shown["data_segs_out"]) == tcp.data_segs_out
        assert int(shown["data_segs_in"]) == tcp.data_segs_in
        assert int(shown["rcv_space"]) == tcp.rcv_space
        assert int(shown["rcv_ssthresh"]) == tcp.rcv_ssthresh
        assert int(shown["delivered"]) == tcp.delivered
        assert int(shown["snd_wnd"]) == tcp.snd_wnd


def lasting(socket: mantou.Socket[Any]) -> mantou.TcpInfo:
    """What the kernel knows, but for what changes with every moment."""
    tcp = socket.stats().tcp
    assert tcp is not None
    return dataclasses.replace(tcp, last_data_sent=0, last_data_recv=0, last_ack_recv=0)


def shown_by_ss(socket: mantou.Socket[Any]) -> str:
    command = ["ss", "--info", "--no-header", "--numeric", "--tcp"]
    command += ["sport", "=", str(socket.local_port), "and"]
    command += ["dport", "=", str(socket.remote_port)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_an_older_kernel_knows_less() -> None:
    tcp = parse_tcp_info(bytes([1]) + bytes(103))
    assert tcp.state == "ESTABLISHED"
    assert tcp.bytes_sent == tcp.snd_wnd == 0
    assert parse_tcp_info(bytes([10]) + bytes(1000)).state == "LISTEN"


def socket_option(socket: mantou.Socket[Any], name: int) -> Any:
    with kernel.socket(fileno=os.dup(socket.fileno())) as sock:
        return sock.getsockopt(kernel.IPPROTO_TCP, name)


# Who is at the other end


async def test_the_peer_of_a_unix_socket_is_known() -> None:
    ours = mantou.PeerCredentials(os.getpid(), os.geteuid(), os.getegid())
    recorder, client = Recorder(), Recorder()
    with listen_over("unix", recorder) as listener:
        socket = await mantou.connect(unix=listener.unix, socket=client)
        await recorder.until("open")
        assert socket.peer_credentials == recorder.sockets[0].peer_credentials == ours
        assert socket.stats().tcp is None
        socket.terminate()
        await client.until("close")
        assert socket.peer_credentials is None
        await recorder.until("close")


async def test_another_process_is_told_apart() -> None:
    recorder = Recorder()
    with listen_over("unix", recorder) as listener:
        program = (
            "import socket, sys; sock = socket.socket(socket.AF_UNIX); "
            f"sock.connect({listener.unix!r}); sys.stdin.read()"
        )
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        await recorder.until("open")
        credentials = recorder.sockets[0].peer_credentials
        assert credentials is not None
        assert credentials.pid == process.pid
        process.communicate()
        # As it was: that nobody has this number any more changes nothing.
        await recorder.until("close")


async def test_tcp_knows_no_credentials() -> None:
    async with accepted(Recorder()) as (socket, _):
        assert socket.peer_credentials is None


# Threads, loops, processes


async def test_figures_may_be_asked_from_any_thread(before: mantou.Stats) -> None:
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
        assert of_process.bytes_read - before.bytes_read == 10
        peer.close()
        await recorder.until("close")


@pytest.mark.parametrize("kind", LOOPS)
def test_what_a_loop_has_done_outlives_it(kind: str, before: mantou.Stats) -> None:
    async def main() -> None:
        async with accepted(Recorder()) as (socket, peer):
            await peer.send(b"x" * 10)
            while socket.bytes_read < 10:
                await asyncio.sleep(0)

    for rounds in (1, 2):
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(main())
        stats = mantou.stats()
        assert stats.accepted - before.accepted == rounds
        assert stats.bytes_read - before.bytes_read == 10 * rounds


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
    async def main() -> None:
        async with accepted(Recorder()):
            if (child := os.fork()) == 0:
                stats = mantou.stats()
                os._exit(0 if (stats.accepted, stats.connections) == (0, 0) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    mantou.run(main())


# The log


async def test_a_limit_is_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with listen(recorder, max_connections_per_host=1) as listener:
        inside = arrive(listener)
        await recorder.until("open")
        for _ in range(3):
            refused = arrive(listener)
            with pytest.raises(ConnectionResetError):
                await refused.receive_some()
            refused.close()
        (record,) = [record for record in caplog.records if record.name == "mantou"]
        assert record.levelno == logging.WARNING
        assert record.getMessage() == (
            f"{listener!r} has reached max_connections_per_host; its stats() count from now on"
        )
        inside.close()
        await recorder.until("close")


@every_engine
async def test_failed_handshakes_are_in_the_log_for_those_who_look(
    link: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    with caplog.at_level(logging.DEBUG, "mantou"), listen(recorder, link) as listener:
        await fail(recorder, listener, b"no TLS at all, as anybody can see")
        (record,) = [record for record in caplog.records if record.levelno == logging.DEBUG]
        assert "the TLS handshake failed: " in record.getMessage()
        assert "remote=127.0.0.1:" in record.getMessage()


async def test_nothing_is_logged_for_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "mantou"):
        async with accepted(Recorder(data=echo)) as (_, peer):
            begun = len(caplog.records)
            for _ in range(10):
                await peer.send(b"x")
                await peer.receive(1)
            assert len(caplog.records) == begun

"""What the kernel knows of a connection, and of who is at its other end."""

from __future__ import annotations

import dataclasses
import os
import socket as kernel
import subprocess
import sys
from typing import Any

import pytest

import mantou
from mantou._tcp_info import parse_tcp_info
from tests.limits import echo, listen_over
from tests.support import (
    Recorder,
    accepted,
)

pytestmark = pytest.mark.usefixtures("stats_before")


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
        assert tcp.min_rtt is not None
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
        assert tcp.min_rtt is not None
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


def test_what_the_kernel_does_not_know_yet_is_none() -> None:
    tcp = parse_tcp_info(bytes([1]) + b"\xff" * 231)
    assert (tcp.min_rtt, tcp.snd_ssthresh, tcp.pacing_rate) == (None, None, None)
    assert tcp.rtt == (2**32 - 1) / 1e6


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

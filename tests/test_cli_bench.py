"""`mantou bench`: what it counts, and that it is honest about what it leaves out."""

from __future__ import annotations

import contextlib
import json
import math
import socket as kernel
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantou._cli.histogram import Histogram
from tests.cli import (
    BARE,
    COMMAND,
    LIMIT,
    Server,
    Terminal,
    documented,
    echo,
    files,
    mantou,
    read_all,
)
from tests.test_cli_connect import over_tls

TIMES = st.lists(st.integers(0, 10**12), min_size=1)


@settings(deadline=None)
@given(TIMES, st.floats(0, 100))
def test_percentiles_are_those_of_the_sorted_times(times: list[int], percent: float) -> None:
    histogram = Histogram()
    for each in times:
        histogram.record(each)
    exact = sorted(times)[max(1, math.ceil(len(times) * percent / 100)) - 1]
    assert exact <= histogram.percentile(percent) <= exact * 1.001 + 1
    assert (histogram.least, histogram.most) == (min(times), max(times))
    assert histogram.percentile(100) == max(times)
    assert math.isclose(histogram.mean(), sum(times) / len(times))
    steps = list(histogram.distribution())
    assert steps[-1][1] == max(times)
    assert [step[1] for step in steps] == sorted(step[1] for step in steps)


def measured(*flags: Any) -> dict[str, Any]:
    done = mantou("bench", *flags, "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("link", ["plain", "tls"])
def test_a_closed_loop(tmp_path: Any, link: str) -> None:
    received = 0
    lock = threading.Lock()

    # Its end is in order, too: a reset would be an error here.
    def talk(sock: kernel.socket) -> None:
        nonlocal received
        while data := sock.recv(65536):
            with lock:
                received += len(data)
            sock.sendall(data)

    ca, _, _ = files(tmp_path)
    flags = ["--connections", 3, "--size", 1000, "--seconds", 0.3]
    with Server(talk if link == "plain" else over_tls(talk)) as server:
        more = [] if link == "plain" else ["--tls", "--ca", ca]
        result = measured(f"localhost:{server.port}", *flags, *more)
        assert server.served == 3
    assert set(result) == documented("bench --json")
    assert result["loop"] == "closed"
    assert result["coordinated_omission"] is True
    # Each message that the server got is counted once.
    assert result["messages"] * 1000 == received
    assert 0.3 <= result["seconds"] < LIMIT
    assert result["rate"] <= result["messages"] / result["seconds"]
    assert (result["tls"] or {}).get("version") == (None if link == "plain" else "TLSv1.3")
    latency = result["latency_us"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]


@pytest.mark.alone
def test_a_stall_is_seen_by_the_open_loop_and_hidden_by_the_closed() -> None:
    """The server stops once for 300 ms: of a second, three tenths of what was due had to wait."""
    stalled = threading.Event()

    def talk(sock: kernel.socket) -> None:
        with contextlib.suppress(ConnectionError):
            for number in range(10**9):
                data = sock.recv(65536)
                if not data:
                    return
                if number == 50:
                    stalled.wait(0.3)
                sock.sendall(data)

    flags = ["--connections", 1, "--seconds", 1]
    with Server(talk) as server:
        opened = measured(f"127.0.0.1:{server.port}", *flags, "--rate", 500)
        closed = measured(f"127.0.0.1:{server.port}", *flags)
    assert opened["coordinated_omission"] is False
    assert abs(opened["messages"] - 500) <= 5
    assert opened["unsent"] <= 5
    # Those due within the stall waited 150 ms on the average.
    assert opened["latency_us"]["p75"] > 10_000
    assert opened["latency_us"]["p95"] > 200_000
    assert closed["latency_us"]["p95"] < 10_000
    assert closed["latency_us"]["max"] > 290_000


def test_what_a_server_is_too_slow_for_is_told() -> None:
    pause = threading.Event()

    def talk(sock: kernel.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                pause.wait(0.05)
                sock.sendall(data)

    with Server(talk) as server:
        flags = ["--connections", 1, "--seconds", 0.5, "--rate", 1000]
        result = measured(f"127.0.0.1:{server.port}", *flags)
        assert result["unsent"] > 400
        assert result["messages"] < 20
        # Of those that were due, half have waited longer than that.
        assert result["latency_us"]["p50"] > 200_000
        done = mantou("bench", f"127.0.0.1:{server.port}", *flags)
    assert b"the server is slower than was asked for" in done.stdout


@pytest.mark.alone
def test_a_stall_that_does_not_end_is_seen_too() -> None:
    def talk(sock: kernel.socket) -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(50):
                sock.sendall(sock.recv(65536))
            read_all(sock)

    with Server(talk) as server:
        flags = ["--connections", 1, "--seconds", 1]
        opened = measured(f"127.0.0.1:{server.port}", *flags, "--rate", 100)
        closed = measured(f"127.0.0.1:{server.port}", *flags)
    assert (opened["messages"], opened["unanswered"]) == (50, 1)
    assert abs(opened["unsent"] - 49) <= 2
    assert opened["latency_us"]["p90"] > 200_000
    assert opened["latency_us"]["max"] > 2_000_000
    assert (closed["messages"], closed["unanswered"]) == (50, 1)
    assert closed["latency_us"]["max"] > 2_000_000


def test_no_answer_a_wrong_one_and_a_hangup() -> None:
    flags = ["--connections", 1, "--seconds", 0.2]

    def silent(sock: kernel.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while sock.recv(65536):
                pass

    def talkative(sock: kernel.socket) -> None:
        sock.recv(64)
        sock.sendall(bytes(65))
        with contextlib.suppress(ConnectionError):
            sock.recv(1)

    for talk, said in [
        (silent, b"no message came back"),
        (talkative, b"it sent more than it got"),
        (lambda sock: sock.recv(1), b"no message came back"),
        (lambda sock: None, b"no message came back"),
    ]:
        with Server(talk) as server:
            done = mantou("bench", f"127.0.0.1:{server.port}", *flags)
        assert done.returncode == 5
        assert said in done.stdout + done.stderr


@pytest.mark.parametrize(("command", "drawn"), [(COMMAND, True), (BARE, False)])
def test_on_a_terminal(command: list[str], drawn: bool) -> None:
    with Server(echo) as server:
        place = f"127.0.0.1:{server.port}"
        with Terminal("bench", place, "--seconds", 2.5, command=command) as terminal:
            terminal.until("s left")
            terminal.until("closed loop:")
            assert terminal.end() == 0
        assert ("percentile" in terminal.shown) is drawn
        with Terminal("bench", place, "--seconds", 100, command=command) as terminal:
            terminal.until("s left")
            terminal.type("\x03")
            assert terminal.end() == 130

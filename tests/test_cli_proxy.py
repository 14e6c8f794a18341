"""`mantou proxy`: where connections go, as whom, and what is shown of them."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket as kernel
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli import BARE, COMMAND, LIMIT, Running, Server, Terminal, echo, files, read_all
from tests.test_cli_connect import over_tls
from tests.tls import client_context


def says(word: bytes) -> Any:
    def talk(sock: kernel.socket) -> None:
        sock.sendall(word)
        read_all(sock)

    return talk


def ask(port: int, given: bytes = b"") -> bytes:
    with kernel.create_connection(("localhost", port), LIMIT) as sock:
        sock.sendall(given)
        # Who was turned away already hears of it when it reads.
        with errno_ignored(errno.ENOTCONN):
            sock.shutdown(kernel.SHUT_WR)
        return read_all(sock)


@contextlib.contextmanager
def errno_ignored(number: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


def dead_port() -> Any:
    """A port that is taken, and refuses."""
    sock = kernel.socket()
    sock.bind(("127.0.0.1", 0))
    return contextlib.closing(sock)


def test_targets_take_turns_and_dead_ones_are_left_out() -> None:
    with Server(says(b"a")) as a, Server(says(b"b")) as b, dead_port() as dead:
        gone = f"127.0.0.1:{dead.getsockname()[1]}"
        targets = [f"127.0.0.1:{a.port}", gone, f"127.0.0.1:{b.port}"]
        with Running("proxy", "localhost:0", *targets) as proxy:
            port = proxy.port()
            answers = [ask(port) for _ in range(12)]
            assert {answers.count(b"a"), answers.count(b"b")} <= set(range(4, 9))
            assert set(answers) == {b"a", b"b"}
            assert proxy.end(signal.SIGTERM) == 0
        # It was asked once, and then left out.
        assert proxy.said.count(f"{gone}: connection refused") == 1
        assert proxy.said.count(" -> 127.0.0.1") == 12
    with dead_port() as dead:
        gone = f"127.0.0.1:{dead.getsockname()[1]}"
        with Running("proxy", "localhost:0", gone) as proxy, pytest.raises(ConnectionResetError):
            ask(proxy.port())


def test_it_serves_on_where_nobody_reads_what_it_says() -> None:
    with Server(says(b"a")) as server, dead_port() as dead:
        targets = [f"127.0.0.1:{dead.getsockname()[1]}", f"127.0.0.1:{server.port}"]
        with Running("proxy", "localhost:0", *targets) as proxy:
            port = proxy.port()
            assert proxy.process.stderr is not None
            proxy.process.stderr.close()
            assert [ask(port) for _ in range(3)] == [b"a"] * 3
            proxy.process.send_signal(signal.SIGTERM)
            assert proxy.process.wait(LIMIT) == 0
            proxy.process.stderr = None


def test_tls_on_either_side(tmp_path: Path) -> None:
    ca, cert, key = files(tmp_path)
    with Server(over_tls(echo)) as server:
        flags = ["--tls-in", "--cert", cert, "--key", key, "--tls-out", "--ca", ca]
        with Running("proxy", "localhost:0", f"localhost:{server.port}", *flags) as proxy:
            plain = kernel.create_connection(("localhost", proxy.port()), LIMIT)
            with client_context().wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"
            proxy.until("5 B up, 5 B down")
        # Whom it cannot trust it gives nothing.
        with Running("proxy", "localhost:0", f"localhost:{server.port}", "--tls-out") as proxy:
            with pytest.raises(ConnectionResetError):
                ask(proxy.port(), b"secret")
            proxy.until("not accepted")


def test_proxy_protocol_both_ways() -> None:
    def talk(sock: kernel.socket) -> None:
        sock.sendall(read_all(sock))

    header = b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n"
    with Server(talk) as server:
        flags = ["--proxy-protocol", "in", "--proxy-protocol", "out"]
        with Running("proxy", "127.0.0.1:0", f"127.0.0.1:{server.port}", *flags) as proxy:
            port = proxy.port()
            answer = ask(port, header + b"hello")
            assert answer.endswith(b"hello")
            assert answer.startswith((b"PROXY TCP4 192.0.2.7 ", b"\r\n\r\n\0\r\nQUIT\n"))
            assert bytes([192, 0, 2, 7]) in answer or b"192.0.2.7" in answer
            with pytest.raises(ConnectionResetError):
                ask(port, b"no header at all, which is refused\r\n")
            proxy.until("192.0.2.7:5000 ->")


def test_it_takes_no_more_than_so_many_and_drains_at_sigterm() -> None:
    with Server(echo) as server:
        flags = ["--max-connections", "1"]
        with Running("proxy", "localhost:0", f"127.0.0.1:{server.port}", *flags) as proxy:
            port = proxy.port()
            with kernel.create_connection(("localhost", port), LIMIT) as first:
                first.sendall(b"1")
                assert first.recv(1) == b"1"
                with kernel.create_connection(("localhost", port), LIMIT) as second:
                    second.sendall(b"2")
                    first.shutdown(kernel.SHUT_WR)
                    assert first.recv(1) == b""
                    assert second.recv(1) == b"2"
                    proxy.process.send_signal(signal.SIGTERM)
                    proxy.until("nobody is accepted")
                    with pytest.raises(ConnectionRefusedError):
                        kernel.create_connection(("localhost", port), LIMIT)
                    second.sendall(b"3")
                    assert second.recv(1) == b"3"
            assert proxy.end() == 0


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 0, "3 connections did not finish"),
        (signal.SIGINT, 130, "open and cut: 3"),
    ],
)
def test_those_that_it_cuts_are_told_in_a_line(number: int, code: int, said: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(echo))
        target = f"127.0.0.1:{server.port}"
        proxy = stack.enter_context(Running("proxy", "localhost:0", target, "--grace", "100ms"))
        port = proxy.port()
        for _ in range(3):
            sock = stack.enter_context(kernel.create_connection(("localhost", port), LIMIT))
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert proxy.end(number) == code
        lines = proxy.said.splitlines()
    assert said in lines[-1]
    assert len(lines) <= 3


@pytest.mark.parametrize(("command", "table"), [(COMMAND, True), (BARE, False)])
def test_on_a_terminal(command: list[str], table: bool) -> None:
    with Server(echo) as server, dead_port() as probe:
        port = probe.getsockname()[1]
        probe.close()
        place, target = f"127.0.0.1:{port}", f"127.0.0.1:{server.port}"
        with Terminal("proxy", place, target, command=command, NO_COLOR="1") as terminal:
            terminal.until("listening on")
            with kernel.create_connection(("127.0.0.1", port), LIMIT) as sock:
                sock.sendall(b"x" * 1234)
                assert sock.recv(1234, kernel.MSG_WAITALL)
                client = f"127.0.0.1:{sock.getsockname()[1]}"
                if table:
                    terminal.until(client)
                    terminal.until("1.2 kB")
                    terminal.until("1 open")
            if not table:
                terminal.until(f"{client} -> {target}")
            terminal.type("\x03")
            assert terminal.end() == 130
        assert ("\x1b[" in terminal.shown) is table
        assert "\x1b[3" not in terminal.shown.replace("\x1b[3m", "")  # no colours

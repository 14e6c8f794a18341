"""`mantou connect`: stdin to a server and its answer to stdout, and how it ends."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket as kernel
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli import (
    COMMAND,
    LIMIT,
    Running,
    Server,
    Terminal,
    echo,
    files,
    mantou,
    read_all,
)
from tests.tls import TLS12, server_context

BODY = random.Random(16).randbytes(3_000_000)


def over_tls(talk: Callable[[ssl.SSLSocket], object], **options: Any) -> Callable[[Any], None]:
    context = server_context(**options)

    def talk_tls(sock: kernel.socket) -> None:
        # A client that refuses us is what some tests are about.
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            context.wrap_socket(sock, server_side=True) as secure,
        ):
            secure.settimeout(LIMIT)
            talk(secure)

    return talk_tls


def answer_at_the_end(sock: Any) -> None:
    data = read_all(sock)
    sock.sendall(data[::-1])
    if isinstance(sock, ssl.SSLSocket):
        sock.unwrap()


@pytest.mark.parametrize("source", ["file", "pipe"])
@pytest.mark.parametrize("link", ["plain", "tls", "tls12"])
def test_all_bytes_go_there_and_the_answer_to_the_end_comes_back(
    tmp_path: Path, link: str, source: str
) -> None:
    ca, _, _ = files(tmp_path)
    talk: Any = answer_at_the_end
    if link != "plain":
        talk = over_tls(talk, version=TLS12 if link == "tls12" else None)
    flags = [] if link == "plain" else ["--tls", "--ca", ca]
    with Server(talk) as server:
        address = f"localhost:{server.port}"
        if source == "pipe":
            done = mantou("connect", address, *flags, given=BODY)
        else:
            (tmp_path / "body").write_bytes(BODY)
            with (tmp_path / "body").open("rb") as file:
                done = mantou("connect", address, *flags, stdin=file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == BODY[::-1]


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Running("listen", f"unix:{path}", "--echo") as server:
        server.until("listening on")
        done = mantou("connect", f"unix:{path}", given=b"hello")
        assert (done.returncode, done.stdout) == (0, b"hello")


@pytest.mark.parametrize("half_open", [False, True])
def test_the_peers_end(half_open: bool) -> None:
    got: list[bytes] = []

    def talk(sock: kernel.socket) -> None:
        sock.sendall(b"bye")
        sock.shutdown(kernel.SHUT_WR)
        got.append(read_all(sock))

    with Server(talk) as server:
        flags = ["--half-open"] if half_open else []
        with Running(
            *("connect", f"127.0.0.1:{server.port}", *flags), stdin=subprocess.PIPE
        ) as client:
            stdin, stdout = client.process.stdin, client.process.stdout
            assert stdin is not None
            assert stdout is not None
            assert stdout.read(3) == b"bye"
            if half_open:
                stdin.write(b"still here")
                stdin.close()
                client.process.stdin = None
            assert client.process.wait(LIMIT) == 0
            assert client.end() == 0
    assert got == [b"still here" if half_open else b""]


def test_a_slow_stdout_stops_the_server() -> None:
    sent = 0

    def talk(sock: kernel.socket) -> None:
        nonlocal sent
        sock.setblocking(False)
        with contextlib.suppress(ConnectionError):
            # What the kernel keeps for both ends is bounded, and so is what the command keeps.
            for _ in range(100_000):
                try:
                    sent += sock.send(bytes(65536))
                except BlockingIOError:
                    sock.settimeout(0.5)
                    try:
                        sent += sock.send(bytes(65536))
                    except TimeoutError:
                        return
                    sock.setblocking(False)

    with Server(talk) as server, Running("connect", f"127.0.0.1:{server.port}") as client:
        # Nobody reads.
        while server.served == 0 or len(server._threads) < 2:
            assert client.process.poll() is None
        server._threads[1].join(LIMIT)
    assert 0 < sent < 32 << 20


def test_a_server_that_does_not_read_stops_stdin() -> None:
    with Server(lambda sock: held.recv(1)) as server:
        held, ours = kernel.socketpair()
        with (
            held,
            ours,
            Running("connect", f"127.0.0.1:{server.port}", stdin=subprocess.PIPE) as client,
        ):
            stdin = client.process.stdin
            assert stdin is not None
            os.set_blocking(stdin.fileno(), False)
            taken = 0
            while select.select([], [stdin], [], 1.0)[1]:
                taken += os.write(stdin.fileno(), bytes(65536))
                assert taken < 32 << 20
            assert taken > 0
            ours.send(b"x")


def reset(sock: kernel.socket) -> None:
    sock.sendall(b"first ")
    sock.recv(1)
    sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))


def cut_short(sock: Any) -> None:
    sock.sendall(b"half")
    sock.shutdown(kernel.SHUT_RDWR)


def test_how_it_ends_is_the_exit_code(tmp_path: Path) -> None:
    ca, _, _ = files(tmp_path)

    def ends(talk: Any, *flags: Any, given: bytes = b"x", host: str = "localhost") -> Any:
        with Server(talk) as server:
            done = mantou("connect", f"{host}:{server.port}", *flags, given=given)
        return done.returncode, done.stdout, done.stderr.decode()

    code, out, said = ends(reset)
    assert (code, out) == (5, b"first ")
    assert "reset" in said
    code, out, said = ends(over_tls(cut_short), "--tls", "--ca", ca)
    assert (code, out) == (5, b"half")
    assert "close_notify" in said
    code, out, said = ends(over_tls(read_all), "--tls")
    assert (code, out) == (4, b"")
    assert "not accepted" in said
    code, out, said = ends(over_tls(answer_at_the_end), "--tls", "--insecure")
    assert (code, out) == (0, b"x")
    assert "--insecure: the certificate is not accepted" in said
    code, out, said = ends(over_tls(read_all), "--tls", "--ca", ca, "--sni", "other.example")
    assert code == 4
    assert "other.example" in said
    with kernel.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = mantou("connect", f"127.0.0.1:{nobody.getsockname()[1]}")
    assert (done.returncode, b"refused" in done.stderr) == (3, True)
    done = mantou("connect", "nobody.invalid:80")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    done = mantou("connect", f"unix:{tmp_path}/nothing")
    assert done.returncode == 3


def test_silence_ends_it_after_the_timeout() -> None:
    with (
        Server(read_all) as server,
        Running(
            "connect", f"127.0.0.1:{server.port}", "--timeout", "200ms", stdin=subprocess.PIPE
        ) as client,
    ):
        assert client.process.wait(LIMIT) == 6


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(number: int, code: int) -> None:
    def talk(sock: kernel.socket) -> None:
        with pytest.raises(ConnectionResetError):
            read_all(sock)

    with (
        Server(talk) as server,
        Running(
            "connect", f"127.0.0.1:{server.port}", "--verbose", stdin=subprocess.PIPE
        ) as client,
    ):
        client.until("connected to")
        client.process.send_signal(number)
        # Its end, before that of its input.
        assert client.process.wait(LIMIT) == code
        assert client.end() == code


def test_nobody_reads_stdout() -> None:
    def talk(sock: kernel.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                sock.sendall(bytes(65536))

    with Server(talk) as server, Running("connect", f"127.0.0.1:{server.port}") as client:
        assert client.process.stdout is not None
        client.process.stdout.read(1)
        client.process.stdout.close()
        client.process.stdout = None
        assert client.end() == 141
        assert client.said == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed_are_not_the_connection(closed: str) -> None:
    got: list[bytes] = []

    def talk(sock: kernel.socket) -> None:
        sock.sendall(b"hello")
        got.append(read_all(sock))

    with Server(talk) as server:
        command = " ".join([*COMMAND, "connect", f"127.0.0.1:{server.port}", "-v", closed])
        done = subprocess.run(
            ["sh", "-c", f"echo hi | {{ {command}; }}"],
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    assert done.returncode == 0
    assert got == [b"" if "<" in closed else b"hi\n"]
    assert done.stdout == (b"" if ">" in closed.replace("2>", "") else b"hello")


def test_descriptors_that_do_not_block_are_waited_for() -> None:
    """As another program may have left them."""
    stdin, given = kernel.socketpair()
    taken, stdout = kernel.socketpair()
    with stdin, given, taken, stdout, Server(echo) as server:
        stdin.setblocking(False)
        stdout.setblocking(False)
        stdout.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, 4096)
        with Running(
            "connect", f"127.0.0.1:{server.port}", "-v", stdin=stdin, stdout=stdout
        ) as client:
            stdin.close()
            stdout.close()
            client.until("connected to")
            sender = threading.Thread(target=given.sendall, args=(BODY,))
            sender.start()
            received = bytearray()
            while len(received) < len(BODY):
                received += taken.recv(65536)
            sender.join()
            given.shutdown(kernel.SHUT_WR)
            assert client.end() == 0
    assert received == BODY


def test_certificates_may_come_through_a_pipe(tmp_path: Path) -> None:
    ca, _, _ = files(tmp_path)
    with Server(over_tls(answer_at_the_end)) as server:
        command = " ".join([*COMMAND, "connect", f"localhost:{server.port}", "--tls"])
        done = subprocess.run(
            ["bash", "-c", f"{command} --ca <(cat {ca})"],
            input=b"abc",
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"cba", b"")


@pytest.mark.parametrize(
    ("flags", "number", "code"), [([], signal.SIGINT, 130), (["--timeout", "100ms"], None, 6)]
)
def test_the_end_does_not_wait_for_a_resolver(
    tmp_path: Path, flags: list[str], number: int | None, code: int
) -> None:
    asked = tmp_path / "asked"
    os.mkfifo(asked)
    program = (
        "import socket, threading, mantou._cli\n"
        "def silent(*arguments, **options):\n"
        f"    open({str(asked)!r}, 'w').close()\n"
        "    threading.Event().wait()\n"
        "socket.getaddrinfo = silent\n"
        "mantou._cli.main()\n"
    )
    command = [sys.executable, "-c", program]
    with Running("connect", "slow.example:1", *flags, command=command) as client:
        assert asked.read_bytes() == b""
        assert client.end(number) == code


@pytest.mark.parametrize("moment", ["parser", "connect", "running"])
def test_ctrl_c_before_it_has_begun(moment: str) -> None:
    """However early it comes once mantou itself is loaded, it is no traceback."""
    code = (
        "import sys, signal, mantou\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'mantou._cli.{moment}': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import mantou._cli\n"
        "mantou._cli.main(arguments=['connect', 'localhost:1'])\n"
    )
    done = subprocess.run(
        ["env", "--default-signal=INT", sys.executable, "-c", code],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_hex() -> None:
    with Server(echo) as server:
        done = mantou(
            "connect", f"127.0.0.1:{server.port}", "--hex", given=b"hello, world\n\xff012"
        )
    line = "00000000  68 65 6c 6c 6f 2c 20 77  6f 72 6c 64 0a ff 30 31  |hello, world..01|"
    rest = f"00000010  {'32':49} |2|"
    expected = [f"{mark} {text}" for mark in "><" for text in (line, rest)]
    assert sorted(done.stdout.decode().splitlines()) == sorted(expected)


def test_on_a_terminal() -> None:
    with Server(echo) as server:
        with Terminal("connect", f"127.0.0.1:{server.port}", "-v") as terminal:
            terminal.until(f"{server.port}\r\n")
            terminal.type("hello\n")
            terminal.until("hello\r\nhello\r\n")
            terminal.type("\x04")
            assert terminal.end() == 0
        with Terminal("connect", f"127.0.0.1:{server.port}", "-v") as terminal:
            terminal.until(f"{server.port}\r\n")
            terminal.type("\x03")
            assert terminal.end() == 130

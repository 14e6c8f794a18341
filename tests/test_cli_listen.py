"""`mantou listen`: what it serves, to whom, and for how long."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket as kernel
import ssl
import struct
import subprocess
from pathlib import Path

import pytest

from tests.cli import BARE, LIMIT, Running, Terminal, files, mantou, read_all
from tests.tls import client_credential, key_pem, server_credential


def dial(port: int) -> kernel.socket:
    return kernel.create_connection(("localhost", port), LIMIT)


def test_echo_discard_and_several_at_a_time() -> None:
    with Running("listen", "localhost:0", "--echo", "--verbose") as server:
        port = server.port()
        with dial(port) as first, dial(port) as second:
            for sock in (second, first):
                sock.sendall(b"hello")
                assert sock.recv(5, kernel.MSG_WAITALL) == b"hello"
                sock.shutdown(kernel.SHUT_WR)
                assert sock.recv(1) == b""
        assert "5 B in, 5 B out" in server.until("has gone")
        assert server.end(signal.SIGTERM) == 143
    with Running("listen", "localhost:0", "--discard") as server:
        with dial(server.port()) as sock:
            sock.sendall(bytes(1_000_000))
            sock.shutdown(kernel.SHUT_WR)
            assert sock.recv(1) == b""
        assert server.end(signal.SIGINT) == 130


@pytest.mark.parametrize("address", ["unix:@mantou-{}", "[::1]:0", "unix:{}/socket"])
def test_places_of_all_kinds(tmp_path: Path, address: str) -> None:
    place = address.format(os.getpid() if "@" in address else tmp_path)
    with Running("listen", place, "--echo") as server:
        where = server.until("listening on").split()[-1]
        assert where.startswith(place.removesuffix(":0"))
        done = mantou("connect", where, given=b"hello")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")
        assert server.end(signal.SIGTERM) == 143


def test_a_file_is_sent_to_each(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(500_000))
    with Running("listen", "localhost:0", "--send", tmp_path / "file") as server:
        port = server.port()
        for _ in range(2):
            with dial(port) as sock:
                assert read_all(sock) == (tmp_path / "file").read_bytes()


def test_a_command_for_each(tmp_path: Path) -> None:
    command = 'tr a-z A-Z; echo "$MANTOU_REMOTE_ADDRESS:$MANTOU_REMOTE_PORT"'
    with Running("listen", "localhost:0", "--exec", command) as server:
        port = server.port()
        for _ in range(2):
            with dial(port) as sock:
                sock.sendall(b"hello\n")
                sock.shutdown(kernel.SHUT_WR)
                own = sock.getsockname()
                assert read_all(sock) == f"HELLO\n{own[0]}:{own[1]}\n".encode()
    # One that ends by itself ends the connection, though the client says no more.
    with Running("listen", "localhost:0", "--exec", "echo bye", "--once") as server:
        with dial(server.port()) as sock:
            assert read_all(sock) == b"bye\n"
        assert server.end() == 0


@pytest.mark.parametrize("rest", ["echo ready; sleep 1000", "sleep 1000 & echo ready"])
def test_a_command_ends_with_its_connection(tmp_path: Path, rest: str) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    command = f"exec 3>{alive}; {rest}"
    with Running("listen", "localhost:0", "--exec", command) as server:
        with dial(server.port()) as sock, alive.open("rb") as writer:
            assert sock.recv(6, kernel.MSG_WAITALL) == b"ready\n"
            sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            assert writer.read() == b""  # nobody has it open any more
        server.until("reset")


def test_a_command_that_will_not_end_is_ended_by_a_second_ctrl_c(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    command = f"trap '' TERM; exec 3>{alive}; echo ready; while :; do sleep 1000; done"
    with Running("listen", "localhost:0", "--exec", command) as server:
        port = server.port()
        with dial(port) as sock, alive.open("rb") as writer:
            assert sock.recv(6, kernel.MSG_WAITALL) == b"ready\n"
            server.process.send_signal(signal.SIGINT)
            # Who waits in the queue when it stops is reset, who comes later refused.
            with contextlib.suppress(ConnectionResetError, ConnectionRefusedError):
                while True:
                    dial(port).close()
            assert server.end(signal.SIGINT) == 130
            assert writer.read() == b""


def encrypted(folder: Path) -> tuple[Path, Path, Path]:
    """As `files()`, but the key has the passphrase "secret"."""
    ca, cert, _ = files(folder)
    locked = folder / "locked.pem"
    locked.write_bytes(key_pem(server_credential().key, passphrase=b"secret"))
    return ca, cert, locked


def test_a_passphrase_is_asked_for_on_the_terminal(tmp_path: Path) -> None:
    ca, cert, key = encrypted(tmp_path)
    arguments = ["listen", "localhost:0", "--tls", "--cert", cert, "--key", key, "--echo"]
    with Terminal(*arguments) as terminal:
        terminal.until("passphrase of --key: ")
        terminal.type("secret\n")
        shown = terminal.until("listening on")
        assert "secret" not in shown
        port = int(re.findall(r":(\d+)\s", terminal.until("\n"))[-1])
        done = mantou("connect", f"localhost:{port}", "--tls", "--ca", ca, given=b"hello")
        assert done.stdout == b"hello"
        terminal.type("\x03")
        assert terminal.end() == 130
    with Terminal(*arguments) as terminal:
        terminal.until("passphrase of --key: ")
        terminal.type("wrong\n")
        terminal.until("--key cannot be decrypted")
        assert terminal.end() == 2
    with Terminal(*arguments) as terminal:
        terminal.until("passphrase of --key: ")
        terminal.type("\x03")
        assert terminal.end() == 130


def test_a_passphrase_that_nobody_can_be_asked_for(tmp_path: Path) -> None:
    _, cert, key = encrypted(tmp_path)
    arguments = ["listen", "localhost:0", "--tls", "--cert", cert, "--key", key]
    done = mantou(*arguments, start_new_session=True)
    assert done.returncode == 1
    assert b"no terminal to ask for its passphrase on" in done.stderr
    with Terminal(*arguments, command=BARE) as terminal:
        terminal.until("passphrase of --key: ")
        terminal.type("secret\n")
        terminal.until("needs the package cryptography")
        assert terminal.end() == 1


def test_stdin_and_stdout_are_for_the_first() -> None:
    with Running("listen", "localhost:0", stdin=subprocess.PIPE) as server:
        port = server.port()
        with dial(port) as sock:
            assert server.process.stdin is not None
            server.process.stdin.write(b"from stdin")
            server.process.stdin.close()
            server.process.stdin = None
            assert read_all(sock) == b"from stdin"
            with pytest.raises(ConnectionRefusedError):
                dial(port)
            sock.sendall(b"to stdout")
            sock.shutdown(kernel.SHUT_WR)
            assert server.end() == 0
        assert server.out == b"to stdout"


def test_on_a_terminal_it_ends_with_who_connects() -> None:
    with Terminal("listen", "localhost:0") as terminal:
        terminal.until("listening on")
        terminal.until("\n")
        port = int(terminal.shown.split()[-1].rpartition(":")[2])
        with dial(port) as sock:
            terminal.type("typed\n")
            assert sock.recv(6, kernel.MSG_WAITALL) == b"typed\n"
            sock.sendall(b"to the terminal\n")
            sock.shutdown(kernel.SHUT_WR)
            assert sock.recv(1) == b""
        assert terminal.end() == 0
        assert "to the terminal\r\n" in terminal.shown


def test_tls_with_a_certificate_and_with_one_made_for_the_run(tmp_path: Path) -> None:
    ca, cert, key = files(tmp_path)
    with Running(
        "listen", "localhost:0", "--echo", "--tls", "--cert", cert, "--key", key
    ) as server:
        done = mantou("connect", f"localhost:{server.port()}", "--tls", "--ca", ca, given=b"hello")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")
    with Running("listen", "localhost:0", "--echo", "--tls") as server:
        port = server.port()
        pem = ssl.get_server_certificate(("localhost", port), timeout=LIMIT)
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
        assert digest.hex(":").upper() in server.said
        assert "self-signed" in server.said


def test_clients_are_asked_for_certificates(tmp_path: Path) -> None:
    ca, cert, key = files(tmp_path)
    own = tmp_path / "own.pem"
    own.write_bytes(client_credential().cert_pem + client_credential().key_pem)
    server_flags = ["--echo", "--tls", "--cert", cert, "--key", key, "--ca", ca, "--alpn", "h2"]
    with Running("listen", "localhost:0", *server_flags, "--verbose") as server:
        flags = ["connect", f"localhost:{server.port()}", "--tls", "--ca", ca, "--alpn", "h2"]
        done = mantou(*flags, "--cert", own, "--verbose", given=b"hello")
        assert (done.returncode, done.stdout) == (0, b"hello")
        assert b"ALPN h2" in done.stderr
        done = mantou(*flags, given=b"hello")
        assert (done.returncode, done.stdout) == (4, b"")
        assert b"certificate required" in done.stderr
        server.until("peer did not return a certificate")


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    with kernel.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = mantou("listen", f"127.0.0.1:{port}", "--echo")
        assert (done.returncode, b"in use" in done.stderr) == (1, True)
    done = mantou("listen", "localhost:0", "--tls", command=BARE)
    assert (done.returncode, b"pip install 'mantou[cli]'" in done.stderr) == (1, True)
    for flags in (["--send", tmp_path / "none"], ["--echo", "--discard"], ["--cert", __file__]):
        assert mantou("listen", "localhost:0", *flags).returncode == 2

"""The programs in the README run as they are printed."""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
LIMIT = 20.0


def on_port(program: str, port: int) -> str:
    """The program with its port replaced; a server also says when it listens."""
    program = re.sub(r"port=700\d", f"port={port}", program)
    return program.replace("\nmantou.run()", "\nprint('ready', flush=True)\nmantou.run()")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(request: pytest.FixtureRequest, free_port: int) -> Iterator[int]:
    """Runs the README's program of that index until the test is over; Ctrl-C ends it."""
    command = [sys.executable, "-W", "error", "-c", on_port(PROGRAMS[request.param], free_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], LIMIT)[0]
            assert process.stdout.readline() == b"ready\n"
            yield free_port
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=LIMIT)
            assert complaints.rstrip().endswith(b"KeyboardInterrupt")
        finally:
            process.kill()


def peer(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LIMIT)


@pytest.mark.parametrize("server", [0, 1], indirect=True)
def test_the_echo_servers_echo(server: int) -> None:
    with peer(server) as sock, sock.makefile("rb") as answers:
        sock.sendall(b"a bun\n")
        assert answers.readline() == b"a bun\n"


@pytest.mark.parametrize("server", [1], indirect=True)
def test_the_client_prints_the_answer(server: int) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", on_port(PROGRAMS[2], server)],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"b'hello'\n", b"")


@pytest.mark.parametrize("server", [3], indirect=True)
def test_the_chat_server_passes_lines_on(server: int) -> None:
    with peer(server) as ann, peer(server) as ben, ben.makefile("rb") as lines:
        ben.settimeout(LIMIT)
        ben.sendall(b"hello\n")
        port = ann.getsockname()[1]
        assert ann.recv(100).endswith(b": hello\n")
        ann.sendall(b"and hello to you\n")
        assert lines.readline() == f"guest {port}: and hello to you\n".encode()

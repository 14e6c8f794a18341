"""The programs in the README run as they are printed, and over every link on every loop."""

from __future__ import annotations

import asyncio
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stage import every_link, stage

README = Path(__file__).resolve().parent.parent / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
ECHO, PATIENT_ECHO, CLIENT, CHAT = range(4)
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


@pytest.mark.parametrize("server", [ECHO, PATIENT_ECHO], indirect=True)
def test_the_echo_servers_echo(server: int) -> None:
    with peer(server) as sock, sock.makefile("rb") as answers:
        sock.sendall(b"a bun\n")
        assert answers.readline() == b"a bun\n"


@pytest.mark.parametrize("server", [PATIENT_ECHO], indirect=True)
def test_the_client_prints_the_answer(server: int) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", on_port(PROGRAMS[CLIENT], server)],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"b'hello'\n", b"")


@pytest.mark.parametrize("server", [CHAT], indirect=True)
def test_the_chat_server_passes_lines_on(server: int) -> None:
    with peer(server) as ann, peer(server) as ben, ben.makefile("rb") as lines:
        ben.settimeout(LIMIT)
        ben.sendall(b"hello\n")
        port = ann.getsockname()[1]
        assert ann.recv(100).endswith(b": hello\n")
        ann.sendall(b"and hello to you\n")
        assert lines.readline() == f"guest {port}: and hello to you\n".encode()


@every_link
@pytest.mark.parametrize("program", [ECHO, PATIENT_ECHO], ids=["echo", "patient echo"])
async def test_the_echo_servers_over_every_link(program: int, link: str) -> None:
    async with stage(link) as here:
        await here.perform(PROGRAMS[program])
        async with here.visitor(7000) as peer:
            for message in (b"a bun\n", b"another\n", b"a third\n"):
                await peer.send(message)
                assert await peer.receive(len(message)) == message


@every_link
async def test_the_patient_echo_server_takes_much_at_once(link: str) -> None:
    much = bytes(range(256)) * 4096 * 8
    async with stage(link) as here:
        await here.perform(PROGRAMS[PATIENT_ECHO])
        async with here.visitor(7000) as peer:
            for _ in range(3):
                _, echo = await asyncio.gather(peer.send(much), peer.receive(len(much)))
                assert echo == much


@every_link
@pytest.mark.parametrize("server", [ECHO, PATIENT_ECHO], ids=["echo", "patient echo"])
async def test_the_client_over_every_link(
    server: int, link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage(link) as here:
        await here.perform(PROGRAMS[server])
        for _ in range(3):
            await here.perform(PROGRAMS[CLIENT])
    assert capsys.readouterr().out == "b'hello'\n" * 3


@every_link
async def test_the_chat_server_over_every_link(link: str) -> None:
    async with stage(link) as here:
        await here.perform(PROGRAMS[CHAT])
        async with here.visitor(7001) as ann, here.visitor(7001) as ben:
            for number in range(3):
                for one, other in ((ben, ann), (ann, ben)):
                    port = one.sock.getsockname()[1] if link != "unix" else None
                    await one.send(b"hello %d\n" % number)
                    line = f"guest {port}: hello {number}\n".encode()
                    assert await other.receive(len(line)) == line

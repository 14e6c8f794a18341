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
from markdown_it import MarkdownIt

from tests.scripts import printed
from tests.stage import every_link, stage

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ECHO, CLIENT, UNCHANGED = range(3)
LIMIT = 20.0


def on_port(program: str, port: int) -> str:
    """The program with its port replaced; a server also says when it listens."""
    program = re.sub(r"\b7000\b", str(port), program)
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


@pytest.mark.parametrize("server", [ECHO], indirect=True)
def test_the_echo_server_echoes(server: int) -> None:
    with peer(server) as sock, sock.makefile("rb") as answers:
        sock.sendall(b"a bun\n")
        assert answers.readline() == b"a bun\n"


@pytest.mark.parametrize("server", [ECHO], indirect=True)
def test_the_clients_print_the_answers(server: int, tmp_path: Path) -> None:
    """As a new user would: each program is a file, and each command is typed."""
    for number in (CLIENT, UNCHANGED):
        name = PROGRAMS[number].split("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(on_port(PROGRAMS[number], server))
    [_, commands] = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    output = [typed(line, tmp_path) for line in commands.splitlines()]
    assert output == ["b'hello'\nb'world'\n", "b'hello, asyncio\\n' mantou._loop\n"]


def typed(line: str, folder: Path) -> str:
    program, *arguments = line.split()
    module = [] if program == "python" else ["-m", program]
    return printed(folder, *module, *arguments)


@every_link
async def test_the_echo_server_over_every_link(link: str) -> None:
    async with stage(link) as here:
        await here.perform(PROGRAMS[ECHO])
        async with here.visitor(7000) as peer:
            for message in (b"a bun\n", b"another\n", b"a third\n"):
                await peer.send(message)
                assert await peer.receive(len(message)) == message


@every_link
async def test_the_echo_server_takes_much_at_once(link: str) -> None:
    much = bytes(range(256)) * 4096 * 8
    async with stage(link) as here:
        await here.perform(PROGRAMS[ECHO])
        async with here.visitor(7000) as peer:
            for _ in range(3):
                _, echo = await asyncio.gather(peer.send(much), peer.receive(len(much)))
                assert echo == much


@every_link
async def test_the_clients_over_every_link(link: str, capsys: pytest.CaptureFixture[str]) -> None:
    loop = type(asyncio.get_running_loop()).__module__
    async with stage(link) as here:
        await here.perform(PROGRAMS[ECHO])
        for _ in range(3):
            await here.perform(PROGRAMS[CLIENT])
            await here.perform(PROGRAMS[UNCHANGED])
    expected = f"b'hello'\nb'world'\nb'hello, asyncio\\n' {loop}\n"
    assert capsys.readouterr().out == expected * 3


def test_the_links_lead_somewhere() -> None:
    """From the package's page too, where one that is not whole leads nowhere."""
    rendered = MarkdownIt("commonmark").enable("table").render(README)
    links = re.findall(r'(?:href|src)="([^"]*)"', rendered)
    assert len(links) > 20
    for link in links:
        assert re.fullmatch(r"https://[a-z.]+(/\S*)?", link)
        if inside := re.match(r"https://\S+/mantou-py/mantou/(?:(?:blob|tree)/)?main/", link):
            assert (ROOT / link[inside.end() :]).exists(), link
    # A label that leads nowhere stays in its brackets.
    assert not re.findall(r"\[[^\]]+\]", re.sub(r"(?s)<code.*?</code>", "", rendered))


def test_the_first_commands_are_those_of_a_new_user() -> None:
    [first, _] = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    name = PROGRAMS[ECHO].split("\n")[0].removeprefix("# ")
    assert first == f"pip install mantou\npython {name}\n"

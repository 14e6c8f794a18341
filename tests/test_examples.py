"""Every example runs as it stands and does what its docstring says, over every link too."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.demo.__main__ import demonstrate
from examples.demo.narrator import Narrator
from tests.scripts import LIMIT, printed
from tests.stage import every_link, stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers import Peer as StagePeer

ROOT = Path(__file__).resolve().parent.parent


def command(*arguments: str) -> list[str]:
    """Python as the tests run it; a warning in an example is an error."""
    return [sys.executable, "-W", "error", *arguments]


def run(*arguments: str, stdin: str = "") -> str:
    """Run an example to its end and return what it printed."""
    return printed(ROOT, *arguments, stdin=stdin)


@contextlib.contextmanager
def serving(example: str, *arguments: str, complaint: str = "") -> Iterator[int]:
    """Run a server example on a free port; Ctrl-C must end it cleanly."""
    with subprocess.Popen(
        command(f"examples/{example}.py", "--port", "0", *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], LIMIT)[0], "it never began to listen"
            line = process.stdout.readline()
            address = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
            assert address, (line, process.poll())
            yield int(address[1])
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=LIMIT)
            assert process.returncode == 0
            assert re.fullmatch(complaint, stderr), stderr
            assert stdout.endswith("bye\n")
        finally:
            process.kill()


class Peer:
    """A plain blocking client that reads lines."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, line: str) -> None:
        self.socket.sendall(f"{line}\n".encode())

    def line(self) -> str:
        return self.file.readline().decode().rstrip("\n")


def test_echo_server_and_client() -> None:
    with serving("echo_server") as port:
        assert run("examples/client.py", "--port", str(port), "hello", "there") == "hello there\n"


def test_client_sends_its_input() -> None:
    lines = "".join(f"line {number}\n" for number in range(1000))
    with serving("echo_server") as port:
        assert run("examples/client.py", "--port", str(port), stdin=lines) == lines


def test_echo_server_waits_for_a_slow_reader() -> None:
    payload = bytes(range(256)) * 4096 * 24  # 24 MiB: more than the server may queue
    with serving("echo_server") as port, Peer(port) as peer:
        peer.socket.setblocking(False)
        sent = 0
        received = bytearray()
        while len(received) < len(payload):
            # Write for as long as the server reads; only then read, so that it comes to a stop.
            if sent < len(payload) and select.select([], [peer.socket], [], 0.2)[1]:
                sent += peer.socket.send(payload[sent : sent + 1024 * 1024])
                continue
            assert select.select([peer.socket], [], [], LIMIT)[0]
            received += peer.socket.recv(1024 * 1024)
        assert received == payload


def test_client_names_the_address_it_cannot_reach() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can
        port = unused.getsockname()[1]
        result = subprocess.run(
            command("examples/client.py", "--port", str(port), "hello"),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.startswith(f"127.0.0.1:{port}: ")
    assert "Traceback" not in result.stderr


def test_chat_server() -> None:
    with serving("chat_server") as port, Peer(port) as ann, Peer(port) as bo:
        for peer in (ann, bo):
            assert peer.line() == "Welcome. Your nickname?"
        ann.send("Ann")
        assert ann.line() == "Here are: nobody else"
        bo.send("Ann")
        assert bo.line() == "Empty or taken. Another one?"
        bo.send("Bo")
        assert bo.line() == "Here are: Ann"
        assert ann.line() == "* Bo joined"
        bo.socket.sendall(b"Hi, ")  # a line in two pieces, then two lines in one
        bo.socket.sendall(b"Ann\nnice weather\nisn't it\n")
        assert [ann.line() for _ in range(3)] == ["Bo: Hi, Ann", "Bo: nice weather", "Bo: isn't it"]
        bo.send("/quit")
        assert bo.line() == "Bye."
        assert bo.line() == ""  # the end
        assert ann.line() == "* Bo left"


def test_chat_server_drops_who_does_not_read() -> None:
    with serving("chat_server") as port, Peer(port) as ann, Peer(port) as bo:
        for peer, name in ((ann, "Ann"), (bo, "Bo")):
            assert peer.line() == "Welcome. Your nickname?"
            peer.send(name)
            assert peer.line().startswith("Here are: ")
        # Ann reads nothing any more. What fits into the kernel is unknown, so: until she is out.
        block = (b"x" * 999 + b"\n") * 1000
        bo.socket.setblocking(False)
        for _ in range(200):
            if select.select([bo.socket], [], [], 0)[0]:
                break
            rest = memoryview(block)
            while rest:
                assert select.select([], [bo.socket], [], LIMIT)[1]
                rest = rest[bo.socket.send(rest) :]
        bo.socket.settimeout(LIMIT)
        assert bo.line() == "* Ann left"


def test_prefork_server() -> None:
    def serving_process(peer: Peer) -> int:
        answer = re.fullmatch(r"this is process (\d+)", peer.line())
        assert answer
        peer.send("hello")
        assert peer.line() == "hello"
        return int(answer[1])

    with serving("prefork_server") as port:
        with Peer(port) as first:
            process = serving_process(first)
            os.kill(process, signal.SIGKILL)
            assert first.line() == ""
        # The others go on, and the one that is gone is replaced.
        for _ in range(8):
            with Peer(port) as peer:
                assert serving_process(peer) != process


def test_half_open() -> None:
    output = run("examples/half_open.py")
    asked, answered = output.index("client: sent"), output.index("server: answers 5050")
    assert asked < output.index("server: the client is done, 100 numbers came") < answered
    assert answered < output.index("client: got 5050")
    assert "The sum is 5050.\n" in output


def test_starttls() -> None:
    assert run("examples/starttls.py").splitlines() == [
        r"client: b'220 go ahead\n' in clear",
        "client: verified, True",
        "server: b'a secret' over TLSv1.3",
        "client: b'you said a secret'",
    ]


IN_ORDER = ["  answers: STEAM, FOLD, BUN", "  answers: KNEAD, REST, EAT", "  the ticker went on"]


def test_inside_asyncio() -> None:
    lines = run("examples/inside_asyncio.py").splitlines()
    assert lines[0].startswith("on mantou.")
    assert lines[4].startswith("on asyncio.")
    assert lines[1:4] == lines[5:8] == IN_ORDER


@pytest.mark.parametrize("size", [1, 48])
def test_demo(size: int) -> None:
    output = run("-m", "examples.demo", "--size", str(size))
    assert "FAILED" not in output
    assert re.search(r"all \d+ checks passed\s*\Z", output)
    assert len(re.findall(r"throughput over .*\d MB/s", output)) == 2


def program(example: str) -> str:
    return (ROOT / "examples" / f"{example}.py").read_text()


async def exchange(peer: StagePeer, *turns: tuple[str, str]) -> None:
    """Sends lines, if there are any, and expects lines."""
    for said, expected in turns:
        await peer.send(said.encode())
        assert (await peer.receive(len(expected))).decode() == expected


@every_link
async def test_echo_server_over_every_link(link: str) -> None:
    much = "A client that sends and reads at the same time.\n" * 100_000
    async with stage(link) as here:
        await here.perform(program("echo_server"))
        async with here.visitor(7000) as peer:
            await exchange(peer, *((f"line {number}\n",) * 2 for number in range(3)))
            for _ in range(3):
                await asyncio.gather(peer.send(much.encode()), exchange(peer, ("", much)))


@every_link
async def test_client_over_every_link(
    link: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"line {number}\n" for number in range(100))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    async with stage(link) as here:
        await here.perform(program("echo_server"))
        capsys.readouterr()
        await here.perform(program("client"))
    assert "".join(re.findall("line.*\n", capsys.readouterr().out)) == lines


@every_link
async def test_chat_server_over_every_link(link: str) -> None:
    async with stage(link) as here:
        await here.perform(program("chat_server"))
        async with here.visitor(7001) as ann, here.visitor(7001) as bo:
            await exchange(ann, ("", "Welcome. Your nickname?\n"))
            await exchange(bo, ("", "Welcome. Your nickname?\n"))
            await exchange(ann, ("Ann\n", "Here are: nobody else\n"))
            await exchange(bo, ("Bo\n", "Here are: Ann\n"))
            await exchange(ann, ("", "* Bo joined\n"))
            for number in range(3):
                await bo.send(f"hello {number}\n".encode())
                await exchange(ann, (f"and {number}\n", f"Bo: hello {number}\n"))
                await exchange(bo, ("", f"Ann: and {number}\n"))
            await exchange(bo, ("/quit\n", "Bye.\n"))
            assert await bo.receive(1) == b""
            await exchange(ann, ("", "* Bo left\n"))


@every_link
async def test_half_open_over_every_link(link: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with stage(link) as here:
        await here.perform(program("half_open"))
    assert capsys.readouterr().out.splitlines()[-1] == "The sum is 5050."


@every_link
async def test_inside_asyncio_over_every_link(
    link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage(link) as here:
        await here.perform(program("inside_asyncio"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == lines[5:8] == IN_ORDER


@every_link
async def test_demo_over_every_link(link: str, capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with stage(link):
            await demonstrate(Narrator(), 1024 * 1024, Path(directory))
    output = capsys.readouterr().out
    assert "FAILED" not in output
    assert re.search(r"all \d+ checks passed\s*\Z", output)


async def test_starttls_on_every_loop(capsys: pytest.CaptureFixture[str]) -> None:
    async with stage("tcp") as here:
        for _ in range(3):
            await here.perform(program("starttls"))
    assert capsys.readouterr().out.count("client: b'you said a secret'\n") == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["examples/deploy/server.py", "--grace"],
        ["examples/game_server.py", "--ticks"],
        ["examples/tcp_proxy.py", "--grace"],
        ["examples/tls_proxy.py", "--cert=cert.pem", "--key=key.pem", "--grace"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("wrong", ["nan", "-1", "inf", "soon"])
def test_a_time_that_is_none_is_refused_at_once(arguments: list[str], wrong: str) -> None:
    *arguments, option = arguments
    done = subprocess.run(
        command(*arguments, f"{option}={wrong}"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 2
    assert re.search(rf"argument {option}: invalid \w+ value: '{wrong}'", done.stderr)

"""Replacing servers under load: nobody is refused, nobody is cut off."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.programs.servers import find, free_port, running

DEPLOY = Path(__file__).resolve().parents[2] / "examples" / "deploy"
LIMIT = 30.0
CLIENTS = 8


class Load:
    """Clients that come, ask three times, and go, over and over."""

    def __init__(self, port: int) -> None:
        self.failures: list[str] = []
        self.served: dict[int, int] = {}  # by the process that did
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def visit(self) -> None:
        with (
            socket.create_connection(("127.0.0.1", self._port), LIMIT) as client,
            client.makefile("rb") as lines,
        ):
            greeting = re.fullmatch(
                rb"this is process (\d+), you are 127\.0\.0\.1:(\d+)\n", lines.readline()
            )
            assert greeting, "no greeting"
            assert int(greeting[2]) == client.getsockname()[1], "somebody else's address"
            for word in (b"one", b"two", b"three"):
                client.sendall(word + b"\n")
                assert lines.readline() == word.upper() + b"\n", "cut off"
        with self._changed:
            process = int(greeting[1])
            self.served[process] = self.served.get(process, 0) + 1
            self._changed.notify_all()

    def until_served_by(self, process: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: process in self.served, LIMIT), self.failures

    def _go_on(self) -> None:
        while not self._over.is_set():
            try:
                self.visit()
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))

    @contextlib.contextmanager
    def going_on(self) -> Iterator[Load]:
        threads = [threading.Thread(target=self._go_on) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join(LIMIT)
        assert self.failures == []


class Service:
    """What systemd does for a server: it holds the socket, and starts processes on it."""

    def __init__(self, command: list[str], held: socket.socket | None = None) -> None:
        self._command = command
        self._held = held
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._held is None:
            process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        else:
            number = self._held.fileno()
            # As sd_listen_fds(3) has it; a shell that is replaced knows its number beforehand.
            process = subprocess.Popen(
                [
                    "bash",
                    "-c",
                    f'exec 3<&{number}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"',
                    "bash",
                    *self._command,
                ],
                stdout=subprocess.PIPE,
                pass_fds=[number],
            )
        assert self._output(process).readline() == b"process %d is ready\n" % process.pid
        return process

    def restart(self) -> None:
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            said = self._output(self.process).readline()
            assert self.process.wait(LIMIT) == 0
            assert said == b"process %d ends, 0 connections were cut\n" % self.process.pid
        finally:
            self.process.kill()
            self.process.wait()
            self._output(self.process).close()

    @staticmethod
    def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
        assert process.stdout is not None
        return process.stdout


@contextlib.contextmanager
def services(commands: list[list[str]], held: list[socket.socket]) -> Iterator[list[Service]]:
    with contextlib.ExitStack() as stack:
        made = []
        for number, command in enumerate(commands):
            service = Service(command, held[number] if held else None)
            stack.callback(service.stop)
            made.append(service)
        yield made


def server(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(DEPLOY / "server.py"), *arguments]


def replace_all(made: list[Service], load: Load) -> None:
    """One after the other, each when the one before serves."""
    for service in made:
        load.until_served_by(service.process.pid)
        service.restart()
        load.until_served_by(service.process.pid)


def test_processes_on_sockets_of_systemd_are_replaced_without_a_loss() -> None:
    with contextlib.ExitStack() as stack:
        held: list[socket.socket] = []
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", held[0].getsockname()[1] if held else 0))
            sock.listen(128)
            held.append(sock)
        made = stack.enter_context(services([server(), server()], held))
        load = Load(held[0].getsockname()[1])
        with load.going_on():
            replace_all(made, load)
            replace_all(made, load)
    assert len(load.served) == 6


def test_servers_behind_haproxy_are_replaced_without_a_loss(tmp_path: Path) -> None:
    front, one, two = free_port(), free_port(), free_port()
    admin = tmp_path / "admin"
    text = (DEPLOY / "haproxy.cfg").read_text()
    for old, new in [
        ("bind :7000", f"bind 127.0.0.1:{front}"),
        ("127.0.0.1:7001", f"127.0.0.1:{one}"),
        ("127.0.0.1:7002", f"127.0.0.1:{two}"),
        ("/run/haproxy/admin.sock", str(admin)),
        # More than a machine for tests lets a process open.
        ("maxconn 20000", "maxconn 200"),
    ]:
        assert old in text
        text = text.replace(old, new)
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(text)

    def command(line: str) -> None:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(LIMIT)
            asking.connect(str(admin))
            asking.sendall(line.encode() + b"\n")
            assert asking.recv(1000).strip() == b""

    commands = [server("--port", str(port), "--proxy-protocol", "require") for port in (one, two)]
    with (
        services(commands, []) as made,
        running([find("haproxy"), "-db", "-f", configuration], front, tmp_path / "log"),
    ):
        load = Load(front)
        with load.going_on():
            for name, service in zip(("one", "two"), made, strict=True):
                load.until_served_by(service.process.pid)
                command(f"set server upper/{name} state drain")
                service.restart()
                command(f"set server upper/{name} state ready")
                load.until_served_by(service.process.pid)
    assert len(load.served) == 4


def test_the_shown_configuration_is_one(tmp_path: Path) -> None:
    checked = subprocess.run(
        [find("haproxy"), "-c", "-f", str(DEPLOY / "haproxy.cfg"), "-n", "200"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert checked.returncode == 0, checked
    assert "warning" not in (checked.stdout + checked.stderr).lower()


def test_the_shown_units_are_some(tmp_path: Path) -> None:
    units = []
    for name in ("upper@.service", "upper@.socket"):
        text = (DEPLOY / name).read_text()
        # What it starts has to be there.
        text = text.replace("/opt/upper/bin/python", sys.executable)
        for unit in (tmp_path / name, tmp_path / name.replace("@", "@1")):
            unit.write_text(text)
        units.append(unit)
    assert sys.executable in units[0].read_text()
    checked = subprocess.run(
        [find("systemd-analyze"), "verify", *units],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")

"""The command in a process of its own, without and with a terminal, and servers in threads."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import re
import select
import socket as kernel
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.tls import authority, server_credential

# Bounds each wait, in seconds; far more than any of them needs.
LIMIT = 30.0
COMMAND = [sys.executable, "-m", "mantou"]
# As where the extra `cli` is not installed.
BARE = [
    sys.executable,
    "-c",
    "import sys; sys.modules.update(rich=None, cryptography=None); "
    "import mantou._cli; mantou._cli.main()",
]
# Who runs the tests in the background may have had Ctrl-C ignored, which is inherited.
_HEARING = ["env", "--default-signal=INT"]


def mantou(
    *arguments: Any, given: bytes = b"", command: list[str] = COMMAND, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command to its end, which is never a traceback."""
    if "stdin" not in options:
        options["input"] = given
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, timeout=LIMIT, check=False, **options
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


class Running:
    """The command while it runs; what it says is read line by line."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | options
        self.process = subprocess.Popen(
            [*_HEARING, *options.pop("command", COMMAND), *map(str, arguments)],
            stderr=subprocess.PIPE,
            **options,
        )
        self.said = ""

    def until(self, words: str) -> str:
        """The line in which it says these words."""
        assert self.process.stderr is not None
        while line := self.process.stderr.readline().decode():
            self.said += line
            if words in line:
                return line
        raise AssertionError(f"it did not say {words!r}:\n{self.said}")

    def port(self) -> int:
        """Where it listens."""
        return int(self.until("listening on").rpartition(":")[2])

    def end(self, number: int | None = None) -> int:
        """Its exit code, behind a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=LIMIT)
        self.out = out or b""
        self.said += err.decode()
        assert "Traceback" not in self.said, self.said
        return self.process.returncode

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *arguments: Any, command: list[str] = COMMAND, **environment: str) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        termios.tcsetwinsize(slave, (40, 100))
        variables = {**os.environ, "TERM": "xterm-256color", **environment}
        self.process = subprocess.Popen(
            # Ctrl-C reaches whom the terminal belongs to.
            [*_HEARING, "setsid", "--ctty", "--wait", *command, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
        )
        self.slave = slave
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def until(self, words: str) -> str:
        """What is shown, once these words are among it."""
        deadline = time.monotonic() + LIMIT
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read(deadline)
        return self.shown

    def type(self, text: str) -> None:
        """Presses keys."""
        os.write(self.master, text.encode())

    def end(self) -> int:
        """The exit code. The terminal is as it was."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read(min(deadline, time.monotonic() + 0.1))
        while select.select([self.master], [], [], 0)[0]:
            self._read(deadline)
        assert termios.tcgetattr(self.slave) == self.before
        assert os.get_blocking(self.slave)
        assert self.shown.count("\x1b[?25l") <= self.shown.count("\x1b[?25h")  # the cursor
        assert "Traceback" not in self.shown, self.shown
        return self.process.returncode

    def _read(self, deadline: float) -> None:
        wait = max(0.0, deadline - time.monotonic())
        if select.select([self.master], [], [], wait)[0]:
            self.shown += self._decoder.decode(os.read(self.master, 65536))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class Server:
    """Talks to those who connect, each in a thread."""

    def __init__(self, talk: Callable[[kernel.socket], object]) -> None:
        self._talk = talk
        self._sock = kernel.create_server(("127.0.0.1", 0))
        self.port = int(self._sock.getsockname()[1])
        self.served = 0
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                self.served += 1
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, sock: kernel.socket) -> None:
        sock.settimeout(LIMIT)
        with sock:
            try:
                self._talk(sock)
            except BaseException as error:
                self._errors.append(error)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.shutdown(kernel.SHUT_RDWR)
        self._sock.close()
        for thread in self._threads:
            thread.join(LIMIT)
        assert not self._errors, self._errors


def read_all(sock: kernel.socket) -> bytes:
    """All until the peer's FIN."""
    received = bytearray()
    while data := sock.recv(65536):
        received += data
    return bytes(received)


def echo(sock: kernel.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            sock.sendall(data)


def files(folder: Path) -> tuple[Path, Path, Path]:
    """An authority, a certificate for localhost, and its key."""
    ca, cert, key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    ca.write_bytes(authority().pem)
    cert.write_bytes(server_credential().cert_pem)
    key.write_bytes(server_credential().key_pem)
    return ca, cert, key


def documented(command: str) -> set[str]:
    """The names that the documentation says are in a result."""
    page = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
    section = page.read_text().partition(f"## What `{command}` writes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@contextlib.contextmanager
def openssl_server(*arguments: Any) -> Iterator[int]:
    """`openssl s_server`, until the end of the block."""
    process = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "100", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        said = ""
        while line := process.stdout.readline().decode():
            said += line
            if found := re.search(r"ACCEPT 127\.0\.0\.1:(\d+)", line):
                yield int(found[1])
                break
        else:
            raise AssertionError(said)
    finally:
        process.kill()
        process.communicate()

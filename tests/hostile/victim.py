"""A server in a process of its own, and what it tells of itself."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket as kernel
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.tls import Credential, authority, client_context, key_pem, server_credential

LIMIT = 60.0  # seconds for any answer


class Figures(NamedTuple):
    seconds: float
    """Of the processor, so far."""
    held: int
    """Bytes that are allocated."""
    connections: int
    accepted: int
    refused: int
    received: int
    ends: dict[str, int]


class Victim:
    """One that is attacked: `program` is "handlers", "streams" or "asyncio"."""

    def __init__(self, program: str, link: str, options: dict[str, Any], files: Any) -> None:
        self.program, self.link, self.options = program, link, options
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.hostile.server", program, link),
                *(json.dumps(files), json.dumps(options)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONMALLOC": "malloc"},
            text=True,
        )
        self.address = ("127.0.0.1", int(self._hear()["port"]))

    def figures(self) -> Figures:
        return Figures(**self._ask("figures"))

    def settled(self, live: Live) -> Figures:
        """The figures, once it has nothing left to do."""
        until = time.monotonic() + LIMIT
        before = self.figures()
        while True:
            live.ping()
            now = self.figures()
            if now.seconds - before.seconds < 0.001 and now.accepted == before.accepted:
                return now
            assert time.monotonic() < until, "it never comes to rest"
            before = now

    def connect(self, port: int, count: int) -> None:
        """Has it connect to this port."""
        self._ask(f"{port} {count}")

    def dial(self) -> kernel.socket:
        """A connected socket, nothing said yet. It waits for nobody longer than `LIMIT`."""
        sock = kernel.create_connection(self.address, timeout=LIMIT)
        sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
        return sock

    def _ask(self, question: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it is dead: {self._process.wait()}"
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Live:
    """One who means well, connected all the time."""

    def __init__(self, victim: Victim) -> None:
        self._sock: kernel.socket = victim.dial()
        # It is one packet, by whatever means, and comes back as it is.
        self._hello = b"\0\0\0\4ping"
        if victim.options.get("packet") == "line":
            self._hello = b"ping\n"
        if "proxy_protocol" in victim.options:
            self._sock.sendall(b"PROXY UNKNOWN\r\n")
        if victim.link != "tcp":
            self._sock = _client().wrap_socket(self._sock, server_hostname="localhost")
        self.ping()

    def ping(self) -> float:
        """Seconds until its bytes are back."""
        begin = time.perf_counter()
        self._sock.sendall(self._hello)
        received = 0
        # The end of a line is not part of the packet.
        while received < len(self._hello.removesuffix(b"\n")):
            piece = self._sock.recv(100)
            assert piece, "it was cut off"
            received += len(piece)
        return time.perf_counter() - begin

    def close(self) -> None:
        self._sock.close()


@functools.cache
def identity() -> Credential:
    """What is shown to victims that ask for a certificate, and trusted by them."""
    return authority().issue(common_name="a friend")


@functools.cache
def _client() -> Any:
    return client_context(identity())


@contextlib.contextmanager
def victim(program: str, link: str, **options: Any) -> Iterator[Victim]:
    shown = server_credential()
    contents = {"cert": shown.cert_pem, "key": key_pem(shown.key), "ca": authority().pem}
    with tempfile.TemporaryDirectory() as directory:
        files = {name: str(Path(directory) / name) for name in contents}
        for name, content in contents.items():
            Path(files[name]).write_bytes(content)
        made = Victim(program, link, options, files)
        try:
            yield made
        finally:
            made.close()

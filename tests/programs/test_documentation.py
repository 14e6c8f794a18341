"""The examples of asyncio's documentation of streams, as they are printed, but for one import."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.conftest import Certificates
from tests.programs.servers import free_port, running
from tests.scripts import printed
from tools.suites import sources

# How each is run: on asyncio's loop and on mantou's.
every_way = pytest.mark.parametrize("way", [[], ["-m", "mantou", "run"]], ids=["asyncio", "mantou"])


@pytest.fixture(scope="session")
def page() -> str:
    try:
        return sources.documentation("library/asyncio-stream.rst.txt")
    except (OSError, subprocess.CalledProcessError) as error:
        missing = f"Python's documentation is missing: {error}"
        if os.environ.get("ALLOW_MISSING") == "1":
            pytest.skip(missing)
        pytest.fail(missing)


def example(page: str, title: str, **changes: str) -> str:
    """The program below a title, with mantou's streams, and numbers in the place of others."""
    _, found, rest = page.partition(f"\n{title}\n---")
    assert found, f"there is no {title!r}"
    block = re.search(r"::\n\n((?: {4}.*\n|\n)+)", rest)
    assert block
    program, count = re.subn(
        r"\basyncio\.(open_connection|start_server)\b", r"mantou.\1", textwrap.dedent(block[1])
    )
    assert count
    for before, after in changes.items():
        program, count = re.subn(rf"\b{before.removeprefix('_')}\b", after, program)
        assert count, f"{before} is not in the program"
    return "import mantou\n" + program


def output(folder: Path, way: list[str], program: str, *arguments: str, **environment: str) -> str:
    """What the program prints."""
    (folder / "example.py").write_text(program)
    return printed(folder, *way, "example.py", *arguments, **environment)


@every_way
def test_echo_client_and_server(page: str, tmp_path: Path, way: list[str]) -> None:
    port = free_port()
    path = tmp_path / "server.py"
    path.write_text(example(page, "TCP echo server using streams", _8888=str(port)))
    log = tmp_path / "log"
    with running([sys.executable, "-u", *way, path], port, log):
        client = example(page, "TCP echo client using streams", _8888=str(port))
        lines = output(tmp_path, way, client).splitlines()
    assert lines == ["Send: 'Hello World!'", "Received: 'Hello World!'", "Close the connection"]
    assert "Send: 'Hello World!'\nClose the connection\n" in log.read_text()


@contextlib.contextmanager
def website(certificates: Certificates | None) -> Iterator[int]:
    """The port of a web server, over TLS if there are certificates."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Path", self.path)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Page) as server:
        if certificates is not None:
            context = certificates.server()
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@every_way
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_http_headers(
    page: str, tmp_path: Path, certificates: Certificates, way: list[str], scheme: str
) -> None:
    secure = scheme == "https"
    with website(certificates if secure else None) as port:
        change = {"_443" if secure else "_80": str(port)}
        program = example(page, "Get HTTP headers", **change)
        url = f"{scheme}://localhost/a/page"
        authority = str(certificates.ca_file)
        lines = output(tmp_path, way, program, url, SSL_CERT_FILE=authority).splitlines()
    assert lines[0] == "HTTP header> HTTP/1.0 200 OK"
    assert lines[-1] == "HTTP header> Path: /a/page"


@every_way
def test_an_open_socket(page: str, tmp_path: Path, way: list[str]) -> None:
    program = example(page, "Register an open socket to wait for data using streams")
    assert output(tmp_path, way, program) == "Received: abc\n"

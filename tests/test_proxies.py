"""The proxies among the examples, between clients and servers that are not mantou."""

from __future__ import annotations

import contextlib
import os
import select
import socket as kernel
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel import unused_port
from tests.test_examples import LIMIT, serving
from tests.tls_support import CA, CERTIFICATE, KEY, context

BLOCK = os.urandom(3_000_001)


@contextlib.contextmanager
def upstream(serve: Callable[[kernel.socket], object], tls: bool = False) -> Iterator[str]:
    """A server that has each connection served in a thread of its own; its address."""
    threads: list[threading.Thread] = []

    def serve_one(sock: kernel.socket) -> None:
        with sock:
            sock.settimeout(LIMIT)
            if not tls:
                serve(sock)
                return
            with context(True).wrap_socket(sock, server_side=True) as secure:
                serve(secure)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=serve_one, args=(sock,)))
                threads[-1].start()

    with kernel.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"localhost:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(kernel.SHUT_RDWR)
            accepting.join(LIMIT)
            for thread in threads:
                thread.join(LIMIT)


def receive_all(sock: kernel.socket) -> bytes:
    received = bytearray()
    while piece := sock.recv(65536):
        received += piece
    return bytes(received)


def answer_at_the_end(sock: kernel.socket) -> None:
    """Reads until the client has finished, then sends it all back."""
    sock.sendall(receive_all(sock))


def echo(sock: kernel.socket) -> None:
    while piece := sock.recv(65536):
        sock.sendall(piece)
    if isinstance(sock, ssl.SSLSocket):
        sock.unwrap()


def close_in_the_middle(sock: kernel.socket) -> None:
    sock.recv(1)
    sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def connect(port: int) -> kernel.socket:
    return kernel.create_connection(("127.0.0.1", port), timeout=LIMIT)


@contextlib.contextmanager
def proxy(
    example: str,
    serve: Callable[[kernel.socket], object],
    *arguments: str,
    tls_behind: bool = False,
    complaint: str = "",
) -> Iterator[int]:
    """The example with such a server behind it; its port."""
    with upstream(serve, tls_behind) as address:
        options = ("--upstream", address, *arguments)
        with serving(example, *options, complaint=complaint) as port:
            yield port


def test_tcp_proxy_carries_bytes_and_half_closes() -> None:
    with proxy("tcp_proxy", answer_at_the_end) as port:
        for size in (0, 1, len(BLOCK)):
            with connect(port) as client:
                client.sendall(BLOCK[:size])
                client.shutdown(kernel.SHUT_WR)
                assert receive_all(client) == BLOCK[:size]


def test_tcp_proxy_carries_resets() -> None:
    with proxy("tcp_proxy", close_in_the_middle) as port, connect(port) as client:
        client.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_tcp_proxy_without_anybody_behind_it() -> None:
    dead = f"127.0.0.1:{unused_port()}"
    with (
        serving("tcp_proxy", "--upstream", dead, complaint=rf"{dead}: .*\n") as port,
        pytest.raises(ConnectionResetError),
        connect(port) as client,
    ):
        client.recv(1)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, content in (("cert", CERTIFICATE), ("key", KEY), ("ca", CA)):
        (tmp_path / name).write_text(content)
    return ["--cert", str(tmp_path / "cert"), "--key", str(tmp_path / "key")]


@contextlib.contextmanager
def secured(port: int) -> Iterator[ssl.SSLSocket]:
    """A TLS client, which leaves without a goodbye of its own."""
    with (
        connect(port) as raw,
        context(False).wrap_socket(raw, server_hostname="localhost") as client,
    ):
        yield client


def echoed(client: ssl.SSLSocket, data: bytes) -> bytes:
    """Sends and receives side by side in one thread: what OpenSSL has is not for two at once."""
    client.setblocking(False)
    waiting, received = memoryview(data), bytearray()
    while len(received) < len(data):
        before = len(waiting), len(received)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if waiting:
                waiting = waiting[client.send(waiting[:65536]) :]
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            received += client.recv(65536)
        if before == (len(waiting), len(received)):
            ready = select.select([client], [client] if waiting else [], [], LIMIT)
            assert any(ready), "the proxy neither takes nor sends anything"
    client.settimeout(LIMIT)
    return bytes(received)


@pytest.mark.parametrize("tls_behind", [False, True])
def test_tls_proxy_ends_tls(files: list[str], tmp_path: Path, tls_behind: bool) -> None:
    options = ["--upstream-ca", str(tmp_path / "ca")] if tls_behind else []
    with (
        proxy("tls_proxy", echo, *files, *options, tls_behind=tls_behind) as port,
        secured(port) as client,
    ):
        assert echoed(client, BLOCK) == BLOCK
        client.unwrap()


def test_tls_proxy_does_not_take_a_cut_off_client_for_one_that_has_finished(
    files: list[str],
) -> None:
    outcomes: list[object] = []

    def note(sock: kernel.socket) -> None:
        sock.sendall(sock.recv(100))
        try:
            outcomes.append(receive_all(sock))
        except ConnectionResetError as error:
            outcomes.append(type(error))

    complaint = r"localhost:\d+: .*EOF occurred in violation of protocol.*\n"
    with (
        proxy("tls_proxy", note, *files, complaint=complaint) as port,
        secured(port) as client,
    ):
        client.sendall(b"half of it")
        assert client.recv(100) == b"half of it"
        client.shutdown(kernel.SHUT_RDWR)
    assert outcomes == [ConnectionResetError]


def test_tls_proxy_refuses_plain_clients_and_goes_on(files: list[str]) -> None:
    with proxy("tls_proxy", echo, *files) as port:
        with connect(port) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            client.shutdown(kernel.SHUT_WR)
            receive_all(client)
        with secured(port) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            client.unwrap()

"""The other halves: raw sockets in threads, which know nothing of mantou."""

from __future__ import annotations

import contextlib
import random
import select
import socket as kernel
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.tls_support import context

# A prime length: a lost or doubled piece of any size the kernel likes shifts the pattern.
PERIOD = 1_000_003
PATTERN = random.Random(20).randbytes(PERIOD)
_TWICE = memoryview(PATTERN * 2)

PIECE = 65536
PROXY_HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 7000\r\n"
STARTTLS = b"STARTTLS\n"
GO_AHEAD = b"go ahead\n"


def pattern(position: int, size: int) -> memoryview:
    """The bytes of every transfer from a position on."""
    start = position % PERIOD
    return _TWICE[start : start + size]


class Following:
    """Compares what comes with the pattern."""

    def __init__(self) -> None:
        self.received = 0
        self.wrong_at: int | None = None

    def take(self, data: bytes) -> None:
        """So much more has come."""
        for at in range(0, len(data), PIECE):
            part = data[at : at + PIECE]
            if self.wrong_at is None and part != pattern(self.received, len(part)):
                self.wrong_at = self.received
            self.received += len(part)


class Peer(threading.Thread):
    """Sends so many bytes of the pattern and expects as many; then both say goodbye.

    It connects to its `address`; without one it is connected to. In the clear it finishes as soon
    as it has sent everything. Over TLS it waits for the answer: nobody may send behind `unwrap()`.
    """

    def __init__(
        self,
        sock: kernel.socket,
        link: str,
        *,
        size: int,
        preface: bytes = b"",
        patience: float = 10.0,
    ) -> None:
        super().__init__(daemon=True)
        self.size = size
        self.came = Following()
        self.sent = 0
        self.error: BaseException | None = None
        """How it ended, if not with what it expected."""
        self._sock = sock
        self._link = link
        self.address: Any = None
        self._preface = preface
        self._patience = patience

    def run(self) -> None:
        """Plays its part; what goes wrong is its `error`."""
        try:
            self._sock.settimeout(self._patience)
            self._meet()
            self._begin()
            self._transfer()
            self._part()
        except BaseException as error:  # whatever it is, somebody looks at it
            self.error = error
        finally:
            self._sock.close()

    def dismiss(self) -> None:
        """Nobody needs it any more: it ends at once."""
        # Closing a descriptor does not wake who waits for it; this does.
        with contextlib.suppress(OSError):
            self._sock.shutdown(kernel.SHUT_RDWR)
        if not self.is_alive():
            self._sock.close()

    def _meet(self) -> None:
        if self.address is not None:
            return self._sock.connect(self.address)
        listener = self._sock
        self._sock, _ = listener.accept()
        listener.close()
        return self._sock.settimeout(self._patience)

    def _begin(self) -> None:
        if self._preface:
            self._sock.sendall(self._preface)
        if self._preface == STARTTLS:
            answer = b""
            while len(answer) < len(GO_AHEAD):
                answer += self._sock.recv(len(GO_AHEAD) - len(answer)) or b"?" * len(GO_AHEAD)
            if answer != GO_AHEAD:
                raise ConnectionError("no STARTTLS")
        if self._link in ("tls", "context"):
            serves = self.address is None
            self._sock = context(serves).wrap_socket(
                self._sock,
                server_side=serves,
                server_hostname=None if serves else "localhost",
                suppress_ragged_eofs=False,
            )
        self._sock.setblocking(False)

    def _transfer(self) -> None:
        """Sends and receives side by side, so that neither has to wait for the other."""
        is_secure = isinstance(self._sock, ssl.SSLSocket)
        ended = False
        progress = time.monotonic()
        while (sends := self.sent < self.size) or not ended:
            if is_secure and self.came.received == self.sent == self.size:
                break
            waiting = select.poll()
            # An end stays readable for ever.
            wanted = (0 if ended else select.POLLIN) | (select.POLLOUT if sends else 0)
            waiting.register(self._sock, wanted)
            events = dict(waiting.poll(self._patience * 1000)).get(self._sock.fileno(), 0)
            readable, writable = events & ~select.POLLOUT, events & select.POLLOUT
            before = (self.sent, self.came.received, ended)
            if writable:
                self._send()
                if self.sent == self.size and not is_secure:
                    self._sock.shutdown(kernel.SHUT_WR)
            if readable:
                ended = self._receive()
            now = time.monotonic()
            if before != (self.sent, self.came.received, ended):
                progress = now
            elif now - progress > self._patience:
                raise TimeoutError(
                    f"nothing moves: {self.sent} sent, {self.came.received} received"
                )

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.sent += self._sock.send(pattern(self.sent, min(PIECE, self.size - self.sent)))

    def _receive(self) -> bool:
        """Takes what has come; True for the end."""
        while True:
            try:
                data = self._sock.recv(PIECE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if not data:
                return True
            self.came.take(data)
            if not isinstance(self._sock, ssl.SSLSocket) or not self._sock.pending():
                return False

    def _part(self) -> None:
        if not isinstance(self._sock, ssl.SSLSocket):
            return
        self._sock.settimeout(self._patience)
        if self.came.received < self.size:
            return
        self._sock = self._sock.unwrap()
        while self._sock.recv(PIECE):
            raise ConnectionError("bytes behind close_notify")


def echo_in_thread(patience: float = 10.0) -> tuple[int, Callable[[], None]]:
    """A server of one connection, for a proxy: its port, and what ends it."""
    listener = kernel.create_server(("127.0.0.1", 0))
    listener.settimeout(patience)
    port: int = listener.getsockname()[1]
    held = [listener]

    def serve() -> None:
        try:
            sock, _ = listener.accept()
            held.append(sock)
            sock.settimeout(patience)
            with sock:
                while data := sock.recv(PIECE):
                    sock.sendall(data)
        except OSError:
            pass  # it was reset, or is not needed: who uses it looks at what came
        finally:
            listener.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def dismiss() -> None:
        for sock in held:
            try:
                sock.shutdown(kernel.SHUT_RDWR)
            except OSError:
                sock.close()
        thread.join()

    return port, dismiss

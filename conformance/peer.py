"""Raw peers: Python's sockets and `ssl`. They see FIN, RST, close_notify as the wire has them."""

from __future__ import annotations

import contextlib
import socket as kernel
import ssl
from typing import Any

from tests.peers import RawPeer

LIMIT = 10.0  # seconds for anything that a peer waits for


class Peer(RawPeer):
    """A connected socket, and what it has seen."""

    def __init__(self, sock: kernel.socket) -> None:
        super().__init__(sock)
        sock.settimeout(LIMIT)
        self.seen: list[str] = []
        self.before = b""
        self.was_reset = False

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        self.sock.sendall(data)

    def read(self) -> bytes:
        """What one read gets; nothing is the end."""
        return self.sock.recv(65536)

    def receive(self, count: int) -> bytes:
        """So many bytes, or fewer if the end comes first."""
        received = b""
        while len(received) < count and (chunk := self.read()):
            received += chunk
        return received

    def receive_end(self) -> tuple[bytes, str]:
        """All that comes, and how it ends."""
        received = bytearray()
        try:
            if self.was_reset:
                raise ConnectionResetError
            while chunk := self.read():
                received += chunk
        except ConnectionError:  # EPIPE where a FIN came before it
            return bytes(received), "RST"
        except ssl.SSLError as error:
            return bytes(received), f"alert({error.reason})"
        return bytes(received), self.ending()

    def ending(self) -> str:
        """What a read that got nothing has met."""
        return "FIN"


class TlsPeer(Peer):
    """TLS by way of memory BIOs: the wire stays in the scenario's hands."""

    def __init__(self, sock: kernel.socket, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._incoming, self._outgoing, **options)
        self._fin = False

    def handshake(self, before: bytes = b"") -> str:
        """Shakes hands; returns the version, or why it failed."""
        self._outgoing.write(before)
        while True:
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                try:
                    self._fill()
                except ConnectionResetError:
                    return "RST"
            except ssl.SSLEOFError:
                return "FIN"
            except ssl.SSLError as error:
                self._flush()
                return f"failed({error.reason})"
            else:
                self._flush()
                return str(self.ssl.version())

    def send(self, data: bytes) -> None:
        """Seals all of it and sends it."""
        self.ssl.write(data)
        self._flush()

    def send_raw(self, data: bytes) -> None:
        """Sends it as it is."""
        self.sock.sendall(data)

    def read(self) -> bytes:
        """What one read gets; nothing is a close_notify, or a FIN."""
        while True:
            try:
                return self.ssl.read(65536)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""

    def ending(self) -> str:
        """Tells a close_notify from a FIN that came without."""
        return "FIN" if self._fin else "close_notify"

    def receive_fin(self) -> str:
        """What comes after the close_notify."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            return "RST"
        return "FIN"

    def notify(self) -> None:
        """Sends a close_notify, and no FIN."""
        with contextlib.suppress(ssl.SSLError):  # the other's has not come yet
            self.ssl.unwrap()
        self._flush()

    def _flush(self) -> None:
        if ready := self._outgoing.read():
            self.sock.sendall(ready)

    def _fill(self) -> None:
        if ciphertext := self.sock.recv(65536):
            self._incoming.write(ciphertext)
        else:
            self._fin = True
            self._incoming.write_eof()

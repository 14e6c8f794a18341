"""TLS spoken by Python's ssl: peers that are not mantou, and the certificates for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket as kernel
import ssl
from typing import Any

import trustme

from tests.peers import Peer

AUTHORITY = trustme.CA()
_ISSUED = AUTHORITY.issue_cert("localhost", "127.0.0.1")
CERTIFICATE = b"".join(part.bytes() for part in _ISSUED.cert_chain_pems).decode()
KEY = _ISSUED.private_key_pem.bytes().decode()
CA = AUTHORITY.cert_pem.bytes().decode()

SERVER_OPTIONS: Any = {"key": KEY, "cert": CERTIFICATE}
CLIENT_OPTIONS: Any = {"ca": CA}

VERSIONS = ["TLSv1.2", "TLSv1.3"]
_NUMBERS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

# The first byte of a record.
ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23


def context(
    server_side: bool, version: str | None = None, kind: type[ssl.SSLContext] = ssl.SSLContext
) -> ssl.SSLContext:
    """Python's ssl, set up for one side."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    made = kind(protocol)
    if server_side:
        _ISSUED.configure_cert(made)
    else:
        AUTHORITY.configure_trust(made)
    if version is not None:
        made.minimum_version = made.maximum_version = _NUMBERS[version]
    return made


def records(wire: bytes) -> list[tuple[int, int]]:
    """The kinds and lengths of the TLS records that the bytes are."""
    found = []
    position = 0
    while position < len(wire):
        length = int.from_bytes(wire[position + 3 : position + 5], "big")
        found.append((wire[position], length))
        position += 5 + length
    assert position == len(wire), "the last record is cut off"
    return found


class TlsPeer(Peer):
    """A peer that speaks TLS by way of memory BIOs: the wire stays in the test's hands."""

    def __init__(
        self, sock: kernel.socket, server_side: bool, version: str | None = None, **options: Any
    ) -> None:
        super().__init__(sock)
        if sock.family != kernel.AF_UNIX:
            # The tickets, for which nobody waits, do not hold back what follows.
            sock.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
        self._incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if not server_side:
            options.setdefault("server_hostname", "localhost")
        self.ssl = context(server_side, version).wrap_bio(
            self._incoming, self.outgoing, server_side, **options
        )
        self._flushing = asyncio.Lock()
        self._kept = bytearray()

    async def handshake(self) -> TlsPeer:
        while True:
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                if not await self._fill():
                    raise ConnectionError("EOF during the handshake") from None
            except ssl.SSLError:
                await self.flush()
                raise
            else:
                await self.flush()
                return self

    async def first_words(self) -> bytes:
        """The first flight, not sent: a ClientHello, or what a server answers to one."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.ssl.do_handshake()
        if self.ssl.server_side:
            assert await self._fill()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.ssl.do_handshake()
        return self.outgoing.read()

    async def flush(self) -> None:
        """Sends what OpenSSL has to say."""
        async with self._flushing:
            if ready := self.outgoing.read():
                await super().send(ready)

    async def _fill(self) -> bool:
        ciphertext = await super().receive_some()
        if ciphertext:
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()
        return bool(ciphertext)

    async def send(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            position += self.ssl.write(data[position : position + (1 << 16)])
            await self.flush()

    async def receive_some(self, most: int = 65536) -> bytes:
        """What comes next: nothing is a `close_notify`, a FIN without one raises SSLEOFError."""
        while True:
            try:
                return self._read(most)
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    async def receive_until_fin(self) -> bytes:
        """Everything up to `close_notify`, behind which there must be the FIN."""
        received = await super().receive_until_fin()
        assert await Peer.receive_some(self) == b"", "bytes behind close_notify"
        return received

    def seal(self, data: bytes) -> bytes:
        """The record with these bytes, not sent."""
        self.ssl.write(data)
        return self.outgoing.read()

    def open(self, wire: bytes) -> bytes:
        """What the records say."""
        self._incoming.write(wire)
        received = bytearray()
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.ssl.read(65536):
                received += piece
        return bytes(received)

    def _read(self, most: int) -> bytes:
        if not self._kept:
            return self.ssl.read(most)
        data = bytes(self._kept[:most])
        del self._kept[:most]
        return data

    def receive_now(self, most: int) -> bytes:
        try:
            return self._read(most)
        except ssl.SSLWantReadError:
            if ciphertext := self.sock.recv(65536):
                self._incoming.write(ciphertext)
            else:
                self._incoming.write_eof()
            return self.receive_now(most)

    def notify(self) -> None:
        """Sends `close_notify`, and no FIN."""
        # What has come and was not read, unwrap() would throw away.
        with contextlib.suppress(ssl.SSLError):
            while data := self.ssl.read(1 << 16):
                self._kept += data
        with contextlib.suppress(ssl.SSLWantReadError):
            self.ssl.unwrap()
        ready = self.outgoing.read()
        assert self.sock.send(ready) == len(ready)

    async def part(self, data: bytes, behind: bytes = b"") -> None:
        """Sends data, `close_notify` and something that no TLS should look at, in one piece."""
        sealed = self.seal(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.ssl.unwrap()
        await Peer.send(self, sealed + self.outgoing.read() + behind)

    def finish(self) -> None:
        self.notify()
        super().finish()

    def truncate(self) -> None:
        """Sends a FIN without `close_notify`."""
        super().finish()


async def secured(
    sock: kernel.socket, server_side: bool, version: str | None = None, **options: Any
) -> TlsPeer:
    """Does the handshake over a connected socket, which is closed if it fails."""
    peer = TlsPeer(sock, server_side, version, **options)
    try:
        return await peer.handshake()
    except BaseException:
        peer.close()
        raise

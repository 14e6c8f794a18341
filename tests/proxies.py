"""Headers that proxies send, and listeners over any link that hear them."""

from __future__ import annotations

import contextlib
import socket as kernel
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mantou
from tests.support import (
    Peer,
    Recorder,
    listen,
)
from tests.tls_support import TlsPeer

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
FULL = mantou.ProxyHeader(
    source_address="2001:db8::1",
    source_port=40000,
    destination_address="2001:db8::2",
    destination_port=443,
    alpn="h2",
    authority="bücher.example",
    unique_id=b"\0\xff id",
    netns="blue",
    ssl=mantou.ProxySSL(
        cert_sess=True,
        version="TLSv1.3",
        cn="client",
        cipher="TLS_AES_128_GCM_SHA256",
        sig_alg="SHA256",
        key_alg="RSA2048",
        tlvs={0x26: b"X25519"},
    ),
    crc32c=True,
    tlvs={0xE0: b"own", 0xEA: b""},
)
UNIX_HEADER = mantou.ProxyHeader(source_address="/run/client", destination_address="\0abstract")


class Echo(Recorder):
    def __init__(self) -> None:
        super().__init__(data=lambda socket, data: socket.write_all(data))


class Door:
    """A listener over any link, and the way to it."""

    def __init__(self, link: str, listener: Any) -> None:
        self.link = link
        self.listener = listener

    def dial(self) -> Peer:
        """Connected, and nothing said."""
        if self.link == "unix":
            return Peer.connect_at_once(self.listener.unix, kernel.AF_UNIX)
        return Peer.connect_at_once(("127.0.0.1", self.listener.port))

    async def enter(self, header: bytes) -> Peer:
        """Connected and, over TLS, through with the handshake.

        The header and what the link begins with come in one segment.
        """
        peer = self.dial()
        if self.link in ("tcp", "unix"):
            await peer.send(header)
            return peer
        peer = TlsPeer(peer.sock, server_side=False)
        peer.outgoing.write(header)
        return await peer.handshake()


@contextlib.asynccontextmanager
async def door(
    recorder: Any, link: str, folder: Path | None = None, **options: Any
) -> AsyncIterator[Door]:
    options.setdefault("proxy_protocol", "require")
    if link == "unix":
        assert folder is not None
        listener: Any = mantou.listen(unix=folder / "door", socket=recorder, **options)
    else:
        listener = listen(recorder, link, **options)
    try:
        yield Door(link, listener)
    finally:
        listener.stop(True)
        await listener.closed()

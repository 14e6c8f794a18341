"""Peers that do not speak TLS, or badly: a clear error each, no panic, nothing held."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import socket as kernel
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

import mantou
from tests.peers import Peer, RawListener
from tests.support import Recorder, accepted, every_engine, linked, others_had_their_turn
from tests.tls_support import (
    ALERT,
    APPLICATION_DATA,
    CLIENT_OPTIONS,
    HANDSHAKE,
    SERVER_OPTIONS,
    VERSIONS,
    TlsPeer,
    secured,
)

both_versions = pytest.mark.parametrize("version", VERSIONS)

# Seconds that broken hellos are tried; more in a run of its own.
FUZZ_SECONDS = float(os.environ.get("MANTOU_FUZZ_SECONDS", "10"))

CROWD = 2000


def hello(version: str | None = None) -> bytes:
    """A ClientHello of OpenSSL's."""
    return first_flight(TlsPeer(kernel.socket(), server_side=False, version=version))


def first_flight(peer: TlsPeer) -> bytes:
    with pytest.raises(ssl.SSLWantReadError):
        peer.ssl.do_handshake()
    peer.close()
    return peer.outgoing.read()


def record(kind: int, content: bytes, version: bytes = b"\3\3") -> bytes:
    return bytes([kind]) + version + len(content).to_bytes(2, "big") + content


@contextlib.asynccontextmanager
async def serving(recorder: Recorder, **options: Any) -> AsyncIterator[int]:
    """A TLS server. In the end it still serves those who behave, and nothing is held."""
    echo = Recorder(data=lambda socket, data: socket.write(data))
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=recorder, tls=SERVER_OPTIONS, **options
    ) as listener:
        yield listener.port
        while listener.connections:
            await others_had_their_turn()
        listener.reload(echo)
        good = await Peer.connect(("127.0.0.1", listener.port))
        good = await secured(good.sock, server_side=False)
        await good.send(b"still there?")
        assert await good.receive(12) == b"still there?"
        good.finish()
        assert await good.receive_until_fin() == b""
        good.close()
        await echo.until("close")


async def rest_of(peer: Peer) -> bytes:
    """What the peer gets until the connection ends, one way or the other."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := await Peer.receive_some(peer):
            received += piece
    return bytes(received)


# Before the handshake

GARBAGE = {
    "zeros": bytes(100),
    "noise": random.Random(3).randbytes(1000),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "smtp": b"EHLO localhost\r\n",
    "application data": record(APPLICATION_DATA, b"too early"),
    "an alert": record(ALERT, b"\2\50"),
    "an empty handshake record": record(HANDSHAKE, b""),
    "an oversized record": record(HANDSHAKE, bytes(0x4801)),
    "a hello of ones": record(HANDSHAKE, b"\1\0\1\0" + b"\1" * 256),
    "a huge session id": record(
        HANDSHAKE, b"\1\0\x27\x33\3\3" + bytes(32) + b"\xff" + bytes(10_000)
    ),
    "a huge message": record(HANDSHAKE, b"\1\xff\xff\xff" + bytes(16_000)) * 20,
    "a server's hello": record(HANDSHAKE, b"\2\0\0\4\3\3\0\0"),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_instead_of_a_hello(what: str) -> None:
    server = Recorder()
    async with serving(server) as port:
        peer = await Peer.connect(("127.0.0.1", port))
        with contextlib.suppress(ConnectionError):
            await peer.send(GARBAGE[what])
        answer = await rest_of(peer)
        peer.close()
        _, error = await server.until("connect_error")
        # An alert where there is one, and nothing else.
        assert answer == b"" or answer[0] == ALERT
        assert server.names == ["connect_error"]
    assert isinstance(error, ssl.SSLError)
    assert not isinstance(error, ssl.SSLEOFError)
    if what == "http":
        assert "http" in str(error).lower()


@pytest.mark.parametrize("what", ["zeros", "noise", "http", "a hello of ones"])
async def test_a_server_that_does_not_speak_tls(what: str) -> None:
    client = Recorder()
    answer = b"HTTP/1.1 400 Bad Request\r\n\r\n" if what == "http" else GARBAGE[what]
    with RawListener() as raw:
        connecting = asyncio.ensure_future(
            mantou.connect(hostname="127.0.0.1", port=raw.port, socket=client, tls=CLIENT_OPTIONS)
        )
        peer = await raw.accept()
        await peer.send(answer)
        with pytest.raises(ssl.SSLError) as caught:
            await connecting
        received = await rest_of(peer)
        peer.close()
    assert received[0] == HANDSHAKE
    assert client.events == [("connect_error", caught.value)]


@pytest.mark.parametrize("size", [0, 1, 5, 100])
async def test_half_a_hello_and_silence(size: int) -> None:
    server = Recorder()
    async with serving(server, handshake_timeout=0.1) as port:
        # Before the time runs, however slow this is.
        peer = Peer.connect_at_once(("127.0.0.1", port))
        peer.sock.send(hello()[:size])
        assert await rest_of(peer) == b""
        peer.close()
        _, error = await server.until("connect_error")
    assert isinstance(error, ssl.SSLError)
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize("size", [0, 3, 100])
async def test_half_a_hello_and_a_fin(size: int) -> None:
    server = Recorder()
    async with serving(server) as port:
        peer = await Peer.connect(("127.0.0.1", port))
        await peer.send(hello()[:size])
        peer.finish()
        await rest_of(peer)
        peer.close()
        _, error = await server.until("connect_error")
    assert isinstance(error, ssl.SSLEOFError)


@both_versions
@pytest.mark.parametrize("stage", ["nothing", "half a hello", "hello", "finished"])
async def test_a_reset_at_every_stage_of_the_handshake(version: str, stage: str) -> None:
    server = Recorder()
    async with serving(server) as port:
        sock = (await Peer.connect(("127.0.0.1", port))).sock
        peer = TlsPeer(sock, server_side=False, version=version)
        with pytest.raises(ssl.SSLWantReadError):
            peer.ssl.do_handshake()
        flight = peer.outgoing.read()
        if stage != "nothing":
            await Peer.send(peer, flight[:50] if stage == "half a hello" else flight)
        if stage in ("hello", "finished"):
            # Our flight has come.
            assert await peer._fill()
        if stage == "finished":
            await peer.handshake()
        else:
            await others_had_their_turn()
        peer.reset()
        name = "close" if stage == "finished" else "connect_error"
        _, error = await server.until(name)
    assert isinstance(error, ConnectionResetError)
    if stage == "finished":
        assert server.names[0] == "open"


@both_versions
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_handshake_in_single_bytes(version: str, side: str) -> None:
    class Dripping(TlsPeer):
        async def flush(self) -> None:
            for byte in self.outgoing.read():
                await Peer.send(self, bytes([byte]))

    mantous = Recorder(data=lambda socket, data: socket.write(data))
    if side == "server":
        async with serving(mantous) as port:
            sock = (await Peer.connect(("127.0.0.1", port))).sock
            peer = await Dripping(sock, False, version).handshake()
            await peer.send(b"echo")
            assert await peer.receive(4) == b"echo"
            peer.finish()
            await mantous.until("close")
            peer.close()
    else:
        with RawListener() as raw:
            connecting = asyncio.ensure_future(
                mantou.connect(
                    hostname="127.0.0.1", port=raw.port, socket=mantous, tls=CLIENT_OPTIONS
                )
            )
            peer = await Dripping((await raw.accept()).sock, True, version).handshake()
            await connecting
            await peer.send(b"echo")
            assert await peer.receive(4) == b"echo"
            peer.finish()
            await mantous.until("close")
            peer.close()
    assert mantous.received == b"echo"
    assert mantous.errors == [None]


@pytest.mark.loops("mantou")
@pytest.mark.timeout(FUZZ_SECONDS + 60)
async def test_broken_hellos() -> None:
    """Bytes of a good hello are changed, cut, doubled, and it is sent in pieces."""
    seed = int(os.environ.get("MANTOU_FUZZ_SEED", "7"))
    chance = random.Random(seed)
    templates = [hello(), hello("TLSv1.2")]
    server = Recorder()
    deadline = time.monotonic() + FUZZ_SECONDS
    tried = 0
    async with serving(server, handshake_timeout=0.2) as port:
        while time.monotonic() < deadline or tried < 20:
            broken = mutated(chance, chance.choice(templates))
            peer = await Peer.connect(("127.0.0.1", port))
            with contextlib.suppress(ConnectionError):
                cut = chance.randrange(len(broken) + 1)
                await peer.send(broken[:cut])
                await peer.send(broken[cut:])
                peer.finish()
            answer = await rest_of(peer)
            peer.close()
            assert answer == b"" or answer[0] in (ALERT, HANDSHAKE), broken.hex()
            tried += 1
            await server.until("connect_error", tried)
            error = server.of("connect_error")[-1][1]
            assert isinstance(error, ssl.SSLError | ConnectionError), broken.hex()
    assert set(server.names[: 2 * tried]) == {"connect_error"}


def mutated(chance: random.Random, good: bytes) -> bytes:
    broken = bytearray(good)
    for _ in range(chance.randrange(1, 6)):
        position = chance.randrange(len(broken))
        kind = chance.randrange(4)
        if kind == 0:
            broken[position] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
        elif kind == 1:
            del broken[position : position + chance.randrange(1, 64)]
        elif kind == 2:
            broken[position:position] = broken[position : position + chance.randrange(1, 64)]
        else:
            broken[position:position] = chance.randbytes(chance.randrange(1, 300))
        if not broken:
            break
    # One byte is no hello, whatever was done to it.
    return bytes(broken) or b"\0"


# In an established session


@both_versions
@pytest.mark.parametrize("what", ["tag", "kind", "length", "plaintext", "repetition"])
async def test_a_tampered_record(version: str, what: str) -> None:
    client = Recorder(error=lambda socket, error: written.append(socket.write(b"x")))
    written: list[int] = []
    async with linked("tls", client, version=version) as (_, peer):
        assert isinstance(peer, TlsPeer)
        await peer.send(b"good")
        await client.until_received(4)
        sealed = bytearray(peer.seal(b"tampered with"))
        if what == "tag":
            sealed[-1] ^= 1
        elif what == "kind":
            sealed[0] = 99
        elif what == "length":
            sealed[3:5] = b"\xff\xff"
        elif what == "plaintext":
            sealed[:] = record(APPLICATION_DATA, b"in clear, in the middle of it all")
        else:
            sealed *= 2
        await Peer.send(peer, bytes(sealed) + peer.seal(b"behind"))
        _, error = await client.until("close")
        assert await rest_of(peer)
    assert isinstance(error, ssl.SSLError)
    assert not isinstance(error, ssl.SSLEOFError)
    assert client.received == b"good" + (b"tampered with" if what == "repetition" else b"")
    assert client.names == ["open", "data", "error", "close"]
    assert client.of("error") == [("error", error)]
    assert written == [-1]


@every_engine
async def test_what_is_answered_before_a_bad_record(link: str) -> None:
    """The two come at once: the handler cannot know, and it is not its fault."""
    server = Recorder(data=lambda socket, data: socket.write_all(data))
    async with accepted(server, link) as (_, peer):
        assert isinstance(peer, TlsPeer)
        good, bad = peer.seal(b"good"), bytearray(peer.seal(b"bad"))
        bad[-1] ^= 1
        await Peer.send(peer, good + bad)
        _, error = await server.until("close")
    assert isinstance(error, ssl.SSLError)
    assert server.received == b"good"
    assert server.names == ["open", "data", "error", "close"]
    assert server.of("error") == [("error", error)]


@both_versions
async def test_a_flood_of_empty_records(version: str) -> None:
    """They cost, and bring nothing."""
    if version == "TLSv1.3":
        flood = record(20, b"\1") * 100_000
    else:
        flood = record(HANDSHAKE, b"") * 100_000
    client = Recorder()
    async with linked("tls", client, version=version) as (_, peer):
        with contextlib.suppress(ConnectionError):
            await Peer.send(peer, flood)
        _, error = await client.until("close")
    assert isinstance(error, ssl.SSLError)
    assert client.names == ["open", "error", "close"]


def sealer(key_log: str) -> Callable[[bytes], bytes]:
    """Seals what a TLS 1.3 client says, AES-256-GCM, by the secret that its key log tells.

    As OpenSSL would, from the first record on; but it also seals nothing at all.
    """
    secret = re.search(r"CLIENT_TRAFFIC_SECRET_0 \S+ (\S+)", key_log)
    assert secret is not None

    def expand(label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(bytes.fromhex(secret[1]))

    cipher, nonce = AESGCM(expand(b"key", 32)), int.from_bytes(expand(b"iv", 12), "big")
    numbers = itertools.count()

    def seal(data: bytes) -> bytes:
        inner = data + bytes([APPLICATION_DATA])
        header = bytes([APPLICATION_DATA, 3, 3]) + (len(inner) + 16).to_bytes(2, "big")
        number = (nonce ^ next(numbers)).to_bytes(12, "big")
        return header + cipher.encrypt(number, inner, header)

    return seal


async def test_a_flood_of_sealed_empty_records(tmp_path: Path) -> None:
    """A few may hide how much is said; as many as a flood are an attack."""
    server = Recorder(data=lambda socket, data: socket.write(data))
    async with serving(server) as port:
        sock = kernel.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        peer = TlsPeer(sock, server_side=False, version="TLSv1.3")
        peer.ssl.context.keylog_filename = str(tmp_path / "keys")
        await peer.handshake()
        seal = sealer((tmp_path / "keys").read_text())
        await Peer.send(peer, b"".join(seal(b"") for _ in range(30)) + seal(b"still there"))
        assert await peer.receive_some() == b"still there"
        with contextlib.suppress(ConnectionError):
            await Peer.send(peer, b"".join(seal(b"") for _ in range(20_000)))
        _, error = await server.until("close")
        peer.close()
    assert isinstance(error, ssl.SSLError)
    assert server.events == [
        ("open",),
        ("data", b"still there"),
        ("error", error),
        ("close", error),
    ]


async def test_a_flood_of_empty_records_before_the_handshake() -> None:
    server = Recorder()
    async with serving(server, handshake_timeout=5.0) as port:
        for kind in (HANDSHAKE, 20, ALERT):
            peer = await Peer.connect(("127.0.0.1", port))
            with contextlib.suppress(ConnectionError):
                await peer.send(record(kind, b"") * 20_000)
                peer.finish()
            await rest_of(peer)
            peer.close()
        await server.until("connect_error", 3)
    assert all(isinstance(error, ssl.SSLError) for _, error in server.of("connect_error"))


# A crowd


@pytest.mark.alone
@pytest.mark.loops("mantou")
@pytest.mark.parametrize("say", ["nothing", "half a hello", "a hello"])
async def test_a_crowd_that_never_finishes_its_handshake(say: str) -> None:
    """Those who are connected already go on being answered."""
    words = {"nothing": b"", "half a hello": hello()[:100], "a hello": hello()}[say]
    server = Recorder(data=lambda socket, data: socket.write(data))
    crowd: list[Peer] = []
    delays: list[float] = []
    with mantou.listen(
        hostname="127.0.0.1", port=0, socket=server, tls=SERVER_OPTIONS, backlog=CROWD
    ) as listener:
        address = ("127.0.0.1", listener.port)
        live = await secured((await Peer.connect(address)).sock, server_side=False)
        await server.until("open")
        try:
            while len(crowd) < CROWD:
                for _ in range(50):
                    peer = Peer.connect_at_once(address)
                    crowd.append(peer)
                    peer.sock.send(words)
                begin = time.perf_counter()
                await live.send(b"ping")
                assert await live.receive(4) == b"ping"
                delays.append(time.perf_counter() - begin)
            assert listener.connections == CROWD + 1
        finally:
            for peer in crowd:
                peer.reset()
        live.finish()
        await server.until("close")
        live.close()
        while listener.connections:
            await others_had_their_turn()
    assert len(server.of("connect_error")) == CROWD
    assert statistics.median(delays) < 0.05

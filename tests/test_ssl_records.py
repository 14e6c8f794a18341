"""An `ssl.SSLContext` and its records: however they come, whatever goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

import mantou
from tests.support import Peer, Recorder, others_had_their_turn
from tests.tls_support import VERSIONS, TlsPeer, context, secured

FULL = 16 * 1024
every_version = pytest.mark.parametrize("version", VERSIONS)


@contextlib.asynccontextmanager
async def served(
    recorder: Recorder, version: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[TlsPeer]:
    """A peer of a server with an `ssl.SSLContext`; the handshake is done."""
    tls = tls or context(server_side=True, version=version)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        raw = Peer.connect_at_once(("127.0.0.1", listener.port))
        peer = await secured(raw.sock, server_side=False)
        await recorder.until("open")
        try:
            yield peer
        finally:
            peer.close()
            await recorder.until("close")


def echo(**more: Any) -> Recorder:
    return Recorder(data=lambda socket, data: socket.write_all(data), **more)


@every_version
async def test_a_record_may_be_cut_anywhere(version: str) -> None:
    recorder = echo()
    async with served(recorder, version) as peer:
        expected, cut, more = b"", 0, True
        while more:
            first, second = peer.seal(b"0123456789"), peer.seal(b"abc")
            wire, cut = first + second, cut + 1
            await Peer.send(peer, wire[:cut])
            await others_had_their_turn()
            assert recorder.received == expected + b"0123456789" * (cut >= len(first))
            await Peer.send(peer, wire[cut:])
            expected += b"0123456789abc"
            assert await recorder.until_received(len(expected)) == expected
            more = cut < len(wire) - 1


async def test_a_record_may_come_byte_by_byte() -> None:
    recorder = echo()
    async with served(recorder) as peer:
        for byte in peer.seal(b"slowly"):
            assert not recorder.received
            await Peer.send(peer, bytes([byte]))
            await others_had_their_turn()
        assert await recorder.until_received(6) == b"slowly"
        assert await peer.receive(6) == b"slowly"


@every_version
@pytest.mark.parametrize("size", [1, 100, FULL], ids=str)
async def test_many_records_in_one_read(version: str, size: int) -> None:
    recorder = echo()
    async with served(recorder, version) as peer:
        sent = b"".join(bytes([n % 251]) * size for n in range(200))
        answer = asyncio.ensure_future(peer.receive(len(sent)))
        await Peer.send(
            peer, b"".join(peer.seal(sent[at : at + size]) for at in range(0, len(sent), size))
        )
        assert await answer == sent
    assert recorder.received == sent
    if size < FULL:
        # Their plaintext comes together, as that of one read does.
        assert len(recorder.of("data")) < 100


@every_version
async def test_what_comes_right_behind_the_handshake_is_delivered(version: str) -> None:
    recorder = echo()
    tls = context(server_side=True, version=version)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        raw = Peer.connect_at_once(("127.0.0.1", listener.port))
        peer = TlsPeer(raw.sock, server_side=False)
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.ssl.do_handshake()
                break
            await peer.flush()
            await peer._fill()
        # The end of the handshake is still here.
        flight = peer.outgoing.read()
        behind = b"".join(peer.seal(bytes([n]) * FULL) for n in range(3)) + peer.seal(b"end")
        await Peer.send(peer, flight + behind[:-5])
        await recorder.until_received(3 * FULL)
        await Peer.send(peer, behind[-5:])
        expected = b"".join(bytes([n]) * FULL for n in range(3)) + b"end"
        assert await recorder.until_received(len(expected)) == expected
        assert await peer.receive(len(expected)) == expected
        peer.close()
        await recorder.until("close")


@every_version
async def test_large_writes_take_full_records(version: str) -> None:
    data = bytes(range(256)) * 4096
    recorder = Recorder(open=lambda socket: socket.write_all(data))
    async with served(recorder, version) as peer:
        assert await peer.receive(len(data)) == data


async def test_what_was_opened_before_an_error_is_delivered() -> None:
    recorder = Recorder()
    async with served(recorder) as peer:
        good, bad = peer.seal(b"good"), bytearray(peer.seal(b"bad"))
        bad[-1] ^= 1
        await Peer.send(peer, good + bad)
        await recorder.until("close")
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            await peer.receive_some()
    assert recorder.received == b"good"
    error = recorder.errors[0]
    assert isinstance(error, ssl.SSLError)
    assert error.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\xff\xff"], ids=["text", "oversized"]
)
async def test_what_is_no_record_breaks_at_once(garbage: bytes) -> None:
    recorder = Recorder()
    async with served(recorder) as peer:
        await Peer.send(peer, peer.seal(b"before") + garbage)
        await recorder.until("close")
    assert recorder.received == b"before"
    assert isinstance(recorder.errors[0], ssl.SSLError)


@every_version
async def test_a_broken_connection_leaves_nothing_to_the_others(version: str) -> None:
    recorder = echo()
    tls = context(server_side=True, version=version)
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        peers = []
        for _ in range(3):
            raw = Peer.connect_at_once(("127.0.0.1", listener.port))
            peers.append(await secured(raw.sock, server_side=False))
        first, broken, last = peers
        half = first.seal(b"first")
        await Peer.send(first, half[:9])
        # What OpenSSL does not look at any more is behind the record that breaks it.
        bad = bytearray(broken.seal(b"bad"))
        bad[-1] ^= 1
        await Peer.send(broken, bytes(bad) + broken.seal(b"never") * 3)
        await recorder.until("close")
        await last.send(b"last")
        assert await last.receive(4) == b"last"
        await Peer.send(first, half[9:])
        assert await first.receive(5) == b"first"
        for peer in peers:
            peer.close()
        await recorder.until("close", 3)
    assert sorted(bytes(data) for _, data in recorder.of("data")) == [b"first", b"last"]


@every_version
async def test_close_notify_behind_data_is_the_end(version: str) -> None:
    recorder = echo(end=lambda socket: socket.end(b"bye"))
    async with served(recorder, version) as peer:
        wire = peer.seal(b"last words")
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.ssl.unwrap()
        await Peer.send(peer, wire + peer.outgoing.read())
        assert await peer.receive_until_fin() == b"last wordsbye"
    assert recorder.names == ["open", "data", "end", "close"]
    assert recorder.errors == [None]


class Checking(ssl.SSLObject):
    """As programs do that verify by other means: truststore, for one."""

    def do_handshake(self) -> None:
        super().do_handshake()
        raise ssl.SSLCertVerificationError("not to my taste")


class Keeping(ssl.SSLObject):
    """Keeps what was lent to it."""

    kept: Any = None

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        Keeping.kept = memoryview(buffer)
        return super().read(len, buffer)


async def test_an_overridden_handshake_decides() -> None:
    tls = context(server_side=True)
    tls.sslobject_class = Checking
    recorder = Recorder()
    with mantou.listen(hostname="127.0.0.1", port=0, socket=recorder, tls=tls) as listener:
        raw = Peer.connect_at_once(("127.0.0.1", listener.port))
        peer = await secured(raw.sock, server_side=False, version="TLSv1.3")
        _, error = await recorder.until("connect_error")
        assert isinstance(error, ssl.SSLCertVerificationError)
        peer.close()
    assert recorder.names == ["connect_error"]


async def test_overridden_reads_and_writes_are_used() -> None:
    seen: list[tuple[str, bytes]] = []

    class Watched(ssl.SSLObject):
        def read(self, len: int = 1024, buffer: Any = None) -> Any:
            n = super().read(len, buffer)
            seen.append(("read", bytes(buffer[:n])))
            return n

        def write(self, data: Any) -> int:
            seen.append(("write", bytes(data)))
            return super().write(data)

    tls = context(server_side=True)
    tls.sslobject_class = Watched
    async with served(echo(), tls=tls) as peer:
        await peer.send(b"through python")
        assert await peer.receive(14) == b"through python"
    assert seen == [("read", b"through python"), ("write", b"through python")]


async def test_lent_memory_is_not_used_again_while_somebody_keeps_it() -> None:
    tls = context(server_side=True)
    tls.sslobject_class = Keeping
    recorder = Recorder()
    async with served(recorder, tls=tls) as peer:
        await peer.send(b"keep this")
        await recorder.until("close")
        assert isinstance(recorder.errors[0], BufferError)
        assert bytes(Keeping.kept[:9]) == b"keep this"
        Keeping.kept.release()


async def test_a_connection_lets_go_of_its_ssl_object() -> None:
    recorder = echo()
    made: list[weakref.ref[ssl.SSLObject]] = []

    class Noted(ssl.SSLObject):
        def do_handshake(self) -> None:
            made.append(weakref.ref(self))
            super().do_handshake()

    tls = context(server_side=True)
    tls.sslobject_class = Noted
    async with served(recorder, tls=tls) as peer:
        await peer.send(b"hello")
        assert await peer.receive(5) == b"hello"
    recorder.events.clear()
    recorder.sockets.clear()
    del peer
    await others_had_their_turn()
    gc.collect()
    assert made
    assert all(one() is None for one in made)

"""Packets against a model of ten lines.

Whatever is sent, however it is fragmented, and whatever the handler does between two packets: it is
called with exactly these, in order.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mantou
from tests.chance import examples
from tests.conftest import LOOPS, LoopErrors, run_on
from tests.support import Recorder, linked

SIZE = 40

Framing = Any
Change = tuple[int, Framing]


def model(sent: bytes, framing: Framing, changes: list[Change]) -> tuple[list[bytes], bytes, type]:
    """The packets of what was sent, the raw bytes behind them, and the error that ends it."""
    packets: list[bytes] = []
    ends = dict(changes)
    while sent and framing != "raw":
        if framing == "line":
            packet, end, rest = sent.partition(b"\n")
            packet, whole = packet.removesuffix(b"\r"), bool(end)
        else:
            length, rest = int.from_bytes(sent[:framing]), sent[framing:]
            packet, rest, whole = rest[:length], rest[length:], len(rest) >= length
            packet = packet if len(sent) >= framing else b""
            whole = whole and len(sent) >= framing
            packet = bytes(length) if length > SIZE and len(sent) >= framing else packet
        if len(packet) > SIZE:
            return packets, b"", mantou.PacketTooLarge
        if not whole:
            return packets, b"", mantou.PacketIncomplete
        packets.append(packet)
        sent, framing = rest, ends.get(len(packets), framing)
    return packets, sent, type(None)


def encoded(packet: bytes, framing: Framing) -> bytes:
    if framing == "line":
        return packet + (b"\r\n" if len(packet) % 2 else b"\n")
    return packet if framing == "raw" else len(packet).to_bytes(framing) + packet


framings = st.sampled_from(["line", 1, 2, 4])
payloads = st.one_of(
    st.binary(max_size=SIZE + 2),
    st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"x" * SIZE, b"x" * (SIZE + 1)]),
)
segments = st.lists(st.tuples(framings, st.lists(payloads, min_size=1, max_size=8)), max_size=4)
tails = st.one_of(st.just(b""), st.binary(max_size=90))
pieces = st.lists(st.integers(1, 30), max_size=12)
actions = st.dictionaries(
    st.integers(1, 12), st.sampled_from(["pause", "wait", "reload", "write"]), max_size=5
)
kinds = st.sampled_from(["bytes", "bytearray", "memoryview"])


class Receiver(Recorder):
    """Does what the test says after so many packets."""

    def __init__(self, kind: Any, changes: list[Change], actions: dict[int, str]) -> None:
        super().__init__()
        self.binary_type = kind
        self.taken: list[bytes] = []
        self._changes = dict(changes)
        self._actions = actions

    def data(self, socket: mantou.Socket[Any], data: Any) -> object:
        self.taken.append(bytes(data))
        if (framing := self._changes.get(len(self.taken))) is not None:
            socket.set_packet(framing)
        action = self._actions.get(len(self.taken))
        if action == "pause":
            socket.pause()
            asyncio.get_running_loop().call_soon(socket.resume)
        elif action == "reload":
            socket.reload(self)
        elif action == "write":
            with socket.cork():
                socket.write(b"x")
        elif action == "wait":
            return self._wait(socket, data)
        return self._note("data", socket, bytes(data))

    async def _wait(self, socket: mantou.Socket[Any], data: Any) -> None:
        before = len(self.taken)
        await asyncio.sleep(0)
        assert len(self.taken) == before, "a packet while the handler was busy with another"
        self._note("data", socket, data)


async def carried_out(
    link: str,
    kind: str,
    segments: list[tuple[Framing, list[bytes]]],
    ends_raw: bool,
    tail: bytes,
    pieces: list[int],
    actions: dict[int, str],
) -> None:
    first = segments[0][0] if segments else "line"
    changes: list[Change] = []
    sent = b""
    count = 0
    for framing, payloads in segments:
        if count:
            changes.append((count, framing))
        sent += b"".join(encoded(payload, framing) for payload in payloads)
        count += len(payloads)
    if ends_raw and count:
        changes.append((count, "raw"))
    sent += tail
    packets, raw, error = model(sent, first, changes)
    receiver = Receiver(kind, changes, actions)
    options: dict[str, Any] = {"packet": first, "packet_size": SIZE}
    async with linked(link, receiver, **options) as (socket, peer):
        position = 0
        for size in pieces:
            await peer.send(sent[position : position + size])
            position += size
            # Mostly what was sent has arrived by then, and sometimes two pieces come together.
            await asyncio.sleep(0)
        await peer.send(sent[position:])
        peer.finish()
        await receiver.until("close")
        assert receiver.taken[: len(packets)] == packets
        assert b"".join(receiver.taken[len(packets) :]) == raw
        assert type(receiver.errors[-1]) is error
        assert (receiver.names[-2:] == ["end", "close"]) is (error is type(None))
        assert error is mantou.PacketTooLarge or socket.bytes_read == len(sent)


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("link", ["tcp", "unix", "tls", "context"])
@examples(60)
@given(
    kind=kinds,
    segments=segments,
    ends_raw=st.booleans(),
    tail=tails,
    pieces=pieces,
    actions=actions,
)
def test_packets_are_those_of_the_model(
    link: str, loop_kind: str, loop_errors: LoopErrors, **drawn: Any
) -> None:
    test = functools.partial(carried_out, link, **drawn)
    run_on(loop_kind, test, loop_errors, {}, 5.0)

"""Packets: the options `packet` and `packet_size`, `set_packet()`, and what is sent with a length.

Whether the right packets come of whatever is sent: test_packets_model.py.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

import mantou
from tests.peers import Peer
from tests.support import (
    Recorder,
    accepted,
    connected,
    dial,
    every_engine,
    every_path,
    fill,
    linked,
    listen,
    others_had_their_turn,
)

KIB = 1024


def prefixed(packet: bytes, width: int) -> bytes:
    return len(packet).to_bytes(width) + packet


async def receive_packet(peer: Peer, width: int) -> bytes:
    length = int.from_bytes(await peer.receive(width))
    return await peer.receive(length)


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_a_listener_cuts_what_its_connections_receive(link: str) -> None:
    recorder = Recorder()
    async with accepted(recorder, link, packet="line") as (_, peer):
        await peer.send(b"PING\r\nGET key\nSE")
        await recorder.until("data", 2)
        await peer.send(b"T\n\n")
        await recorder.until("data", 4)
        assert recorder.packets == [b"PING", b"GET key", b"SET", b""]
        peer.finish()
        await recorder.until("close")
        assert recorder.names == ["open", "data", "end", "close"]


@every_path
@pytest.mark.parametrize("width", [1, 2, 4])
async def test_what_is_sent_gets_its_length_in_front(link: str, width: Any) -> None:
    recorder = Recorder()
    async with linked(link, recorder, packet=width) as (socket, peer):
        assert socket.write(b"written") == 7
        assert socket.write("xpärtx", 1, 5) == 5
        socket.write_all(b"all")
        socket.write_all(b"")
        await socket.send(bytearray(b"sent"))
        with socket.cork():
            assert socket.write(b"corked") == 6
            socket.write_all(b"too")
        assert socket.end(b"last") == 4
        expected = [b"written", "pärt".encode(), b"all", b"", b"sent", b"corked", b"too", b"last"]
        wire = b"".join(prefixed(packet, width) for packet in expected)
        assert await peer.receive_until_fin() == wire
        assert socket.bytes_written == len(wire)
        await peer.send(wire)
        await recorder.until("data", len(expected))
        assert recorder.packets == expected
        assert socket.bytes_read == len(wire)


@every_path
async def test_ending_without_data_sends_no_packet(link: str) -> None:
    async with linked(link, Recorder(), packet=2) as (socket, peer):
        assert socket.end() == 0
        assert await peer.receive_until_fin() == b""


@pytest.mark.parametrize("width", [1, 2])
async def test_a_packet_longer_than_its_length_can_say_is_refused(width: Any) -> None:
    async with connected(Recorder(), packet=width) as (socket, peer):
        longest = 256**width - 1
        data = bytes(longest + 1)
        for send in (socket.write, socket.write_all, socket.end, socket.send):
            with pytest.raises(ValueError, match=f"at most {longest} .* got {longest + 1} bytes"):
                send(data)
        assert socket.write(data[1:]) == longest
        assert await receive_packet(peer, width) == data[1:]


@every_path
async def test_write_takes_a_packet_whole_or_not_at_all(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder, packet=4) as (socket, peer):
        packet = bytes(300 * KIB)
        count = 0
        while taken := socket.write(packet):
            assert taken == len(packet)
            count += 1
        assert socket.buffered > 0
        assert socket.write(b"little") == 0
        for _ in range(count):
            assert await receive_packet(peer, 4) == packet
        await recorder.until("drain")
        assert socket.write(b"little") == 6
        assert await receive_packet(peer, 4) == b"little"
        assert len(recorder.of("drain")) == 1


@every_engine
async def test_before_the_handshake_no_packet_is_taken_by_write(link: str) -> None:
    def on_open(socket: mantou.Socket[Any]) -> None:
        assert socket.write(b"early") == 0
        socket.write_all(b"held")

    recorder = Recorder(open=on_open, drain=lambda socket: socket.write(b"drained"))
    recorder.handshake = lambda *_: None  # type: ignore[method-assign]
    async with linked(link, recorder, packet=1) as (_, peer):
        assert await receive_packet(peer, 1) == b"held"
        assert await receive_packet(peer, 1) == b"drained"


@every_path
@pytest.mark.parametrize("packet", ["line", 1, 2, 4])
async def test_a_packet_that_is_too_large_ends_the_connection(link: str, packet: Any) -> None:
    recorder = Recorder(data=lambda socket, data: socket.write_all(b"answer"))
    async with linked(link, recorder, packet=packet, packet_size=100) as (_, peer):
        if packet == "line":
            await peer.send(b"x" * 100 + b"\r\n" + b"x" * 101 + b"\n" + b"more\n")
        else:
            await peer.send(prefixed(b"x" * 100, packet) + (101).to_bytes(packet))
        answer = b"answer" if packet == "line" else prefixed(b"answer", packet)
        assert await peer.receive_until_fin() == answer
        _, error = await recorder.until("close")
        assert isinstance(error, mantou.PacketTooLarge)
        assert isinstance(error, ConnectionError)
        assert error.errno == errno.EMSGSIZE
        assert "packet_size=100" in str(error)
        assert recorder.names == ["open", "data", "close"]
        assert recorder.packets == [b"x" * 100]


@pytest.mark.parametrize("link", ["tcp", "tls", "context"])
async def test_a_line_without_end_is_not_collected(link: str) -> None:
    recorder = Recorder()
    async with accepted(recorder, link, packet="line", packet_size=100 * KIB) as (socket, peer):
        sending = asyncio.ensure_future(peer.send(bytes(8 * KIB * KIB)))
        _, error = await recorder.until("close")
        assert isinstance(error, mantou.PacketTooLarge)
        # One read more than the limit at most.
        assert socket.bytes_read <= 200 * KIB
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert "data" not in recorder.names


@every_path
@pytest.mark.parametrize("packet", ["line", 1, 2, 4])
async def test_a_fin_within_a_packet_is_an_error(link: str, packet: Any) -> None:
    recorder = Recorder(data=lambda socket, data: socket.write_all(b"answer"))
    async with linked(link, recorder, packet=packet) as (_, peer):
        part = b"half a line" if packet == "line" else prefixed(b"all of it", packet)[:-1]
        whole = b"\n" if packet == "line" else prefixed(b"", packet)
        await peer.send(whole + part)
        peer.finish()
        _, error = await recorder.until("close")
        assert isinstance(error, mantou.PacketIncomplete)
        assert isinstance(error, EOFError)
        assert (error.errno, error.partial) == (errno.EPROTO, part)
        # What was written before still arrives, and the end is not told as a clean one.
        answer = b"answer" if packet == "line" else prefixed(b"answer", packet)
        assert await peer.receive_until_fin() == answer
        assert recorder.names == ["open", "data", "close"]


@every_path
async def test_pausing_stops_the_packets_of_the_same_read(link: str) -> None:
    recorder = Recorder(data=lambda socket, _: socket.pause())
    async with linked(link, recorder, packet="line") as (socket, peer):
        await peer.send(b"1\n2\n3\nhalf")
        for expected in (1, 2, 3):
            await recorder.until("data", expected)
            await others_had_their_turn()
            assert len(recorder.of("data")) == expected
            socket.resume()
        await peer.send(b" and half\n")
        await recorder.until("data", 4)
        peer.finish()
        await others_had_their_turn()
        assert recorder.names == ["open", "data"]
        socket.resume()
        await recorder.until("close")
        assert recorder.packets == [b"1", b"2", b"3", b"half and half"]
        assert recorder.names == ["open", "data", "end", "close"]


async def test_packets_that_wait_come_before_a_reset() -> None:
    recorder = Recorder(data=lambda socket, _: len(recorder.of("data")) == 1 and socket.pause())
    async with connected(recorder, packet="line") as (socket, peer):
        await peer.send(b"1\n2\n3\n")
        await recorder.until("data")
        peer.reset()
        await others_had_their_turn()
        socket.resume()
        _, error = await recorder.until("close")
        assert isinstance(error, ConnectionResetError)
        assert recorder.packets == [b"1", b"2", b"3"]


@every_path
@pytest.mark.parametrize("how", ["close", "terminate", "discard", "raise"])
async def test_nothing_comes_behind_the_packet_that_ended_it(link: str, how: str) -> None:
    def act(socket: mantou.Socket[Any], data: bytes) -> None:
        if how == "discard":
            socket.shutdown(True)
        elif how == "raise":
            raise RuntimeError("a handler's own")
        else:
            getattr(socket, how)()

    recorder = Recorder(data=act, error=lambda *_: None)
    async with linked(link, recorder, packet="line") as (_, peer):
        await peer.send(b"1\n2\n3\nhalf")
        await recorder.until("data")
        await others_had_their_turn()
        if how == "discard":
            peer.finish()
        await recorder.until("close")
        assert recorder.packets == [b"1"]
        # Also not an unfinished packet that nobody wants.
        assert not isinstance(recorder.errors[-1], mantou.PacketIncomplete)


@every_path
async def test_set_packet_between_two_reads_is_for_what_waits_too(link: str) -> None:
    recorder = Recorder()
    async with linked(link, recorder) as (socket, peer):
        await peer.send(b"raw")
        await recorder.until_received(3)
        socket.set_packet("line")
        await peer.send(b"a line\n\0\0\0\2")
        await recorder.until("data", 2)
        socket.set_packet(4)
        await peer.send(b"ab\0\0")
        await recorder.until("data", 3)
        socket.set_packet("raw")
        await recorder.until("data", 4)
        await peer.send(b"\n")
        await recorder.until("data", 5)
        assert recorder.packets == [b"raw", b"a line", b"ab", b"\0\0", b"\n"]
        peer.finish()
        await recorder.until("close")
        assert recorder.names == ["open", "data", "end", "close"]


async def test_the_size_that_set_packet_is_not_told_is_the_options() -> None:
    recorder = Recorder()
    async with connected(recorder, packet="line", packet_size=8) as (socket, peer):
        socket.set_packet("line", packet_size=20)
        await peer.send(b"twelve bytes\n")
        await recorder.until("data")
        socket.set_packet("line")
        await peer.send(b"twelve bytes\n")
        _, error = await recorder.until("close")
        assert isinstance(error, mantou.PacketTooLarge)
        socket.set_packet("raw")  # closed: nothing happens


async def test_handlers_that_are_replaced_get_the_next_packet() -> None:
    second = Recorder()
    first = Recorder(data=lambda socket, _: socket.reload(second))
    async with connected(first, packet="line") as (_, peer):
        await peer.send(b"1\n2\n3\n")
        await second.until("data", 2)
        assert (first.packets, second.packets) == ([b"1"], [b"2", b"3"])


async def test_without_a_data_handler_packets_are_cut_all_the_same() -> None:
    later = Recorder()
    events = Recorder()
    handlers: Any = {"open": events.open, "close": events.close}
    async with connected(handlers, packet="line", packet_size=100) as (socket, peer):
        await peer.send(b"dropped\nhalf of ")
        await others_had_their_turn()
        socket.reload(later)
        await peer.send(b"one\nand one\n")
        await later.until("data", 2)
        assert later.packets == [b"half of one", b"and one"]
        socket.reload(handlers)
        await peer.send(b"x" * 102)
        _, error = await events.until("close")
        assert isinstance(error, mantou.PacketTooLarge)


async def test_a_flood_of_packets_leaves_others_their_turn() -> None:
    flooded, other = Recorder(), Recorder()
    late: list[int] = []
    with listen(flooded, packet="line") as first, listen(other, packet="line") as second:
        peers = [await dial(first), await dial(second)]
        await flooded.until("open")
        await other.until("open")
        other._handlers["data"] = lambda *_: late.append(len(flooded.of("data")))
        # Both are there before the loop looks again.
        assert peers[0].sock.send(b"x\n" * 20_000) == 40_000
        peers[1].sock.send(b"y\n")
        await flooded.until("data", 20_000)
        assert late[0] < 5_000
        for peer in peers:
            peer.close()
        await flooded.until("close")
        await other.until("close")


async def test_answers_to_packets_that_came_together_leave_together() -> None:
    recorder = Recorder(data=lambda socket, data: socket.write(data + b"\n"))
    async with accepted(recorder, packet="line") as (_, peer):
        lines = b"".join(b"line %d\n" % number for number in range(100))
        await peer.send(lines)
        await recorder.until("data", 100)
        # Together they are less than a segment: one packet on the wire is one read.
        assert await peer.receive_some() == lines


# What cannot be


@pytest.mark.parametrize("wrong", [None, 1.0, True, b"line", ["line"]])
async def test_a_packet_of_a_wrong_type_is_refused(wrong: Any) -> None:
    async with connected(Recorder()) as (socket, _):
        for call in (
            lambda: mantou.listen(hostname="127.0.0.1", port=0, socket=Recorder(), packet=wrong),
            lambda: socket.set_packet(wrong),
        ):
            with pytest.raises(TypeError, match=r'packet.* must be "raw", "line", 1, 2 or 4, got'):
                call()


@pytest.mark.parametrize("wrong", ["lines", "", "LINE", 0, 3, 8, -1, 2**70])
async def test_a_packet_of_a_wrong_value_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"option 'packet' must be .* got"):
        await mantou.connect(hostname="127.0.0.1", port=1, socket=Recorder(), packet=wrong)
    async with connected(Recorder()) as (socket, _):
        with pytest.raises(ValueError, match=r"packet must be .* got"):
            socket.set_packet(wrong)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(0, ValueError), (-1, ValueError), (2**63, ValueError), (1.5, TypeError), (True, TypeError)],
)
async def test_a_wrong_packet_size_is_refused(wrong: Any, error: type[Exception]) -> None:
    place: Any = {"hostname": "127.0.0.1", "port": 0, "socket": Recorder()}
    with pytest.raises(error, match="option 'packet_size' must be"):
        mantou.listen(**place, packet="line", packet_size=wrong)
    async with connected(Recorder()) as (socket, _):
        with pytest.raises(error, match="packet_size must be"):
            socket.set_packet("line", wrong)


async def test_what_a_full_kernel_leaves_of_a_packet_waits_whole() -> None:
    async with connected(Recorder()) as (socket, peer):
        taken = fill(socket)
        socket.set_packet(2)
        assert socket.write(b"first") == 5
        assert socket.buffered == 7
        assert socket.write(b"second") == 0
        assert len(await peer.receive(taken)) == taken
        assert await receive_packet(peer, 2) == b"first"
        socket.end(b"last")
        assert await peer.receive_until_fin() == prefixed(b"last", 2)

"""pause(), resume(), timeout(), the options of TCP, and how much one socket gets per turn."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import random
import socket as kernel
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

import pytest

import mantou
from tests.support import (
    Recorder,
    accepted,
    connected,
    every_link,
    every_path,
    every_stream,
    fill,
    linked,
    others_had_their_turn,
)
from tests.tls_support import APPLICATION_DATA, records

KIB = 1024


def kernel_option(socket: mantou.Socket[Any], level: int, option: int) -> int:
    """What the kernel says of a socket, asked by way of its descriptor."""
    copy = kernel.socket(fileno=kernel.dup(socket.fileno()))
    try:
        return copy.getsockopt(level, option)
    finally:
        copy.close()


# pause() and resume()


@every_link
async def test_a_paused_socket_leaves_its_input_in_the_kernel(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        socket.pause()
        socket.pause()
        await peer.send(b"waiting")
        await others_had_their_turn()
        assert client.names == ["open"]
        copy = kernel.socket(fileno=kernel.dup(socket.fileno()))
        waiting = copy.recv(65536, kernel.MSG_PEEK)
        if link == "tls":
            assert [kind for kind, _ in records(waiting)][-1] == APPLICATION_DATA
        else:
            assert waiting == b"waiting"
        copy.close()
        # Not counted: one resume() is enough.
        socket.resume()
        assert await client.until_received(7) == b"waiting"


@every_stream
async def test_resume_of_what_is_not_paused_changes_nothing(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        socket.resume()
        await peer.send(b"x")
        await client.until_received(1)
        socket.pause()
        await peer.send(b"y")
        await others_had_their_turn()
        assert client.received == b"x"


@every_stream
async def test_pause_takes_effect_inside_data(link: str) -> None:
    client = Recorder(data=lambda socket, data: socket.pause())
    async with linked(link, client) as (socket, peer):
        socket.pause()
        # Two full reads and more are there at once.
        await peer.send(bytes(600 * KIB))
        socket.resume()
        await client.until("data")
        seen = len(client.received)
        assert seen < 600 * KIB
        await others_had_their_turn()
        assert len(client.received) == seen
        assert len(client.of("data")) == 1
        while len(client.received) < 600 * KIB:
            socket.resume()
            await client.until("data", len(client.of("data")) + 1)


@every_stream
async def test_pause_and_resume_inside_data_cancel_out(link: str) -> None:
    def blink(socket: mantou.Socket[Any], _: bytes) -> None:
        socket.pause()
        socket.resume()

    client = Recorder(data=blink)
    async with linked(link, client) as (_, peer):
        await peer.send(bytes(2048 * KIB))
        await client.until_received(2048 * KIB)


@every_link
async def test_writing_goes_on_while_paused(link: str) -> None:
    content = bytes(8192 * KIB)
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        socket.pause()
        await peer.send(b"unread")
        socket.write_all(content)
        assert await peer.receive(len(content)) == content
        await client.until("drain")
        assert client.names == ["open", "drain"]


@every_link
async def test_a_fin_while_paused_is_told_after_the_data(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        socket.pause()
        await peer.send(b"before")
        peer.finish()
        await others_had_their_turn()
        assert client.names == ["open"]
        assert socket.write(b"still open") == 10
        assert await peer.receive(10) == b"still open"
        socket.resume()
        await client.until("close")
    assert client.events == [("open",), ("data", b"before"), ("end",), ("close", None)]


@every_path
async def test_a_reset_while_paused_is_told_after_the_data(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        socket.pause()
        if link == "unix":
            socket.write(b"unread")
        await peer.send(b"before" * 1000)
        peer.reset()
        await others_had_their_turn()
        assert client.names == ["open"]
        assert socket.write(b"x") == -1
        socket.resume()
        await client.until("close")
    assert client.names == ["open", "data", "close"]
    assert client.received == b"before" * 1000
    assert isinstance(client.errors[0], ConnectionError if link == "unix" else ConnectionResetError)


@every_stream
async def test_a_reset_while_paused_costs_no_time(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        socket.pause()
        peer.reset()
        await others_had_their_turn()
        # The kernel reports the RST without end; nobody may listen.
        used = time.thread_time()
        await asyncio.sleep(0.2)
        assert time.thread_time() - used < 0.1
        socket.resume()
        await client.until("close")
    assert isinstance(client.errors[0], ConnectionResetError)


@every_stream
async def test_a_paused_listener_socket_can_be_resumed_from_a_timer(link: str) -> None:
    server = Recorder(open=lambda socket: socket.pause())
    async with accepted(server, link) as (socket, peer):
        await peer.send(b"later")
        await others_had_their_turn()
        assert server.names == ["open"]
        asyncio.get_running_loop().call_later(0.01, socket.resume)
        assert await server.until_received(5) == b"later"


# timeout()


@every_link
async def test_an_idle_socket_is_closed(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, peer):
        begin = time.monotonic()
        socket.timeout(0.05)
        _, error = await client.until("close")
        assert time.monotonic() - begin >= 0.05
        assert await peer.receive_until_fin() == b""
    assert client.names == ["open", "timeout", "close"]
    assert isinstance(error, TimeoutError)
    assert error.errno == errno.ETIMEDOUT


async def test_an_idle_socket_is_closed_without_a_handler() -> None:
    closed = asyncio.get_running_loop().create_future()
    handlers: Any = {"close": lambda socket, error: closed.set_result(error)}
    async with linked("tcp", handlers, idle_timeout=0.02):
        assert isinstance(await closed, TimeoutError)


@every_stream
async def test_a_handler_that_returns_true_keeps_the_socket(link: str) -> None:
    client = Recorder(timeout=lambda socket: True)
    async with linked(link, client, idle_timeout=0.02) as (socket, peer):
        await client.until("timeout", 3)
        socket.write(b"alive")
        assert await peer.receive(5) == b"alive"
        socket.timeout(0)
        count = len(client.of("timeout"))
        # Another one times out meanwhile.
        other = Recorder()
        async with linked(link, other, idle_timeout=0.06):
            await other.until("close")
        assert len(client.of("timeout")) == count
    assert set(client.names) == {"open", "timeout"}


@every_stream
@pytest.mark.parametrize("result", [None, False, 1, "yes"])
async def test_only_true_keeps_the_socket(link: str, result: object) -> None:
    client = Recorder(timeout=lambda socket: result)
    async with linked(link, client, idle_timeout=0.01):
        await client.until("close")
    assert client.names == ["open", "timeout", "close"]


@pytest.mark.alone
@every_stream
@pytest.mark.parametrize("direction", ["read", "written"])
async def test_every_byte_begins_the_time_anew(link: str, direction: str) -> None:
    client = Recorder()
    loop = asyncio.get_running_loop()
    async with linked(link, client, idle_timeout=0.3) as (socket, peer):
        begin = last = loop.time()
        while last < begin + 0.6:
            last = loop.time()
            if direction == "read":
                await peer.send(b"x")
                await client.until("data", len(client.of("data")) + 1)
            else:
                socket.write(b"x")
                await peer.receive(1)
            await asyncio.sleep(0.02)
        assert "timeout" not in client.names
        await client.until("close")
        # uvloop's clock counts whole milliseconds.
        assert loop.time() - last >= 0.299


@every_stream
async def test_a_stalled_write_times_out_and_is_cut(link: str) -> None:
    client = Recorder()
    async with linked(link, client, idle_timeout=0.05) as (socket, peer):
        fill(socket)
        socket.write_all(bytes(8192 * KIB))
        _, error = await client.until("close")
        assert isinstance(error, TimeoutError)
        with pytest.raises(ConnectionResetError):
            await peer.receive_until_fin()


@every_stream
async def test_timeouts_can_be_changed_and_are_checked(link: str) -> None:
    client = Recorder()
    async with linked(link, client) as (socket, _):
        socket.timeout(3600)
        socket.timeout(0.01)
        for wrong, error in [
            (-1, ValueError),
            (float("nan"), ValueError),
            (float("inf"), ValueError),
            ("1", TypeError),
            (None, TypeError),
            (True, TypeError),
        ]:
            with pytest.raises(error):
                socket.timeout(wrong)  # type: ignore[arg-type]
        await client.until("close")
        socket.timeout(1)
    assert client.names == ["open", "timeout", "close"]


@every_stream
async def test_a_timeout_handler_that_closes_has_its_way(link: str) -> None:
    client = Recorder(timeout=lambda socket: socket.close())
    async with linked(link, client, idle_timeout=0.01):
        await client.until("close")
    assert client.errors == [None]


# The options of TCP


async def test_no_delay_reaches_the_kernel() -> None:
    async with connected(Recorder()) as (socket, _):

        def no_delay() -> bool:
            return bool(kernel_option(socket, kernel.IPPROTO_TCP, kernel.TCP_NODELAY))

        assert no_delay()
        assert socket.set_no_delay(False) is True
        assert not no_delay()
        assert socket.set_no_delay() is True
        assert no_delay()
    async with connected(Recorder(), no_delay=False) as (socket, _):
        assert not no_delay()
    async with accepted(Recorder()) as (socket, _):
        assert no_delay()
    async with accepted(Recorder(), no_delay=False) as (socket, _):
        assert not no_delay()


async def test_keep_alive_reaches_the_kernel() -> None:
    def settings(socket: mantou.Socket[Any]) -> tuple[bool, int]:
        on = kernel_option(socket, kernel.SOL_SOCKET, kernel.SO_KEEPALIVE)
        return bool(on), kernel_option(socket, kernel.IPPROTO_TCP, kernel.TCP_KEEPIDLE)

    async with connected(Recorder()) as (socket, _):
        usual = settings(socket)[1]
        assert settings(socket) == (False, usual)
        assert socket.set_keep_alive(True) is True
        assert settings(socket) == (True, usual)
        assert socket.set_keep_alive(True, 7) is True
        assert settings(socket) == (True, 7)
        # The kernel counts whole seconds.
        assert socket.set_keep_alive(True, 0.2) is True
        assert settings(socket) == (True, 1)
        assert socket.set_keep_alive() is True
        assert settings(socket)[0] is False
        with pytest.raises(ValueError, match="initial_delay"):
            socket.set_keep_alive(True, -1)
    async with connected(Recorder(), keep_alive=12.0) as (socket, _):
        assert settings(socket) == (True, 12)
    async with accepted(Recorder(), keep_alive=13.0) as (socket, _):
        assert settings(socket) == (True, 13)


async def test_a_unix_socket_has_no_options_of_tcp() -> None:
    async with linked("unix", Recorder()) as (socket, _):
        assert socket.set_no_delay() is False
        assert socket.local_address is None
        assert socket.local_port is None
        assert socket.remote_family is None


# Fairness


async def test_one_socket_gets_half_a_mebibyte_per_turn() -> None:
    """A flood does not keep others waiting: its neighbour is heard every 512 KiB."""
    order: list[tuple[str, int]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda socket, data: order.append((name, len(data)))

    flooded, other = Recorder(data=note("flood")), Recorder(data=note("other"))
    # A unix socket would not hold as much as that.
    async with connected(flooded) as (first, flood), connected(other) as (second, peer):
        # The kernel enlarges its buffers for a busy connection.
        warm_up = 32 * 1024 * KIB
        sending = asyncio.ensure_future(flood.send(bytes(warm_up)))
        await flooded.until_received(warm_up)
        await sending
        order.clear()
        first.pause()
        second.pause()
        size = 2048 * KIB
        sending = asyncio.ensure_future(flood.send(bytes(size)))
        await others_had_their_turn()
        assert waiting_in_kernel(first) > 512 * KIB
        await peer.send(b"x")
        first.resume()
        second.resume()
        await flooded.until_received(warm_up + size)
        await sending
    before = order[: order.index(("other", 1))]
    assert before
    assert sum(size for _, size in before) <= 512 * KIB


def waiting_in_kernel(socket: mantou.Socket[Any]) -> int:
    """How many bytes wait to be read."""
    answer = fcntl.ioctl(socket.fileno(), termios.FIONREAD, struct.pack("i", 0))
    size: int = struct.unpack("i", answer)[0]
    return size


@every_link
@pytest.mark.parametrize("binary_type", ["bytes", "bytearray", "memoryview"])
async def test_reads_of_all_sizes_one_after_the_other(link: str, binary_type: Any) -> None:
    # Small reads and large ones take different ways, and each read picks its way by the last one.
    kept: list[Any] = []
    recorder = Recorder(data=lambda socket, data: kept.append(data))
    recorder.binary_type = binary_type
    pattern = random.Random(8).randbytes(200_000)
    sent = b""
    async with linked(link, recorder) as (_, peer):
        for size in (20_000, 10, 70_000, 98_304, 200_000, 8_192, 1, 65_536, 40_000):
            await peer.send(pattern[:size])
            sent += pattern[:size]
            assert await recorder.until_received(len(sent)) == sent
    if binary_type != "memoryview":
        # What was handed over before is nobody else's.
        assert b"".join(kept) == sent

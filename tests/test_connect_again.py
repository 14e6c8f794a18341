"""connect() by options that were checked before: nothing of it is seen but the time it takes."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

import mantou
from mantou._options import parse_connect
from tests.peers import RawListener
from tests.support import Recorder


async def test_handlers_are_looked_up_each_time() -> None:
    class Own(mantou.SocketHandler[Any]):
        pass

    handlers, told = Own(), Recorder()
    with RawListener() as listener:
        options = {"hostname": "127.0.0.1", "port": listener.port}

        async def ended() -> None:
            socket = await mantou.connect(socket=handlers, **options)
            socket.terminate()
            await socket.closed()

        with pytest.raises(TypeError, match="at least one of"):
            await ended()
        Own.close = told.close  # type: ignore[method-assign, assignment]
        await ended()
        assert told.names == ["close"]
        other = Recorder()
        handlers.close = other.close  # type: ignore[method-assign]
        await ended()
        handlers.close = 7  # type: ignore[method-assign, assignment]
        with pytest.raises(TypeError, match="'close'"):
            await ended()
        del handlers.close
        await ended()
        assert (told.names, other.names) == (["close"] * 2, ["close"])


async def test_options_that_look_alike_are_checked() -> None:
    told = Recorder()
    with RawListener() as listener:
        options: dict[str, Any] = {"hostname": "127.0.0.1", "port": listener.port, "socket": told}
        for _ in range(2):
            (await mantou.connect(**options, no_delay=True)).terminate()
            (await mantou.connect(**options, connect_timeout=1)).terminate()
            # In another order, and equal without being the same.
            again = {
                **dict(reversed(options.items())),
                "hostname": ".".join(["127", "0", "0", "1"]),
            }
            (await mantou.connect(**again, no_delay=True)).terminate()
        with pytest.raises(TypeError, match="'no_delay'"):
            await mantou.connect(**options, no_delay=1)
        with pytest.raises(TypeError, match="'connect_timeout'"):
            await mantou.connect(**options, connect_timeout=True)
        with pytest.raises(TypeError, match="'no_dely'"):
            await mantou.connect(**options, no_dely=True)
        with pytest.raises(TypeError, match="'tls'"):
            await mantou.connect(**options, no_delay=True, tls="yes")
        del options["socket"]
        with pytest.raises(TypeError, match="'socket' is missing"):
            await mantou.connect(**options, no_delay=True)
        await told.until("close")


async def test_who_is_refused_the_second_time_is_told() -> None:
    told = Recorder()
    with RawListener() as listener:
        port = listener.port
        socket = await mantou.connect(hostname="127.0.0.1", port=port, socket=told)
        socket.terminate()
        await socket.closed()
    with pytest.raises(ConnectionRefusedError) as refused:
        await mantou.connect(hostname="127.0.0.1", port=port, socket=told)
    assert refused.value.errno == errno.ECONNREFUSED
    assert f"127.0.0.1:{port}" in str(refused.value)
    assert told.names == ["open", "close", "connect_error"]


async def test_what_open_raises_comes_out_the_second_time_too() -> None:
    class Raising(mantou.SocketHandler[Any]):
        def open(self, socket: mantou.Socket[Any]) -> None:
            raise LookupError("no")

        def error(self, socket: mantou.Socket[Any], error: BaseException) -> None:
            pass

    with RawListener() as listener:
        for _ in range(3):
            with pytest.raises(LookupError):
                await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=Raising())


async def test_an_async_open_is_waited_for_the_second_time_too() -> None:
    seen: list[int] = []

    class Waiting(mantou.SocketHandler[Any]):
        async def open(self, socket: mantou.Socket[Any]) -> None:
            await asyncio.sleep(0)
            seen.append(socket.data)

    with RawListener() as listener:
        for number in range(3):
            socket = await mantou.connect(
                hostname="127.0.0.1", port=listener.port, socket=Waiting(), data=number
            )
            assert seen == list(range(number + 1))
            socket.terminate()
            await socket.closed()


def test_there_is_an_end_to_what_is_remembered() -> None:
    for port in [*range(1, 700), *range(1, 700)]:
        request = parse_connect({"hostname": "127.0.0.1", "port": port, "socket": Recorder()})
        assert request.way.address == ("127.0.0.1", port)

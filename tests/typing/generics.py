"""Read by mypy, not run: `socket.data` has the type it was given, misspelt options are errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

import mantou


@dataclass
class MyData:
    name: str


class Handler(mantou.SocketHandler[MyData]):
    def open(self, socket: mantou.Socket[MyData]) -> None:
        assert_type(socket.data, MyData)
        socket.data = MyData("another")
        socket.data = "no MyData"  # type: ignore[assignment]

    async def data(self, socket: mantou.Socket[MyData], data: bytes) -> None:
        assert_type(socket.write(data), int)


class OtherHandler(mantou.SocketHandler[int]):
    pass


async def connecting() -> None:
    socket = await mantou.connect(
        hostname="localhost", port=7000, socket=Handler(), data=MyData("a name")
    )
    assert_type(socket, mantou.Socket[MyData])
    assert_type(socket.data, MyData)
    socket.reload(socket=Handler())

    local = await mantou.connect(unix="/run/socket", socket=Handler(), data=MyData("a name"))
    assert_type(local, mantou.Socket[MyData])

    options: mantou.TCPSocketConnectOptions[MyData] = {
        "hostname": "localhost",
        "port": 7000,
        "socket": Handler(),
        "data": MyData("a name"),
    }
    assert_type(await mantou.connect(**options), mantou.Socket[MyData])

    # `data` is of the type that the handlers are for.
    await mantou.connect(unix="/run/socket", socket=OtherHandler(), data="7")  # type: ignore[arg-type]
    mantou.listen(unix="/run/socket", socket=OtherHandler(), data="7")  # type: ignore[arg-type]
    raw, secure = socket.upgrade_tls(tls=True, socket=OtherHandler(), data=7)
    assert_type(raw.data, MyData)
    assert_type(secure.data, int)
    socket.upgrade_tls(tls=True, socket=OtherHandler(), data="7")  # type: ignore[arg-type]

    await mantou.connect(hostnme="localhost", port=7000, socket=Handler())  # type: ignore[call-overload]
    await mantou.connect(hostname="localhost", port=None, socket=Handler())  # type: ignore[call-overload]


def listening() -> None:
    listener = mantou.listen(
        hostname="localhost",
        port=0,
        socket=Handler(),
        data_factory=lambda socket: MyData("accepted"),
    )
    assert_type(listener, mantou.TCPSocketListener[MyData])
    assert_type(listener.port, int)
    assert_type(
        mantou.listen(unix="/run/socket", socket=OtherHandler()), mantou.UnixSocketListener[int]
    )


async def seven() -> int:
    return 7


def running() -> None:
    assert_type(mantou.run(seven()), int)
    assert_type(mantou.run(seven(), debug=True), int)
    assert_type(mantou.run(), None)

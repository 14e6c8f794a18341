"""mantou_client.py LOOP PORT CONNECTIONS: mantou.connect, an echo, the end, again and again."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from rounds import MESSAGE, rounds

import mantou


class Visit(mantou.SocketHandler[Any]):
    """The socket's data is the future of its end, and what came so far."""

    def open(self, socket: mantou.Socket[Any]) -> None:
        socket.write(MESSAGE)

    def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
        socket.data[1] += data

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
        future, received = socket.data
        if received == MESSAGE:
            future.set_result(None)
        else:
            future.set_exception(error or ConnectionError("the echo differs"))


async def main(port: int, connections: int) -> None:
    handler = Visit()
    loop = asyncio.get_running_loop()

    async def visit() -> None:
        future = loop.create_future()
        await mantou.connect(hostname="127.0.0.1", port=port, socket=handler, data=[future, b""])
        await future

    await rounds(connections, visit)


if __name__ == "__main__":
    kind, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if kind == "uvloop":
        import uvloop

        uvloop.run(main(port, connections))
    elif kind == "asyncio":
        asyncio.run(main(port, connections))
    else:
        mantou.run(main(port, connections))

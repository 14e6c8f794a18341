"""mantou_client.py LOOP PORT CONNECTIONS [CERTIFICATE]: mantou.connect, an echo, the end.

With a certificate over TLS, which it verifies. LOOP as in mantou_server.py.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
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


async def main(kind: str, port: int, connections: int, certificate: str | None = None) -> None:
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": port, "socket": Visit()}
    if certificate and kind == "sslcontext":
        options["tls"] = ssl.create_default_context(cafile=certificate)
    elif certificate:
        options["tls"] = {"ca": Path(certificate).read_text(), "server_name": "localhost"}
    loop = asyncio.get_running_loop()

    async def visit() -> None:
        future = loop.create_future()
        await mantou.connect(**options, data=[future, b""])
        await future

    await rounds(connections, visit)


if __name__ == "__main__":
    kind = sys.argv[1]
    program = main(kind, int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
    if kind == "uvloop":
        import uvloop

        uvloop.run(program)
    elif kind == "asyncio":
        asyncio.run(program)
    else:
        mantou.run(program)

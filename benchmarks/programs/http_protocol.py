"""http_protocol.py KIND LOOP TLS [CERTIFICATE KEY]: HTTP by a Protocol, and by asyncio's streams.

Kinds: `protocol`, `buffered` (a BufferedProtocol), `streams`, and `echo`: no HTTP, but a protocol
that holds connections and echoes. Each answers as little as a server may, so that the loop shows.
"""

from __future__ import annotations

import asyncio
from typing import Any

from common import ssl_context
from setting import RESPONSE, as_asked, listening, run

END = b"\r\n\r\n"


class Plain(asyncio.Protocol):
    """The load sends a request when it has the last one's answer: they come whole, one by one."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(END):
            self.transport.write(RESPONSE)


class Buffered(asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = bytearray(16 * 1024)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        if self.buffer.endswith(END, 0, size):
            self.transport.write(RESPONSE)


class Echo(Plain):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(END)
            writer.write(RESPONSE)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the load closes when a round is over
    finally:
        writer.close()


async def serve(kind: str, *files: str) -> None:
    tls = as_asked(ssl_context(*files)) if files else None
    options: dict[str, Any] = {"sock": listening(), "ssl": tls}
    if kind == "streams":
        server = await asyncio.start_server(answer, **options)
    else:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(PROTOCOLS[kind], **options)
    await server.serve_forever()


PROTOCOLS: dict[str, Any] = {"protocol": Plain, "buffered": Buffered, "echo": Echo}

if __name__ == "__main__":
    run(serve)

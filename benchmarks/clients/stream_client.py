"""stream_client.py LOOP PORT CONNECTIONS [CERTIFICATE]: asyncio.open_connection, an echo, the end.

With a certificate over TLS, which it verifies.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

from common import loop_factory
from rounds import MESSAGE, rounds


async def main(port: int, connections: int, certificate: str | None = None) -> None:
    tls: dict[str, Any] = {}
    if certificate:
        context = ssl.create_default_context(cafile=certificate)
        tls = {"ssl": context, "server_hostname": "localhost"}

    async def visit() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
        writer.write(MESSAGE)
        if await reader.read(-1) != MESSAGE:
            raise ConnectionError("the echo differs")
        writer.close()
        await writer.wait_closed()

    await rounds(connections, visit)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
        runner.run(main(int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))

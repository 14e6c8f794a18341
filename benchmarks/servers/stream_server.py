"""stream_server.py KIND echo [CERTIFICATE KEY]: an echo with await.

Kinds: `mantou`, through a `mantou.Stream`; `reader`, through mantou's reader and writer; `asyncio`
and `uvloop`, through asyncio's, on that loop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from common import loop_factory, ssl_context


async def echo_stream(stream: Any) -> None:
    async for data in stream:
        await stream.send(data)


async def echo_streams(reader: Any, writer: Any) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the load resets when a round is over
    finally:
        writer.close()


async def serve(kind: str, role: str, *files: str) -> None:
    if role != "echo":
        raise SystemExit(f"error: there is no {role} with await")
    if kind == "mantou":
        import mantou

        options: dict[str, Any] = {}
        if files:
            options["tls"] = {
                "cert_file": files[0],
                "key_file": files[1],
                "min_version": "TLSv1.3",
                "ciphers": "TLS_AES_256_GCM_SHA384",
            }
        server = mantou.serve_streams(echo_stream, hostname="127.0.0.1", port=0, **options)
        print(server.port, flush=True)
    else:
        start: Any = asyncio.start_server
        if kind == "reader":
            import mantou

            start = mantou.start_server
        tls = ssl_context(*files) if files else None
        served = await start(echo_streams, "127.0.0.1", 0, ssl=tls, backlog=4096)
        print(served.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    LOOP = {"reader": "mantou"}.get(sys.argv[1], sys.argv[1])
    with asyncio.Runner(loop_factory=loop_factory(LOOP)) as runner:
        runner.run(serve(*sys.argv[1:]))

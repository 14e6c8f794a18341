"""http_frameworks.py KIND LOOP TLS [CERTIFICATE KEY]: HTTP as most programs serve it.

Kinds: `uvicorn` (an ASGI application, parsed by httptools), `aiohttp`. Their settings are their
defaults, but for the access log, which would be measured instead of them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from aiohttp import web
from common import ssl_context
from setting import BODY, as_asked, listening, run


async def application(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=BODY, content_type="text/plain")


async def serve_uvicorn(*files: str) -> None:
    tls = {"ssl_certfile": files[0], "ssl_keyfile": files[1]} if files else {}
    config = uvicorn.Config(
        application, http="httptools", lifespan="off", log_level="warning", access_log=False, **tls
    )
    config.load()
    as_asked(config.ssl)
    await uvicorn.Server(config).serve(sockets=[listening()])


async def serve_aiohttp(*files: str) -> None:
    routes = web.Application()
    routes.router.add_get("/", hello)
    runner = web.AppRunner(routes, access_log=None)
    await runner.setup()
    tls = as_asked(ssl_context(*files)) if files else None
    await web.SockSite(runner, listening(), ssl_context=tls).start()
    await asyncio.get_running_loop().create_future()


async def serve(kind: str, *files: str) -> None:
    await (serve_uvicorn if kind == "uvicorn" else serve_aiohttp)(*files)


if __name__ == "__main__":
    run(serve)

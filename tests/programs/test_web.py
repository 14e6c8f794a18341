"""HTTP and WebSocket: aiohttp, httpx and websockets, and the servers that run an ASGI program."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.programs.conftest import Certificates
from tests.programs.servers import free_port, running

LARGE = bytes(range(256)) * 8192  # 2 MiB

# Answers with the loop it runs on, or with what it was sent; over WebSocket, too.
ASGI = """
import asyncio, json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                print("shut down", flush=True)
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"][::-1]})
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    loop = type(asyncio.get_running_loop())
    if scope["path"] == "/loop":
        body = f"{loop.__module__}.{loop.__qualname__}".encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"x-scheme", scope["scheme"].encode())]})
    half = len(body) // 2
    await send({"type": "http.response.body", "body": body[:half], "more_body": True})
    await send({"type": "http.response.body", "body": body[half:]})
"""


def client_context(certificates: Certificates, secure: bool) -> ssl.SSLContext | None:
    return certificates.client() if secure else None


# aiohttp


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_aiohttp_serves_aiohttp_and_httpx(certificates: Certificates, secure: bool) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        response = web.StreamResponse(headers={"X-Length": str(len(body))})
        await response.prepare(request)
        for start in range(0, len(body), 65536):
            await response.write(body[start : start + 65536])
        return response

    async def socket(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for message in answer:
            await answer.send_bytes(message.data[::-1])
        return answer

    async def fail(request: web.Request) -> web.Response:
        raise web.HTTPConflict(text="no")

    application = web.Application(client_max_size=2 * len(LARGE))
    application.add_routes(
        [web.post("/", echo), web.get("/socket", socket), web.get("/fail", fail)]
    )
    application.router.add_static("/files", certificates.ca_file.parent)
    runner = web.AppRunner(application)
    await runner.setup()
    context = certificates.server() if secure else None
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    url = f"{'https' if secure else 'http'}://localhost:{port}"
    try:
        connector = aiohttp.TCPConnector(ssl=client_context(certificates, secure) or True)
        async with aiohttp.ClientSession(url, connector=connector) as session:

            async def post(number: int) -> None:
                body = LARGE[: 40000 * number]
                async with session.post("/", data=body) as answer:
                    assert answer.headers["X-Length"] == str(len(body))
                    assert await answer.read() == body

            await asyncio.gather(*(post(number) for number in range(1, 51)))
            async with session.get("/files/ca.pem") as answer:  # sent by loop.sendfile()
                assert await answer.read() == certificates.ca_file.read_bytes()
            async with session.get("/fail") as answer:
                assert (answer.status, await answer.text()) == (409, "no")
            async with session.ws_connect("/socket", max_msg_size=2 * len(LARGE)) as peer:
                for size in (1, 70000, 500000):
                    await peer.send_bytes(LARGE[:size])
                    assert await peer.receive_bytes() == LARGE[:size][::-1]
        verify: Any = client_context(certificates, secure) or False
        async with httpx.AsyncClient(base_url=url, verify=verify) as client:
            answers = await asyncio.gather(*(client.post("/", content=LARGE) for _ in range(4)))
            assert [answer.content for answer in answers] == [LARGE] * 4
            async with client.stream("POST", "/", content=LARGE) as stream:
                assert b"".join([part async for part in stream.aiter_bytes()]) == LARGE
    finally:
        await runner.cleanup()


async def test_aiohttp_over_a_unix_socket(tmp_path: Path) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path, "remote": request.remote or ""})

    application = web.Application()
    application.router.add_get("/{tail:.*}", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    path = str(tmp_path / "socket")
    await web.UnixSite(runner, path).start()
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.get("http://any/where") as answer,
        ):
            assert (await answer.json())["path"] == "/where"
    finally:
        await runner.cleanup()


async def test_clients_refuse_a_certificate_of_no_authority(certificates: Certificates) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=certificates.server())
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
    # What the server thinks of the refused handshakes is told nowhere but in debug mode.
    async with server:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url)
        async with httpx.AsyncClient(verify=ssl.create_default_context()) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(url)


async def test_httpx_gives_up_on_a_silent_server() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        gone.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, httpx.AsyncClient(timeout=0.2) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await gone.wait()


# websockets


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_websockets_serves_its_client(certificates: Certificates, secure: bool) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    context = certificates.server() if secure else None
    async with serve(echo, "127.0.0.1", 0, ssl=context, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"{'wss' if secure else 'ws'}://localhost:{port}/"

        async def talk(number: int) -> None:
            options = {"ssl": client_context(certificates, secure), "max_size": None}
            async with connect(url, **options) as connection:
                for message in ["text", LARGE[: number * 50000], "ünï" * 10000, b""]:
                    await connection.send(message)
                    assert await connection.recv() == message
                await (await connection.ping())
            assert connection.close_code == 1000

        await asyncio.gather(*(talk(number) for number in range(20)))


async def test_websockets_tells_a_peer_that_breaks_off() -> None:
    async def abort(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with serve(abort, "127.0.0.1", 0) as server:
        url = f"ws://localhost:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises((websockets.ConnectionClosedError, websockets.InvalidMessage)):
            async with connect(url) as connection:
                await connection.recv()


# ASGI servers


Start = Callable[..., AbstractContextManager[Any]]


def secured(certificates: Certificates, secure: bool, key: str, cert: str) -> list[str]:
    return [key, str(certificates.key_file), cert, str(certificates.cert_file)] if secure else []


def uvicorn(port: int, keys: list[str]) -> list[str]:
    # Without `--loop asyncio` it takes uvloop, where that is installed.
    return [
        "-m",
        "uvicorn",
        "program:app",
        "--loop",
        "asyncio",
        "--http",
        "httptools",
        "--port",
        str(port),
        *keys,
    ]


def hypercorn(port: int, keys: list[str]) -> list[str]:
    return ["-m", "hypercorn", "program:app", "--bind", f"127.0.0.1:{port}", *keys]


def gunicorn(port: int, keys: list[str]) -> list[str]:
    worker = "workers.Worker"
    return [
        "-m",
        "gunicorn",
        "program:app",
        "-k",
        worker,
        "-w",
        "2",
        "-b",
        f"127.0.0.1:{port}",
        *keys,
    ]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("server", "key", "cert"),
    [
        (uvicorn, "--ssl-keyfile", "--ssl-certfile"),
        (hypercorn, "--keyfile", "--certfile"),
        (gunicorn, "--keyfile", "--certfile"),
    ],
    ids=["uvicorn", "hypercorn", "gunicorn"],
)
async def test_an_asgi_server_in_a_process(
    loop_command: list[str],
    certificates: Certificates,
    tmp_path: Path,
    secure: bool,
    server: Callable[[int, list[str]], list[str]],
    key: str,
    cert: str,
) -> None:
    (tmp_path / "program.py").write_text(ASGI)
    (tmp_path / "workers.py").write_text(
        "from uvicorn_worker import UvicornWorker\n"
        "class Worker(UvicornWorker):\n"
        "    CONFIG_KWARGS = {'loop': 'asyncio', 'http': 'httptools'}\n"
    )
    port = free_port()
    command = [*loop_command, *server(port, secured(certificates, secure, key, cert))]
    log = tmp_path / "log"
    url = f"{'https' if secure else 'http'}://localhost:{port}"
    with running(command, port, log, cwd=tmp_path) as process:
        async with httpx.AsyncClient(
            base_url=url, verify=client_context(certificates, secure) or False
        ) as client:
            loop = (await client.get("/loop")).text
            ours = loop_command[1:2] == ["-m"]
            assert loop == (
                "mantou._loop.EventLoop" if ours else "asyncio.unix_events._UnixSelectorEventLoop"
            )
            bodies = [json.dumps({"number": number}).encode() * 5000 for number in range(40)]
            answers = await asyncio.gather(*(client.post("/", content=body) for body in bodies))
            assert [answer.content for answer in answers] == bodies
            assert answers[0].headers["x-scheme"] == ("https" if secure else "http")
        socket_url = f"{url.replace('http', 'ws', 1)}/"
        async with connect(socket_url, ssl=client_context(certificates, secure)) as connection:
            await connection.send("mantou")
            assert await connection.recv() == "uotnam"
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)
    assert "shut down" in log.read_text()
    assert "Traceback" not in log.read_text()

"""A web server for the files of a directory: HTTP/1.1, connections that are kept, pipelining.

    python examples/http_server.py --port 8000 --directory docs
    curl http://127.0.0.1:8000/tutorial.md

`data` is a coroutine. Nothing more is read from a client while its coroutine waits, so that
answers come in the order of the requests, and a client that does not read them costs no memory.
"""

from __future__ import annotations

import argparse
import mimetypes
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mantou

LONGEST_HEAD = 16 * 1024
IDLE = 30.0  # seconds


@dataclass
class Client:
    """What has come and is not dealt with."""

    rest: bytes = b""
    skip: int = 0  # bytes of a request's body, which nobody here wants


class Refused(Exception):
    """A request that is answered with a status only, after which the connection ends."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


@dataclass
class Request:
    """What a request asks for."""

    method: str
    path: str
    length: int  # of its body
    keep: bool  # the connection

    @classmethod
    def parse(cls, head: bytes) -> Request:
        lines = head.decode("latin-1").split("\r\n")
        try:
            method, target, version = lines[0].split(" ")
            pairs = [line.split(":", 1) for line in lines[1:]]
            headers = {name.lower(): value.strip() for name, value in pairs}
            length = int(headers.get("content-length", "0"))
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST) from None
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if "transfer-encoding" in headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED)
        if length < 0 or (version == "HTTP/1.1" and "host" not in headers):
            raise Refused(HTTPStatus.BAD_REQUEST)
        wish = headers.get("connection", "").lower()
        keep = wish != "close" if version == "HTTP/1.1" else wish == "keep-alive"
        return cls(method, unquote(urlsplit(target).path), length, keep)


def answer_head(status: HTTPStatus, length: int, kind: str = "text/plain", more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


class Files(mantou.SocketHandler[Client]):
    """Answers with the files of a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()

    async def data(self, socket: mantou.Socket[Client], data: bytes) -> None:
        client = socket.data
        client.rest += data
        try:
            while await self.take(socket, client):
                pass
        except Refused as refused:
            text = f"{refused.status.phrase}\n".encode()
            socket.write_all(answer_head(refused.status, len(text), more="Connection: close\r\n"))
            socket.write_all(text)
            socket.close()
        except OSError:  # the client is gone, or the file became shorter while it was sent
            socket.terminate()

    async def take(self, socket: mantou.Socket[Client], client: Client) -> bool:
        """Deals with one request, if it has come whole."""
        skipped = min(client.skip, len(client.rest))
        client.rest, client.skip = client.rest[skipped:], client.skip - skipped
        end = client.rest.find(b"\r\n\r\n")
        if max(end, len(client.rest) if end < 0 else 0) > LONGEST_HEAD:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if end < 0:
            return False
        request = Request.parse(client.rest[:end])
        client.rest, client.skip = client.rest[end + 4 :], request.length
        await self.answer(socket, request)
        if not request.keep:
            socket.close()
        return request.keep

    async def answer(self, socket: mantou.Socket[Client], request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        path = (self.directory / request.path.lstrip("/")).resolve()
        if not path.is_relative_to(self.directory) or not path.is_file():
            raise Refused(HTTPStatus.NOT_FOUND)
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        with path.open("rb") as file:
            size = path.stat().st_size
            socket.write_all(answer_head(HTTPStatus.OK, size, kind))
            if request.method == "GET":
                await socket.send_file(file, count=size)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the files of a directory.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="8000; 0 picks a free one")
    parser.add_argument("--directory", type=Path, default=Path())
    options = parser.parse_args()
    listener = mantou.listen(
        hostname=options.hostname,
        port=options.port,
        socket=Files(options.directory),
        data_factory=lambda socket: Client(),
        idle_timeout=IDLE,
    )
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    try:
        mantou.run()
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    main()

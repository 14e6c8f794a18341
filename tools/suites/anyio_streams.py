"""A plugin for pytest: what anyio's tests connect and listen with is mantou's, on any loop.

With `SUITE_STOCK` in the environment anyio's own stay.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any, cast

import anyio
import anyio.abc
from anyio.streams.stapled import MultiListener

import mantou

# anyio's streams do not wait for a peer that reads nothing.
PATIENCE: Any = {"close_timeout": 0.5}


async def connect_tcp(remote_host: Any, remote_port: int, **options: Any) -> Any:
    """Connects as the function of that name does."""
    given: dict[str, Any] = {"hostname": str(remote_host), "port": remote_port, **PATIENCE}
    for theirs, ours in (("local_host", "local_address"), ("local_port", "local_port")):
        if (value := options.pop(theirs, None)) is not None:
            given[ours] = str(value) if theirs == "local_host" else value
    secure, context = options.pop("tls", False), options.pop("ssl_context", None)
    name = options.pop("tls_hostname", None)
    for unneeded in ("happy_eyeballs_delay", "tls_standard_compatible"):
        options.pop(unneeded, None)
    assert not options, f"not known: {options}"
    stream = await mantou.connect_stream(**given)
    if secure or context is not None or name is not None:
        context = context or ssl.create_default_context()
        stream = await stream.upgrade_tls(tls=context, server_name=name or str(remote_host))
    return stream


async def connect_unix(path: str | os.PathLike[str]) -> Any:
    """Connects as the function of that name does."""
    return await mantou.connect_stream(unix=path, **PATIENCE)


async def create_tcp_listener(
    *,
    local_host: Any = None,
    local_port: int = 0,
    family: int = socket.AF_UNSPEC,
    backlog: int = 65536,
    reuse_port: bool = False,
) -> Any:
    """Listens as the function of that name does: at one port of all addresses of a host."""
    every = "0.0.0.0" if family == socket.AF_INET else "::"
    found = await anyio.getaddrinfo(
        str(local_host or every), local_port, family=family, type=socket.SOCK_STREAM
    )
    servers: list[Any] = []
    for host in dict.fromkeys(str(address[0]) for *_, address in found):
        port = servers[0].port if servers else local_port
        servers.append(listening(hostname=host, port=port, backlog=backlog, reuse_port=reuse_port))
    return MultiListener(servers)


async def create_unix_listener(path: str | bytes | os.PathLike[str], **options: Any) -> Any:
    """Listens as the function of that name does, which takes the place of a file."""
    name = os.fsdecode(path)
    if not name.startswith("\0"):
        options["unlink_stale"] = True
    return listening(unix=name, **options)


def listening(**options: Any) -> mantou.StreamServer:
    """A server that lets nobody in before it is told who serves them, or asked for one of them."""
    accepted: asyncio.Queue[mantou.Stream] = asyncio.Queue()

    async def hand_out(stream: mantou.Stream) -> None:
        await accepted.put(stream)
        await stream.socket.closed()

    server: Any = mantou.serve_streams(hand_out, **options, **PATIENCE)
    server.listener.pause()
    served = server.serve

    async def serve(*arguments: Any) -> None:
        server.listener.resume()
        await served(*arguments)

    async def accept() -> mantou.Stream:
        server.listener.resume()
        return await accepted.get()

    server.serve, server.accept = serve, accept
    return cast("mantou.StreamServer", server)


def install() -> None:
    """Puts them in the place of anyio's, before the tests import those."""
    for function in (connect_tcp, connect_unix, create_tcp_listener, create_unix_listener):
        setattr(anyio, function.__name__, function)
    # The tests ask whether it is of these classes before they use it as one of them.
    anyio.abc.SocketStream.register(mantou.Stream)
    anyio.abc.SocketListener.register(mantou.StreamServer)


if "SUITE_STOCK" not in os.environ:
    install()

"""A plugin for pytest: what anyio's tests connect with are mantou's streams, on any loop.

With `SUITE_STOCK` in the environment anyio's own stay.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

import anyio
import anyio.abc

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


def install() -> None:
    """Puts them in the place of anyio's, before the tests import those."""
    for function in (connect_tcp, connect_unix):
        setattr(anyio, function.__name__, function)


if "SUITE_STOCK" not in os.environ:
    install()

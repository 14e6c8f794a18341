"""A connection as the command line asks for it: address, TLS, STARTTLS, limits of time."""

from __future__ import annotations

import asyncio
from typing import Any

from mantou._ready_state import ReadyState
from mantou._streams import Stream, connect_stream

from .addresses import Address
from .endings import Code, Failure, connecting
from .starttls import Refused, negotiate

# Seconds for each step, where nothing else is asked for.
PATIENCE = 30.0


async def open_stream(
    address: Address,
    tls: dict[str, Any] | None,
    starttls: str | None = None,
    timeout: float | None = None,
) -> Stream:
    """Connects.

    :param timeout: seconds to connect, to shake hands, and that may pass in silence later.
    :raises Failure: there is no connection.
    """
    patience = timeout or PATIENCE
    options: dict[str, Any] = {
        **address.options(),
        "connect_timeout": patience,
        "handshake_timeout": patience,
        "idle_timeout": timeout,
        "close_timeout": patience,
    }
    if tls is not None and starttls is None:
        options["tls"] = tls
    with connecting(address):
        stream = await connect_stream(**options)
    if starttls is None or tls is None:
        return stream
    return await _secured(stream, address, tls, starttls, patience)


async def _secured(
    stream: Stream, address: Address, tls: dict[str, Any], starttls: str, patience: float
) -> Stream:
    name = tls.get("server_name") or address.host
    try:
        with connecting(address):
            async with asyncio.timeout(patience):
                await negotiate(starttls, stream, name)
                options: Any = tls
                return await stream.upgrade_tls(tls=options)
    except Refused as refusal:
        text = f"{address}: --starttls {starttls}: {refusal}"
        raise Failure(Code.NO_STARTTLS, text) from None
    finally:
        if stream.socket.ready_state is not ReadyState.DETACHED:
            stream.abort()

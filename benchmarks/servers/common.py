"""What the Python servers share."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

BLOCK = bytes(i % 251 for i in range(1 << 20))
PIECE = 4


def ssl_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return a server's context that speaks TLS 1.3 only; the load picks the cipher suite."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


def loop_factory(loop: str) -> Any:
    """Return what makes a loop; only the one that is asked for is imported."""
    if loop == "asyncio":
        return asyncio.SelectorEventLoop
    if loop == "mantou":
        import mantou

        return mantou.new_event_loop
    if loop == "rloop":
        import rloop

        return rloop.new_event_loop
    import uvloop

    if loop == "uvloop":
        return uvloop.new_event_loop
    import aiofastnet

    return aiofastnet.loop_factory(uvloop.new_event_loop if loop.endswith("uvloop") else None)

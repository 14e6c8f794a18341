"""What the programs share: the command line, and how a loop and an ssl.SSLContext are chosen.

    PROGRAM KIND LOOP TLS ...

TLS: `openssl`, a plain ssl.SSLContext; `rustls`, mantou's in its place (`mantou run --tls=rustls`).
Nothing else in a program knows what it runs on.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any

from common import loop_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

BODY = b"Hello, world!"
RESPONSE = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b") % (
    len(BODY),
    BODY,
)


def run(main: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Run `main(kind, *arguments)` on the loop that the command line names."""
    kind, loop, tls, *arguments = sys.argv[1:]
    if tls == "rustls":
        inject_rustls()
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(main(kind, *arguments))


def inject_rustls() -> None:
    """Have every ssl.SSLContext that is made from now on be mantou's."""
    import mantou

    if not hasattr(mantou, "inject_into_ssl"):
        raise SystemExit("error: this build of mantou has no mantou.SSLContext")
    mantou.inject_into_ssl()


def as_asked(context: Any) -> Any:
    """Return a context, or refuse: what OpenSSL drives may not be measured as rustls."""
    if context is not None and sys.argv[3] == "rustls" and context.tls_engine != "rustls":
        raise SystemExit(f"error: OpenSSL drives the context: {context.tls_engine_reason}")
    return context


def listening() -> socket.socket:
    """Return a listening socket and say which port it has."""
    # As asyncio's own are, and most programs' so: from one without a protocol's number, asyncio
    # accepts connections without TCP_NODELAY, and every answer in two pieces takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    print(listener.getsockname()[1], flush=True)
    return listener

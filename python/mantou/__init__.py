"""mantou: TCP and unix sockets with Bun's API, inside asyncio, at the speed of a C event loop.

A set of handlers is shared by all sockets of a listener::

    class Echo(mantou.SocketHandler):
        def data(self, socket, data):
            socket.write(data)

    mantou.listen(hostname="127.0.0.1", port=7000, socket=Echo())
    mantou.run()
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.platform != "linux":
    raise ImportError(f"mantou runs on Linux; {sys.platform} is not supported yet")
# Otherwise a free-threaded Python turns the lock on when it loads the native module, and says so.
if getattr(sys.flags, "gil", 1) == 0:
    raise ImportError(
        "mantou needs the global interpreter lock, which PYTHON_GIL=0 or -X gil=0 forbids: leave "
        "that out, and importing mantou turns the lock on"
    )

from ._connect import connect
from ._core import Socket, __version__
from ._handlers import HandlerMapping, HandlerObject, SocketHandler
from ._install import install, uninstall
from ._listen import listen
from ._listener import TCPSocketListener, UnixSocketListener
from ._loop import EventLoop, new_event_loop, run
from ._option_types import (
    FdSocketListenOptions,
    FdSocketOptions,
    FdStreamListenOptions,
    FdStreamOptions,
    TCPSocketConnectOptions,
    TCPSocketListenOptions,
    TCPStreamConnectOptions,
    TCPStreamListenOptions,
    TLSOptions,
    UnixSocketListenOptions,
    UnixSocketOptions,
    UnixStreamListenOptions,
    UnixStreamOptions,
)
from ._pipe import PipedBytes, pipe
from ._proxy import ProxyHeader, ProxySSL
from ._ready_state import ReadyState
from .errors import (
    PacketIncomplete,
    PacketTooLarge,
    ProxyProtocolError,
    ProxyTimeoutError,
    WrongThreadError,
)

if TYPE_CHECKING:
    from ._asyncio_open import open_connection
    from ._asyncio_server import start_server
    from ._ssl_context import SSLContext
    from ._ssl_inject import extract_from_ssl, inject_into_ssl
    from ._stats import (
        HandshakeFailures,
        ListenerStats,
        Pauses,
        PeerCredentials,
        SocketStats,
        Stats,
        stats,
    )
    from ._stream_errors import (
        BrokenResourceError,
        BusyResourceError,
        ClosedResourceError,
        DelimiterNotFound,
        EndOfStream,
        IncompleteRead,
    )
    from ._stream_server import StreamServer, serve_streams
    from ._streams import Stream, connect_stream
    from ._tcp_info import TcpInfo

__all__ = [
    "BrokenResourceError",
    "BusyResourceError",
    "ClosedResourceError",
    "DelimiterNotFound",
    "EndOfStream",
    "EventLoop",
    "FdSocketListenOptions",
    "FdSocketOptions",
    "FdStreamListenOptions",
    "FdStreamOptions",
    "HandlerMapping",
    "HandlerObject",
    "HandshakeFailures",
    "IncompleteRead",
    "ListenerStats",
    "PacketIncomplete",
    "PacketTooLarge",
    "Pauses",
    "PeerCredentials",
    "PipedBytes",
    "ProxyHeader",
    "ProxyProtocolError",
    "ProxySSL",
    "ProxyTimeoutError",
    "ReadyState",
    "SSLContext",
    "Socket",
    "SocketHandler",
    "SocketStats",
    "Stats",
    "Stream",
    "StreamServer",
    "TCPSocketConnectOptions",
    "TCPSocketListenOptions",
    "TCPSocketListener",
    "TCPStreamConnectOptions",
    "TCPStreamListenOptions",
    "TLSOptions",
    "TcpInfo",
    "UnixSocketListenOptions",
    "UnixSocketListener",
    "UnixSocketOptions",
    "UnixStreamListenOptions",
    "UnixStreamOptions",
    "WrongThreadError",
    "__version__",
    "connect",
    "connect_stream",
    "extract_from_ssl",
    "inject_into_ssl",
    "install",
    "listen",
    "new_event_loop",
    "open_connection",
    "pipe",
    "run",
    "serve_streams",
    "start_server",
    "stats",
    "uninstall",
]

# Loaded when they are first asked for: not every program needs them, and each takes its time.
# Streams import anyio, too, where that is installed.
_LAZY = {
    "_asyncio_open": ("open_connection",),
    "_asyncio_server": ("start_server",),
    "_ssl_context": ("SSLContext",),
    "_ssl_inject": ("extract_from_ssl", "inject_into_ssl"),
    "_stats": (
        "HandshakeFailures",
        "ListenerStats",
        "Pauses",
        "PeerCredentials",
        "SocketStats",
        "Stats",
        "stats",
    ),
    "_stream_errors": (
        "BrokenResourceError",
        "BusyResourceError",
        "ClosedResourceError",
        "DelimiterNotFound",
        "EndOfStream",
        "IncompleteRead",
    ),
    "_stream_server": ("StreamServer", "serve_streams"),
    "_streams": ("Stream", "connect_stream"),
    "_tcp_info": ("TcpInfo",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    # With these Python suggests the nearest.
    here = sys.modules[__name__]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=here)


def __dir__() -> list[str]:
    return sorted(globals().keys() | __all__)

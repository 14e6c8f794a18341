"""mantou: TCP and unix sockets with Bun's API, inside asyncio, at the speed of a C event loop.

A set of handlers is shared by all sockets of a listener::

    class Echo(mantou.SocketHandler):
        def data(self, socket, data):
            socket.write(data)

    mantou.listen(hostname="127.0.0.1", port=7000, socket=Echo())
    mantou.run()
"""

import sys

if sys.platform != "linux":
    raise ImportError(f"mantou runs on Linux; {sys.platform} is not supported yet")

from ._connect import connect
from ._core import Socket
from ._handlers import HandlerMapping, HandlerObject, SocketHandler
from ._install import install, uninstall
from ._listener import TCPSocketListener, UnixSocketListener, listen
from ._loop import EventLoop, new_event_loop, run
from ._option_types import (
    FdSocketListenOptions,
    FdSocketOptions,
    TCPSocketConnectOptions,
    TCPSocketListenOptions,
    TLSOptions,
    UnixSocketListenOptions,
    UnixSocketOptions,
)
from ._pipe import PipedBytes, pipe
from ._proxy import ProxyHeader, ProxySSL
from ._ready_state import ReadyState
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
from ._tcp_info import TcpInfo
from .errors import (
    PacketIncomplete,
    PacketTooLarge,
    ProxyProtocolError,
    ProxyTimeoutError,
    WrongThreadError,
)

__version__ = "0.1.0"

__all__ = [
    "EventLoop",
    "FdSocketListenOptions",
    "FdSocketOptions",
    "HandlerMapping",
    "HandlerObject",
    "HandshakeFailures",
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
    "TCPSocketConnectOptions",
    "TCPSocketListenOptions",
    "TCPSocketListener",
    "TLSOptions",
    "TcpInfo",
    "UnixSocketListenOptions",
    "UnixSocketListener",
    "UnixSocketOptions",
    "WrongThreadError",
    "__version__",
    "connect",
    "extract_from_ssl",
    "inject_into_ssl",
    "install",
    "listen",
    "new_event_loop",
    "pipe",
    "run",
    "stats",
    "uninstall",
]

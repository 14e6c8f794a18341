"""What transports ask of the engine: how long it is patient, and who drives TLS."""

from __future__ import annotations

import functools
import ssl
from asyncio import constants, sslproto
from typing import Any, cast

from ._options import ConnectionOptions
from ._tls_options import TlsSettings
from .errors import HandshakeTimeoutError

_UNLIMITED = (1 << 63) - 1


class TlsSetup:
    """How connections of one call speak TLS: checked as asyncio checks it."""

    def __init__(
        self,
        context: ssl.SSLContext | None,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> None:
        self.handshake_timeout = _positive(
            "ssl_handshake_timeout", handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT
        )
        self.shutdown_timeout = _positive(
            "ssl_shutdown_timeout", shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT
        )
        if context is None:
            create = cast("Any", sslproto)._create_transport_context
            context = cast("ssl.SSLContext", create(server_side, server_hostname))
        self.context = context
        self.server_side = server_side
        self.settings = _tls_settings(context, server_side, server_hostname)
        self.options = connection_options(self.handshake_timeout, self.shutdown_timeout)

    def as_asyncio_tells(self, error: BaseException) -> BaseException:
        """Why a handshake failed, in asyncio's words."""
        if isinstance(error, ssl.SSLEOFError):
            return ConnectionResetError()
        if isinstance(error, HandshakeTimeoutError):
            return ConnectionAbortedError(
                f"SSL handshake is taking longer than {self.handshake_timeout} seconds: "
                "aborting the connection"
            )
        return error


def _positive(name: str, given: float | None, default: float) -> float:
    if given is None:
        return default
    if given <= 0:
        raise ValueError(f"{name} should be a positive number, got {given}")
    return given


def _tls_settings(
    context: ssl.SSLContext, server_side: bool, server_hostname: str | None
) -> TlsSettings:
    """Who drives a connection that is to use this context: here it is decided."""
    name = server_hostname if server_hostname and not server_side else None
    return TlsSettings(context, name, None, {}, "server" if server_side else "client")


@functools.lru_cache(maxsize=16)
def connection_options(
    handshake_timeout: float | None, close_timeout: float | None
) -> ConnectionOptions:
    return ConnectionOptions(
        allow_half_open=True,
        no_delay=True,
        keep_alive=None,
        dead_after=None,
        idle_timeout=None,
        handshake_timeout=handshake_timeout,
        close_timeout=close_timeout,
        write_limit=_UNLIMITED,
        transport=True,
    )


PLAIN = connection_options(None, None)

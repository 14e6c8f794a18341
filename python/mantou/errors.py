"""The exceptions that are mantou's own; every other error is one of Python's."""

from __future__ import annotations

import errno
import ssl

__all__ = [
    "HandshakeTimeoutError",
    "PacketIncomplete",
    "PacketTooLarge",
    "ProxyProtocolError",
    "ProxyTimeoutError",
    "WrongThreadError",
]


class WrongThreadError(RuntimeError):
    """A socket or listener was used beside the thread that runs its event loop.

    ``loop.call_soon_threadsafe()`` reaches the right thread. ``repr()`` and what is fixed once a
    socket is open (addresses, ports, listener) answer from any thread. Not in Bun: there an object
    cannot be shared between threads at all.
    """


class HandshakeTimeoutError(ssl.SSLError, TimeoutError):
    """The TLS handshake was not done within `handshake_timeout` seconds. Not in Bun.

    An `ssl.SSLError` and a `TimeoutError`; its errno is ETIMEDOUT.
    """


class PacketTooLarge(ConnectionError):
    """The peer began a packet longer than `packet_size`; `close` gets it. Not in Bun.

    Its errno is EMSGSIZE.
    """


class PacketIncomplete(ConnectionError, EOFError):
    """The peer's FIN came within a packet; `close` gets it, in place of `end`. Not in Bun.

    Also for a last line without its end: it may be the first half of another one. Its errno is
    EPROTO.
    """

    partial: bytes
    """What had come of the packet, a length in front of it included."""


class ProxyProtocolError(ConnectionError):
    """An accepted connection was turned away: its PROXY header was not as `listen()` demands.

    What its `connect_error` gets. The errno is EPROTO for a header that is malformed, missing or
    cut off, EACCES for one of a peer that is not in `proxy_trusted`. Not in Bun.
    """


class ProxyTimeoutError(ProxyProtocolError, TimeoutError):
    """The PROXY header did not come within `handshake_timeout` seconds. Not in Bun.

    A `ProxyProtocolError` and a `TimeoutError`; its errno is ETIMEDOUT.
    """


def locate(error: OSError, where: str) -> None:
    """Has the text of an error name an address or a descriptor, as open()'s names a file.

    Class, errno and strerror stay. What an error names already is nearer to the cause.
    """
    # Without an errno Python would put the name in the place of the text.
    if error.errno is not None and error.filename is None:
        error.filename = where


def handshake_timeout() -> HandshakeTimeoutError:
    """The error of a handshake that took too long."""
    text = "the TLS handshake was not done within handshake_timeout"
    return HandshakeTimeoutError(errno.ETIMEDOUT, text)


def packet_too_large(limit: int) -> PacketTooLarge:
    """The error of a packet that may not be so long."""
    return PacketTooLarge(
        errno.EMSGSIZE, f"the peer began a packet longer than packet_size={limit}"
    )


def packet_incomplete(partial: bytes) -> PacketIncomplete:
    """The error of a FIN that cut a packet off."""
    text = f"the peer finished within a packet, after {len(partial)} bytes of it"
    error = PacketIncomplete(errno.EPROTO, text)
    error.partial = partial
    return error


def proxy_protocol(number: int, text: str) -> ProxyProtocolError:
    """The error of a connection that was turned away for its PROXY header."""
    kind = ProxyTimeoutError if number == errno.ETIMEDOUT else ProxyProtocolError
    return kind(number, text)


def tls_failure(text: str, reason: str) -> ssl.SSLError:
    """The error of a session that cannot go on; `reason` in OpenSSL's manner: ``WRONG_VERSION``."""
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"[SSL: {reason}] {text}")
    error.library, error.reason = "SSL", reason
    return error


def tls_truncation() -> ssl.SSLEOFError:
    """The error of a connection that ended without `close_notify`."""
    error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")
    error.library, error.reason = "SSL", "UNEXPECTED_EOF_WHILE_READING"
    return error


def tls_verification(code: int, message: str) -> ssl.SSLCertVerificationError:
    """The error of a certificate that is not accepted; `code` is OpenSSL's."""
    error = ssl.SSLCertVerificationError(
        ssl.SSL_ERROR_SSL, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}"
    )
    error.verify_code, error.verify_message = code, message
    error.library, error.reason = "SSL", "CERTIFICATE_VERIFY_FAILED"
    return error

"""The exceptions that are mantou's own; every other error is one of Python's."""

from __future__ import annotations

import errno
import ssl

__all__ = ["HandshakeTimeoutError", "WrongThreadError"]


class WrongThreadError(RuntimeError):
    """A socket or listener was used beside the thread that runs its event loop.

    ``loop.call_soon_threadsafe()`` reaches the right thread. Nothing in Bun: there an object
    cannot be shared between threads at all.
    """


class HandshakeTimeoutError(ssl.SSLError, TimeoutError):
    """The TLS handshake was not done within `handshake_timeout` seconds."""


def handshake_timeout() -> HandshakeTimeoutError:
    """The error of a handshake that took too long."""
    text = "the TLS handshake was not done within handshake_timeout"
    return HandshakeTimeoutError(errno.ETIMEDOUT, text)


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

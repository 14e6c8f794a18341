"""What the Python servers share."""

from __future__ import annotations

import ssl

BLOCK = bytes(i % 251 for i in range(1 << 20))
PIECE = 4


def ssl_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return a server's context that speaks TLS 1.3 only; the load picks the cipher suite."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context

"""Certificates as users see them: the dict that the ssl module makes, and a bit more."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CertificateDict = dict[str, Any]


def describe(chain: Sequence[bytes], detailed: bool) -> CertificateDict:
    """What `ssl.SSLSocket.getpeercert()` returns for the first certificate of a chain (DER).

    Plus `raw` (DER), `fingerprint256`, and with `detailed` also `issuer_certificate`, from one
    certificate of the chain to the next. Empty without a certificate. Only these where the ssl
    module cannot read the certificate, which somebody has chosen to take unverified.
    """
    described: CertificateDict = {}
    # From the last one on: a chain may be longer than calls can be nested.
    for der in reversed(chain if detailed else chain[:1]):
        issuer, described = described, {}
        with contextlib.suppress(ssl.SSLError, UnicodeDecodeError):
            described.update(decode(der))
        digest = hashlib.sha256(der).hexdigest().upper()
        described["raw"] = der
        described["fingerprint256"] = ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
        if detailed:
            described["issuer_certificate"] = issuer or None
    return described


def load(chain: Sequence[bytes]) -> Certificate | None:
    """The first certificate of a chain (DER) as an object of the package `cryptography`."""
    if not chain:
        return None
    try:
        from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "certificates as objects need the package 'cryptography': pip install cryptography"
        ) from error
    return load_der_x509_certificate(chain[0])


def decode(der: bytes) -> CertificateDict:
    """The dict for a certificate (DER), by the ssl module's own decoder: it is for files only."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(der))
        file.flush()
        return cast("Any", ssl)._ssl._test_decode_cert(file.name)  # type: ignore[no-any-return]

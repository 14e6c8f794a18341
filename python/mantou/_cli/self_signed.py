"""A certificate for servers that were given none."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
from typing import NamedTuple

from .endings import needs


class SelfSigned(NamedTuple):
    """A certificate and its key, PEM, and the SHA-256 of the certificate."""

    cert: bytes
    key: bytes
    fingerprint: str


def self_signed(name: str) -> SelfSigned:
    """A certificate for this name or address, this machine's and localhost; good for 30 days.

    :raises Failure: the package cryptography is missing.
    """
    try:
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError:
        raise needs("cryptography", "TLS without --cert") from None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mantou, self-signed")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = []
    for each in dict.fromkeys([name, socket.gethostname(), "localhost", "127.0.0.1", "::1"]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(each)))
        except ValueError:
            if each.isascii() and each:
                names.append(x509.DNSName(each))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER))
    return SelfSigned(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        digest.digest().hex(":").upper(),
    )

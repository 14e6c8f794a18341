"""Certificates for the scenarios, made anew for each run."""

from __future__ import annotations

import datetime
import ssl
from typing import Any

import trustme

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()
_LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

CA = AUTHORITY.cert_pem.bytes().decode()
STRANGERS_CA = STRANGER.cert_pem.bytes().decode()


def _pair(issued: trustme.LeafCert) -> dict[str, str]:
    chain = "".join(part.bytes().decode() for part in issued.cert_chain_pems)
    return {"cert": chain, "key": issued.private_key_pem.bytes().decode()}


_SERVER = AUTHORITY.issue_cert("localhost", "127.0.0.1")
_CLIENT = AUTHORITY.issue_cert("client@example.org", common_name="clienty")
SERVER = _pair(_SERVER)
CLIENT = _pair(_CLIENT)
STRANGE_CLIENT = _pair(STRANGER.issue_cert("client@example.org", common_name="stranger"))
STRANGE_SERVER = _pair(STRANGER.issue_cert("localhost", "127.0.0.1"))
OTHER_NAME = _pair(AUTHORITY.issue_cert("other.example"))
EXPIRED = _pair(
    AUTHORITY.issue_cert(
        "localhost", not_after=_LONG_AGO + datetime.timedelta(90), not_before=_LONG_AGO
    )
)


def context(server_side: bool, version: str = "", **options: Any) -> ssl.SSLContext:
    """A raw peer's: it trusts the authority, and has its certificate where it serves."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    if server_side:
        _SERVER.configure_cert(made)
    AUTHORITY.configure_trust(made)
    if version:
        made.minimum_version = made.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    for name, value in options.items():
        setattr(made, name, value)
    return made

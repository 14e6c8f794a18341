"""What the table calls what happened on mantou, and what scenarios call data; as bun_words.ts."""

from __future__ import annotations

import errno
import json
import os
import socket as kernel
import ssl
from typing import Any

# What OpenSSL calls the numbers of a failed verification.
VERDICTS = {
    10: "CERT_HAS_EXPIRED",
    18: "DEPTH_ZERO_SELF_SIGNED_CERT",
    20: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    21: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    23: "CERT_REVOKED",
    62: "HOSTNAME_MISMATCH",
    64: "HOSTNAME_MISMATCH",
}
KINDS = {"bytes": "Buffer", "bytearray": "Uint8Array", "memoryview": "ArrayBuffer"}


def told(event: str, values: tuple[Any, ...], table: Any) -> str:
    """What an event is told with."""
    if event == "data":
        kind, chunk = KINDS[type(values[0]).__name__], bytes(values[0])
        kind = kind if table["binary"] else ""
        if chunk[:2] in (b"\x14\x03", b"\x15\x03", b"\x16\x03", b"\x17\x03"):
            return json.dumps({"kind": "", "size": 0, "text": "TLS"})
        text = chunk.decode("latin-1") if len(chunk) <= 64 else ""
        return json.dumps({"kind": kind, "size": len(chunk), "text": text})
    if event == "handshake":
        return f"{truth(values[0])} {code(values[1])}".strip()
    return code(values[0]) if values else ""


def code(error: Any) -> str:
    """What an error is called in the table, whoever raised it."""
    match error:
        case None:
            return ""
        case ssl.SSLCertVerificationError():
            return VERDICTS.get(error.verify_code, error.verify_message.partition(" (")[0])
        case ssl.SSLError():
            return "TLS_EOF" if isinstance(error, ssl.SSLEOFError) else "TLS"
        case kernel.gaierror():
            return "ENOTFOUND"
        case OSError(errno=int(number)):
            return errno.errorcode[number]
        case _:
            return str(error)


def truth(value: bool) -> str:
    return str(bool(value)).lower()


def none(value: Any) -> str:
    return ""


def taken(count: int, what: Any) -> str:
    """What a write returned."""
    if isinstance(what, str):
        return str(count)
    return "all" if count == what["fill"] else "not all" if count >= 0 else str(count)


def data(what: Any) -> Any:
    """Bytes that tell their place, or a str as it is."""
    if isinstance(what, str):
        return what
    count = what["fill"]
    return (bytes(range(251)) * (count // 251 + 1))[:count]


def options_of(program: Any) -> dict[str, Any]:
    """The options, with a descriptor where a scenario says what is behind it."""
    options = dict(program["options"])
    match options.get("fd"):
        case "a file":
            options["fd"] = os.open(__file__, os.O_RDONLY)
        case {"connected": port}:
            sock = kernel.create_connection(("127.0.0.1", port))
            options["fd"] = sock.detach()
    return options

"""`mantou inspect`: what a server's TLS is like, and whether to trust it."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import ipaddress
import json
import ssl
import sys
import time
import warnings
from typing import Any

from mantou._certificates import describe

from .addresses import Address, target_or_host
from .endings import Code, Failure, reason
from .hello import VERSIONS, Answer, ask
from .numbers import seconds
from .opening import PATIENCE, open_stream
from .running import run
from .starttls import PROTOCOLS, Refused, negotiate
from .stdio import show
from .terminal import printable, styled
from .tls_flags import client_tls, declare_client

DESCRIPTION = """\
Shows a server's TLS: what is agreed on, its certificates and the days that are left, whether they
are accepted and why not, the OCSP response it staples, and the versions it speaks, each asked for
by a handshake of its own. The exit code is 4 if the certificate is not accepted.
"""
EXAMPLES = """\
  mantou inspect example.com
  mantou inspect example.com:8443 --ca ca.pem --alpn h2
  mantou inspect mail.example.com --starttls smtp
  mantou inspect example.com --json | jq '.certificates[0].days_left'
"""
_HTTPS = 443
_SOON = 21  # days
_OLD = ("SSLv3", "TLSv1", "TLSv1.1")

Result = dict[str, Any]


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        help="HOST, HOST:PORT or unix:PATH (default: port 443, or that of --starttls)",
    )
    parser.add_argument("--json", action="store_true", help="write all of it as JSON")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=PATIENCE,
        metavar="SECONDS",
        help="for each connection (default: 30)",
    )
    declare_client(parser, always=True)


def start(options: argparse.Namespace) -> Code:
    """Does it; the exit code."""
    port = PROTOCOLS[options.starttls][0] if options.starttls else _HTTPS
    try:
        options.address = target_or_host(port)(options.address)
    except argparse.ArgumentTypeError as error:
        options.fail(f"argument ADDRESS: {error}")
    return run(_inspect(options))


async def _inspect(options: argparse.Namespace) -> Code:
    tls = client_tls(options, always=True) or {}
    address: Address = options.address
    name = tls.get("server_name") or address.host or None
    result: Result = {"target": str(address), "name": name}
    problem = await _agree(options, tls, result)
    # At the same time: who does not answer to a version lets the time go by.
    answers = await asyncio.gather(*(_ask(options, version, name) for version in VERSIONS))
    versions = dict(zip(VERSIONS, answers, strict=True))
    if not any(answer.spoken for answer in versions.values()) and problem is not None:
        raise problem
    older = versions["TLSv1.2"]
    if "certificates" not in result:
        chains = [answer.chain for answer in versions.values() if answer.chain]
        result["certificates"] = _certificates(chains[-1]) if chains else []
        result["verified"] = False
        result["verification"] = problem.text if problem is not None else "not possible"
    result["ocsp"] = _ocsp(older)
    result["versions"] = {
        version: {"spoken": answer.spoken, "cipher": answer.cipher, "refusal": answer.refusal}
        for version, answer in versions.items()
    }
    show(json.dumps(result, indent=2) if options.json else "\n".join(_lines(result)))
    return Code.FINE if result["verified"] else Code.UNTRUSTED


async def _agree(options: argparse.Namespace, tls: Result, result: Result) -> Failure | None:
    """A whole handshake as connect() makes it, but any certificate is looked at."""
    lax = {**tls, "reject_unauthorized": False}
    began = time.perf_counter()
    try:
        stream = await open_stream(options.address, lax, options.starttls, options.timeout)
    except Failure as failure:
        if failure.code is not Code.UNTRUSTED:
            raise
        return failure
    took = time.perf_counter() - began
    socket = stream.socket
    chain = list[bytes]()
    each = socket.get_peer_certificate(detailed=True)
    while each:
        chain.append(each["raw"])
        each = each["issuer_certificate"]
    error = socket.get_authorization_error()
    group = socket.get_ephemeral_key_info() or {}
    cipher = socket.get_cipher() or {}
    result |= {
        "protocol": socket.get_tls_version(),
        "cipher": cipher.get("name"),
        "group": group.get("name"),
        "alpn": socket.alpn_protocol or None,
        "seconds": took,
        "verified": error is None,
        "verification": "accepted" if error is None else _why(error),
        "certificates": _certificates(chain),
    }
    stream.abort()
    return None


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return reason(error)


async def _ask(options: argparse.Namespace, version: str, name: str | None) -> Answer:
    """A hello of this version, over a connection of its own."""
    try:
        stream = await open_stream(options.address, None, None, options.timeout)
        try:
            async with asyncio.timeout(options.timeout):
                if options.starttls:
                    await negotiate(options.starttls, stream, name or "")
                return await ask(stream, version, None if _is_address(name) else name)
        finally:
            stream.abort()
    except Failure as failure:
        return Answer(None, refusal=failure.text)
    except (OSError, Refused) as error:
        return Answer(None, refusal=reason(error))


def _is_address(name: str | None) -> bool:
    try:
        ipaddress.ip_address((name or "").partition("%")[0])
    except ValueError:
        return not name
    return True


def _certificates(chain: list[bytes] | tuple[bytes, ...]) -> list[Result]:
    found = list[Result]()
    for der in chain:
        known = describe([der], detailed=False)
        begins, ends = _moment(known.get("notBefore")), _moment(known.get("notAfter"))
        left = None if ends is None else (ends - datetime.datetime.now(datetime.UTC)).days
        found.append(
            {
                "subject": _name(known.get("subject", ())),
                "issuer": _name(known.get("issuer", ())),
                "names": [value for _, value in known.get("subjectAltName", ())],
                "not_before": None if begins is None else begins.isoformat(),
                "not_after": None if ends is None else ends.isoformat(),
                "days_left": left,
                "serial_number": known.get("serialNumber"),
                "sha256": known["fingerprint256"],
                **_keys(der),
            }
        )
    return found


def _keys(der: bytes) -> Result:
    """What the ssl module does not tell: None without the package cryptography."""
    try:
        from cryptography import x509  # noqa: PLC0415
    except ImportError:
        return {"key": None, "signature": None}
    try:
        with warnings.catch_warnings(action="ignore"):  # what is odd is the server's
            certificate = x509.load_der_x509_certificate(der)
        key: Any = certificate.public_key()
        kind = type(key).__name__.strip("_").removesuffix("PublicKey")
        curve = getattr(getattr(key, "curve", None), "name", None)
        size = curve or getattr(key, "key_size", "")
        digest = certificate.signature_hash_algorithm
        signed = certificate.signature_algorithm_oid._name  # pyright: ignore[reportPrivateUsage]
    except Exception as error:  # a certificate that is malformed in any way
        return {"key": f"unreadable: {error}", "signature": None}
    return {
        "key": f"{kind} {size}".strip(),
        "signature": signed if signed != "Unknown OID" else digest and digest.name,
    }


def _ocsp(answer: Answer) -> Result:
    """What is known of the stapled response, which is asked for in TLS 1.2."""
    if answer.ocsp is None:
        note = "none" if answer.spoken else "not known: it is to be seen in TLS 1.2 only"
        return {"stapled": False if answer.spoken else None, "note": note}
    try:
        from cryptography.x509 import ocsp  # noqa: PLC0415
    except ImportError:
        note = f"{len(answer.ocsp)} bytes; pip install 'mantou[cli]' to have it read"
        return {"stapled": True, "note": note}
    try:
        response = ocsp.load_der_ocsp_response(answer.ocsp)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return {"stapled": True, "note": response.response_status.name.lower()}
        ends = response.next_update_utc
        return {
            "stapled": True,
            "note": response.certificate_status.name.lower(),
            "this_update": response.this_update_utc.isoformat(),
            "next_update": None if ends is None else ends.isoformat(),
        }
    except Exception as error:  # a response that is malformed in any way
        return {"stapled": True, "note": f"unreadable: {error}"}


def _name(parts: Any) -> str:
    short = {"commonName": "CN", "organizationName": "O", "countryName": "C"}
    short |= {"organizationalUnitName": "OU", "localityName": "L", "stateOrProvinceName": "ST"}
    return ", ".join(f"{short.get(key, key)}={value}" for part in parts for key, value in part)


def _moment(text: str | None) -> datetime.datetime | None:
    """None if there is none, or no date could be made of it."""
    try:
        seconds = ssl.cert_time_to_seconds(text or "")
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError):
        return None


def _lines(result: Result) -> list[str]:
    """The result for people."""
    lines = [styled(printable(result["target"]), "bold", sys.stdout)]
    verified = result["verified"]
    text = styled("yes" if verified else "NO", "green" if verified else "red", sys.stdout)
    if not verified:
        text += f": {printable(result['verification'])}"
    lines.append(f"  trusted   {text}")
    if "protocol" in result:
        agreed = [result["protocol"], result["cipher"], result["group"]]
        lines.append(f"  agreed    {', '.join(str(each) for each in agreed if each)}")
        lines.append(f"  ALPN      {printable(result['alpn'] or 'none')}")
    for number, each in enumerate(result["certificates"]):
        lines += _certificate_lines(number, each)
    ocsp = result["ocsp"]
    lines.append(f"  OCSP      {'stapled: ' if ocsp['stapled'] else ''}{printable(ocsp['note'])}")
    for version, answer in result["versions"].items():
        if answer["spoken"]:
            old = version in _OLD
            text = styled(f"yes  {answer['cipher']}", "red" if old else "green", sys.stdout)
            text += "  (no longer safe)" if old else ""
        else:
            text = f"{'?' if answer['spoken'] is None else 'no':<5}{printable(answer['refusal'])}"
        lines.append(f"  {version:<8}  {text}")
    return lines


def _certificate_lines(number: int, each: Result) -> list[str]:
    left = each["days_left"]
    if left is None:
        ends = "unreadable"
    else:
        style = "red" if left < 0 else "yellow" if left < _SOON else "green"
        days = f"{left} days left" if left >= 0 else f"expired {-left} days ago"
        begins = each["not_before"] or "unreadable"
        ends = f"{begins[:10]} to {each['not_after'][:10]}, "
        ends += styled(days, style, sys.stdout)
    lines = [
        f"  {number}: {printable(each['subject']) or '(no subject)'}",
        f"     issuer  {printable(each['issuer'])}",
    ]
    if each["names"]:
        lines.append(f"     names   {printable(', '.join(each['names']))}")
    lines.append(f"     valid   {ends}")
    if each["key"] is not None:
        lines.append(f"     key     {printable(each['key'])}, signed by {each['signature']}")
    lines.append(f"     sha256  {each['sha256']}")
    return lines

"""The options about TLS, and what they mean for `connect()` and `listen()`."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
from collections.abc import Sequence
from typing import Any

from .endings import Code, Failure, reason
from .starttls import PROTOCOLS

_NEED_TLS = ("ca", "cert", "key", "alpn", "insecure", "sni")


def declare_client(
    parser: argparse.ArgumentParser, *, always: bool = False, starttls: bool = True
) -> None:
    """Adds the options of a client; with `always` it speaks TLS without being told to."""
    group = parser.add_argument_group("TLS")
    if not always:
        group.add_argument("--tls", action="store_true", help="speak TLS")
    group.add_argument("--ca", type=pem, metavar="FILE", help=_CA)
    group.add_argument(
        "--cert", type=pem, metavar="FILE", help="our certificate and its chain, PEM"
    )
    group.add_argument("--key", type=pem, metavar="FILE", help=_KEY)
    group.add_argument(
        "--alpn", type=protocols, metavar="LIST", help="protocols to offer: h2,http/1.1"
    )
    group.add_argument("--sni", metavar="NAME", help=_SNI)
    if not always:
        group.add_argument(
            "--insecure", action="store_true", help="take any certificate, and say what is wrong"
        )
    if starttls:
        group.add_argument(
            "--starttls",
            choices=tuple(PROTOCOLS),
            metavar="PROTOCOL",
            help=f"ask for TLS in the words of {', '.join(PROTOCOLS)}",
        )


_CA = "trust the certificates in this file and no others, PEM (default: the system's)"
_KEY = "its private key, PEM (default: it is in the certificate's file)"
_SNI = "the name to ask for and to verify (default: HOST)"


def client_tls(options: argparse.Namespace, *, always: bool = False) -> dict[str, Any] | None:
    """A client's TLSOptions, None where it speaks none. Misuse ends the process."""
    starttls = getattr(options, "starttls", None)
    wanted = always or options.tls or starttls
    given = [name for name in _NEED_TLS if getattr(options, name, None) not in (None, False)]
    if given and not wanted:
        options.fail(
            f"--{given[0]} needs --tls" + (" or --starttls" * hasattr(options, "starttls"))
        )
    if not wanted:
        return None
    tls = _own_certificate(options)
    if options.ca is not None:
        tls["ca"] = options.ca
    if options.alpn:
        tls["alpn_protocols"] = options.alpn
    if options.sni:
        tls["server_name"] = options.sni
    if getattr(options, "insecure", False):
        tls["reject_unauthorized"] = False
    return tls


def declare_server(parser: argparse.ArgumentParser, flag: str = "--tls") -> Any:
    """Adds the options of a server, and returns their group."""
    group = parser.add_argument_group(f"TLS ({flag})")
    group.add_argument(flag, action="store_true", help="speak TLS with those who connect")
    group.add_argument(
        "--cert",
        type=pem,
        metavar="FILE",
        help="the certificate and its chain, PEM (default: one made for this run)",
    )
    group.add_argument("--key", type=pem, metavar="FILE", help=_KEY)
    return group


def server_tls(options: argparse.Namespace, flag: str, name: str) -> dict[str, Any] | None:
    """A server's TLSOptions, None where it speaks none."""
    wanted = getattr(options, flag.removeprefix("--").replace("-", "_"))
    # Of those of a proxy, the others are about its targets.
    names = ("cert", "key", "ca", "alpn") if flag == "--tls" else ("cert", "key")
    given = [name for name in names if getattr(options, name) is not None]
    if given and not wanted:
        options.fail(f"--{given[0]} needs {flag}")
    if not wanted:
        return None
    tls: dict[str, Any] = {}
    if "ca" in given:
        tls |= {"ca": options.ca, "request_cert": True}
    if "alpn" in given:
        tls["alpn_protocols"] = options.alpn
    return tls | (_own_certificate(options) or _made_certificate(options, name))


def _made_certificate(options: argparse.Namespace, name: str) -> dict[str, Any]:
    from .self_signed import self_signed  # noqa: PLC0415 (cryptography takes long to load)

    made = self_signed(name)
    options.say("no --cert: clients see a self-signed certificate that nobody trusts, SHA-256")
    options.say(made.fingerprint)
    return {"cert": made.cert, "key": made.key}


def _own_certificate(options: argparse.Namespace) -> dict[str, Any]:
    """Certificate and key, which may be in one file. Empty without one."""
    cert, key = options.cert, options.key
    if cert is None:
        if key is not None:
            options.fail("--key needs --cert")
        return {}
    if key is None and b"PRIVATE KEY-----" not in cert:
        options.fail("--cert holds no private key: --key must name its file")
    flag, key = ("--cert", cert) if key is None else ("--key", key)
    own: dict[str, Any] = {"cert": cert, "key": key}
    if any(mark in key for mark in _ENCRYPTED):
        own["passphrase"] = _passphrase(flag)
    return own


# How a key says so: PKCS #8, and what was there before it.
_ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")


def _passphrase(flag: str) -> str:
    """Asks for it on the terminal, whatever stdin is."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        text = f"{flag} is encrypted, and there is no terminal to ask for its passphrase on"
        raise Failure(Code.FAILED, f"{text}: openssl pkey -in FILE decrypts it") from None
    # Ctrl-C has to turn the terminal's echo on again.
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass.getpass(f"passphrase of {flag}: ")
    except (KeyboardInterrupt, EOFError):
        raise Failure(Code.INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, before)


def pem(path: str) -> bytes:
    """What is in a file, for argparse. It is read once: it may be a pipe, as `<(command)` is."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {reason(error)}") from None
    if b"-----BEGIN " not in content:
        raise argparse.ArgumentTypeError(f"{path} is not in PEM: it has no BEGIN line")
    return content


def protocols(text: str) -> Sequence[str]:
    """Names with commas between, for argparse."""
    names = text.split(",")
    if not all(0 < len(name.encode()) < 256 for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} must be names with commas between")
    return names


def checked(tls: dict[str, Any] | None, socket: Any, say: Any) -> None:
    """Says what is wrong with a certificate that was taken all the same."""
    error = None if tls is None else socket.get_authorization_error()
    if error is not None:
        say(f"--insecure: {reason(error)}")

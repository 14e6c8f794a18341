"""How a command ends: exit codes, and what is said of an error."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum


class Code(IntEnum):
    """The exit codes of all commands but `run`, which ends as its program does."""

    FINE = 0
    FAILED = 1
    MISUSE = 2
    UNREACHABLE = 3
    UNTRUSTED = 4
    BROKEN = 5
    TIMEOUT = 6
    NO_STARTTLS = 7
    INTERRUPTED = 130
    NO_READER = 141
    TERMINATED = 143


MEANINGS = {
    Code.FINE: "it ended in order: both sides have finished",
    Code.FAILED: "something on this side failed: a file, an address to listen on, a package",
    Code.MISUSE: "the command line is wrong",
    Code.UNREACHABLE: "there is no connection: the name is unknown, the peer refused",
    Code.UNTRUSTED: "the TLS handshake failed, or the certificate is not accepted",
    Code.BROKEN: "the connection broke: a reset, or TLS that was cut short",
    Code.TIMEOUT: "the time was up",
    Code.NO_STARTTLS: "the peer would not change to TLS (--starttls)",
    Code.INTERRUPTED: "Ctrl-C",
    Code.NO_READER: "nobody reads what is written to stdout",
    Code.TERMINATED: "SIGTERM",
}


class Failure(Exception):
    """Ends the command with an exit code, and a text for people unless that is empty."""

    def __init__(self, code: Code, text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def needs(package: str, what: str) -> Failure:
    """What is raised where an optional package is missing."""
    return Failure(Code.FAILED, f"{what} needs the package {package}: pip install 'mantou[cli]'")


@contextmanager
def connecting(where: object) -> Generator[None, None, None]:
    """What is raised while a connection is made, as a Failure."""
    try:
        yield
    except TimeoutError as error:
        raise Failure(Code.TIMEOUT, f"{where}: {reason(error)}") from error
    except ssl.SSLError as error:
        raise Failure(Code.UNTRUSTED, f"{where}: {reason(error)}") from error
    except OSError as error:
        raise Failure(Code.UNREACHABLE, f"{where}: {reason(error)}") from error
    except ImportError as error:
        raise needs("cryptography", "an encrypted --key") from error
    except (TypeError, ValueError) as error:
        raise Failure(Code.MISUSE, _in_words_of_flags(error)) from error


@contextmanager
def listening(where: object) -> Generator[None, None, None]:
    """What is raised while a listener is made, as a Failure."""
    try:
        yield
    except OSError as error:
        raise Failure(Code.FAILED, f"{where}: {reason(error)}") from error
    except ImportError as error:
        raise needs("cryptography", "an encrypted --key") from error
    except (TypeError, ValueError) as error:
        raise Failure(Code.MISUSE, _in_words_of_flags(error)) from error


def _in_words_of_flags(error: Exception) -> str:
    def flag(found: re.Match[str]) -> str:
        name = found[1]
        return _FLAGS.get(name, f"--{name.replace('_', '-')}")

    return re.sub(r"option '(\w+)'", flag, str(error)).replace(" (str)", "")


# What options of connect() and listen() are called on the command line, if not the same.
_FLAGS = {"server_name": "--sni", "alpn_protocols": "--alpn", "unix": "ADDRESS"}


@contextmanager
def connected(where: object) -> Generator[None, None, None]:
    """What is raised while a connection is used, as a Failure."""
    try:
        yield
    except TimeoutError as error:
        raise Failure(Code.TIMEOUT, f"{where}: {reason(error)}") from error
    except (ConnectionError, ssl.SSLError) as error:
        # In TLS 1.3 a server refuses our certificate when to us the handshake is over.
        alert = str(getattr(error, "reason", None))
        refused = re.search("ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)", alert)
        code = Code.UNTRUSTED if refused else Code.BROKEN
        raise Failure(code, f"{where}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """An error in a line: what the system or OpenSSL says, without numbers and places in code."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "it was cut short: the peer's FIN came without a close_notify"
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "too many open files: see ulimit -n"
    if isinstance(error, TimeoutError) and not str(error):  # asyncio's own
        return "the time was up"
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    if isinstance(error, ssl.SSLError):
        text = re.sub(r"^\[SSL: \w+\] ", "", text)
    text = text.replace("within handshake_timeout", "in time")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text

"""Another `ssl.SSLContext` with the same trust, for contexts that cannot judge for rustls.

Certificates are shown to a context in a handshake of TLS 1.2 (`_ssl_judge.py`). One that allows
TLS 1.3 alone refuses that. So everything it was given is given to another one, too, which differs
in nothing else and never talks to anybody.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from collections.abc import Callable, Generator, Sequence
from typing import Any

Step = Callable[[ssl.SSLContext], object]
"""Something that was done to a context."""

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# The class beneath `ssl.SSLContext`: its attributes are plain numbers.
_RAW: Any = ssl.SSLContext.__base__

JUDGING = ("verify_mode", "verify_flags", "_host_flags", "check_hostname")
"""The attributes that decide how a context judges. A twin is made with them and never changed:
others may be asking it at this moment."""


class NotAlike(Exception):
    """What was loaded cannot be loaded again, or is another thing by now."""


def read(path: _Path) -> bytes:
    """What a file says that was loaded just now. OSError if it can be read only once."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{os.fsdecode(path)} is no regular file")
    with open(path, "rb") as file:
        return file.read()


def load_trust(context: ssl.SSLContext, text: bytes) -> None:
    """Loads what was read from a `cafile`."""
    with _file(text) as path:
        context.load_verify_locations(path)


def load_identity(
    context: ssl.SSLContext,
    shown: bytes,
    secret: bytes,
    password: str | bytes | bytearray | None,
) -> None:
    """Loads what was read from a `certfile` and a `keyfile`."""
    with _file(shown) as certfile, _file(secret) as keyfile:
        context.load_cert_chain(certfile, keyfile, password)


@contextlib.contextmanager
def _file(text: bytes) -> Generator[str, None, None]:
    """The name of a file with this text, which is nowhere but in memory."""
    descriptor = os.memfd_create("mantou", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def twin(context: ssl.SSLContext, steps: Sequence[Step]) -> ssl.SSLContext:
    """A context that judges as this one does.

    :param steps: all that has loaded certificates into it.
    :raises NotAlike: it cannot be loaded again, or is another thing by now.
    """
    # Not what injection would have it make.
    made: ssl.SSLContext = _RAW.__new__(ssl.SSLContext, context.protocol)
    made.set_ciphers("DEFAULT:@SECLEVEL=2")
    try:
        for step in steps:
            step(made)
    except OSError as error:
        raise NotAlike(str(error)) from error
    if made.cert_store_stats() != context.cert_store_stats() or made.get_ca_certs(
        True
    ) != context.get_ca_certs(True):
        raise NotAlike("the trust store's files have changed")
    # No name can be checked by who verifies nothing, whichever is set first.
    made.check_hostname = False
    for name in JUDGING:
        attribute = getattr(_RAW, name)
        attribute.__set__(made, attribute.__get__(context))
    return made

"""PEM texts out of options and files, with their keys decrypted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from typing import cast

from ._validate import wrong_type, wrong_value

_KEY = re.compile(
    rb"-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY)-----.*?-----END (?P=label)-----", re.DOTALL
)


def read_sources(value: object, option: str) -> list[bytes]:
    """The PEM texts of an option: str or bytes with PEM, path-like objects, or a list of these."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [_read_source(item, option) for item in cast("Sequence[object]", value)]
    return [_read_source(value, option)]


def read_file(value: object, option: str) -> bytes:
    """The contents of the file that an option names. OSError if it cannot be read."""
    # A pipe would keep everybody waiting.
    descriptor = open_file(value, option, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise wrong_value(option, "the name of a regular file", value)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def open_file(value: object, option: str, flags: int) -> int:
    """Opens the file that an option names. OSError, with the name of the option, if it cannot."""
    if not isinstance(value, str | os.PathLike):
        raise wrong_type(option, "a str or path-like object", value)
    path = os.fspath(cast("str | os.PathLike[str]", value))
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        text = f"option {option!r}: {error.strerror}"
        raise OSError(error.errno, text, path) from None
    except ValueError:
        raise wrong_value(option, "the name of a file", path) from None


def decrypted_key(text: bytes, option: str, passphrase: bytes | None) -> bytes:
    """The one private key of a text, in PEM that is not encrypted.

    ValueError if there is none or more than one, or the passphrase is missing or wrong;
    ImportError if an encrypted one cannot be decrypted without the package `cryptography`.
    """
    found = [match[0] for match in _KEY.finditer(text)]
    if len(found) != 1:
        raise ValueError(f"option {option!r} must hold one private key in PEM, got {len(found)}")
    if b"ENCRYPTED" not in found[0]:
        return found[0]
    if passphrase is None:
        raise ValueError(f"option {option!r} is encrypted and needs 'passphrase'")
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f"option {option!r} is encrypted: install the package 'cryptography' to decrypt it"
        ) from error
    try:
        key = serialization.load_pem_private_key(found[0], passphrase)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"option {option!r} cannot be decrypted with 'passphrase': {error}"
        ) from None
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read_source(value: object, option: str) -> bytes:
    if isinstance(value, os.PathLike):
        return read_file(cast("os.PathLike[str]", value), option)
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes | bytearray):
        # Its type only: it may be a private key.
        kind = type(value).__name__
        raise TypeError(
            f"option {option!r} must be PEM as str or bytes, or a path-like object, got {kind}"
        )
    if b"-----BEGIN" not in value:
        raise ValueError(
            f"option {option!r} holds no PEM (a file is named by a path-like object or by "
            f"'{option}_file')"
        )
    return bytes(value)

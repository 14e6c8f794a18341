"""PEM out of options and files, taken apart, with its keys decrypted."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from ._core import pem_certificates, pem_private_key, pem_revocation_lists, pem_trusted
from ._validate import wrong_type, wrong_value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A PEM text, and where it is from.

    Each method is a ValueError if there is no such thing in the text, or it cannot be read: that
    says which option or file it is, which of its blocks, and why.
    """

    text: bytes = field(repr=False)
    """It may be a private key, which no traceback is to show."""
    option: str
    place: str = ""
    """The file that it was read from, or which of the option's items it is."""

    def certificates(self) -> list[bytes]:
        """The certificates, in DER."""
        return self._read(pem_certificates)

    def trusted(self, servers: bool) -> list[bytes]:
        """The certificates (DER) that may vouch for servers, or for clients.

        A TRUSTED CERTIFICATE, which is OpenSSL's own form, can say that it is not to.
        """
        return self._read(lambda text: pem_trusted(text, servers))

    def revocation_lists(self) -> list[bytes]:
        """The revocation lists, in DER."""
        return self._read(pem_revocation_lists)

    def private_key(self, passphrase: bytes | None) -> bytes:
        """The first private key, in DER that is not encrypted.

        ValueError if the passphrase is missing or wrong, too; ImportError if an encrypted key
        cannot be decrypted without the package `cryptography`.
        """
        label, headers, contents = self._read(pem_private_key)
        if "ENCRYPTED" not in label and "ENCRYPTED" not in headers:
            return contents
        if passphrase is None:
            raise ValueError(f"{self._name()} is encrypted and needs 'passphrase'")
        try:
            from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                f"{self._name()} is encrypted: install the package 'cryptography' to decrypt it"
            ) from error
        try:
            key = serialization.load_pem_private_key(
                _undressed(label, headers, contents), passphrase
            )
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self._name()} cannot be decrypted with 'passphrase': {error}"
            ) from None
        return key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def _read(self, read: Callable[[bytes], T]) -> T:
        try:
            return read(self.text)
        except ValueError as error:
            hint = ""
            if not self.option.endswith("_file") and b"-----BEGIN" not in self.text:
                hint = f" (a file is named by a path-like object or by '{self.option}_file')"
            raise ValueError(f"{self._name()} {error}{hint}") from None

    def _name(self) -> str:
        return f"option {self.option!r}" + (f" ({self.place})" if self.place else "")


def read_sources(value: object, option: str) -> list[Source]:
    """The PEM texts of an option: str or bytes with PEM, path-like objects, or a list of these."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        items = cast("Sequence[object]", value)
        return [_read_source(item, option, f"item {i}") for i, item in enumerate(items, 1)]
    return [_read_source(value, option)]


def read_file(value: object, option: str) -> Source:
    """The file that an option names. OSError if it cannot be read."""
    # A pipe would keep everybody waiting.
    descriptor = open_file(value, option, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise wrong_value(option, "the name of a regular file", value)
    with os.fdopen(descriptor, "rb") as file:
        return Source(file.read(), option, os.fspath(cast("str | os.PathLike[str]", value)))


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


def _read_source(value: object, option: str, place: str = "") -> Source:
    if isinstance(value, os.PathLike):
        return read_file(cast("os.PathLike[str]", value), option)
    if isinstance(value, str):
        # Only what stands around the blocks can be anything but ASCII.
        value = value.encode(errors="replace")
    if not isinstance(value, bytes | bytearray):
        # Its type only: it may be a private key.
        kind = type(value).__name__
        raise TypeError(
            f"option {option!r} must be PEM as str or bytes, or a path-like object, got {kind}"
        )
    return Source(bytes(value), option, place)


def _undressed(label: str, headers: str, contents: bytes) -> bytes:
    """The PEM of an encrypted key, without anything around it: others read less than OpenSSL."""
    body = base64.encodebytes(contents).decode()
    above = f"{headers}\n" if headers else ""
    return f"-----BEGIN {label}-----\n{above}{body}-----END {label}-----\n".encode()

"""Certificates and keys, from PEM in all its forms to DER."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ._validate import wrong_type

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n(.*?)-----END \1-----", re.DOTALL)
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between BEGIN and END."""

    label: str
    body: bytes
    text: bytes

    @property
    def is_encrypted(self) -> bool:
        """True for a key in either of the two encrypted styles."""
        return self.label == "ENCRYPTED PRIVATE KEY" or b"ENCRYPTED" in self.body

    def der(self, option: str) -> bytes:
        """The decoded body. ValueError if it is not base64."""
        try:
            return base64.b64decode(b"".join(self.body.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"option {option!r} holds PEM that is not base64: {error}") from None


def read_sources(value: object, option: str) -> list[bytes]:
    """The PEM texts of an option: str or bytes with PEM, path-like objects, or a list of these."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [_read_source(item, option) for item in cast("Sequence[object]", value)]
    return [_read_source(value, option)]


def read_file(value: object, option: str) -> bytes:
    """The contents of the file that an option names. OSError if it cannot be read."""
    if not isinstance(value, str | os.PathLike):
        raise wrong_type(option, "a str or path-like object", value)
    return Path(cast("str | os.PathLike[str]", value)).read_bytes()


def certificates(texts: Iterable[bytes], option: str) -> list[bytes]:
    """The DER of every certificate. ValueError if a text has none."""
    return _decode(texts, option, _CERTIFICATES, "certificate")


def revocation_lists(texts: Iterable[bytes], option: str) -> list[bytes]:
    """The DER of every certificate revocation list. ValueError if a text has none."""
    return _decode(texts, option, ("X509 CRL",), "certificate revocation list")


def private_key(text: bytes, option: str, passphrase: bytes | None) -> bytes:
    """The DER of the one private key: PKCS#8, PKCS#1 or SEC1.

    ValueError if there is none or more than one, or the passphrase is missing or wrong;
    ImportError if an encrypted one cannot be decrypted without the package `cryptography`.
    """
    found = [block for block in _blocks(text) if block.label.endswith("PRIVATE KEY")]
    if len(found) != 1:
        raise ValueError(f"option {option!r} must hold one private key in PEM, got {len(found)}")
    block = found[0]
    if block.is_encrypted:
        return _decrypt(block, option, passphrase)
    if block.label not in _KEYS:
        raise ValueError(f"option {option!r} holds a key of an unknown kind: {block.label}")
    return block.der(option)


def _read_source(value: object, option: str) -> bytes:
    if isinstance(value, os.PathLike):
        return read_file(cast("os.PathLike[str]", value), option)
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes | bytearray):
        # Its type only: it may be a private key.
        kind = type(value).__name__
        raise TypeError(
            f"option {option!r} must be PEM as str or bytes, or a path-like, got {kind}"
        )
    if b"-----BEGIN" not in value:
        raise ValueError(
            f"option {option!r} holds no PEM (a file is named by a path-like object or by "
            f"'{option}_file')"
        )
    return bytes(value)


def _blocks(text: bytes) -> list[Block]:
    return [Block(found[1].decode(), found[2], found[0]) for found in _BLOCK.finditer(text)]


def _decode(texts: Iterable[bytes], option: str, labels: Sequence[str], what: str) -> list[bytes]:
    decoded: list[bytes] = []
    for text in texts:
        found = [block.der(option) for block in _blocks(text) if block.label in labels]
        if not found:
            raise ValueError(f"option {option!r} holds no {what} in PEM")
        decoded += found
    return decoded


def _decrypt(block: Block, option: str, passphrase: bytes | None) -> bytes:
    if passphrase is None:
        raise ValueError(f"option {option!r} is encrypted and needs 'passphrase'")
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f"option {option!r} is encrypted: install the package 'cryptography' to decrypt it"
        ) from error
    try:
        key = serialization.load_pem_private_key(block.text, passphrase)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"option {option!r} cannot be decrypted with 'passphrase': {error}"
        ) from None
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

"""TLSOptions, checked and read: what the native side makes its configuration of.

Whatever the engine cannot do is refused here or there with a ValueError that names the way out,
an `ssl.SSLContext`; nothing is silently ignored.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, cast

from . import _pem
from ._addresses import name_of, parse_host
from ._core import TlsConfig, TlsTicket, is_server_name, system_trust_size
from ._names import unknown_name
from ._option_types import TLSOptions
from ._rustls import ALWAYS_SO
from ._validate import Options, flag, integer, wrong_type, wrong_value

Side = Literal["client", "server"]
Version = Literal["TLSv1.2", "TLSv1.3"]

_VERSIONS: tuple[Version, ...] = ("TLSv1.2", "TLSv1.3")
_OTHER_VERSIONS = ("SSLv2", "SSLv3", "TLSv1", "TLSv1.0", "TLSv1.1")
_WAY_OUT = "give an ssl.SSLContext as 'tls' for that"

_NO_VERSION = ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
_NAMES = TLSOptions.__optional_keys__ | TLSOptions.__required_keys__
_LARGEST_UINT32 = 2**32 - 1
_LONGEST_PROTOCOL = 255


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to speak TLS with one peer."""

    config: TlsConfig | ssl.SSLContext
    server_name: str | None
    """The name to ask for and to check; None for that of the connection's target."""
    session: TlsTicket | None
    """An earlier session to resume."""
    options: Options
    side: Side

    def with_verification(self, request_cert: bool, reject_unauthorized: bool) -> TlsSettings:
        """The same, with another idea of whom to accept.

        :raises NotImplementedError: an `ssl.SSLContext` says so itself, with its `verify_mode`.
        """
        if isinstance(self.config, ssl.SSLContext):
            raise NotImplementedError("set the 'verify_mode' of the ssl.SSLContext instead")
        changed = {"request_cert": request_cert, "reject_unauthorized": reject_unauthorized}
        return parse_tls({**self.options, **changed}, self.side)


def parse_tls(source: object, side: Side) -> TlsSettings:
    """Checks TLSOptions and reads the files that they name.

    :raises OSError: a file cannot be read.
    :raises TypeError: an option is unknown or of the wrong type.
    :raises ValueError: an option has a wrong value, or one that the engine cannot do.
    """
    if isinstance(source, ssl.SSLContext):
        _check_context(source, side)
        return TlsSettings(source, None, None, {}, side)
    options: Options = {} if source is True else cast("Options", source)
    for name in options:
        if name not in _NAMES:
            raise unknown_name("tls", name, sorted(_NAMES))
    _check_without_effect(options)
    lowest, highest = _versions(options)
    identities = _identities(options)
    if side == "server" and not identities:
        raise ValueError("option 'tls' needs a certificate to listen: 'cert' and 'key'")
    config = TlsConfig(
        side == "server",
        identities=identities,
        ca=_trusted(options, side),
        crl=_revocation_lists(options),
        verify=flag(options, "reject_unauthorized", default=True),
        request_cert=flag(options, "request_cert", default=False),
        alpn=_alpn_protocols(options),
        ciphers=_text(options, "ciphers"),
        lowest=lowest,
        highest=highest,
        key_log_file=_key_log_file(options),
    )
    server_name = _server_name(options)
    if side == "server" and server_name is not None and not config.covers(server_name):
        raise wrong_value("server_name", "a name that the certificate is made for", server_name)
    session = _session(options)
    if side == "server" and session is not None:
        raise ValueError("option 'session' is for connect(): clients are who resumes a session")
    return TlsSettings(config, server_name, session, options, side)


def _check_context(context: ssl.SSLContext, side: Side) -> None:
    """Refuses a context of `ssl.Purpose` for the other side, which would fail each handshake."""
    wrong = ssl.PROTOCOL_TLS_CLIENT if side == "server" else ssl.PROTOCOL_TLS_SERVER
    if context.protocol is wrong:
        raise ValueError(f"option 'tls' got an ssl.SSLContext for the wrong side: {wrong.name}")


def _identities(options: Options) -> list[tuple[list[bytes], bytes]]:
    """Certificate chains and their keys, in DER.

    One key goes with all the certificates, which are one chain; several go with one text each.
    """
    cert_option, chain_sources = _sources(options, "cert")
    _, key_sources = _sources(options, "key")
    if chain_sources is None and key_sources is None:
        return []
    if chain_sources is None:
        raise ValueError("option 'key' needs 'cert'")
    if key_sources is None:
        raise ValueError("option 'cert' needs 'key'")
    passphrase = _passphrase(options)
    keys = [source.private_key(passphrase) for source in key_sources]
    chains = [source.certificates() for source in chain_sources]
    if len(keys) == 1:
        return [(list(chain.from_iterable(chains)), keys[0])]
    if len(keys) != len(chains):
        raise ValueError(
            f"option {cert_option!r} must have one certificate chain for each of the {len(keys)} "
            f"keys, got {len(chains)}"
        )
    return list(zip(chains, keys, strict=True))


def _passphrase(options: Options) -> bytes | None:
    value = options.get("passphrase")
    if isinstance(value, str):
        return value.encode()
    if value is not None and not isinstance(value, bytes):
        raise TypeError(f"option 'passphrase' must be a str or bytes, got {type(value).__name__}")
    return value


def _trusted(options: Options, side: Side) -> list[bytes] | None:
    """The certificates to trust (DER); None for the system's."""
    _, sources = _sources(options, "ca")
    if sources is None and system_trust_size() == 0:
        with contextlib.suppress(ImportError):
            sources = [_pem.read_file(importlib.import_module("certifi").where(), "ca_file")]
    if sources is None:
        return None
    # A client is to trust servers, and the other way round.
    return [one for source in sources for one in source.trusted(servers=side == "client")]


def _revocation_lists(options: Options) -> list[bytes]:
    _, sources = _sources(options, "crl")
    return [one for source in sources or () for one in source.revocation_lists()]


def _sources(options: Options, name: str) -> tuple[str, list[_pem.Source] | None]:
    """The option that was given, `name` or `name_file`, and its texts."""
    of_file = f"{name}_file"
    value, path = options.get(name), options.get(of_file)
    if value is not None and path is not None:
        raise ValueError(f"options {name!r} and {of_file!r} contradict each other")
    if path is not None:
        return of_file, [_pem.read_file(path, of_file)]
    if value is None:
        return name, None
    sources = _pem.read_sources(value, name)
    if not sources:
        raise ValueError(f"option {name!r} must not be an empty list")
    return name, sources


def _alpn_protocols(options: Options) -> list[bytes]:
    value = options.get("alpn_protocols")
    if value is None:
        return []
    if isinstance(value, str | bytes):
        return _alpn_wire(value)
    if not isinstance(value, Sequence):
        raise wrong_type("alpn_protocols", "a list of str", value)
    protocols: list[bytes] = []
    for item in cast("Sequence[object]", value):
        if not isinstance(item, str):
            raise wrong_type("alpn_protocols", "a list of str", item)
        protocol = item.encode()
        if not 0 < len(protocol) <= _LONGEST_PROTOCOL:
            raise wrong_value("alpn_protocols", "names of 1 to 255 bytes", item)
        protocols.append(protocol)
    return protocols


def _alpn_wire(given: str | bytes) -> list[bytes]:
    """Bun's form: each name behind a byte with its length, as in the handshake."""
    expected = "a list of str such as ['h2'], or names behind their lengths"
    try:
        rest = given.encode("latin-1") if isinstance(given, str) else given
    except UnicodeEncodeError:
        raise wrong_value("alpn_protocols", expected, given) from None
    protocols: list[bytes] = []
    while rest:
        size = rest[0]
        if size == 0 or size >= len(rest):
            raise wrong_value("alpn_protocols", expected, given)
        protocols.append(rest[1 : size + 1])
        rest = rest[size + 1 :]
    return protocols


def _versions(options: Options) -> tuple[Version, Version]:
    lowest = _version(options, "min_version", "TLSv1.2")
    highest = _version(options, "max_version", "TLSv1.3")
    secure = _secure_options(options)
    if secure & ssl.OP_NO_TLSv1_2:
        lowest = "TLSv1.3"
    if secure & ssl.OP_NO_TLSv1_3:
        highest = "TLSv1.2"
    if lowest > highest:
        got = f"'min_version' ({lowest}) and 'max_version' ({highest})"
        if secure & _NO_VERSION:
            got += f" with 'secure_options' ({secure:#x})"
        raise ValueError(f"options {got} leave no version")
    return lowest, highest


def _version(options: Options, name: str, default: Version) -> Version:
    value = options.get(name, default)
    if not isinstance(value, str):
        raise wrong_type(name, "'TLSv1.2' or 'TLSv1.3'", value)
    if value in _OTHER_VERSIONS:
        raise ValueError(f"option {name!r} got {value!r}, which the engine cannot do; {_WAY_OUT}")
    if value not in _VERSIONS:
        raise wrong_value(name, "'TLSv1.2' or 'TLSv1.3'", value)
    return value


def _secure_options(options: Options) -> int:
    bits = integer(options, "secure_options", 0, 0, _LARGEST_UINT32)
    known = ALWAYS_SO | _NO_VERSION
    if bits & ~known:
        raise ValueError(
            f"option 'secure_options' has bits that the engine cannot do: {bits & ~known:#x}; "
            f"{_WAY_OUT}"
        )
    return bits


def _check_without_effect(options: Options) -> None:
    """Options that ask for what is so anyway, and one for what cannot be."""
    flag(options, "low_memory_mode", default=False)
    integer(options, "client_renegotiation_limit", 0, 0, _LARGEST_UINT32)
    integer(options, "client_renegotiation_window", 0, 0, _LARGEST_UINT32)
    if options.get("dh_params_file") is not None:
        raise ValueError(
            f"option 'dh_params_file': the engine has no finite-field Diffie-Hellman; {_WAY_OUT}"
        )


def _server_name(options: Options) -> str | None:
    given = [name for name in ("server_name", "servername") if options.get(name) is not None]
    if len(given) > 1:
        raise TypeError("tls: options 'server_name' and 'servername' are the same one")
    return tls_name(options[given[0]], given[0]) if given else None


def tls_name(text: object, option: str) -> str:
    """A name as certificates have it, out of what a user may write. TypeError or ValueError."""
    name = name_of(parse_host(text, option))
    if not is_server_name(name):
        raise wrong_value(option, "a host name that a certificate can have", text)
    return name


def _text(options: Options, name: str) -> str | None:
    value = options.get(name)
    if value is not None and not isinstance(value, str):
        raise wrong_type(name, "a str", value)
    return value


def _key_log_file(options: Options) -> str | None:
    value = options.get("key_log_file")
    if value is None:
        return None
    # Not a pipe that nobody reads, either.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    os.close(_pem.open_file(value, "key_log_file", flags))
    return os.fspath(cast("str | os.PathLike[str]", value))


def _session(options: Options) -> TlsTicket | None:
    value = options.get("session")
    if value is not None and not isinstance(value, TlsTicket):
        raise wrong_type("session", "what get_session() returned", value)
    return value

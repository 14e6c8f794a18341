"""What rustls honours of an `ssl.SSLContext`, and the engine's configuration for it.

A setting that changes nothing that a peer or a program could tell is passed over. Any other that
rustls has not makes a `Reason`, and OpenSSL does it.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from . import _pem
from ._certificates import decode
from ._core import TlsConfig, key_algorithm
from ._rustls import ALWAYS_SO
from ._ssl_twin import JUDGING, NotAlike, Step, load_identity, load_trust, read, twin

Side = Literal["client", "server"]
Identity = tuple[list[bytes], bytes]
_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# The class beneath `ssl.SSLContext`: its attributes are plain numbers.
_RAW: Any = ssl.SSLContext.__base__

_TLS12, _TLS13 = int(ssl.TLSVersion.TLSv1_2), int(ssl.TLSVersion.TLSv1_3)
_NO_VERSION = {
    int(ssl.TLSVersion.TLSv1): int(ssl.OP_NO_TLSv1),
    int(ssl.TLSVersion.TLSv1_1): int(ssl.OP_NO_TLSv1_1),
    _TLS12: int(ssl.OP_NO_TLSv1_2),
    _TLS13: int(ssl.OP_NO_TLSv1_3),
}

_SUITES = frozenset(
    f"ECDHE-{kind}-{cipher}"
    for kind in ("ECDSA", "RSA")
    for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")
) | {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"}

# Versions are honoured, and how a connection ends without close_notify is decided above the TLS
# engine.
_HARMLESS = int(
    ALWAYS_SO | ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3 | getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
)

# What OpenSSL names the kinds of keys by, in the order in which it prefers its certificates.
_EC, _ED25519, _RSA = "1.2.840.10045.2.1", "1.3.101.112", "1.2.840.113549.1.1.1"
_PREFERENCE = [_EC, _ED25519, _RSA]


@dataclass(frozen=True)
class Reason:
    """Why it cannot be rustls."""

    text: str


@dataclass
class Setup:
    """What was done to a context and cannot be read back."""

    identities: dict[str, Identity] = field(default_factory=dict[str, Identity])
    """Certificate chain and key (DER) by the kind of key: OpenSSL keeps one of each."""
    alpn: list[bytes] = field(default_factory=list[bytes])
    ciphers: str | None = None
    loaded: list[Step] = field(default_factory=list[Step])
    """What has loaded certificates of any kind."""
    reason: str | None = None
    """The first thing for which it has to be OpenSSL."""
    revision: int = 0

    def load_identity(
        self, certfile: _Path, keyfile: _Path, password: str | bytes | bytearray | None
    ) -> None:
        self.revision += 1
        passphrase = password.encode() if isinstance(password, str) else password
        try:
            shown, secret = read(certfile), read(keyfile)
            chain = _source(shown, certfile).certificates()
            key = _source(secret, keyfile).private_key(
                None if passphrase is None else bytes(passphrase)
            )
        except (ImportError, OSError, ValueError) as error:
            self.refuse(f"load_cert_chain(): {error}")
            return
        self.loaded.append(lambda it: load_identity(it, shown, secret, password))
        kind = key_algorithm(chain[0])
        if kind in _PREFERENCE:
            self.identities[kind] = chain, key
        else:
            self.refuse(f"load_cert_chain(): rustls has no keys of the kind {kind}")

    def load_trust(self, cafile: _Path) -> None:
        try:
            text = read(cafile)
        except OSError as error:
            unreadable = NotAlike(str(error))

            def fail(_: ssl.SSLContext) -> None:
                raise unreadable

            self.load(fail)
        else:
            self.load(lambda context: load_trust(context, text))

    def load(self, step: Step) -> None:
        self.revision += 1
        self.loaded.append(step)

    def set_ciphers(self, ciphers: str) -> None:
        self.revision += 1
        self.ciphers = ciphers

    def set_alpn(self, protocols: list[bytes]) -> None:
        self.revision += 1
        self.alpn = protocols

    def refuse(self, reason: str) -> None:
        self.revision += 1
        self.reason = self.reason or reason


def snapshot(context: ssl.SSLContext, setup: Setup) -> object:
    """Equal as long as a plan made before is still right."""
    return (
        setup.revision,
        _RAW.options.__get__(context),
        *(getattr(_RAW, name).__get__(context) for name in JUDGING),
        _RAW.minimum_version.__get__(context),
        _RAW.maximum_version.__get__(context),
        _RAW.num_tickets.__get__(context),
        _RAW.post_handshake_auth.__get__(context),
        context.keylog_filename,
        context.sni_callback is None,
        _RAW._msg_callback.__get__(context) is None,
        context.sslobject_class,
        # A lone certificate is shown with what the trust store has above it.
        _RAW.cert_store_stats(context)["x509_ca"] if setup.identities else 0,
    )


@dataclass(frozen=True)
class Plan:
    """How rustls stands in."""

    config: TlsConfig
    judge: ssl.SSLContext | None
    """Who judges the peer's certificates; None for the context itself."""


def plan(context: ssl.SSLContext, setup: Setup, side: Side) -> Plan | Reason:
    """How rustls can stand in, or the first reason for which it cannot."""
    try:
        versions = _versions(context)
        config = _config(context, setup, side, versions)
        if context.verify_mode is ssl.CERT_NONE or _TLS12 in versions:
            return Plan(config, None)
        return Plan(config, twin(context, setup.loaded))
    except NotAlike as error:
        return Reason(f"it is for TLS 1.3 only, and what it trusts cannot be loaded again: {error}")
    except _NotFaithful as error:
        return Reason(str(error))


class _NotFaithful(Exception):
    pass


def _config(context: ssl.SSLContext, setup: Setup, side: Side, versions: set[int]) -> TlsConfig:
    if setup.reason is not None:
        raise _NotFaithful(setup.reason)
    _check_attributes(context, side)
    ciphers, versions = _ciphers(context, setup, side, versions)
    if side == "server" and not setup.identities:
        raise _NotFaithful("no certificate was loaded")
    try:
        return TlsConfig.of_context(
            side == "server",
            identities=_identities(context, setup),
            verify_mode=int(context.verify_mode),
            alpn=setup.alpn,
            ciphers=":".join(ciphers),
            prefer_own_ciphers=bool(context.options & ssl.OP_CIPHER_SERVER_PREFERENCE),
            lowest="TLSv1.2" if _TLS12 in versions else "TLSv1.3",
            highest="TLSv1.3" if _TLS13 in versions else "TLSv1.2",
            key_log_file=context.keylog_filename or None,
        )
    except ValueError as error:
        # A key or a certificate that rustls does not take.
        raise _NotFaithful(str(error)) from error


def _check_attributes(context: ssl.SSLContext, side: Side) -> None:
    protocols = (ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
    if context.protocol not in protocols:
        raise _NotFaithful(f"protocol is {context.protocol.name}")
    if context.security_level != 2:
        raise _NotFaithful(f"security_level is {context.security_level}, rustls has that of 2")
    if context.sslobject_class is not ssl.SSLObject:
        raise _NotFaithful("sslobject_class is not ssl.SSLObject")
    if cast("Any", context)._msg_callback is not None:
        raise _NotFaithful("_msg_callback is set, to which rustls has nothing to tell")
    harmless = _HARMLESS
    if side == "client":
        # It says that no ticket is asked for, of which nobody can tell but by the ticket itself.
        harmless |= int(ssl.OP_NO_TICKET)
        if context.post_handshake_auth:
            raise _NotFaithful("post_handshake_auth is set, which rustls has not")
    else:
        if context.sni_callback is not None:
            raise _NotFaithful("sni_callback is set, which needs OpenSSL's own objects")
        if context.num_tickets != 2:
            raise _NotFaithful(f"num_tickets is {context.num_tickets}, rustls sends 2")
    if unknown := int(context.options) & ~harmless:
        raise _NotFaithful(f"options has bits that rustls cannot honour: {unknown:#x}")


def _versions(context: ssl.SSLContext) -> set[int]:
    lowest, highest = int(context.minimum_version), int(context.maximum_version)
    if highest == ssl.TLSVersion.MAXIMUM_SUPPORTED:
        highest = _TLS13
    if lowest == ssl.TLSVersion.MINIMUM_SUPPORTED and ssl.OPENSSL_VERSION_INFO >= (3,):
        # Left as it is, as some systems' Pythons do: OpenSSL has nothing older at the security
        # level that rustls stands for.
        lowest = _TLS12
    options = int(context.options)
    allowed = {
        version
        for version, refused in _NO_VERSION.items()
        if lowest <= version <= highest and not options & refused
    }
    if allowed - {_TLS12, _TLS13}:
        raise _NotFaithful("minimum_version is below TLS 1.2, which rustls has not")
    if not allowed:
        raise _NotFaithful("minimum_version, maximum_version and options leave no version")
    return allowed


def _ciphers(
    context: ssl.SSLContext, setup: Setup, side: Side, versions: set[int]
) -> tuple[list[str], set[int]]:
    """The suites that rustls has, in OpenSSL's order, and the versions for which it has some."""
    enabled: list[str] = [cipher["name"] for cipher in context.get_ciphers()]
    known = [name for name in enabled if name in _SUITES]
    of = {_TLS13: "TLS_", _TLS12: "ECDHE-"}
    possible = {version for version in versions if any(n.startswith(of[version]) for n in known)}
    if not possible:
        raise _NotFaithful("rustls has none of the ciphers that are set")
    if side == "server":
        # Who can do nothing of this gets OpenSSL's answer.
        return known, possible
    if possible != versions:
        raise _NotFaithful("rustls has none of the ciphers that are set for TLS 1.2")
    missing = [name for name in enabled if name not in _SUITES]
    if setup.ciphers is not None and missing and _TLS12 in versions:
        raise _NotFaithful(f"set_ciphers() allows {missing[0]}, which rustls has not")
    return known, possible


def _identities(context: ssl.SSLContext, setup: Setup) -> list[Identity]:
    kinds = sorted(setup.identities, key=_PREFERENCE.index)
    identities = [setup.identities[kind] for kind in kinds]
    names = {str(decode(chain[0]).get("subjectAltName")) for chain, _ in identities}
    if len(names) > 1:
        raise _NotFaithful("it has certificates for different names, of which rustls would choose")
    return [(_completed(context, chain), key) for chain, key in identities]


def _completed(context: ssl.SSLContext, chain: list[bytes]) -> list[bytes]:
    """The chain as OpenSSL shows it: a lone certificate with those of the trust store above it."""
    if len(chain) > 1:
        return chain
    authorities = {
        str(one["subject"]): (str(one["issuer"]), der)
        for one, der in zip(
            context.get_ca_certs(), context.get_ca_certs(binary_form=True), strict=True
        )
    }
    completed = list(chain)
    issuer = str(decode(chain[0])["issuer"])
    while (found := authorities.pop(issuer, None)) is not None:
        issuer = found[0]
        completed.append(found[1])
    return completed


def _source(text: bytes, path: _Path) -> _pem.Source:
    return _pem.Source(text, "cert_file", os.fsdecode(path))

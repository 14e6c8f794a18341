"""The PROXY protocol: what a proxy says of the client behind it, before everything else."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from ._core import Socket, write_proxy_header
from ._validate import shown

_HIGHEST_PORT = 65535

# The types of fields, from the specification.
_ALPN, _AUTHORITY, _UNIQUE_ID, _NETNS = 0x01, 0x02, 0x05, 0x30
_NAMES = {_ALPN: "alpn", _AUTHORITY: "authority", _UNIQUE_ID: "unique_id", _NETNS: "netns"}
_SSL_VERSION, _SSL_CN, _SSL_CIPHER, _SSL_SIG_ALG, _SSL_KEY_ALG = 0x21, 0x22, 0x23, 0x24, 0x25
# The bits of what a client has.
_CLIENT_SSL, _CLIENT_CERT_CONN, _CLIENT_CERT_SESS = 1, 2, 4

_TRANSPORTS: tuple[Literal["stream", "datagram"] | None, ...] = (None, "stream", "datagram")

# As the native side has them: types and values, and a header.
Fields = list[tuple[int, bytes]]
Ends = tuple[tuple[Any, int], tuple[Any, int]] | tuple[bytes, bytes]
Parts = tuple[int, bool, int, Ends | None, Fields, tuple[int, int, Fields] | None, bool]


@dataclass(frozen=True, kw_only=True)
class ProxySSL:
    """What a proxy that ends the client's TLS tells of it. Part of a `ProxyHeader`. Not in Bun.

    What it has:

        ssl: The client speaks TLS (`PP2_CLIENT_SSL`).
        cert_conn: It has shown a certificate on this connection (`PP2_CLIENT_CERT_CONN`).
        cert_sess: It has shown one on this connection or an earlier one of the session
            (`PP2_CLIENT_CERT_SESS`).
        verify: What verifying the certificate has given: 0 for success, also if there was
            none.
        version: The version of TLS: "TLSv1.3".
        cn: The common name in the client's certificate.
        cipher: The cipher suite.
        sig_alg: What the proxy's certificate is signed with: "SHA256".
        key_alg: The key of the proxy's certificate: "RSA2048".
        tlvs: What else is told, by its type.
    """

    ssl: bool = True
    cert_conn: bool = False
    cert_sess: bool = False
    verify: int = 0
    version: str | None = None
    cn: str | None = None
    cipher: str | None = None
    sig_alg: str | None = None
    key_alg: str | None = None
    tlvs: Mapping[int, bytes] = field(default_factory=dict[int, bytes], hash=False)

    @property
    def verified(self) -> bool:
        """The client has shown a certificate, and the proxy has verified it. Not in Bun."""
        return (self.cert_conn or self.cert_sess) and self.verify == 0


@dataclass(frozen=True, kw_only=True)
class ProxyHeader:
    """What a proxy says of a connection, in version 1 or 2 of the PROXY protocol.

    Received, it is an accepted socket's `proxy`; made, it is for `connect()`'s `proxy_header`.
    ``bytes(header)`` is what goes over the wire, 16 KiB at most. Not in Bun.

    What it has:

        version: The version of the protocol.
        command: PROXY: for a client. LOCAL: the proxy speaks for itself, and nothing else
            is told.
        source_address: The client's IP address, or the path of its unix socket; None if it
            is not told.
        source_port: The client's port; None without an IP address.
        destination_address: Where the client has connected to: an IP address or the path of
            a unix socket.
        destination_port: The port that the client has connected to; None without an IP
            address.
        transport: How the client speaks to the proxy; None if that is not told, as without
            addresses.
        alpn: The application protocol that was agreed on with the client.
        authority: The host that the client has asked for: mostly the server name of its
            TLS.
        unique_id: What the proxy knows the connection by, up to 128 bytes.
        netns: The network namespace that the client has connected in.
        ssl: What is told of the client's TLS; None if nothing is.
        crc32c: It has a checksum. One that is wrong closes the connection.
        tlvs: What else is told, by its type; the first of several.

    :raises TypeError: a port is not an int.
    :raises ValueError: it cannot be written: one address is missing or no address, the two are not
        of one family, version 1 is to say more than the addresses of a TCP connection.
    """

    version: Literal[1, 2] = 2
    command: Literal["PROXY", "LOCAL"] = "PROXY"
    source_address: str | None = None
    source_port: int | None = None
    destination_address: str | None = None
    destination_port: int | None = None
    transport: Literal["stream", "datagram"] | None = "stream"
    alpn: str | None = None
    authority: str | None = None
    unique_id: bytes | None = None
    netns: str | None = None
    ssl: ProxySSL | None = None
    crc32c: bool = False
    tlvs: Mapping[int, bytes] = field(default_factory=dict[int, bytes], hash=False)

    def __post_init__(self) -> None:
        bytes(self)

    @property
    def family(self) -> Literal["IPv4", "IPv6", "unix"] | None:
        """The family of both addresses; None if none are told. Not in Bun."""
        if self.source_address is None:
            return None
        if self.source_port is None:
            return "unix"
        return "IPv6" if ":" in self.source_address else "IPv4"

    @classmethod
    def of(cls, socket: Socket[Any], version: Literal[1, 2] = 2) -> Self:
        """What there is to say of a socket's client, for a connection on its behalf.

        A header that it came with itself is passed on. Else version 2 tells of its TLS, too:
        `alpn`, `authority` and `ssl`. Not in Bun.

        :param socket: an accepted socket, mostly.
        :param version: the protocol's version.
        """
        own = socket.proxy
        known = cls() if own is None or own.family is None else own
        ends: dict[str, Any] = {
            name: getattr(known, name)
            for name in (
                "source_address",
                "source_port",
                "destination_address",
                "destination_port",
                "transport",
            )
        }
        if known.family is None and socket.remote_address is not None:
            ends |= {
                "source_address": socket.remote_address,
                "source_port": socket.remote_port,
                "destination_address": socket.local_address,
                "destination_port": socket.local_port,
            }
        if version == 1:
            return cls(version=1, **({} if known.family == "unix" else ends))
        return cls(
            **ends,
            alpn=socket.alpn_protocol or known.alpn,
            authority=socket.get_servername() or known.authority,
            unique_id=known.unique_id,
            netns=known.netns,
            ssl=_ssl_of(socket) or known.ssl,
            crc32c=known.crc32c,
            tlvs=known.tlvs,
        )

    def __bytes__(self) -> bytes:
        choices = {"version": (1, 2), "command": ("PROXY", "LOCAL"), "transport": _TRANSPORTS}
        for name, known in choices.items():
            if (given := getattr(self, name)) not in known:
                raise ValueError(
                    f"{name!r} of a ProxyHeader must be one of {', '.join(map(repr, known))}, "
                    f"got {shown(given)}"
                )
        parts: Parts = (
            self.version,
            self.command == "LOCAL",
            _TRANSPORTS.index(self.transport) if self.source_address is not None else 0,
            self._ends(),
            _fields(
                self.tlvs,
                {
                    _ALPN: self.alpn,
                    _AUTHORITY: self.authority,
                    _UNIQUE_ID: self.unique_id,
                    _NETNS: self.netns,
                },
            ),
            None if self.ssl is None else _ssl_parts(self.ssl),
            self.crc32c,
        )
        try:
            return write_proxy_header(parts)
        except ValueError as error:
            raise ValueError(f"this ProxyHeader cannot be: {error}") from None

    def _ends(self) -> Ends | None:
        addresses = (self.source_address, self.destination_address)
        ports = (self.source_port, self.destination_port)
        if addresses == ports == (None, None):
            return None
        if None in addresses or (None in ports and ports != (None, None)):
            raise ValueError(
                "a ProxyHeader has both ends or none, "
                f"got {shown(addresses)} with ports {shown(ports)}"
            )
        source, destination = cast("tuple[str, str]", addresses)
        if ports == (None, None):
            return os.fsencode(source), os.fsencode(destination)
        for port in ports:
            if not isinstance(port, int) or isinstance(port, bool):
                raise TypeError(f"a port of a ProxyHeader must be an int, got {shown(port)}")
            if not 0 <= port <= _HIGHEST_PORT:
                raise ValueError(f"a port of a ProxyHeader must be from 0 to 65535, got {port}")
        own, other = cast("tuple[int, int]", ports)
        return (_ip(source), own), (_ip(destination), other)


def received(parts: Parts) -> ProxyHeader:
    """The header that a connection began with."""
    version, local, transport, ends, fields, tls, checksum = parts
    known = _first_of_each(fields)
    return ProxyHeader(
        version=cast("Literal[1, 2]", version),
        command="LOCAL" if local else "PROXY",
        transport=_TRANSPORTS[transport],
        alpn=_text(known.pop(_ALPN, None)),
        authority=_text(known.pop(_AUTHORITY, None)),
        unique_id=known.pop(_UNIQUE_ID, None),
        netns=_text(known.pop(_NETNS, None)),
        ssl=None if tls is None else _received_ssl(*tls),
        crc32c=checksum,
        tlvs=known,
        **_received_ends(ends),
    )


def _ip(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if not isinstance(text, str):
        raise TypeError(f"an address of a ProxyHeader must be a str, got {shown(text)}")
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"with a port a ProxyHeader needs an IP address: {error}") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise ValueError(f"a ProxyHeader has no room for a zone, got {shown(text)}")
    return address


def _fields(others: Mapping[int, bytes], named: dict[int, str | bytes | None]) -> Fields:
    """Types and values; text is UTF-8."""
    if not isinstance(cast("object", others), Mapping):
        raise TypeError(f"'tlvs' of a ProxyHeader must be a mapping, got {shown(others)}")
    given = [(kind, value) for kind, value in named.items() if value is not None]
    for kind, value in others.items():
        if kind in named:
            raise ValueError(
                f"'tlvs' of a ProxyHeader has type {kind:#x}, which has a name: {_NAMES[kind]!r}"
            )
        if kind not in range(256):
            raise ValueError(f"'tlvs' of a ProxyHeader maps types of one byte, got {shown(kind)}")
        given.append((kind, value))
    return [(kind, _octets(value)) for kind, value in given]


def _octets(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    raise TypeError(f"a ProxyHeader is made of str and bytes, got {shown(value)}")


def _first_of_each(fields: Fields) -> dict[int, bytes]:
    known: dict[int, bytes] = {}
    for kind, value in fields:
        known.setdefault(kind, value)
    return known


def _text(value: bytes | None) -> str | None:
    """Whatever a proxy sends is text, and becomes the same bytes again."""
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _received_ends(ends: Ends | None) -> dict[str, Any]:
    if ends is None:
        return {}
    source, destination = ends
    if isinstance(source, bytes):
        return {
            "source_address": os.fsdecode(source),
            "destination_address": os.fsdecode(cast("bytes", destination)),
        }
    return {
        "source_address": str(source[0]),
        "source_port": source[1],
        "destination_address": str(destination[0]),
        "destination_port": destination[1],
    }


def _ssl_parts(tls: object) -> tuple[int, int, Fields]:
    if not isinstance(tls, ProxySSL):
        raise TypeError(f"'ssl' of a ProxyHeader must be a ProxySSL or None, got {shown(tls)}")
    client = (
        _CLIENT_SSL * bool(tls.ssl)
        | _CLIENT_CERT_CONN * bool(tls.cert_conn)
        | _CLIENT_CERT_SESS * bool(tls.cert_sess)
    )
    if not isinstance(cast("object", tls.verify), int):
        raise TypeError(f"'verify' of a ProxyHeader's ssl must be an int, got {shown(tls.verify)}")
    if not 0 <= tls.verify < 2**32:
        raise ValueError(f"'verify' of a ProxyHeader's ssl has 32 bits, got {tls.verify}")
    named: dict[int, str | bytes | None] = {
        _SSL_VERSION: tls.version,
        _SSL_CN: tls.cn,
        _SSL_CIPHER: tls.cipher,
        _SSL_SIG_ALG: tls.sig_alg,
        _SSL_KEY_ALG: tls.key_alg,
    }
    return client, tls.verify, _fields(tls.tlvs, named)


def _received_ssl(client: int, verify: int, fields: Fields) -> ProxySSL:
    known = _first_of_each(fields)
    return ProxySSL(
        ssl=bool(client & _CLIENT_SSL),
        cert_conn=bool(client & _CLIENT_CERT_CONN),
        cert_sess=bool(client & _CLIENT_CERT_SESS),
        verify=verify,
        version=_text(known.pop(_SSL_VERSION, None)),
        cn=_text(known.pop(_SSL_CN, None)),
        cipher=_text(known.pop(_SSL_CIPHER, None)),
        sig_alg=_text(known.pop(_SSL_SIG_ALG, None)),
        key_alg=_text(known.pop(_SSL_KEY_ALG, None)),
        tlvs=known,
    )


def _ssl_of(socket: Socket[Any]) -> ProxySSL | None:
    """What we know of the TLS that we speak with a client; None if we speak none."""
    version, cipher = socket.get_tls_version(), socket.get_cipher()
    if version is None or cipher is None:
        return None
    certificate = socket.get_peer_certificate() or {}
    subject = cast("Iterable[Iterable[tuple[str, str]]]", certificate.get("subject", ()))
    names = [value for part in subject for name, value in part if name == "commonName"]
    shows = bool(certificate)
    return ProxySSL(
        cert_conn=shows and not socket.is_session_reused(),
        cert_sess=shows,
        verify=int(shows and not socket.authorized),
        version=version,
        cn=names[-1] if names else None,
        cipher=cipher["name"],
    )

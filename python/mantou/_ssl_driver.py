"""TLS driven by an `ssl.SSLContext`: for old protocols, engines, callbacks of one's own.

The connection stays the engine's. What differs is who turns ciphertext into plaintext and back:
OpenSSL here, through memory BIOs, instead of the engine's own sessions. Its records are moved
natively (`crates/binding/src/ssl_driver/`); what is here happens once for a connection, or when
somebody asks.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from typing import Any, Self

from ._client_hello import ClientHello
from ._core import SSLPump, server_end_point

_BINDINGS = ("tls-exporter", "tls-server-end-point", *ssl.CHANNEL_BINDING_TYPES)

_WAY_OUT = "give TLSOptions as 'tls' for that: {'cert': ...} instead of an ssl.SSLContext"


class SSLDriver(SSLPump):
    """One side of one TLS connection."""

    __slots__ = ("_context", "_hello", "_server_name")

    _context: ssl.SSLContext
    _hello: ClientHello | None
    _server_name: str | None

    def __new__(
        cls,
        context: ssl.SSLContext,
        server_side: bool,
        server_name: str | None,
        bios: tuple[ssl.MemoryBIO, ssl.MemoryBIO],
        initial: bytes,
    ) -> Self:
        """Makes what OpenSSL needs of it; `initial` is ciphertext that has arrived."""
        name = None if server_side else server_name
        ssl_object = context.wrap_bio(*bios, server_side=server_side, server_hostname=name)
        self = super().__new__(cls, ssl_object, *bios, initial)
        self._context = context
        self._server_name = name
        self._hello = ClientHello() if server_side else None
        self.hear(initial)
        return self

    def hear(self, ciphertext: bytes, /) -> None:
        """Puts down the name that a client asks for: only its first message has it."""
        if self._hello is not None and self._hello.feed(ciphertext):
            self._server_name = self._hello.server_name
            self._hello = None

    # What there is to know

    def is_authorized(self) -> bool:
        """Whether the peer has shown a certificate and it was verified."""
        verifies = self.ssl_object.context.verify_mode is not ssl.CERT_NONE
        return self.established and verifies and self.ssl_object.getpeercert(True) is not None

    def alpn_protocol(self) -> str | bool | None:
        """The protocol agreed on, False if none, None before."""
        if not self.established:
            return None
        return self.ssl_object.selected_alpn_protocol() or False

    def cipher(self) -> dict[str, str] | None:
        """OpenSSL's name, and the version that it was defined in."""
        found = self.ssl_object.cipher()
        if found is None:
            return None
        return {"name": found[0], "standard_name": found[0], "version": found[1]}

    def version(self) -> str | None:
        """The protocol's version."""
        return self.ssl_object.version()

    def peer_chain(self) -> list[bytes]:
        """The peer's certificate (DER), if it has shown one; from Python 3.13 on its chain, too."""
        der = self.ssl_object.getpeercert(True) if self.established else None
        if der is None:
            return []
        if sys.version_info >= (3, 13):
            return self.ssl_object.get_unverified_chain()
        return [der]

    def own_chain(self) -> list[bytes]:
        """The certificate (DER) that a server shows; of a client's the ssl module tells nothing."""
        if not self.established or not self.ssl_object.server_side:
            return []
        shown = certificate_for(self._context, self._server_name)
        return [] if shown is None else [shown]

    def is_session_reused(self) -> bool:
        """Whether an earlier session was resumed."""
        return bool(self.ssl_object.session_reused)

    def server_name(self) -> str | None:
        """The name that a client asks for."""
        return self._server_name

    def channel_binding(self, kind: str) -> bytes | None:
        """A binding of the kinds that can be had without the session's secrets.

        :raises NotImplementedError: the ssl module does not tell what it is made of.
        :raises ValueError: there is no such kind.
        """
        if kind not in _BINDINGS:
            raise ValueError(f"kind must be one of {', '.join(_BINDINGS)}, got {kind!r}")
        if not self.established:
            return None
        if kind == "tls-exporter":
            raise NotImplementedError(f"the ssl module has no channel binding {kind!r}; {_WAY_OUT}")
        if kind == "tls-server-end-point":
            return server_end_point(self._server_certificate())
        binding: bytes | None = self.ssl_object.get_channel_binding(kind)
        return binding

    def _server_certificate(self) -> bytes:
        shown = (
            certificate_for(self._context, self._server_name)
            if self.ssl_object.server_side
            else self.ssl_object.getpeercert(True)
        )
        if shown is None:
            raise NotImplementedError(
                "the ssl module does not tell which of the context's certificates was shown; "
                + _WAY_OUT
            )
        return shown

    def export_keying_material(self, *_: Any) -> bytes:
        """:raises NotImplementedError: the ssl module cannot do it."""
        raise NotImplementedError(f"the ssl module cannot export keying material; {_WAY_OUT}")


def certificate_for(context: ssl.SSLContext, name: str | None) -> bytes | None:
    """The certificate (DER) that a server's context shows to those who ask for a name.

    The ssl module does not tell, so somebody who asks for it is made up here. None if it depends
    on what else a client offers: a context can have one certificate for each kind of key.
    """
    found = {_shown(context, name, ciphers) for ciphers in ("aECDSA", "aRSA", None)} - {None}
    return found.pop() if len(found) == 1 else None


def _shown(context: ssl.SSLContext, name: str | None, ciphers: str | None) -> bytes | None:
    """What a client with these ciphers of TLS 1.2, or any client, gets to see."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    if ciphers is not None:
        asking.set_ciphers(ciphers)
        asking.maximum_version = ssl.TLSVersion.TLSv1_2
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(back, there, server_hostname=name)
    server = context.wrap_bio(there, back, server_side=True)
    for side in (client, server) * 3:
        # A side that waits for the other says so. With TLS 1.3 a client is done before a server
        # finds that it shows no certificate.
        with contextlib.suppress(ssl.SSLError):
            side.do_handshake()
    try:
        return client.getpeercert(True)
    except ValueError:
        # They did not come together.
        return None

"""TLS driven by an `ssl.SSLContext`: for old protocols, engines, callbacks of one's own.

The connection stays the engine's. What differs is who turns ciphertext into plaintext and back:
OpenSSL here, through two memory BIOs, instead of the engine's own sessions.
"""

from __future__ import annotations

import ssl
from typing import Any

Pumped = tuple[bytes, bytes, bool, bool, BaseException | None]
"""Plaintext, ciphertext to send, whether established, whether the peer said goodbye, what broke."""

_READ_SIZE = 256 * 1024


class SSLDriver:
    """One side of one TLS connection."""

    def __init__(
        self,
        context: ssl.SSLContext,
        server_side: bool,
        server_name: str | None,
        initial: bytes = b"",
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._incoming.write(initial)
        self._server_name: str | None = None if server_side else server_name
        self._established = False
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=self._server_name,
        )

    def pump(self, ciphertext: bytes, plaintext: bytes, finish: bool) -> Pumped:
        """Takes what came from the peer and what is to be sent; returns what came of it."""
        opened: list[bytes] = []
        peer_closed = False
        error: BaseException | None = None
        if ciphertext:
            self._incoming.write(ciphertext)
        try:
            if not self._established:
                self._object.do_handshake()
                self._established = True
            if plaintext:
                self._object.write(plaintext)
            if self._incoming.pending or self._object.pending():
                peer_closed = self._read_into(opened)
        except ssl.SSLWantReadError:
            # The rest of a record is still on its way.
            pass
        except (ssl.SSLError, ValueError, OSError) as reason:
            error = reason
        if finish and error is None:
            self._say_goodbye()
        plain = opened[0] if len(opened) == 1 else b"".join(opened)
        sealed = self._outgoing.read() if self._outgoing.pending else b""
        return plain, sealed, self._established, peer_closed, error

    def _read_into(self, opened: list[bytes]) -> bool:
        """Opens what has come; whether the peer said goodbye."""
        # To ask once more where nothing is left would cost an exception for each message.
        while self._incoming.pending or self._object.pending():
            try:
                piece = self._object.read(_READ_SIZE)
            except ssl.SSLZeroReturnError:
                return True
            if not piece:
                # This, too, is the peer's close_notify.
                return True
            opened.append(piece)
        return False

    def _say_goodbye(self) -> None:
        try:
            # Sends close_notify; then it would like to wait for the peer's, which is not its turn.
            self._object.unwrap()
        except ssl.SSLError:
            return

    # What there is to know

    def is_authorized(self) -> bool:
        """Whether the peer has shown a certificate and it was verified."""
        verifies = self._object.context.verify_mode is not ssl.CERT_NONE
        return self._established and verifies and self._object.getpeercert(True) is not None

    def alpn_protocol(self) -> str | bool | None:
        """The protocol agreed on, False if none, None before."""
        if not self._established:
            return None
        return self._object.selected_alpn_protocol() or False

    def cipher(self) -> dict[str, str] | None:
        """OpenSSL's name, and the version that it was defined in."""
        found = self._object.cipher()
        if found is None:
            return None
        return {"name": found[0], "standard_name": found[0], "version": found[1]}

    def version(self) -> str | None:
        """The protocol's version."""
        return self._object.version()

    def peer_chain(self) -> list[bytes]:
        """The peer's certificate (DER), if it has shown one."""
        der = self._object.getpeercert(True) if self._established else None
        return [] if der is None else [der]

    def own_chain(self) -> list[bytes]:
        """Nothing: the ssl module does not tell which certificate it has shown."""
        return []

    def is_session_reused(self) -> bool:
        """Whether an earlier session was resumed."""
        return bool(self._object.session_reused)

    def server_name(self) -> str | None:
        """The name that a client asks for."""
        return self._server_name

    def channel_binding(self, kind: str) -> bytes | None:
        """Of the kinds that the ssl module knows.

        :raises NotImplementedError: it does not know this one.
        """
        if kind not in ssl.CHANNEL_BINDING_TYPES:
            raise NotImplementedError(f"the ssl module has no channel binding {kind!r}")
        binding: bytes | None = self._object.get_channel_binding(kind)
        return binding

    def export_keying_material(self, *_: Any) -> bytes:
        """:raises NotImplementedError: the ssl module cannot do it."""
        raise NotImplementedError("the ssl module cannot export keying material")

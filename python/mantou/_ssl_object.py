"""What `ssl.SSLObject` tells of a connection, told of one that rustls drives."""

from __future__ import annotations

import ssl
from typing import Any, NoReturn

from ._certificates import decode
from ._core import TlsFacts
from ._ssl_context import judge_of
from ._ssl_judge import verified_chain


class SSLObject(ssl.SSLObject):
    """An established session, as `transport.get_extra_info("ssl_object")` gives it.

    It answers what `ssl.SSLObject` answers. Reading and writing are the transport's.
    """

    _told_context: ssl.SSLContext
    _facts: TlsFacts
    _server_side: bool
    _server_hostname: str | None

    def __init__(
        self,
        context: ssl.SSLContext,
        facts: TlsFacts,
        server_side: bool,
        server_hostname: str | None,
    ) -> None:
        self._told_context = context
        self._facts = facts
        self._server_side = server_side
        self._server_hostname = server_hostname

    @property
    def context(self) -> ssl.SSLContext:
        """The context that it was made with."""
        return self._told_context

    @context.setter
    def context(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, _: ssl.SSLContext
    ) -> None:
        raise ValueError("the handshake is done: the context cannot be changed any more")

    @property
    def server_side(self) -> bool:
        """Whether this side is the server."""
        return self._server_side

    @property
    def server_hostname(self) -> str | None:
        """The name that a client has asked for; None for a server."""
        return self._server_hostname

    @property
    def session(self) -> Any:
        """What a later connection resumes with, opaque; None for a server.

        It is for mantou's own connections: OpenSSL knows nothing of it.
        """
        return self._facts.ticket

    @session.setter
    def session(self, _: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        side = "for a server-side SSLSocket" if self._server_side else "after handshake"
        raise ValueError(f"Cannot set session {side}.")

    @property
    def session_reused(self) -> bool:
        """Whether an earlier session was resumed."""
        return self._facts.is_resumed

    def getpeercert(self, binary_form: bool = False) -> Any:
        """As `ssl.SSLObject.getpeercert()`."""
        chain = self._facts.peer_chain
        if not chain:
            return None
        if binary_form:
            return chain[0]
        if self._told_context.verify_mode is ssl.CERT_NONE:
            return {}
        return decode(chain[0])

    def get_unverified_chain(self) -> list[bytes]:
        """The certificates (DER) as the peer has sent them."""
        return self._facts.peer_chain

    def get_verified_chain(self) -> list[bytes]:
        """The certificates (DER) by which the peer is trusted, its own first.

        They are found anew, with the trust store as it is now.
        """
        chain = self._facts.peer_chain
        if not chain:
            return []
        judge = judge_of(self._told_context, "server" if self._server_side else "client")
        return verified_chain(judge, self._server_side, self._server_hostname, chain)

    def selected_alpn_protocol(self) -> str | None:
        """The protocol agreed on, None if none."""
        alpn = self._facts.alpn
        return None if alpn is None else alpn.decode("ascii")

    def selected_npn_protocol(self) -> None:
        """None: ALPN has taken its place."""

    def cipher(self) -> tuple[str, str, int] | None:
        """OpenSSL's name of the cipher, the version it is defined in, the bits of its key."""
        return self._facts.cipher

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """The cipher agreed on, alone: rustls does not tell of others. None for a client."""
        cipher = self._facts.cipher
        return [cipher] if self._server_side and cipher is not None else None

    def compression(self) -> None:
        """None: there is no compression."""

    def version(self) -> str | None:
        """The version of the protocol: "TLSv1.3" or "TLSv1.2"."""
        cipher = self._facts.cipher
        return None if cipher is None else cipher[1]

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """None: rustls keeps to itself what "tls-unique" is made of. ValueError for other types."""
        if cb_type not in ssl.CHANNEL_BINDING_TYPES:
            raise ValueError(f"{cb_type} channel binding type not implemented")
        return None

    def pending(self) -> int:
        """0: what was opened is the transport's already."""
        return 0

    def do_handshake(self) -> None:
        """Nothing: it is done."""

    def read(self, len: int = 1024, buffer: Any = None) -> NoReturn:
        """:raises NotImplementedError: the transport reads."""
        raise NotImplementedError("the transport reads and writes, not its ssl_object")

    def write(self, data: Any) -> NoReturn:
        """:raises NotImplementedError: the transport writes."""
        raise NotImplementedError("the transport reads and writes, not its ssl_object")

    def unwrap(self) -> NoReturn:
        """:raises NotImplementedError: the transport says goodbye."""
        raise NotImplementedError("the transport ends the session, not its ssl_object")

    def verify_client_post_handshake(self) -> NoReturn:
        """:raises NotImplementedError: a context that wants it is OpenSSL's."""
        raise NotImplementedError("post-handshake authentication is not in rustls")

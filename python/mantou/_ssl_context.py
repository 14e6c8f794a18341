"""`mantou.SSLContext`: an `ssl.SSLContext` that rustls can stand in for.

It is a whole `ssl.SSLContext`: OpenSSL gets every setting, answers every question and serves
everybody who wraps a socket with it. What can be set there and not be read again is written down
besides, so that a configuration of the engine can be made of it (`_ssl_faithful.py`).
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from ._core import Handshake
from ._ssl_driver import SSLDriver
from ._ssl_faithful import Plan, Reason, Setup, Side, plan, snapshot

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Buffer

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Password = Callable[[], str | bytes | bytearray] | str | bytes | bytearray | None


class SSLContext(ssl.SSLContext):
    """An `ssl.SSLContext` that mantou's sockets drive with rustls, where that is faithful.

    It is made, set up and used as any `ssl.SSLContext`. For mantou's own connections rustls does
    the cryptography and the records if it honours everything that was set: then the same peers are
    accepted and refused for the same reasons, for OpenSSL itself goes on judging their
    certificates. Otherwise, and for everybody else who wraps sockets with it, OpenSSL does all of
    it; `tls_engine` tells which it is. Changes count for connections that begin later. Not in Bun.
    """

    _setup: Setup
    _made: dict[Side, tuple[object, Plan | Reason]]

    def __new__(cls, protocol: int | None = None, *args: Any, **kwargs: Any) -> Self:
        """Takes what `ssl.SSLContext` takes."""
        # Without a protocol it is OpenSSL's to warn of that.
        self = super().__new__(cls, protocol, *args, **kwargs)  # pyright: ignore[reportDeprecated]
        self._setup = Setup()
        self._made = {}
        return self

    @property
    def tls_engine(self) -> Literal["rustls", "openssl"]:
        """Who drives a connection of mantou's that begins now: "rustls" or "openssl".

        A server hands single clients to OpenSSL that offer only what rustls has not.
        """
        return "rustls" if self.tls_engine_reason is None else "openssl"

    @property
    def tls_engine_reason(self) -> str | None:
        """Why it is OpenSSL: the setting that rustls cannot honour; None if it is rustls."""
        for side in self._sides():
            found = self._plan(side)
            if isinstance(found, Reason):
                return found.text
        return None

    def _sides(self) -> list[Side]:
        """What it is used for, as far as it tells."""
        if self.protocol is ssl.PROTOCOL_TLS_SERVER:
            return ["server"]
        if self.protocol is ssl.PROTOCOL_TLS_CLIENT or not self._setup.identities:
            return ["client"]
        return ["client", "server"]

    def _plan(self, side: Side) -> Plan | Reason:
        """How rustls stands in with what is set now, or why it does not."""
        settings = snapshot(self, self._setup)
        made = self._made.get(side)
        if made is None or made[0] != settings:
            made = settings, plan(self, self._setup, side)
            self._made[side] = made
        return made[1]

    # What OpenSSL does not tell again

    def load_cert_chain(
        self, certfile: _Path, keyfile: _Path | None = None, password: _Password = None
    ) -> None:
        """As `ssl.SSLContext.load_cert_chain()` does."""
        given: list[str | bytes | bytearray] = []

        def ask() -> str | bytes | bytearray:
            assert callable(password)
            given.append(password())
            return given[-1]

        super().load_cert_chain(certfile, keyfile, ask if callable(password) else password)
        if not callable(password) and password is not None:
            given.append(password)
        self._setup.load_identity(certfile, keyfile or certfile, given[-1] if given else None)

    def set_ciphers(self, cipherlist: str, /) -> None:
        """As `ssl.SSLContext.set_ciphers()` does."""
        super().set_ciphers(cipherlist)
        self._setup.set_ciphers(cipherlist)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """As `ssl.SSLContext.set_alpn_protocols()` does."""
        protocols = list(alpn_protocols)
        super().set_alpn_protocols(protocols)
        self._setup.set_alpn([bytes(protocol, "ascii") for protocol in protocols])

    def set_ecdh_curve(self, name: str, /) -> None:
        """As `ssl.SSLContext.set_ecdh_curve()` does."""
        super().set_ecdh_curve(name)
        self._setup.refuse(f"set_ecdh_curve({name!r}): rustls has its own key exchange groups")

    def load_verify_locations(
        self,
        cafile: _Path | None = None,
        capath: _Path | None = None,
        cadata: str | Buffer | None = None,
    ) -> None:
        """As `ssl.SSLContext.load_verify_locations()` does."""
        super().load_verify_locations(cafile, capath, cadata)
        if cafile is not None:
            self._setup.load_trust(cafile)
        if capath is not None or cadata is not None:
            self._setup.load(lambda other: other.load_verify_locations(None, capath, cadata))

    def set_default_verify_paths(self) -> None:
        """As `ssl.SSLContext.set_default_verify_paths()` does."""
        super().set_default_verify_paths()
        self._setup.load(lambda other: other.set_default_verify_paths())

    # From Python 3.13 on.

    def set_psk_client_callback(self, callback: Any) -> None:
        """As `ssl.SSLContext.set_psk_client_callback()` does."""
        super().set_psk_client_callback(callback)  # type: ignore[misc]
        self._setup.refuse("set_psk_client_callback(): rustls has no pre-shared keys of one's own")

    def set_psk_server_callback(self, callback: Any, identity_hint: str | None = None) -> None:
        """As `ssl.SSLContext.set_psk_server_callback()` does."""
        super().set_psk_server_callback(callback, identity_hint)  # type: ignore[misc]
        self._setup.refuse("set_psk_server_callback(): rustls has no pre-shared keys of one's own")


def judge_of(context: ssl.SSLContext, side: Side) -> ssl.SSLContext:
    """Who judges the certificates of a context's peers, where rustls stands in."""
    if isinstance(context, SSLContext):
        found = context._plan(side)  # pyright: ignore[reportPrivateUsage]
        if isinstance(found, Plan) and found.judge is not None:
            return found.judge
    return context


def driver_for(
    context: ssl.SSLContext,
    server_side: bool,
    server_name: str | None,
    bios: tuple[ssl.MemoryBIO, ssl.MemoryBIO],
    initial: bytes,
) -> Handshake | SSLDriver:
    """Who is to do the handshake of a connection that begins now.

    :param server_name: the name to ask for; None for a server, and for a client that has none.
    :param bios: what OpenSSL reads from and writes to; empty.
    :param initial: ciphertext that has come already.
    :raises ValueError: there is a `server_name` missing or wrong.
    """
    if isinstance(context, SSLContext) and (
        server_side or server_name is not None or not context.check_hostname
    ):
        side: Side = "server" if server_side else "client"
        found = context._plan(side)  # pyright: ignore[reportPrivateUsage]
        if isinstance(found, Plan):
            # A name that rustls does not take may still be one to OpenSSL, which raises if not.
            with contextlib.suppress(ValueError):
                name = None if server_name is None else server_name.encode("idna").decode()
                judge = found.judge or context
                return Handshake(found.config, context, judge, server_side, name, initial)
    return SSLDriver(context, server_side, server_name, bios, initial)

"""The native module: the engine, seen from Python. Private, except for `Socket`."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Literal, Self, TypeVar, final

from cryptography.x509 import Certificate
from typing_extensions import Buffer

from ._addresses import SocketAddress
from ._handlers import BinaryType, D, Handler
from ._handlers import Handlers as AnyHandlers
from ._host import Host
from ._listener import TCPSocketListener, UnixSocketListener
from ._option_types import TLSOptions
from ._options import StreamOptions
from ._ready_state import ReadyState
from ._tls_options import TlsSettings

__all__ = [
    "Attempt",
    "Cork",
    "Engine",
    "Handlers",
    "Listener",
    "Socket",
    "TlsConfig",
    "TlsTicket",
    "is_server_name",
    "pem_certificates",
    "pem_private_key",
    "pem_revocation_lists",
    "pem_trusted",
    "server_end_point",
    "system_trust_size",
]

_D2 = TypeVar("_D2")

@final
class TlsConfig:
    def __new__(
        cls,
        server_side: bool,
        *,
        identities: Sequence[tuple[Sequence[bytes], bytes]],
        ca: Sequence[bytes] | None,
        crl: Sequence[bytes],
        verify: bool,
        request_cert: bool,
        alpn: Sequence[bytes],
        ciphers: str | None,
        lowest: str,
        highest: str,
        key_log_file: str | None,
    ) -> Self: ...
    def covers(self, name: str) -> bool: ...

@final
class TlsTicket:
    """A TLS session to resume, from `Socket.get_session()`. Opaque."""

def is_server_name(name: str, /) -> bool: ...
def pem_certificates(text: bytes, /) -> list[bytes]: ...
def pem_private_key(text: bytes, /) -> tuple[str, str, bytes]: ...
def pem_revocation_lists(text: bytes, /) -> list[bytes]: ...
def pem_trusted(text: bytes, servers: bool, /) -> list[bytes]: ...
def server_end_point(certificate: bytes, /) -> bytes | None: ...
def system_trust_size() -> int: ...

@final
class Socket(Generic[D]):
    """A connection. Made by `connect()` and by listeners.

    Attributes keep their last known value after close. Methods may be called at any moment, in
    any order, from every handler, also after close: then they do nothing and return -1, False or
    None. From another thread than its loop's they raise `WrongThreadError`.
    """

    data: D
    """What belongs to this connection; given to `connect()`, or by the listener."""

    def write(
        self, data: str | Buffer, byte_offset: int = 0, byte_length: int | None = None
    ) -> int:
        """Hands data to the kernel, as much as it takes right now (Bun: `socket.write()`).

        Returns the number of bytes taken, 0 included; `drain` is called once when there is room
        for more. -1 when closed or after `end()`. A str is sent as UTF-8.

        :raises TypeError: neither a str nor a C-contiguous buffer.
        :raises ValueError: offset or length, in bytes, are outside the data.
        """

    def write_all(self, data: str | Buffer) -> None:
        """Takes all of the data, sends what the kernel takes and queues the rest.

        `drain` is called once when the queue has emptied. Not in Bun.

        :raises BufferError: the queue would exceed `write_limit`; nothing of this call was taken.
        :raises BrokenPipeError: closed, or after `end()`.
        """

    def drained(self) -> asyncio.Future[None]:
        """To be awaited: returns when everything accepted so far is in the kernel. Not in Bun.

        :raises ConnectionError: the socket was closed first.
        """

    @property
    def buffered(self) -> int:
        """Bytes accepted and not yet in the kernel."""

    def cork(self) -> AbstractContextManager[None]:
        """A context whose writes leave together, at its end or when 64 KiB are gathered.

        Not in Bun.
        """

    def flush(self) -> None:
        """Sends what `cork()` holds (Bun: `socket.flush()`)."""

    def end(
        self,
        data: str | Buffer | None = None,
        byte_offset: int = 0,
        byte_length: int | None = None,
    ) -> int:
        """Sends the last data and, when all that was accepted is sent, FIN (Bun: `socket.end()`).

        All of `data` is delivered, also if it has to wait. Reading goes on until the peer's FIN.
        Returns the length of the data in bytes, -1 if already ended or closed.

        :raises BufferError: the queue would exceed `write_limit`; nothing was sent or ended.
        """

    def shutdown(self, half_close: bool = False) -> None:
        """Ends one side (Bun: `socket.shutdown()`).

        :param half_close: False: FIN once everything accepted is sent; reading goes on without a
            time limit. True: stop receiving; what still arrives is discarded.
        """

    def close(self) -> None:
        """Ends without waiting for the peer (Bun: `socket.close()`).

        What was accepted is still sent. No other event than `close` comes any more.
        """

    def terminate(self) -> None:
        """Resets the connection at once; bytes in the queue are lost (Bun: `terminate()`)."""

    def pause(self) -> None:
        """Stops reading, at once (Bun: `socket.pause()`). Not counted."""

    def resume(self) -> None:
        """Reads again (Bun: `socket.resume()`)."""

    def timeout(self, seconds: float) -> None:
        """Sets the idle timeout in seconds, to the millisecond; 0 is none (Bun: `timeout()`).

        After so long without a byte read or written `timeout` is called, and unless it returns
        True the connection is closed with a `TimeoutError`.

        :raises TypeError: not a number.
        :raises ValueError: negative or not finite.
        """

    def set_no_delay(self, no_delay: bool = True) -> bool:
        """Sets TCP_NODELAY; whether that worked (Bun: `socket.setNoDelay()`)."""

    def set_keep_alive(self, enable: bool = False, initial_delay: float = 0.0) -> bool:
        """Sets SO_KEEPALIVE; whether that worked (Bun: `socket.setKeepAlive()`).

        :param initial_delay: seconds of silence before the first probe; 0 for the system's.
        """

    def reload(self, socket: AnyHandlers[D]) -> None:
        """Replaces the handlers, from the next event on (Bun: `socket.reload()`).

        For an accepted socket, those of its listener and of all the listener's sockets.
        """

    def ref(self) -> None:
        """Lets it keep `run()` alive, as it does from the start (Bun: `socket.ref()`)."""

    def unref(self) -> None:
        """Lets `run()` end even if it is still open (Bun: `socket.unref()`)."""

    @property
    def listener(self) -> TCPSocketListener[D] | UnixSocketListener[D] | None:
        """The listener that accepted it."""

    @property
    def ready_state(self) -> ReadyState:
        """How far the connection has come (Bun: `socket.readyState`)."""

    @property
    def local_address(self) -> str | None:
        """The IP address at our end; None for a unix socket (Bun: `socket.localAddress`)."""

    @property
    def local_port(self) -> int | None:
        """The port at our end; None for a unix socket (Bun: `socket.localPort`)."""

    @property
    def local_family(self) -> Literal["IPv4", "IPv6"] | None:
        """The address family at our end; None for a unix socket (Bun: `socket.localFamily`)."""

    @property
    def remote_address(self) -> str | None:
        """The peer's IP address; None for a unix socket (Bun: `socket.remoteAddress`)."""

    @property
    def remote_port(self) -> int | None:
        """The peer's port; None for a unix socket (Bun: `socket.remotePort`)."""

    @property
    def remote_family(self) -> Literal["IPv4", "IPv6"] | None:
        """The peer's address family; None for a unix socket (Bun: `socket.remoteFamily`)."""

    @property
    def bytes_read(self) -> int:
        """Bytes received so far, of the application's data."""

    @property
    def bytes_written(self) -> int:
        """Bytes sent so far, of the application's data (Bun: `socket.bytesWritten`)."""

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""

    # TLS. Without a session, and once closed, methods return None, False or nothing.

    def upgrade_tls(
        self,
        *,
        tls: bool | TLSOptions | ssl.SSLContext,
        socket: AnyHandlers[_D2],
        data: _D2 | None = None,
        server_side: bool | None = None,
        initial: bytes = b"",
    ) -> tuple[Socket[D], Socket[_D2]]:
        """Makes TLS of a plain connection (Bun: `socket.upgradeTLS()`).

        Returns this socket, detached: only its `close` is still called, just before that of the
        other; and the socket that takes the connection over with handlers and data of its own.
        Everything accepted before is sent in clear first.

        :param server_side: which side of the handshake; None for the one that it has.
        :param initial: ciphertext that a handler was given already.
        :raises ConnectionError: it is not open.
        :raises ValueError: it speaks TLS already, or an option has a wrong value.
        """

    @property
    def authorized(self) -> bool:
        """Whether the peer's certificate was verified (Bun: `socket.authorized`)."""

    @property
    def alpn_protocol(self) -> str | Literal[False] | None:
        """The protocol agreed on, False if none, None before (Bun: `socket.alpnProtocol`)."""

    def get_authorization_error(self) -> ssl.SSLCertVerificationError | None:
        """The failed verification that `reject_unauthorized=False` let pass."""

    def get_cipher(self) -> dict[str, str] | None:
        """`name` (OpenSSL's), `standard_name` and `version` (Bun: `socket.getCipher()`)."""

    def get_tls_version(self) -> str | None:
        """`"TLSv1.3"` or `"TLSv1.2"` (Bun: `socket.getTLSVersion()`)."""

    def get_peer_certificate(self, detailed: bool = False) -> dict[str, Any] | None:
        """The peer's certificate as `ssl.SSLSocket.getpeercert()` has it; {} if there is none.

        Plus `raw` (DER) and `fingerprint256`, and with `detailed` also `issuer_certificate`. Only
        these if it was taken unverified and cannot be read.
        Bun: `socket.getPeerCertificate()`.
        """

    def get_certificate(self) -> dict[str, Any] | None:
        """Our own certificate, as in `get_peer_certificate()` (Bun: `getCertificate()`).

        {} if none was shown, and for a client with an `ssl.SSLContext`, which does not tell.
        """

    def get_peer_x509_certificate(self) -> Certificate | None:
        """The peer's certificate as an object (Bun: `socket.getPeerX509Certificate()`).

        :raises ImportError: the package `cryptography` is not installed.
        """

    def get_x509_certificate(self) -> Certificate | None:
        """Our own certificate as an object (Bun: `socket.getX509Certificate()`).

        :raises ImportError: the package `cryptography` is not installed.
        """

    def export_keying_material(
        self, length: int, label: str, context: bytes | None = None
    ) -> bytes | None:
        """Key material that both ends can derive, RFC 5705 (Bun: `exportKeyingMaterial()`).

        :param length: in bytes, 1 to 8160.
        :raises NotImplementedError: an `ssl.SSLContext` drives the connection; give TLSOptions.
        :raises ssl.SSLError: the handshake is not done.
        :raises ValueError: the length is out of range.
        """

    def channel_binding(
        self, kind: Literal["tls-exporter", "tls-server-end-point", "tls-unique"]
    ) -> bytes | None:
        """What ties a login to this very session, RFC 9266 and RFC 5929. Not in Bun.

        None before the handshake, and where there is none. An `ssl.SSLContext` has "tls-unique"
        and "tls-server-end-point"; TLSOptions have "tls-exporter" and "tls-server-end-point". Of
        a server's context the certificate is found by a handshake with itself, within memory,
        which its `sni_callback` sees.

        :raises NotImplementedError: an `ssl.SSLContext` drives the connection, and the ssl module
            does not tell: "tls-exporter", or a context with several certificates.
        :raises ValueError: there is no such kind.
        """

    def get_session(self) -> TlsTicket | None:
        """What a later connection to the same server resumes with: `tls={"session": ...}`.

        Opaque and of this process only (Bun: `socket.getSession()`).
        """

    def set_session(self, session: TlsTicket) -> None:
        """Resumes an earlier session (Bun: `socket.setSession()`).

        :raises ValueError: the handshake has begun; it can be called in `open` if there is a
            `handshake` handler.
        """

    def is_session_reused(self) -> bool:
        """Whether an earlier session was resumed (Bun: `socket.isSessionReused()`)."""

    def get_ephemeral_key_info(self) -> dict[str, Any] | None:
        """`type`, `name` and `size` (bits) of the key exchange (Bun: `getEphemeralKeyInfo()`)."""

    def get_shared_sigalgs(self) -> list[str]:
        """Empty: the engine keeps them to itself (Bun: `socket.getSharedSigalgs()`)."""

    def get_servername(self) -> str | None:
        """The name that the client asked for (Bun: `socket.getServername()`)."""

    def set_servername(self, name: str) -> None:
        """The name to ask for and to verify (Bun: `socket.setServername()`).

        :raises ValueError: the handshake has begun; it can be called in `open` if there is a
            `handshake` handler.
        """

    def set_max_send_fragment(self, size: int) -> bool:
        """Plaintext per record in bytes, 512 to 16384; whether it was set."""

    def set_verify_mode(self, request_cert: bool, reject_unauthorized: bool) -> None:
        """Whom to accept, as the options of these names (Bun: `socket.setVerifyMode()`).

        :raises NotImplementedError: an `ssl.SSLContext` drives the connection.
        :raises ValueError: the handshake has begun; it can be called in `open` if there is a
            `handshake` handler.
        """

    def disable_renegotiation(self) -> None:
        """Nothing to do: there is none."""

    def renegotiate(self) -> None:
        """:raises NotImplementedError: there is none."""

    def get_tls_finished_message(self) -> bytes | None:
        """None: the engine keeps it to itself."""

    def get_tls_peer_finished_message(self) -> bytes | None:
        """None: the engine keeps it to itself."""

    def get_tls_ticket(self) -> bytes | None:
        """None: the engine keeps it to itself."""

    def _closed(self) -> asyncio.Future[None]: ...
    def _secured(self) -> asyncio.Future[None]: ...
    def _abandon(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def __class_getitem__(cls, key: object) -> object: ...

@final
class Cork(AbstractContextManager[None]):
    def __enter__(self) -> None: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class Handlers:
    def __new__(cls, given: object, option: str = "socket") -> Self: ...
    def __getitem__(self, name: str, /) -> Handler | None: ...
    @property
    def binary_type(self) -> BinaryType: ...

@final
class Listener:
    owner: object
    data: object
    @property
    def connections(self) -> int: ...
    def fileno(self) -> int: ...
    def stop(self, close_active_connections: bool) -> None: ...
    def reload(self, socket: object) -> None: ...
    def set_tls(self, settings: TlsSettings) -> None: ...
    def set_referenced(self, referenced: bool) -> None: ...
    def closed(self) -> asyncio.Future[None]: ...

@final
class Attempt:
    @property
    def connected(self) -> bool: ...
    def follow(self, future: asyncio.Future[None]) -> None: ...
    def establish(
        self, socket: Socket[Any], options: StreamOptions, tls: TlsSettings | None
    ) -> BaseException | None: ...
    def cancel(self) -> None: ...

@final
class Engine:
    def __new__(cls) -> Self: ...
    def attach(self, host: Host | None) -> None: ...
    def fileno(self) -> int: ...
    def watch_from_outside(self) -> None: ...
    def register(self, fd: int, events: int) -> None: ...
    def modify(self, fd: int, events: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def select(
        self, timeout: float | None, ready: object, scheduled: object, until_idle: bool
    ) -> list[tuple[int, int]]: ...
    def turn(self) -> None: ...
    def interrupt(self) -> None: ...
    def hold(self) -> None: ...
    def unhold(self) -> None: ...
    @property
    def referenced(self) -> bool: ...
    def handler_finished(
        self,
        socket: Socket[Any],
        stage: int,
        cause: BaseException | None,
        result: object,
        error: BaseException | None,
    ) -> None: ...
    def end(self) -> None: ...
    def socket(self, handlers: Handlers, data: D, hostname: str) -> Socket[D]: ...
    def connect(
        self,
        address: SocketAddress | bytes,
        bound: int,
        timeout: float | None,
    ) -> Attempt: ...
    def adopt(
        self, fd: int, socket: Socket[Any], options: StreamOptions, tls: TlsSettings | None
    ) -> BaseException | None: ...
    def connect_failed(self, socket: Socket[Any], error: OSError) -> None: ...
    def listen(
        self,
        fd: int,
        options: StreamOptions,
        handlers: Handlers,
        data: object,
        data_factory: Callable[[Any], object] | None,
        tls: TlsSettings | None,
    ) -> Listener: ...

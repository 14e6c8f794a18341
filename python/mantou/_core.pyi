"""The native module: the engine, seen from Python. Private, except for `Socket`.

The docstrings in here are copies of the doc comments in `crates/binding/`: see `make docstrings`.
"""

import asyncio
import ssl
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AbstractContextManager
from contextvars import Context
from traceback import StackSummary
from typing import IO, Any, Generic, Literal, Self, TypeVar, TypeVarTuple, final

from cryptography.x509 import Certificate
from typing_extensions import Buffer, disjoint_base

from ._addresses import SocketAddress
from ._handlers import BinaryType, D, Handler
from ._handlers import Handlers as AnyHandlers
from ._host import Host
from ._limits import Limits
from ._listener import TCPSocketListener, UnixSocketListener
from ._option_types import Packet, TLSOptions
from ._options import ConnectionOptions, Way
from ._pipe import PipedBytes
from ._proxy import Parts, ProxyHeader
from ._ready_state import ReadyState
from ._stats import PeerCredentials, SocketStats
from ._tls_options import TlsSettings
from ._validate import Options

__all__ = [
    "Attempt",
    "Cork",
    "Engine",
    "FileSend",
    "Handle",
    "Handlers",
    "Handshake",
    "Listener",
    "Pipe",
    "ReadyQueue",
    "SSLPump",
    "Scheduler",
    "Socket",
    "Stream",
    "TimerHandle",
    "TlsConfig",
    "TlsFacts",
    "TlsTicket",
    "Totals",
    "Transport",
    "__version__",
    "can_take",
    "check_packet",
    "connect_at_once",
    "is_server_name",
    "key_algorithm",
    "known_way",
    "own_engine",
    "pem_certificates",
    "pem_private_key",
    "pem_revocation_lists",
    "pem_trusted",
    "process_totals",
    "remember_way",
    "server_end_point",
    "system_trust_size",
    "tls_facts",
    "write_proxy_header",
]

_Begun = tuple[
    "Engine", "Socket[Any]", Way, "Attempt | None", "asyncio.Future[BaseException | None] | None"
]
_D2 = TypeVar("_D2")
__version__: str

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

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
    @staticmethod
    def of_context(
        server_side: bool,
        *,
        identities: Sequence[tuple[Sequence[bytes], bytes]],
        verify_mode: int,
        alpn: Sequence[bytes],
        ciphers: str,
        prefer_own_ciphers: bool,
        lowest: str,
        highest: str,
        key_log_file: str | None,
    ) -> TlsConfig: ...
    def covers(self, name: str) -> bool: ...

@final
class Handshake:
    def __new__(
        cls,
        config: TlsConfig,
        context: ssl.SSLContext,
        judge: ssl.SSLContext,
        server_side: bool,
        name: str | None,
        initial: bytes,
        /,
    ) -> Self: ...

@final
class TlsFacts:
    @property
    def alpn(self) -> bytes | None: ...
    @property
    def cipher(self) -> tuple[str, str, int] | None: ...
    @property
    def exporter(self) -> bytes | None: ...
    @property
    def is_resumed(self) -> bool: ...
    @property
    def peer_chain(self) -> list[bytes]: ...
    @property
    def server_name(self) -> str | None: ...
    @property
    def ticket(self) -> TlsTicket | None: ...

@final
class TlsTicket:
    """A TLS session to resume, from `Socket.get_session()`. Opaque, and of this process only."""

def can_take(callable: Callable[..., object], count: int, /) -> bool: ...
def connect_at_once(options: Options, /) -> Socket[Any] | _Begun | None: ...
def check_packet(packet: object, /) -> None: ...
def is_server_name(name: str, /) -> bool: ...
def known_way(options: Options, /) -> Way | None: ...
def key_algorithm(certificate: bytes, /) -> str | None: ...
def own_engine() -> Engine | None: ...
def pem_certificates(text: bytes, /) -> list[bytes]: ...
def pem_private_key(text: bytes, /) -> tuple[str, str, bytes]: ...
def pem_revocation_lists(text: bytes, /) -> list[bytes]: ...
def pem_trusted(text: bytes, servers: bool, /) -> list[bytes]: ...
def remember_way(options: Options, way: Way, /) -> None: ...
def server_end_point(certificate: bytes, /) -> bytes | None: ...
def system_trust_size() -> int: ...
def tls_facts(socket: Socket[Any], /) -> TlsFacts | None: ...
def write_proxy_header(parts: Parts, /) -> bytes: ...

@final
class Socket(Generic[D]):
    """A connection. Made by `connect()`, by listeners and by `upgrade_tls()`.

    `D` is the type of `data`. Attributes keep their last known value after close. Methods may
    be called at any moment, in any order, from every handler, also after close: then they do
    nothing and return -1, False or None. `with socket:` calls `end()` on leaving, and
    `async with socket:` also waits until it is closed.

    TLS members answer None, False or nothing without a TLS session and once closed.

    Bun: `Socket`.

    :raises WrongThreadError: any method, and any attribute that changes while it is open, from
        another thread than that of its event loop.
    """

    @property
    def data(self) -> D:
        """What belongs to this connection: any object, given to `connect()` or by the listener.

        None until it is given. It can be set at any time.

        Bun: `socket.data`.
        """
    @data.setter
    def data(self, data: D) -> None: ...
    def write(
        self, data: str | Buffer, byte_offset: int = 0, byte_length: int | None = None
    ) -> int:
        """Hands data to the kernel, as much as it takes right now.

        Nothing is kept: of what was not taken, the caller has to call again, when `drain` says
        that there is room. It is called once after a short write. With TLS the engine takes the
        bytes and seals them; before the handshake is done it takes none.

        Where `packet` is 1, 2 or 4, the data is one packet, which is taken whole or not at all: not
        while bytes wait. What the kernel leaves of it waits here. An empty one is best sent with
        `write_all()`: 0 does not tell whether it was taken.

        Bun: `socket.write()`.

        :param data: a str, sent as UTF-8, or any C-contiguous buffer, which is not copied first.
        :param byte_offset: where in the data to begin, in bytes.
        :param byte_length: how many bytes of it; None for the rest.
        :returns: the number of bytes taken, 0 included; -1 when closed or after `end()`.
        :raises TypeError: the data is neither a str nor a C-contiguous buffer.
        :raises ValueError: offset or length are outside the data, or a packet is longer than its
            length in front of it can say.
        """

    def write_all(self, data: str | Buffer) -> None:
        """Takes all of the data, sends what the kernel takes and keeps the rest, in order.

        The bytes are safe even if the caller changes its buffer. `drain` is called once when the
        queue has emptied; until then `write()` takes nothing.

        Not in Bun.

        :param data: a str, sent as UTF-8, or any C-contiguous buffer.
        :raises BrokenPipeError: closed, or after `end()`.
        :raises BufferError: bytes wait already, and with these there would be more than
            `write_limit`; nothing of this call was taken. What finds nothing waiting is always
            taken, whatever its size.
        :raises TypeError: the data is neither a str nor a C-contiguous buffer.
        :raises ValueError: a packet is longer than its length in front of it can say.
        """

    def send(self, data: str | Buffer) -> asyncio.Future[None]:
        """To be awaited: takes all of the data and returns when little enough of it has to wait.

        The data is taken at once, however much it is and also if nobody awaits the result; more
        is best sent when it has returned: then at most 64 KiB wait. `drain` is not called for it.
        Cancelling it takes nothing back.

        Not in Bun.

        :param data: a str, sent as UTF-8, or any C-contiguous buffer. Of `bytes` that have to wait
            no copy is made.
        :raises BrokenPipeError: closed, or after `end()`.
        :raises ConnectionError: the connection was over before.
        :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
        :raises TypeError: the data is neither a str nor a C-contiguous buffer.
        :raises ValueError: a packet is longer than its length in front of it can say.
        """
    def send_file(
        self, file: IO[bytes], offset: int = 0, count: int | None = None
    ) -> Coroutine[Any, Any, int]:
        """Sends a file, or a part of it: by sendfile(2) in the clear, and sealed over TLS.

        It goes behind everything that was accepted before, and ahead of what is accepted
        meanwhile: `write()` takes nothing until it is sent. Read from a slow disk, it keeps the
        loop waiting. Its position neither counts nor changes. A file that turns out to be shorter
        ends earlier; what it grows by meanwhile is left out. Cancelled, it sends no more than is on
        its way.

        Not in Bun.

        :param file: a binary file that is open for reading and has a descriptor.
        :param offset: where in the file to begin, in bytes.
        :param count: how many bytes of it at most; None for all up to its end.
        :returns: to be awaited: the number of bytes sent, once all of them are in the kernel.
        :raises BrokenPipeError: closed, or after `end()`.
        :raises BufferError: with what waits already it is more than can be counted: it has a hole.
        :raises ConnectionError: the connection was over first.
        :raises OSError: the file cannot be read.
        :raises TypeError: the file has no descriptor or is in text mode, or an argument is of the
            wrong type.
        :raises ValueError: not a regular file, or one without a size, as in /proc; an argument is
            negative; or what is sent gets a length in front (`packet`).
        """
    def drained(self) -> asyncio.Future[None]:
        """To be awaited: returns when everything accepted so far is in the kernel.

        Not in Bun.

        :raises ConnectionError: the connection was over first.
        :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
        """

    @property
    def buffered(self) -> int:
        """Bytes accepted that the kernel would not take, or that wait for the TLS handshake.

        What is only gathered until the turn or the cork ends does not count. Whoever has seen
        more than 0 gets `drain` when it is 0 again.

        Not in Bun.
        """

    def cork(self) -> AbstractContextManager[None]:
        """A context whose writes leave together: in one system call, in few TLS records.

        They are sent when the outermost block ends, or when 64 KiB are gathered.

        Not in Bun.
        """

    def flush(self) -> None:
        """Sends now what `cork()` or TLS holds back.

        Bun: `socket.flush()`.
        """

    def end(
        self,
        data: str | Buffer | None = None,
        byte_offset: int = 0,
        byte_length: int | None = None,
    ) -> int:
        """Sends the last data and, once everything accepted is sent, FIN.

        With TLS `close_notify` goes before the FIN. All of the data is delivered, also if it has
        to wait. Reading goes on until the peer's FIN; where `allow_half_open` is False, a peer
        that makes no progress is cut off after `close_timeout` seconds. Empty data is no packet.

        Bun: `socket.end()`.

        :param data: a str, sent as UTF-8, or any C-contiguous buffer; None for no more.
        :param byte_offset: where in the data to begin, in bytes.
        :param byte_length: how many bytes of it; None for the rest.
        :returns: the length of the data in bytes; -1 if already ended or closed.
        :raises BufferError: bytes wait already, and with these there would be more than
            `write_limit`; nothing was sent, nothing is ended.
        :raises TypeError: the data is neither a str nor a C-contiguous buffer.
        :raises ValueError: offset or length are outside the data, or a packet is longer than its
            length in front of it can say.
        """

    def shutdown(self, half_close: bool = False) -> None:
        """Ends one direction of the connection.

        Bun: `socket.shutdown()`.

        :param half_close: False: FIN once everything accepted is sent; reading goes on, without
            a time limit. True: stop receiving; what still arrives is discarded, writing goes on.
        """

    def close(self) -> None:
        """Ends the connection without waiting for the peer.

        What was accepted is still sent, then FIN, then `close` is called; no other event comes
        any more. The descriptor stays behind to swallow late input, at most until nothing has
        moved for `close_timeout` seconds, so that no RST destroys what the peer has not read.

        Bun: `socket.close()`.
        """

    def terminate(self) -> None:
        """Resets the connection at once; bytes that wait are lost.

        The peer gets a RST. `close` is called with None: it was our own wish.

        Bun: `socket.terminate()`.
        """

    def pause(self) -> None:
        """Stops reading application data, at once; not counted.

        A TLS handshake goes on, and so does writing. A FIN or RST that arrives meanwhile is
        reported after `resume()`, behind all data.

        Bun: `socket.pause()`.
        """

    def resume(self) -> None:
        """Reads again after `pause()`.

        Bun: `socket.resume()`.
        """

    def timeout(self, seconds: float) -> None:
        """Sets the idle timeout, as the option `idle_timeout` does.

        Idle is a connection on which for so long no byte was read, taken by the kernel or
        acknowledged by the peer. Then the `timeout` handler is called and, unless it returns
        True, the connection closed: `close` gets a `TimeoutError`. In Bun nothing is closed.

        Bun: `socket.timeout()`.

        :param seconds: to the millisecond; 0 switches it off.
        :raises TypeError: not a number.
        :raises ValueError: negative or not finite.
        """

    def set_no_delay(self, no_delay: bool = True) -> bool:
        """Sets `TCP_NODELAY`: small writes leave at once, unanswered ones do not hold them back.

        Bun: `socket.setNoDelay()`.

        :returns: whether it was set; False when closed, and for a unix socket.
        """

    def set_keep_alive(self, enable: bool = False, initial_delay: float = 0.0) -> bool:
        """Sets `SO_KEEPALIVE`: the kernel probes a silent peer.

        Where `dead_after` is set it does so already, and that is changed.

        Bun: `socket.setKeepAlive()`, which takes milliseconds.

        :param initial_delay: seconds of silence before the first probe; 0 for the system's.
        :returns: whether it was set; False when closed.
        :raises TypeError: the delay is not a number.
        :raises ValueError: the delay is negative or not finite.
        """

    def set_packet(self, packet: Packet, packet_size: int | None = None) -> None:
        """Changes how data is cut into packets, as the option `packet` does.

        It is in force for all that follows: within `data`, for what was read together with the
        packet that `data` was called with, and for what is sent from now on. `"raw"` hands on what
        comes as it comes. `upgrade_tls()` keeps it.

        What `data` writes for packets that came together leaves together, as within `cork()`.
        Where the peer's FIN comes within a packet, the connection ends with a
        `mantou.PacketIncomplete`, and `end` is not called.

        Not in Bun.

        :param packet: `"line"`, `1`, `2`, `4` or `"raw"`.
        :param packet_size: the longest packet that is received, in bytes; None for what the option
            `packet_size` says.
        :raises TypeError: neither a str nor an int.
        :raises ValueError: none of these values, or a size below 1; or a stream has the socket.
        """
    def reload(self, socket: AnyHandlers[D]) -> None:
        """Replaces the handlers, from the next event on.

        For an accepted socket, those of its listener and of all the listener's sockets.

        Bun: `socket.reload()`.

        :param socket: the handlers, in any form that `connect()` takes.
        :raises TypeError: they are none, or one of them cannot be called as it will be.
        :raises ValueError: `binary_type` is none of the three.
        """

    def ref(self) -> None:
        """Lets it keep `run()` alive, as it does from the start.

        Bun: `socket.ref()`.
        """

    def unref(self) -> None:
        """Lets `run()` end even while it is open.

        Bun: `socket.unref()`.
        """

    @property
    def listener(self) -> TCPSocketListener[D] | UnixSocketListener[D] | None:
        """The listener that accepted it; None for a socket that was connected.

        Bun: `socket.listener`.
        """

    @property
    def ready_state(self) -> ReadyState:
        """How far the connection has come: a `ReadyState`.

        Bun: `socket.readyState`.
        """

    @property
    def local_address(self) -> str | None:
        """The IP address at our end; None for a unix socket.

        Bun: `socket.localAddress`.
        """

    @property
    def local_port(self) -> int | None:
        """The port at our end; None for a unix socket.

        Bun: `socket.localPort`.
        """

    @property
    def local_family(self) -> Literal["IPv4", "IPv6"] | None:
        """The family of the address at our end, "IPv4" or "IPv6"; None for a unix socket.

        Bun: `socket.localFamily`.
        """

    @property
    def remote_address(self) -> str | None:
        """The peer's IP address; None for a unix socket.

        Bun: `socket.remoteAddress`.
        """

    @property
    def remote_port(self) -> int | None:
        """The peer's port; None for a unix socket.

        Bun: `socket.remotePort`.
        """

    @property
    def remote_family(self) -> Literal["IPv4", "IPv6"] | None:
        """The family of the peer's address, "IPv4" or "IPv6"; None for a unix socket.

        Bun: `socket.remoteFamily`.
        """

    @property
    def proxy(self) -> ProxyHeader | None:
        """How a proxy has introduced this connection: a `ProxyHeader`.

        None without one, as in front of a listener without `proxy_protocol`. An upgraded socket has
        that of the plain one.

        Not in Bun.
        """
    @property
    def bytes_read(self) -> int:
        """Bytes received so far, of the application's data; of packets with all that is cut off.

        Not in Bun.
        """

    @property
    def bytes_written(self) -> int:
        """Bytes sent so far, of the application's data; of packets with their lengths.

        Bun: `socket.bytesWritten`.
        """

    def stats(self) -> SocketStats:
        """Its figures at this moment: a `SocketStats`, with those that the kernel keeps of TCP.

        After close the bytes stay, and `tcp` is None. Not in Bun.
        """

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        """Who is at the other end of a unix socket: `PeerCredentials` (pid, uid, gid).

        As they were when the peer connected or, seen by a client, when the server listened; the
        kernel vouches for them. None over TCP, and once closed.

        Not in Bun.
        """

    def fileno(self) -> int:
        """The descriptor, which stays the socket's own; -1 once closed.

        Not in Bun.
        """

    def upgrade_tls(
        self,
        *,
        tls: bool | TLSOptions | ssl.SSLContext,
        socket: AnyHandlers[_D2],
        data: _D2 | None = None,
        server_side: bool | None = None,
        initial: bytes = b"",
    ) -> tuple[Socket[D], Socket[_D2]]:
        """Makes TLS of a plain connection, as STARTTLS does.

        Everything accepted before is sent in clear first; what was received and not yet delivered
        goes to TLS. This socket is detached: it gets no event but its `close`, just before that of
        the other, and `write()` is -1. The other takes the connection over.

        Bun: `socket.upgradeTLS()`.

        :param tls: as in `connect()`. The name to verify is the `hostname` connected to, unless
            `server_name` says another.
        :param socket: the handlers of the TLS socket, in any form that `connect()` takes.
        :param data: the `data` of the TLS socket.
        :param server_side: which side of the handshake is ours; None for the one it has: server
            for an accepted socket, else client.
        :param initial: ciphertext that a handler was given already.
        :returns: this socket, and the TLS socket.
        :raises ConnectionError: it is not open.
        :raises OSError: a file that the options name cannot be read.
        :raises TypeError: an option is unknown or of the wrong type, or the handlers are none.
        :raises ValueError: it speaks TLS already, or an option has a wrong value.
        """

    @property
    def authorized(self) -> bool:
        """Whether the peer has shown a certificate that was verified; False without TLS.

        Bun: `socket.authorized`.
        """

    @property
    def alpn_protocol(self) -> str | Literal[False] | None:
        """The protocol agreed on; False if none was, None before the handshake is done.

        Bun: `socket.alpnProtocol`.
        """

    def get_authorization_error(self) -> ssl.SSLCertVerificationError | None:
        """The failed verification that `reject_unauthorized=False` let pass, or None.

        Bun: `socket.getAuthorizationError()`.

        :returns: an `ssl.SSLCertVerificationError`, whose `verify_message` says why.
        """

    def get_cipher(self) -> dict[str, str] | None:
        """The cipher suite in use; None before the handshake and once closed.

        Bun: `socket.getCipher()`.

        :returns: a dict of `name` (OpenSSL's), `standard_name` and `version`.
        """

    def get_tls_version(self) -> str | None:
        """The version in use, "TLSv1.3" or "TLSv1.2"; None before the handshake and once closed.

        Bun: `socket.getTLSVersion()`.
        """

    def get_peer_certificate(self, detailed: bool = False) -> dict[str, Any] | None:
        """The peer's certificate, as `ssl.SSLSocket.getpeercert()` describes it.

        Bun: `socket.getPeerCertificate()`.

        :param detailed: also the chain, from one `issuer_certificate` to the next.
        :returns: a dict, with `raw` (DER) and `fingerprint256` besides; {} if the peer has shown
            none; None without TLS and once closed.
        """

    def get_certificate(self) -> dict[str, Any] | None:
        """Our own certificate, described as by `get_peer_certificate()`.

        Bun: `socket.getCertificate()`.

        :returns: a dict; {} if we have shown none, and for a client with an `ssl.SSLContext`, which
            does not tell; None without TLS and once closed.
        """

    def get_peer_x509_certificate(self) -> Certificate | None:
        """The peer's certificate, as a `cryptography.x509.Certificate`; None if there is none.

        Bun: `socket.getPeerX509Certificate()`.

        :raises ImportError: the package `cryptography` is not installed.
        """

    def get_x509_certificate(self) -> Certificate | None:
        """Our own certificate, as a `cryptography.x509.Certificate`; None if there is none.

        Bun: `socket.getX509Certificate()`.

        :raises ImportError: the package `cryptography` is not installed.
        """

    def export_keying_material(
        self, length: int, label: str, context: bytes | None = None
    ) -> bytes | None:
        """Key material that both ends can derive from the session, RFC 5705.

        Bun: `socket.exportKeyingMaterial()`.

        :param length: in bytes, from 1 to 8160.
        :param label: what it is for; both ends use the same.
        :param context: bytes that go into it; None is not the same as none.
        :returns: so many bytes; None without TLS and once closed.
        :raises NotImplementedError: an `ssl.SSLContext` drives the connection; give TLSOptions.
        :raises ValueError: the length is out of range.
        :raises ssl.SSLError: the handshake is not done.
        """

    def channel_binding(
        self, kind: Literal["tls-exporter", "tls-server-end-point", "tls-unique"]
    ) -> bytes | None:
        """What ties a login to this very TLS session.

        Not in Bun.

        :param kind: "tls-exporter" (RFC 9266) or "tls-server-end-point" (RFC 5929). With an
            `ssl.SSLContext`, "tls-server-end-point" or "tls-unique"; a server's certificate is then
            found by a handshake of the context with itself, within memory, which its
            `sni_callback` sees.
        :returns: bytes; None without TLS, before the handshake, once closed, or if there is none.
        :raises NotImplementedError: an `ssl.SSLContext` drives the connection, and the `ssl`
            module does not tell: "tls-exporter", or a context with several certificates.
        :raises ValueError: another kind.
        """

    def get_session(self) -> TlsTicket | None:
        """What a later connection to the same server resumes with: `tls={"session": ...}`.

        Opaque, and of this process only. With TLS 1.3 servers send it after the handshake.

        Bun: `socket.getSession()`.

        :returns: a ticket; None while there is none, and once closed.
        """

    def set_session(self, session: TlsTicket) -> None:
        """Resumes an earlier session.

        Only before the handshake: in `open`, where there is a `handshake` handler.

        Bun: `socket.setSession()`.

        :param session: what `get_session()` returned.
        :raises TypeError: it is something else.
        :raises ValueError: the handshake has begun, there is no TLS, or we are the server.
        """

    def is_session_reused(self) -> bool:
        """Whether an earlier session was resumed.

        Bun: `socket.isSessionReused()`.
        """

    def get_ephemeral_key_info(self) -> dict[str, Any] | None:
        """The key exchange of the session; None before the handshake and once closed.

        Bun: `socket.getEphemeralKeyInfo()`.

        :returns: a dict of `type` ("ECDH" or "DH"), `name` and `size` in bits.
        """

    def get_shared_sigalgs(self) -> list[str]:
        """An empty list: the engine keeps to itself which signatures both ends know.

        Bun: `socket.getSharedSigalgs()`.
        """

    def get_servername(self) -> str | None:
        """The name that the client has asked for; None if it asked for none.

        Bun: `socket.getServername()`.
        """

    def set_servername(self, name: str) -> None:
        """Sets the name to ask for and to verify.

        Only before the handshake: in `open`, where there is a `handshake` handler.

        Bun: `socket.setServername()`.

        :param name: a host name or an IP address.
        :raises TypeError: not a str.
        :raises ValueError: no certificate can have such a name; the handshake has begun, there is
            no TLS, or we are the server.
        """

    def set_max_send_fragment(self, size: int) -> bool:
        """Sets how much plaintext goes into one TLS record.

        Bun: `socket.setMaxSendFragment()`.

        :param size: in bytes, from 512 to 16384.
        :returns: whether it was set; False for another size, without TLS and once closed.
        """

    def set_verify_mode(self, request_cert: bool, reject_unauthorized: bool) -> None:
        """Sets whom to accept, as the options of these names do.

        Only before the handshake: in `open`, where there is a `handshake` handler.

        Bun: `socket.setVerifyMode()`.

        :param request_cert: a server asks clients for a certificate.
        :param reject_unauthorized: a peer whose certificate is not verified is refused.
        :raises NotImplementedError: an `ssl.SSLContext` drives the connection.
        :raises ValueError: the handshake has begun, or there is no TLS.
        """

    def disable_renegotiation(self) -> None:
        """Does nothing: there is no renegotiation.

        Bun: `socket.disableRenegotiation()`.
        """

    def renegotiate(self) -> None:
        """Raises: there is no renegotiation.

        Bun: `socket.renegotiate()`.

        :raises NotImplementedError: always. It is a danger that TLS 1.3 has removed.
        """

    def get_tls_finished_message(self) -> bytes | None:
        """None: the engine keeps its Finished message to itself.

        Bun: `socket.getTLSFinishedMessage()`.
        """

    def get_tls_peer_finished_message(self) -> bytes | None:
        """None: the engine keeps the peer's Finished message to itself.

        Bun: `socket.getTLSPeerFinishedMessage()`.
        """

    def get_tls_ticket(self) -> bytes | None:
        """None: the engine keeps tickets to itself; `get_session()` has what resumes a session.

        Bun: `socket.getTLSTicket()`.
        """

    def closed(self) -> asyncio.Future[None]:
        """To be awaited: returns when `close` has run, to its end if it is async.

        For a connection that never opened, when `connect_error` has. Why it ended is what those
        were told.

        Not in Bun.

        :raises RuntimeError: no event loop runs it: it was not started yet, or is closed.
        """
    def _told_closed(self) -> asyncio.Future[None]: ...
    def _abandon(self) -> None: ...
    def _send_file(self, fd: int, offset: int, count: int) -> FileSend: ...
    def _pipe(self, other: Socket[Any]) -> asyncio.Future[PipedBytes]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def __aenter__(self) -> asyncio.Future[Self]: ...
    def __aexit__(self, *exception: object) -> asyncio.Future[None]: ...
    def __class_getitem__(cls, key: object) -> object: ...

@final
class Cork(AbstractContextManager[None]):
    def __enter__(self) -> None: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class FileSend:
    @property
    def sent(self) -> int: ...
    @property
    def error(self) -> OSError | None: ...
    def withdraw(self) -> None: ...

@final
class Pipe:
    def __call__(self, future: asyncio.Future[PipedBytes], /) -> None: ...

@disjoint_base
class SSLPump:
    def __new__(
        cls,
        object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        initial: bytes,
    ) -> Self: ...
    @property
    def ssl_object(self) -> ssl.SSLObject: ...
    @property
    def established(self) -> bool: ...
    def hear(self, ciphertext: bytes, /) -> None: ...

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
    @property
    def stopped(self) -> bool: ...
    def fileno(self) -> int: ...
    def set_limits(self, limits: Limits) -> None: ...
    def set_accepting(self, accepting: bool) -> None: ...
    def begin_drain(self) -> None: ...
    def cut(self) -> int: ...
    def figures(self) -> tuple[Totals, int, bytes | None]: ...
    def stop(self, close_active_connections: bool) -> None: ...
    def reload(self, socket: object) -> None: ...
    def set_tls(self, settings: TlsSettings) -> None: ...
    def set_proxy_protocol(
        self, required: bool, trusted: list[tuple[object, int]] | None
    ) -> None: ...
    def set_referenced(self, referenced: bool) -> None: ...
    def closed(self) -> asyncio.Future[None]: ...

@final
class Totals:
    @property
    def accepted(self) -> int: ...
    @property
    def connected(self) -> int: ...
    @property
    def closed(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def handshakes(self) -> int: ...
    @property
    def late_handshakes(self) -> int: ...
    @property
    def unverified_handshakes(self) -> int: ...
    @property
    def alerted_handshakes(self) -> int: ...
    @property
    def broken_handshakes(self) -> int: ...
    @property
    def lost_handshakes(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def pauses_for_connections(self) -> int: ...
    @property
    def pauses_for_rate(self) -> int: ...
    @property
    def pauses_for_handshakes(self) -> int: ...
    @property
    def pauses_for_descriptors(self) -> int: ...

def process_totals(engines: Sequence[Engine]) -> tuple[Totals, int, int]: ...

@final
class Attempt:
    @property
    def connected(self) -> bool: ...
    def follow(self, future: asyncio.Future[None]) -> None: ...
    def establish(
        self,
        socket: Socket[Any],
        options: ConnectionOptions,
        tls: TlsSettings | None,
        preface: bytes | None = None,
    ) -> asyncio.Future[BaseException | None] | None: ...
    def cancel(self) -> None: ...

# With what is for its subclass, and for asyncio, which calls some of it.
@disjoint_base
class Transport:
    def __new__(
        cls, socket: Socket[Any], secure: bool, *_arguments: Any, **_options: Any
    ) -> Self: ...
    @classmethod
    def _own_calls(cls) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def get_protocol(self) -> asyncio.BaseProtocol | None: ...
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_reading(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...
    def get_write_buffer_limits(self) -> tuple[int, int]: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    @property
    def _socket(self) -> Socket[Any]: ...
    @property
    def _secure(self) -> bool: ...
    @property
    def _protocol_paused(self) -> bool: ...
    def _take_resumption(self) -> bool: ...
    def _reserve_for_file(self, reserve: bool) -> None: ...
    def _begin(self) -> None: ...
    def _set_closing(self) -> bool: ...
    def _close_now(self) -> None: ...
    def _force_close(self, error: BaseException | None) -> None: ...
    def _finish_writing(self) -> None: ...
    def _upgrade(
        self, settings: TlsSettings, options: ConnectionOptions, server_side: bool
    ) -> Socket[Any]: ...
    @property
    def _context(self) -> Context: ...
    @property
    def _driver(self) -> Any: ...
    def _names(self) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]: ...
    def _let_go(self) -> None: ...

# What its subclass calls and what the socket tells begins with an underscore.
@disjoint_base
class Stream:
    """The native half of `mantou.Stream`."""

    def __new__(cls, socket: Socket[Any], event_loop: Any) -> Self: ...
    def _occupy(self) -> None: ...
    def _vacate(self) -> None: ...
    @property
    def socket(self) -> Socket[Any]:
        """The socket beneath: its addresses, TLS members, timeouts. Its handlers are the stream's.

        Not in Bun.
        """
    def receive(self, max_bytes: int = 65536) -> Coroutine[Any, Any, bytes]:
        """To be awaited: what is there, at least one byte.

        Cancelling it loses no byte: what has arrived is what the next call gets.

        anyio: `ByteStream.receive()`.

        :param max_bytes: as many bytes at most.
        :raises BrokenResourceError: the connection broke; it is an OSError of the class that says
            how, or an ssl.SSLError.
        :raises BusyResourceError: somebody else is reading.
        :raises ClosedResourceError: the stream was closed on this side.
        :raises EndOfStream: the peer sends no more: FIN or, with TLS, close_notify.
        :raises ValueError: max_bytes is less than 1.
        """
    def receive_into(self, buffer: Buffer) -> Coroutine[Any, Any, int]:
        """To be awaited: fills the caller's memory with what is there, at least one byte.

        Where nothing waits, the kernel writes to it directly. It must not be used otherwise until
        this returns.

        Not in anyio.

        :param buffer: a writable, C-contiguous buffer, with room for one byte or more.
        :returns: the number of bytes received.
        :raises BrokenResourceError: as receive().
        :raises BusyResourceError: somebody else is reading.
        :raises ClosedResourceError: the stream was closed on this side.
        :raises EndOfStream: the peer sends no more.
        :raises TypeError: the buffer cannot be written to.
        :raises ValueError: it has no room.
        """
    def receive_exactly(self, nbytes: int) -> Coroutine[Any, Any, bytes]:
        """To be awaited: exactly so many bytes.

        anyio: `BufferedByteReceiveStream.receive_exactly()`.

        :param nbytes: how many.
        :raises BrokenResourceError: as receive().
        :raises BusyResourceError: somebody else is reading.
        :raises ClosedResourceError: the stream was closed on this side.
        :raises IncompleteRead: the peer sends no more; its `partial` has the bytes that had come.
        :raises ValueError: nbytes is less than 0.
        """
    def receive_until(self, delimiter: bytes, max_bytes: int) -> Coroutine[Any, Any, bytes]:
        """To be awaited: the bytes before a delimiter, which is taken and left out.

        anyio: `BufferedByteReceiveStream.receive_until()`.

        :param delimiter: what to look for.
        :param max_bytes: so many bytes may come before it, at most.
        :raises BrokenResourceError: as receive().
        :raises BusyResourceError: somebody else is reading.
        :raises ClosedResourceError: the stream was closed on this side.
        :raises DelimiterNotFound: it does not come within max_bytes. The bytes stay.
        :raises IncompleteRead: the peer sends no more; its `partial` has the bytes that had come.
        :raises ValueError: the delimiter is empty, or max_bytes less than 1.
        """
    def lines(self, max_bytes: int = 65536) -> AsyncIterator[bytes]:
        """For `async for`: the lines, each without the CR and LF at its end, until the peer's FIN.

        Not in anyio.

        :param max_bytes: a longer line raises DelimiterNotFound.
        """
    def send(self, data: str | Buffer) -> Coroutine[Any, Any, None]:
        """To be awaited: sends all of the data, and returns when 64 KiB of it or less wait.

        Cancelled, it has sent a part, the rest never will be: `sent` of the exception says how much
        was accepted.

        anyio: `ByteStream.send()`.

        :param data: bytes or any C-contiguous buffer, or a str, sent as UTF-8. It must not change
            until this returns.
        :raises BrokenResourceError: the connection broke, as in receive().
        :raises BusyResourceError: somebody else is sending.
        :raises ClosedResourceError: the stream was closed on this side, or `send_eof()` called.
        :raises TypeError: the data is neither a str nor a C-contiguous buffer.
        """
    def send_all(self, buffers: Iterable[str | Buffer]) -> Coroutine[Any, Any, None]:
        """To be awaited: the same for a list of buffers, which leave together.

        Not in anyio.

        :param buffers: what send() takes, any number of them.
        """
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, bytes]: ...
    def _attach(self) -> None: ...
    def _read(self, most: int) -> Coroutine[Any, Any, bytes]: ...
    def _read_exactly(self, count: int) -> Coroutine[Any, Any, bytes]: ...
    def _read_whole(self, delimiters: Sequence[bytes], most: int) -> Coroutine[Any, Any, bytes]: ...
    def _unread(self) -> bytes: ...
    def _skip(self, count: int) -> None: ...
    def _write(self, buffers: Sequence[Buffer]) -> None: ...
    def _drain(self) -> Coroutine[Any, Any, None]: ...
    @property
    def _marks(self) -> tuple[int, int]: ...
    def _set_marks(self, low: int, high: int) -> None: ...
    @property
    def _driver(self) -> Any: ...
    @property
    def _error(self) -> BaseException | None: ...
    def _begin(self) -> None: ...
    def _close(self, keep: bool = False) -> bool: ...
    @property
    def _is_over(self) -> bool: ...
    @property
    def _at_end(self) -> bool: ...
    def _finish_sending(self, draining: bool = False) -> None: ...
    def _upgrade(
        self, settings: TlsSettings, server_side: bool, options: ConnectionOptions | None
    ) -> Socket[Any]: ...
    @property
    def _is_reading(self) -> bool: ...
    def _hold(self, held: bool) -> None: ...
    def _on_open(self, _socket: Socket[Any]) -> None: ...
    def _on_connect_error(self, _socket: Socket[Any], _error: BaseException) -> None: ...
    def _on_drain(self, _socket: Socket[Any]) -> None: ...
    def _on_end(self, _socket: Socket[Any]) -> None: ...
    def _on_close(self, _socket: Socket[Any], error: BaseException | None) -> None: ...
    def _on_error(self, _socket: Socket[Any], error: BaseException) -> None: ...
    def _on_timeout(self, _socket: Socket[Any]) -> None: ...
    def _forget_file(self) -> None: ...

@final
class Engine:
    def __new__(cls) -> Self: ...
    def attach(self, host: Host | None) -> None: ...
    def set_debug(self, debug: bool) -> None: ...
    def begin_anew(self) -> bool: ...
    @property
    def awaits_loop(self) -> bool: ...
    def check_process(self) -> None: ...
    @property
    def left_behind(self) -> bool: ...
    def fileno(self) -> int: ...
    def watch_from_outside(self) -> None: ...
    def turn(self) -> None: ...
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
    def end_without_waiting(self, socket: Socket[Any]) -> None: ...
    def end(self) -> None: ...
    def socket(self, handlers: Handlers | None, data: D, hostname: str) -> Socket[D]: ...
    def connect(
        self,
        address: SocketAddress | bytes,
        bound: int,
        timeout: float | None,
    ) -> Attempt: ...
    def adopt(
        self,
        fd: int,
        socket: Socket[Any],
        options: ConnectionOptions,
        tls: TlsSettings | None,
        preface: bytes | None = None,
    ) -> asyncio.Future[BaseException | None] | None: ...
    def take_over(
        self,
        fd: int,
        socket: Socket[Any],
        options: ConnectionOptions,
        tls: TlsSettings | None,
        preface: bytes | None = None,
    ) -> None: ...
    def connect_failed(self, socket: Socket[Any], error: Exception) -> None: ...
    def listen(
        self,
        fd: int,
        options: ConnectionOptions,
        handlers: Handlers | None,
        data: object,
        data_factory: Callable[[Any], object] | None,
        tls: TlsSettings | None,
    ) -> Listener: ...

@disjoint_base
class Handle(asyncio.Handle):
    def get_context(self) -> Context: ...
    @property
    def _loop(self) -> Any: ...
    @property
    def _callback(self) -> Callable[..., object] | None: ...
    @property
    def _context(self) -> Context: ...
    @property
    def _source_traceback(self) -> StackSummary | None: ...
    @property
    def _repr(self) -> str | None: ...

@final
class TimerHandle(Handle):
    def when(self) -> float: ...
    @property
    def _when(self) -> float: ...
    @property
    def _scheduled(self) -> bool: ...
    def __lt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __le__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __gt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __ge__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class ReadyQueue:
    def append(self, handle: asyncio.Handle) -> None: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> asyncio.Handle: ...
    def __iter__(self) -> Iterator[asyncio.Handle]: ...

@disjoint_base
class Scheduler:
    @classmethod
    def _own_calls(cls) -> None: ...
    _engine: Engine
    _idle_waiter: asyncio.Future[None] | None
    _task_factory: Any
    _stopping: bool
    _closed: bool
    _debug: bool
    _thread_id: int | None
    @property
    def _ready(self) -> ReadyQueue: ...
    @_ready.setter
    def _ready(self, ready: Sequence[asyncio.Handle], /) -> None: ...
    @property
    def _scheduled(self) -> list[asyncio.TimerHandle]: ...
    @_scheduled.setter
    def _scheduled(self, scheduled: Sequence[asyncio.TimerHandle], /) -> None: ...
    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def time(self) -> float: ...
    def get_debug(self) -> bool: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    def create_task(
        self, coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T], **options: Any
    ) -> asyncio.Task[_T]: ...
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def _run_once(self) -> None: ...
    def _find_overridden(self) -> None: ...
    def _leave_engine(self) -> None: ...
    def _watch(
        self, fd: int, events: int, data: tuple[asyncio.Handle | None, asyncio.Handle | None]
    ) -> None: ...
    def _unwatch(self, fd: int) -> None: ...
    def _forget_stale(self, fd: int) -> bool: ...
    def _check_no_transport(self, fd: int) -> None: ...

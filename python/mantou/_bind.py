"""Making sockets that have an address: the rules of sharing a port, and of socket files.

SO_REUSEADDR is on while binding, so that connections of an earlier owner in TIME_WAIT do not
stand in the way. Left on, it also lets others that set it share the local port of a connection;
`exclusive` switches it off after the bind, and from then on, until the connection sends its FIN,
nobody else gets in. A listening socket needs no such thing: without SO_REUSEPORT it shares with
nobody. There it stays on, also for the leftovers of what is accepted, which inherits it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from ._addresses import Literal, Name, SocketAddress, no_address, shown_address
from ._options import ListenRequest, Way
from ._targets import TcpTarget, UnixTarget
from .errors import locate

_ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}

# IPPROTO_IPV6 options are plain numbers to every socket of that family.
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def for_connecting(way: Way, family: int) -> int:
    """The descriptor to connect with, bound as the options say; -1 if they ask for nothing."""
    local, port = way.local_address, way.local_port
    must_bind = local is not None or port or way.exclusive or way.reuse_port
    if not must_bind and not way.ipv6_only:
        return -1
    with _Closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
        _set_ipv6_only(sock, family, way.ipv6_only)
        if must_bind:
            address = (_ANY[family], port) if local is None else local.sockaddr(port)
            # Asked for any port with SO_REUSEADDR on, the kernel may pick one that is shared.
            shared = not (way.exclusive and port == 0)
            _bind(sock, address, way, reuse_address=shared)
            if way.exclusive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        return sock.detach()


def for_listening(request: ListenRequest, target: TcpTarget) -> int:
    """The descriptor of a listening socket, at the first address of the host that can be bound."""
    failures: list[OSError] = []
    for family, address in _listen_addresses(request, target):
        try:
            with _Closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
                _set_ipv6_only(sock, family, request.ipv6_only)
                _bind(sock, address, request, reuse_address=True)
                sock.listen(request.backlog)
                return sock.detach()
        except OSError as error:
            host, port = address[:2]
            locate(error, shown_address(host, port))
            failures.append(error)
            failures[0].add_note(f"while listening on {host} port {port}: {error.strerror}")
    raise failures[0] if failures else no_address(target.host)


def for_listening_unix(request: ListenRequest, target: UnixTarget) -> int:
    """The descriptor of a listening unix socket. Its file never has more rights than asked for."""
    with _Closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        if target.mode is not None:
            # The file is made with these rights, less the umask.
            os.fchmod(sock.fileno(), target.mode)
        try:
            _bind_unix(sock, target)
            if target.mode is not None:
                os.chmod(target.path, target.mode)
            sock.listen(request.backlog)
        except OSError as error:
            locate(error, target.where)
            error.add_note(f"while listening on {target.given!r}")
            raise
        return sock.detach()


def check_connected(fd: int) -> None:
    """OSError or ValueError unless `fd` is a connected stream socket."""
    with _Borrowed(fd) as sock:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(
                f"option 'fd' must be a connected socket, got {fd}, which is listening"
            )
        sock.getpeername()


def check_listening(fd: int) -> socket.AddressFamily:
    """The family of `fd`. OSError or ValueError unless it is a listening stream socket."""
    with _Borrowed(fd) as sock:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(f"option 'fd' must be a listening socket, got {fd}, which is not")
        return socket.AddressFamily(sock.family)


def name_of(fd: int) -> tuple[str, int] | bytes | str:
    """Where a socket is bound: host and port, or a unix path."""
    with _Borrowed(fd) as sock:
        name: tuple[str, int] | bytes | str = sock.getsockname()
        return name[:2] if isinstance(name, tuple) else name


def _bind(
    sock: socket.socket,
    address: SocketAddress,
    options: ListenRequest | Way,
    *,
    reuse_address: bool,
) -> None:
    if options.reuse_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise OSError(errno.ENOTSUP, "option 'reuse_port' is not supported by this system")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if reuse_address:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
    except OSError as error:
        locate(error, shown_address(*address[:2]))
        raise


def _set_ipv6_only(sock: socket.socket, family: int, ipv6_only: bool) -> None:
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, ipv6_only)


def _listen_addresses(request: ListenRequest, target: TcpTarget) -> list[tuple[int, SocketAddress]]:
    if isinstance(target.host, Literal):
        return [(target.host.family, target.host.sockaddr(target.port))]
    name: Name = target.host
    family = socket.AF_INET6 if request.ipv6_only else socket.AF_UNSPEC
    found = socket.getaddrinfo(
        name.text, target.port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


def _bind_unix(sock: socket.socket, target: UnixTarget) -> None:
    try:
        sock.bind(target.path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not target.unlink_stale:
            raise
        if not _remove_stale(target.path):
            raise
        sock.bind(target.path)


def _remove_stale(path: bytes) -> bool:
    """Removes a socket file that nobody listens on. A live one answers, even if it is busy."""
    before = os.lstat(path)
    if not stat.S_ISSOCK(before.st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            return False
    now = os.lstat(path)
    if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
        return False
    os.unlink(path)
    return True


class _Closing:
    """Closes the socket on the way out, unless it was detached."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __enter__(self) -> socket.socket:
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.close()


class _Borrowed:
    """A socket object around a descriptor that stays its owner's."""

    def __init__(self, fd: int) -> None:
        # Asks the kernel for family and type: OSError unless it is a socket.
        self._sock = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        sock = self._sock
        try:
            if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
                raise ValueError(
                    f"option 'fd' must be a TCP or unix stream socket, got {sock.fileno()}"
                )
        except BaseException:
            sock.detach()
            raise
        return sock

    def __exit__(self, *_: object) -> None:
        self._sock.detach()

"""Where to connect to or listen: exactly one of hostname and port, unix, fd."""

from __future__ import annotations

import os
from typing import NamedTuple, cast

from ._addresses import Host, parse_host, shown_address
from ._validate import Options, flag, integer, shown, wrong_type, wrong_value

HIGHEST_PORT = 65535

_HIGHEST_FD = 2**31 - 1
_DIGITS_OF_A_PORT = 5
# sockaddr_un.sun_path has 108 bytes; a file's path needs one of them for its final NUL.
_LONGEST_ABSTRACT = 108
_LONGEST_FILE_PATH = 107


class TcpTarget(NamedTuple):
    """`port` at `host`; `hostname` is the host as it was given."""

    host: Host
    port: int
    hostname: str

    def __str__(self) -> str:
        return f"{self.hostname} port {self.port}"

    @property
    def where(self) -> str:
        """What errors name."""
        return shown_address(str(self.host), self.port)


class UnixTarget(NamedTuple):
    """A unix socket: `path` for the kernel, `given` for people.

    A `path` that begins with a NUL is a name in the abstract namespace, without a file. For
    listening, `mode` is the permission bits of its file, None for what the umask leaves;
    `unlink_stale` replaces a socket file that nobody listens on.
    """

    path: bytes
    given: str
    mode: int | None = None
    unlink_stale: bool = False

    def __str__(self) -> str:
        return repr(self.given)

    @property
    def where(self) -> str:
        """What errors name."""
        return self.given

    @property
    def is_abstract(self) -> bool:
        """True if no file belongs to the name."""
        return self.path.startswith(b"\0")


class FdTarget(NamedTuple):
    """An open stream socket."""

    fd: int

    @property
    def where(self) -> str:
        """What errors name."""
        return f"fd {self.fd}"


Target = TcpTarget | UnixTarget | FdTarget


def parse_tcp(options: Options, lowest_port: int) -> TcpTarget:
    """The target that `hostname` and `port` describe."""
    hostname = options["hostname"]
    host = parse_host(hostname, "hostname")
    return TcpTarget(host, _port(options["port"], lowest_port), str(hostname))


def parse_unix(options: Options) -> UnixTarget:
    """The target that `unix` describes."""
    value = options["unix"]
    path, given = _path(value)
    abstract = path.startswith(b"\0")
    name = path[1:] if abstract else path
    if not name:
        raise wrong_value("unix", "a path that is not empty", value)
    if b"\0" in name:
        raise wrong_value("unix", "without a NUL, except a leading one", value)
    longest = _LONGEST_ABSTRACT if abstract else _LONGEST_FILE_PATH
    if len(path) > longest:
        raise ValueError(
            f"option 'unix' must be at most {longest} bytes long, got {len(path)}: {shown(value)}"
        )
    return UnixTarget(path, given)


def parse_unix_listen(options: Options) -> UnixTarget:
    """The target that `unix`, `mode` and `unlink_stale` describe."""
    target = parse_unix(options)
    mode = integer(options, "mode", 0, 0, 0o777) if "mode" in options else None
    unlink_stale = flag(options, "unlink_stale", default=False)
    if target.is_abstract:
        for name in ("mode", "unlink_stale"):
            if name in options:
                raise ValueError(
                    f"option {name!r} is about the socket's file, which an abstract 'unix' has "
                    f"not, got {shown(options[name])} with {target.given!r}"
                )
    return target._replace(mode=mode, unlink_stale=unlink_stale)


def parse_fd(options: Options) -> FdTarget:
    """The target that `fd` describes."""
    return FdTarget(integer(options, "fd", -1, 0, _HIGHEST_FD))


def _port(value: object, lowest: int) -> int:
    number = value
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS_OF_A_PORT):
            raise wrong_value("port", f"a number from {lowest} to {HIGHEST_PORT}", value)
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool):
        raise wrong_type("port", "an int", value)
    if not lowest <= number <= HIGHEST_PORT:
        raise wrong_value("port", f"from {lowest} to {HIGHEST_PORT}", value)
    return number


def _path(value: object) -> tuple[bytes, str]:
    if not isinstance(value, str | bytes | os.PathLike):
        raise wrong_type("unix", "a str, bytes or path-like object", value)
    given = cast("str | bytes | os.PathLike[str]", value)
    try:
        path = os.fsencode(given)
    except UnicodeEncodeError as error:
        raise wrong_value("unix", f"a path the file system can encode ({error})", given) from None
    except TypeError as error:
        raise TypeError(f"option 'unix' got {shown(given)}: {error}") from error
    return path, os.fsdecode(path)

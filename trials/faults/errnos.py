"""With what each call may fail, as the manual pages have it, and what is to become of it.

What is *passing* must not be seen at all: the conversation is whole. Anything else ends the
connection, the listener or the loop, with this error and no other, or makes no difference.
"""

from __future__ import annotations

import errno

# The call: what is passing; all else that section 2 of the manual names (and tcp(7), unix(7)).
_TABLE: dict[str, tuple[str, str]] = {
    "accept4": (
        "EAGAIN ECONNABORTED EINTR EMFILE ENFILE ENOBUFS ENOMEM EPERM EPROTO ENETDOWN ENOPROTOOPT "
        "EHOSTDOWN ENONET EHOSTUNREACH ENETUNREACH ETIMEDOUT",
        "EBADF EFAULT EINVAL ENOTSOCK EOPNOTSUPP ENOSR ESOCKTNOSUPPORT EPROTONOSUPPORT",
    ),
    "socket": ("", "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT"),
    "bind": (
        "",
        "EACCES EADDRINUSE EBADF EINVAL ENOTSOCK EADDRNOTAVAIL EFAULT ELOOP ENAMETOOLONG ENOENT "
        "ENOMEM ENOTDIR EROFS",
    ),
    "listen": ("", "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP"),
    "connect": (
        "EINPROGRESS EALREADY EINTR",
        "EACCES EPERM EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EBADF ECONNREFUSED EFAULT "
        "EISCONN ENETUNREACH ENOTSOCK EPROTOTYPE ETIMEDOUT EHOSTUNREACH",
    ),
    "recv": (
        "EAGAIN EINTR ENOMEM ENOBUFS",
        "EBADF ECONNREFUSED ECONNRESET EFAULT EINVAL ENOTCONN ENOTSOCK ETIMEDOUT EHOSTUNREACH",
    ),
    "send": (
        "EAGAIN EINTR ENOMEM ENOBUFS",
        "EACCES EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINVAL EISCONN EMSGSIZE ENOTCONN "
        "ENOTSOCK EOPNOTSUPP EPIPE ETIMEDOUT EHOSTUNREACH",
    ),
    "sendfile": ("EAGAIN EINTR ENOMEM", "EBADF EFAULT EINVAL EIO EOVERFLOW ESPIPE"),
    "splice": ("EAGAIN EINTR ENOMEM", "EBADF EINVAL ESPIPE"),
    # And ENOTCONN, of a connection that broke, which is told by who reads from it.
    "shutdown": ("", "EBADF EINVAL ENOTSOCK"),
    # It is closed, whatever it says.
    "close": ("EINTR EIO ENOSPC EDQUOT", ""),
    "getsockopt": ("", "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK"),
    "setsockopt": ("", "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK EDOM EISCONN ENOMEM ENOBUFS"),
    "getsockname": ("", "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK"),
    "getpeername": ("", "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK ENOTCONN"),
    "epoll_create1": ("", "EINVAL EMFILE ENFILE ENOMEM"),
    "epoll_ctl": ("", "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM"),
    "epoll_wait": ("EINTR", "EBADF EFAULT EINVAL"),
    "eventfd": ("", "EINVAL EMFILE ENFILE ENODEV ENOMEM"),
    "timerfd_create": ("", "EINVAL EMFILE ENFILE ENODEV ENOMEM EPERM"),
    "timerfd_settime": ("", "EBADF EFAULT EINVAL"),
    # Then it is copied.
    "pipe2": ("EMFILE ENFILE", "EFAULT EINVAL"),
    "read": ("EAGAIN EINTR", "EBADF EFAULT EINVAL EIO EISDIR"),
    "write": ("EAGAIN", "EBADF EDESTADDRREQ EFAULT EINVAL EIO ENOSPC EPIPE"),
    "fcntl": ("", "EACCES EAGAIN EBADF EFAULT EINVAL EMFILE EPERM"),
    # What is only asked for is not known then.
    "ioctl": ("EBADF EFAULT EINVAL ENOTTY", ""),
    "poll": ("EFAULT EINTR EINVAL ENOMEM", ""),
    "pread": ("EINTR", "EBADF EFAULT EINVAL EIO EISDIR EOVERFLOW ESPIPE"),
}
_TABLE["sendmsg"] = _TABLE["send"]

TABLE = {call: [name for part in both for name in part.split()] for call, both in _TABLE.items()}
"""Each call and all of its errnos, the passing ones first."""

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})
"""What passes by itself, but not at once."""


def is_passing(call: str, error: int) -> bool:
    """Whether nobody is to notice."""
    return error in {getattr(errno, name) for name in _TABLE[call][0].split()}

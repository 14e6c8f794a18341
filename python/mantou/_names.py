"""Names that are not known: what was probably meant."""

from __future__ import annotations

from collections.abc import Collection

# So many names can be read in an error.
_FEW = 15

# What other libraries call things, and what they are called here. Which of these is meant depends
# on where the name was given.
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    # Where to
    "host": ("hostname", "server_name"),
    "address": ("hostname",),
    "addr": ("hostname",),
    "ip": ("hostname",),
    "server": ("hostname",),
    "path": ("unix",),
    "uds": ("unix",),
    "unix_socket": ("unix",),
    "sock": ("fd",),
    "fileno": ("fd",),
    "local_addr": ("local_address", "local_port"),
    "source_address": ("local_address", "local_port"),
    # Handlers and data
    "handler": ("socket",),
    "handlers": ("socket",),
    "callbacks": ("socket",),
    "protocol": ("socket", "alpn_protocols"),
    "protocol_factory": ("socket",),
    "client_connected_cb": ("socket",),
    "user_data": ("data",),
    # Flow and limits
    "half_open": ("allow_half_open",),
    "limit": ("write_limit",),
    "high_water": ("write_limit",),
    "framing": ("packet",),
    "max_line_length": ("packet_size",),
    "maxconn": ("max_connections",),
    "limit_concurrency": ("max_connections",),
    # Times
    "timeout": ("connect_timeout", "idle_timeout"),
    "read_timeout": ("idle_timeout",),
    "ssl_handshake_timeout": ("handshake_timeout",),
    "ssl_shutdown_timeout": ("close_timeout",),
    # TCP
    "tcp_nodelay": ("no_delay",),
    "tcp_keepalive": ("keep_alive",),
    "tcp_user_timeout": ("dead_after",),
    # TLS
    "ssl": ("tls",),
    "ssl_context": ("tls",),
    "tls_context": ("tls",),
    "certificate": ("cert", "cert_file"),
    "cert_chain": ("cert", "cert_file"),
    "private_key": ("key", "key_file"),
    "ca_certs": ("ca", "ca_file"),
    "ca_data": ("ca",),
    "ca_path": ("ca_file",),
    "crl_file": ("crl",),
    "password": ("passphrase",),
    "server_hostname": ("server_name",),
    "hostname": ("server_name",),
    "sni": ("server_name",),
    "alpn": ("alpn_protocols",),
    "verify": ("reject_unauthorized",),
    "verify_mode": ("reject_unauthorized", "request_cert"),
    "check_hostname": ("reject_unauthorized",),
    "client_auth": ("request_cert",),
    "cipher_suites": ("ciphers",),
    "minimum_version": ("min_version",),
    "maximum_version": ("max_version",),
    "ssl_version": ("min_version", "max_version"),
    "keylog_filename": ("key_log_file",),
    # Handlers
    "connection_made": ("open",),
    "data_received": ("data",),
    "eof_received": ("end",),
    "connection_lost": ("close",),
    "resume_writing": ("drain",),
}


def unknown_name(
    where: str, name: str, known: Collection[str], of_tls: Collection[str] = ()
) -> TypeError:
    """The error for a name that is none of `known`, with what was probably meant.

    `of_tls` are the names that are known inside of the option 'tls' instead.
    """
    if right := _respelled(name, known):
        # allowHalfOpen: the name as Bun spells it.
        return TypeError(f"{where}: {name!r} is spelled {right!r} here")
    return TypeError(f"{where}: unknown name {name!r}{_hint(where, name, known, of_tls)}")


def _hint(where: str, name: str, known: Collection[str], of_tls: Collection[str]) -> str:
    if right := _respelled(name, of_tls):
        return f"; it is an option of 'tls': tls={{{right!r}: ...}}"
    if meant := _called_here(name, known):
        return f"; did you mean {' or '.join(map(repr, meant))}?"
    if meant := _called_here(name, of_tls):
        return f"; did you mean tls={{{meant[0]!r}: ...}}?"
    import difflib  # noqa: PLC0415 (most programs have no wrong name)

    if nearest := difflib.get_close_matches(name, known, n=1):
        return f"; did you mean {nearest[0]!r}?"
    if len(known) <= _FEW:
        return f"; known are {', '.join(known)}"
    documented = "TLSOptions" if where == "tls" else where.removesuffix("()")
    return f"; help(mantou.{documented}) lists the known ones"


def _respelled(name: str, known: Collection[str]) -> str | None:
    """The known name that differs in its spelling only, or in being called onName."""
    spellings = (_plain(name), _plain(name).removeprefix("on"))
    return next((right for right in known if _plain(right) in spellings), None)


def _called_here(name: str, known: Collection[str]) -> list[str]:
    """The known names for what is called by that name elsewhere."""
    for elsewhere, here in _ELSEWHERE.items():
        if _plain(elsewhere) == _plain(name):
            return [right for right in here if right in known]
    return []


def _plain(name: str) -> str:
    return name.replace("_", "").lower()

"""What help() says of options, composed of what stands below their names in `_option_types.py`."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from tools.docstrings.edit import Described, Edit

Texts = Mapping[str, str]
"""What each name means."""

WIDTH = 92

KINDS: Mapping[str, tuple[str, ...]] = {
    "Where: exactly one of `hostname` and `port`, `unix`, `fd`": ("hostname", "port", "unix", "fd"),
    "Handlers and data": ("socket", "data", "data_factory"),
    "Flow and limits": (
        "allow_half_open",
        "write_limit",
        "packet",
        "packet_size",
        "backlog",
        "max_connections",
        "max_connections_per_host",
        "accept_rate",
        "max_handshakes",
    ),
    "Times, in seconds": (
        "connect_timeout",
        "idle_timeout",
        "handshake_timeout",
        "close_timeout",
    ),
    "TCP: only with `hostname` and `port`": (
        "local_address",
        "local_port",
        "exclusive",
        "reuse_port",
        "ipv6_only",
        "no_delay",
        "keep_alive",
        "dead_after",
    ),
    "The file of a unix socket": ("mode", "unlink_stale"),
    "TLS": ("tls",),
    "The PROXY protocol": ("proxy_protocol", "proxy_trusted", "proxy_header"),
}
TLS_KINDS: Mapping[str, tuple[str, ...]] = {
    "Who we are": ("cert", "key", "cert_file", "key_file", "passphrase"),
    "Who is trusted": (
        "ca",
        "ca_file",
        "crl",
        "reject_unauthorized",
        "request_cert",
        "server_name",
        "servername",
    ),
    "What is agreed on": (
        "alpn_protocols",
        "ciphers",
        "min_version",
        "max_version",
        "session",
    ),
    "Rarely needed": (
        "key_log_file",
        "secure_options",
        "low_memory_mode",
        "dh_params_file",
        "client_renegotiation_limit",
        "client_renegotiation_window",
    ),
}
# The options of which function each dictionary has.
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "connect": ("TCPSocketConnectOptions", "UnixSocketOptions", "FdSocketOptions"),
    "listen": ("TCPSocketListenOptions", "UnixSocketListenOptions", "FdSocketListenOptions"),
    "connect_stream": ("TCPStreamConnectOptions", "UnixStreamOptions", "FdStreamOptions"),
    "serve_streams": ("TCPStreamListenOptions", "UnixStreamListenOptions", "FdStreamListenOptions"),
}


def described(types: ast.Module) -> dict[str, Texts]:
    """The dictionaries of options and what each of their keys means; "" where nothing is said."""
    found: dict[str, Texts] = {}
    for node in types.body:
        if isinstance(node, ast.ClassDef):
            texts: dict[str, str] = {}
            for base in node.bases:
                texts |= found.get(_name_of(base), {})
            found[node.name] = {**texts, **attributes(node)}
    return found


def attributes(node: ast.ClassDef) -> Texts:
    """The attributes of a class and the string below each."""
    texts: dict[str, str] = {}
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        match statement:
            case ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]):
                texts[name] = _string(following)
    return texts


def edits_of_types(types: ast.Module) -> Iterator[Edit]:
    """The docstrings of the dictionaries: TLSOptions lists its keys, the others point to them."""
    found = described(types)
    for node in _described_nodes(types):
        if node.name == "TLSOptions":
            yield _edit(node, listed(found[node.name], TLS_KINDS))
        for function, names in FUNCTIONS.items():
            if node.name in names:
                keys = ", ".join(f"`{key}`" for key in _in_order(found[node.name]))
                pointer = f"Options, described by `help(mantou.{function})`: {keys}."
                yield _edit(node, textwrap.fill(pointer, WIDTH))


def edits_of_function(module: ast.Module, name: str, types: ast.Module) -> Iterator[Edit]:
    """The docstring of connect() or listen(): it lists the options of all three ways."""
    found = described(types)
    texts: dict[str, str] = {}
    for dictionary in FUNCTIONS[name]:
        texts |= found[dictionary]
    for node in _described_nodes(module):
        if node.name == name and not node.decorator_list:
            yield _edit(node, listed(texts, KINDS))


def edits_of_members(module: ast.Module) -> Iterator[Edit]:
    """The docstrings of classes that list their members, which have none at run time."""
    for node in _described_nodes(module):
        if isinstance(node, ast.ClassDef):
            yield _edit(node, "Members:\n\n" + _entries(attributes(node).items()))


def listed(texts: Texts, kinds: Mapping[str, tuple[str, ...]]) -> str:
    """All options, under the headings of their kinds."""
    blocks = ["Options, by kind:"]
    for heading, names in kinds.items():
        entries = [(name, texts[name]) for name in names if name in texts]
        if entries:
            blocks.append(f"{heading}\n\n{_entries(entries)}")
    return "\n\n".join(blocks)


def _entries(texts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(_entry(name, text) for name, text in texts)


def _entry(name: str, text: str) -> str:
    # What follows these two stays on their line.
    kept = re.sub(r"\b(Bun|Default): ", "\\1:\N{NO-BREAK SPACE}", f"{name}: {text}")
    filled = textwrap.fill(
        kept,
        WIDTH,
        initial_indent=" " * 4,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\N{NO-BREAK SPACE}", " ")


def _in_order(texts: Texts) -> list[str]:
    return [name for names in KINDS.values() for name in names if name in texts]


def _edit(node: Described, section: str) -> Edit:
    """Puts the section into the docstring, in the place of the one before, ahead of `:raises`."""
    before = ast.get_docstring(node) or ""
    head, *_ = re.split(r"\n\n(?=Options|Members|:raises)", before, maxsplit=1)
    fields = re.search(r"\n\n(:raises.*)", before, re.DOTALL)
    tail = f"\n\n{fields[1]}" if fields else ""
    return Edit(node, node.name, f"{head}\n\n{section}{tail}")


def _described_nodes(module: ast.Module) -> Iterator[Described]:
    return (node for node in module.body if isinstance(node, Described))


def _name_of(base: ast.expr) -> str:
    return ast.unparse(base).partition("[")[0]


def _string(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(ast.Constant(str(text))):
            return " ".join(text.split())
    return ""

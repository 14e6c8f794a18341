"""`{options}`: every option of a function, with its type, default, meaning and errors.

All of it is the program's: the meaning stands below the option's name in `_option_types.py`, and
the error is what the function really answers to a value of a wrong type.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import mantou
from extensions import source
from mantou._options import (
    parse_connect,
    parse_connect_stream,
    parse_listen,
    parse_serve_streams,
)
from mantou._tls_options import parse_tls
from tools.docstrings import options as kinds

TYPES = source.PACKAGE / "_option_types.py"
_TREE = ast.parse(TYPES.read_text())
_CLASSES = {node.name: node for node in _TREE.body if isinstance(node, ast.ClassDef)}
_DEFAULT = re.compile(r"Default: (.+?)(?:\.(?= |$))")


class Wrong:
    """A value that no option takes."""

    def __repr__(self) -> str:
        return "..."


class Options(SphinxDirective):
    """Describes the options of the function, or of the dictionary, that it names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Docutils' hook."""
        self.env.note_dependency(str(TYPES))
        return self.parse_text_to_nodes(described(self.arguments[0]), allow_section_headings=True)


def described(name: str) -> str:
    """The Markdown for the options of `connect`, `listen`, ... or of `TLSOptions`."""
    dictionaries = kinds.FUNCTIONS.get(name, (name,))
    headings = kinds.TLS_KINDS if name == "TLSOptions" else kinds.KINDS
    texts: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for dictionary in dictionaries:
        texts |= kinds.described(_TREE)[dictionary]
        annotations |= _annotations(dictionary)
    parts = []
    for heading, names in headings.items():
        entries = [
            _entry(name, option, annotations[option], texts[option])
            for option in names
            if option in texts
        ]
        if entries:
            parts.append("\n\n".join([f"## {heading}", *entries]))
    return "\n\n".join(parts)


def _annotations(dictionary: str) -> dict[str, str]:
    node = _CLASSES[dictionary]
    found: dict[str, str] = {}
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        if name in _CLASSES:
            found |= _annotations(name)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            kind = ast.unparse(statement.annotation)
            found[statement.target.id] = re.sub(r"^Required\[(.*)\]$", r"\1", kind)
    return found


def _entry(function: str, option: str, annotation: str, text: str) -> str:
    default = _DEFAULT.search(text)
    meaning = re.sub(r" Default: .+$", "", text)
    meaning = meaning.removesuffix(" Required.").replace(" Required. ", " ")
    bun = re.search(r"(Not in Bun|Bun: .+?)\.?$", text)
    rows = [
        ("type", f"`{annotation}`"),
        ("unit", _unit(annotation, text)),
        ("default", "required" if default is None else _default(default[1])),
        ("in Bun", _in_bun(bun[1]) if bun else ""),
        ("else", _refusal(function, option)),
    ]
    listed = "\n".join(f":{name}: {value}" for name, value in rows if value)
    meaning = re.sub(r" ?(Not in Bun|Bun: `\w+`)(, [^.]*)?\.?$", "", meaning)
    return f"(option-{function}-{option})=\n`{option}`\n: {meaning}\n\n" + _indented(listed)


def _unit(annotation: str, text: str) -> str:
    if text.startswith("Seconds"):
        return "seconds"
    if text.startswith("Bytes") or "in bytes" in text:
        return "bytes"
    return "per second" if "per second" in text and "float" in annotation else ""


def _default(text: str) -> str:
    value, comma, more = text.partition(",")
    return f"`{value}`{comma}{more}" if re.fullmatch(r'[\w.]+|".*"', value) else text


def _in_bun(text: str) -> str:
    return "no" if text == "Not in Bun" else text.removeprefix("Bun: ")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _refusal(function: str, option: str) -> str:
    """What happens with a value of a wrong type, as the function itself says it."""
    try:
        _CALLS.get(function, _call_listen)(option)
    except (TypeError, ValueError) as error:
        told = re.sub(r", got .*Wrong.*", "", str(error))
        text = told.replace("<", "\\<").replace("`", "'")
        return f"{{py:obj}}`{type(error).__name__}`: {text}"
    return ""


def _plain(given: Mapping[str, object], option: str) -> dict[str, Any]:
    place = (
        {} if option in ("unix", "fd", "mode", "unlink_stale") else {"hostname": "::1", "port": 1}
    )
    if option in ("mode", "unlink_stale"):
        place = {"unix": "/nowhere/at/all"}
    return {**place, **given, option: Wrong()}


def _call_listen(option: str) -> None:
    parse_listen(_plain({"socket": {"open": print}}, option))


def _call_connect(option: str) -> None:
    parse_connect(_plain({"socket": {"open": print}}, option))


def _call_connect_stream(option: str) -> None:
    parse_connect_stream(_plain({}, option))


def _call_serve_streams(option: str) -> None:
    parse_serve_streams(_plain({}, option))


def _call_tls(option: str) -> None:
    parse_tls({option: Wrong()}, "client")


_CALLS: dict[str, Callable[[str], None]] = {
    "connect": _call_connect,
    "connect_stream": _call_connect_stream,
    "serve_streams": _call_serve_streams,
    "TLSOptions": _call_tls,
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    assert set(kinds.FUNCTIONS) <= set(dir(mantou))
    app.add_directive("options", Options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

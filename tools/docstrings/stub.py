"""The docstrings of `_core.pyi`, where editors look: copies of those of the native module.

They are written once, as doc comments in Rust.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from mantou import _core
from tools.docstrings.edit import Described, Edit

# What users get to see of it.
PUBLIC = ("Socket", "Stream", "TlsTicket")


def edits(stub: ast.Module) -> Iterator[Edit]:
    """Each public class and member of the stub, with the docstring that it is to have."""
    for node in stub.body:
        if isinstance(node, ast.ClassDef) and node.name in PUBLIC:
            yield Edit(node, node.name, _docstring(node.name))
            for member in node.body:
                if isinstance(member, Described) and not _goes_without(member):
                    name = f"{node.name}.{member.name}"
                    yield Edit(member, name, _docstring(name))


def _goes_without(member: Described) -> bool:
    """Private ones; Python's special methods; setters, which are described by their getters."""
    is_setter = any(isinstance(decorator, ast.Attribute) for decorator in member.decorator_list)
    return member.name.startswith("_") or is_setter


def _docstring(name: str) -> str | None:
    found: object = _core
    for part in name.split("."):
        found = getattr(found, part)
    return inspect.getdoc(found)

"""The package's source as text and trees: what is defined where, and what its docstrings say."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "mantou"

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Found(NamedTuple):
    """A definition, and the module that it is in."""

    node: Definition
    module: str


@functools.cache
def definitions(module: str) -> dict[str, Found]:
    """What a module defines and what it imports from its neighbours, by name."""
    path = PACKAGE / f"{module}.pyi"
    tree = ast.parse((path if path.exists() else path.with_suffix(".py")).read_text())
    found: dict[str, Found] = {}
    for node in _statements(tree.body):
        if isinstance(node, Definition):
            # Of overloads the last one stays, which has the docstring.
            found[node.name] = Found(node, module)
        elif isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            for alias in node.names:
                found[alias.asname or alias.name] = _Later(node.module, alias.name)  # type: ignore[assignment]
    return found


class _Later(NamedTuple):
    module: str
    name: str


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If):
            yield from _statements(node.body)
        else:
            yield node


def find(name: str, module: str = "__init__") -> Found | None:
    """The definition behind a name, wherever it comes from; None if it is none of ours."""
    found = definitions(module).get(name)
    while isinstance(found, _Later):
        found = definitions(found.module).get(found.name)
    return found


def public(name: str) -> Found:
    """The definition of `mantou.NAME`, `mantou.errors.NAME` and so on, given without `mantou.`."""
    module, _, last = name.rpartition(".")
    found = find(last, module or "__init__")
    if found is None:
        raise LookupError(f"there is no mantou.{name}")
    return found


def members(found: Found) -> dict[str, tuple[ast.stmt, str]]:
    """The public members of a class, and of its bases that are ours, with their docstrings."""
    collected: dict[str, tuple[ast.stmt, str]] = {}
    assert isinstance(found.node, ast.ClassDef)
    for base in found.node.bases:
        inherited = find(ast.unparse(base).partition("[")[0], found.module)
        if inherited is not None and isinstance(inherited.node, ast.ClassDef):
            collected |= members(inherited)
    body = found.node.body
    for node, following in zip(body, [*body[1:], None], strict=True):
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                is_setter = any(isinstance(one, ast.Attribute) for one in node.decorator_list)
                text = ast.get_docstring(node)
                if text and not name.startswith("_") and not is_setter:
                    collected[name] = node, text
            case ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]) if (
                not name.startswith("_")
            ):
                if text := text_below(following):
                    collected[name] = node, text
    return collected


def text_below(statement: ast.stmt | None) -> str:
    """The string that stands below an attribute; "" if there is none."""
    match statement:
        case ast.Expr(ast.Constant(str(text))):
            return " ".join(text.split())
    return ""


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """A signature as one writes it, without `self`."""
    arguments = node.args
    if arguments.kwarg is not None and not arguments.kwonlyargs:
        # What `**options: Unpack[...]` may be stands in tables of its own.
        arguments.kwarg.annotation = None
    listed = arguments.posonlyargs or arguments.args
    if listed and listed[0].arg in ("self", "cls"):
        del listed[0]
    result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"{node.name}({ast.unparse(arguments)}){result}".replace("(, /", "(").replace(
        "_D2", "D2"
    )


# The part of a docstring that lists options or attributes, up to what follows it.
LISTS = re.compile(r"^(Options[^\n]*|Members|What it has):\n.*?(?=^:|\Z)", re.MULTILINE | re.DOTALL)


def without_lists(docstring: str) -> str:
    """A docstring without what it lists of options or attributes: that is shown as a list."""
    return LISTS.sub("", docstring)

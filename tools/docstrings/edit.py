"""Changing docstrings in the text of a Python file, and nothing else of it."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable
from typing import NamedTuple

Described = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Edit(NamedTuple):
    """What a class or function is to say of itself; None for nothing."""

    node: Described
    name: str
    docstring: str | None

    @property
    def is_needed(self) -> bool:
        """False if it says so already."""
        return ast.get_docstring(self.node) != self.docstring


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text of a file once the edits are made."""
    lines = text.splitlines()
    # From the end, so that the numbers of the lines before stay right.
    for edit in sorted(edits, key=lambda edit: edit.node.lineno, reverse=True):
        if edit.is_needed:
            _apply(edit, lines)
    return "\n".join(lines) + "\n"


def _apply(edit: Edit, lines: list[str]) -> None:
    body = edit.node.body
    indent = " " * (edit.node.col_offset + 4)
    new = [] if edit.docstring is None else _quoted(edit.docstring, indent)
    first, end = body[0].lineno - 1, body[0].end_lineno
    if ast.get_docstring(edit.node) is not None:
        lines[first:end] = new if new or len(body) > 1 else [f"{indent}..."]
    elif _is_ellipsis(body[0]):
        # A stub's body, behind its signature.
        lines[first:end] = [lines[first].removesuffix(" ..."), *new]
    else:
        lines[first:first] = new


def _is_ellipsis(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(ast.Constant(value)):
            return value is ...
    return False


def _quoted(docstring: str, indent: str) -> list[str]:
    last = "\n" if "\n" in docstring else ""
    return textwrap.indent(f'"""{docstring}{last}"""', indent).splitlines()

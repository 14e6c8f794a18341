"""`{api}`: functions and classes as their source describes them.

The text of docstrings is Markdown as it stands, with Sphinx's fields (`:param name:`). Where it
names something that is public, that is made a link.
"""

from __future__ import annotations

import ast
import re
import textwrap

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import mantou
from extensions import source
from extensions.source import Found

_NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(\([^`]*\))?`(?!`)")


class Api(SphinxDirective):
    """Describes each `mantou.NAME` that its argument and its lines name."""

    has_content = True
    optional_arguments = 100

    def run(self) -> list[nodes.Node]:
        """Docutils' hook."""
        names = [*self.arguments, *" ".join(self.content).split()]
        text = "\n\n".join(described(name) for name in names)
        self.env.note_dependency(source.__file__)
        return self.parse_text_to_nodes(text)


def described(name: str) -> str:
    """The Markdown that describes `mantou.NAME`."""
    found = source.public(name)
    # Private modules are nobody's business: what is public is so under this name.
    if isinstance(found.node, ast.ClassDef):
        inner = [_docstring(found.node, name)]
        for member, (node, text) in source.members(found).items():
            inner.append(_member(name, member, node, text))
        return _block("py:class", f"mantou.{name}", "\n\n".join(inner), [], 6)
    return _function(f"mantou.{name}", found)


def _function(full_name: str, found: Found) -> str:
    node = found.node
    assert not isinstance(node, ast.ClassDef)
    signature = source.signature(node).replace(node.name, full_name, 1)
    return _block("py:function", signature, _docstring(node, ""), _options_of(node), 6)


def _member(owner: str, name: str, node: ast.stmt, text: str) -> str:
    text = _prose(text, owner)
    if isinstance(node, ast.AnnAssign):
        kind = ast.unparse(node.annotation)
        return _block("py:attribute", name, text, [f":type: {kind}"], 4)
    if isinstance(node, ast.Assign):
        return _block("py:attribute", name, text, [f":value: {ast.unparse(node.value)}"], 4)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    decorators = {ast.unparse(one) for one in node.decorator_list}
    if "property" in decorators:
        kind = [f":type: {ast.unparse(node.returns)}"] if node.returns else []
        return _block("py:property", name, text, kind, 4)
    options = _options_of(node)
    options += [":classmethod:"] if "classmethod" in decorators else []
    return _block("py:method", source.signature(node), text, options, 4)


def _options_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [":async:"] if isinstance(node, ast.AsyncFunctionDef) else []


def _docstring(node: source.Definition, owner: str) -> str:
    return _prose(source.without_lists(ast.get_docstring(node) or ""), owner)


def _prose(text: str, owner: str) -> str:
    """A docstring as Markdown: doubled backticks and colons are those of reStructuredText."""
    text = re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)
    text = re.sub(r"::\n\n((?:    .*\n?|\n)+)", _program, text)
    return _NAME.sub(lambda match: _link(match, owner), text)


def _program(match: re.Match[str]) -> str:
    return f":\n\n```python\n{textwrap.dedent(match[1]).strip()}\n```\n"


def _link(match: re.Match[str], owner: str) -> str:
    name, shown = match[1].removeprefix("mantou."), match[0].strip("`")
    known = source.members(source.public(owner)) if owner else {}
    if name in known and match[2]:
        return f"{{py:obj}}`{shown} <mantou.{owner}.{name}>`"
    if name.partition(".")[0] in mantou.__all__ and name != owner and name.count(".") < 2:
        return f"{{py:obj}}`{shown} <mantou.{name}>`"
    return match[0]


def _block(directive: str, argument: str, text: str, options: list[str], colons: int) -> str:
    fence = ":" * colons
    head = "\n".join([f"{fence}{{{directive}}} {argument}", *options])
    return f"{head}\n\n{text}\n{fence}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_directive("api", Api)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

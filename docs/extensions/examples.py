"""`{examples}`: each program in examples/, with what its docstring says, and its source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).resolve().parents[2] / "examples"


class Examples(SphinxDirective):
    """Describes the examples that its lines name."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Docutils' hook."""
        text = "\n\n".join(described(name) for name in self.content)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def programs() -> set[str]:
    """The names of all examples: of files, and of folders that are packages."""
    files = {path.stem for path in FOLDER.glob("*.py")}
    return files | {path.parent.name for path in FOLDER.glob("*/__init__.py")}


def described(name: str) -> str:
    """Markdown: a heading, what the program says of itself, and its files."""
    path = FOLDER / f"{name}.py"
    title = f"## {name.replace('_', ' ').capitalize()}\n\n"
    if path.exists():
        return f"{title}{_docstring(path)}\n{_file(path)}"
    files = [part for part in sorted((FOLDER / name).glob("*.py")) if part.name != "__init__.py"]
    told = [f"{_file(part)}: {_docstring(part).strip().partition(chr(10))[0]}" for part in files]
    lines = "\n".join(f"- {line}" for line in told)
    return f"{title}{_docstring(FOLDER / name / '__init__.py')}\n{lines}"


def _docstring(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    # What is indented, or begins with an interpreter, are commands.
    text = re.sub(r"((?:^(?: {4}|python ).*\n?)+)", r"```text\n\1```\n", text + "\n", flags=re.M)
    return re.sub(r"^ {4}", "", text, flags=re.M)


def _file(path: Path) -> str:
    return f"{{download}}`{path.name} <../examples/{path.relative_to(FOLDER)}>`"


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_directive("examples", Examples)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

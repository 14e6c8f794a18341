"""`{exclusions}`: the tests of others that are left out, and why, from tools/suites."""

from __future__ import annotations

import tomllib
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SOURCE = Path(__file__).resolve().parents[2] / "tools" / "suites" / "exclusions.toml"


class Exclusions(SphinxDirective):
    """A table of all of them."""

    def run(self) -> list[nodes.Node]:
        """Docutils' hook."""
        self.env.note_dependency(SOURCE)
        return self.parse_text_to_nodes(table())


def table() -> str:
    """Markdown: a row for each reason."""
    rows = ["| suite | tests | because it |", "|---|---|---|"]
    for entry in tomllib.loads(SOURCE.read_text())["exclusion"]:
        tests = ", ".join(f"`{test.rpartition('::')[2]}`" for test in entry["tests"])
        versions = f" (on {', '.join(entry['pythons'])})" if "pythons" in entry else ""
        rows.append(f"| {entry['suite']} | {tests}{versions} | {entry['reason']} |")
    return "\n".join(rows)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_directive("exclusions", Exclusions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""`{conformance}`: what runs on Bun and on mantou have shown, in numbers; what they leave out."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from conformance import behaviours, results


class Conformance(SphinxDirective):
    """`counts`: scenarios by what they are about. `elsewhere`: behaviours that no scenario has."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Docutils' hook."""
        self.env.note_dependency(results.PAGE)
        self.env.note_dependency(behaviours.SOURCE)
        text = {"counts": results.counts, "elsewhere": elsewhere}[self.arguments[0]]()
        return self.parse_text_to_nodes(text)


def elsewhere() -> str:
    """Markdown: a row for each behaviour without a scenario."""
    rows = ["| behaviour | tested in, or why not |", "|---|---|"]
    for one in behaviours.behaviours():
        if not one.scenarios:
            tests = ", ".join(f"`{test}`" for test in one.tests)
            rows.append(f"| {one.name} | {tests or one.reason} |")
    return "\n".join(rows)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_directive("conformance", Conformance)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

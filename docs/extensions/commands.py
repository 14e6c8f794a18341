"""`{command-help}`: what `mantou COMMAND --help` says, for each command that there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mantou._cli.parser import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


class CommandHelp(SphinxDirective):
    """The help of the command that it names; without a name, of all commands, under headings."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Docutils' hook."""
        if self.arguments:
            return self.parse_text_to_nodes(_block(self.arguments[0]))
        overview = help_of()
        text = "\n\n".join(f"## mantou {name}\n\n{_block(name)}" for name in COMMANDS)
        return self.parse_text_to_nodes(
            f"```text\n{overview}\n```\n\n{text}", allow_section_headings=True
        )


def _block(name: str) -> str:
    return f"```text\n{help_of(name)}\n```"


def help_of(*command: str) -> str:
    """The text of `--help`, 80 columns wide and without colours."""
    environment = {
        **os.environ,
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "PYTHON_COLORS": "0",
        "PYTHONPATH": str(ROOT / "python"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "mantou", *command, "--help"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return done.stdout.replace("python -m mantou", "mantou").rstrip()


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

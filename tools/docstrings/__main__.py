"""Copies docstrings from where they are written to where they are read.

`--check` only says where a copy differs from its original.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mantou
from tools.docstrings import options, stub
from tools.docstrings.edit import Edit, edited

PACKAGE = Path(mantou.__file__).parent

Edits = Callable[[ast.Module], Iterator[Edit]]


def files() -> dict[Path, Edits]:
    """The files that have copies, and what they are to say."""
    types = ast.parse((PACKAGE / "_option_types.py").read_text())
    return {
        PACKAGE / "_core.pyi": stub.edits,
        PACKAGE / "_option_types.py": options.edits_of_types,
        PACKAGE / "_connect.py": lambda file: options.edits_of_function(file, "connect", types),
        PACKAGE / "_listen.py": lambda file: options.edits_of_function(file, "listen", types),
        PACKAGE / "_streams.py": lambda file: options.edits_of_function(
            file, "connect_stream", types
        ),
        PACKAGE / "_stream_server.py": lambda file: options.edits_of_function(
            file, "serve_streams", types
        ),
        PACKAGE / "_ready_state.py": options.edits_of_members,
        PACKAGE / "_stats.py": options.edits_of_members,
        PACKAGE / "_tcp_info.py": options.edits_of_members,
    }


def outdated() -> list[str]:
    """The copies that differ from what they are copies of."""
    return [
        f"{path.name}: {edit.name}"
        for path, edits in files().items()
        for edit in edits(ast.parse(path.read_text()))
        if edit.is_needed
    ]


def write() -> None:
    """Writes all copies anew."""
    for path, edits in files().items():
        text = path.read_text()
        path.write_text(edited(text, edits(ast.parse(text))))


def main(arguments: list[str]) -> int:
    """Runs the program."""
    if "--check" not in arguments:
        write()
        return 0
    found = outdated()
    for name in found:
        print(f"{name}: its docstring is not the original's; `make docstrings` copies it")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

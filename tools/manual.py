"""Writes the manual page mantou.1, made from the parser of the command line.

python -m tools.manual build/mantou.1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import mantou
from mantou._cli.completion import flags
from mantou._cli.endings import MEANINGS
from mantou._cli.parser import COMMANDS, DESCRIPTION, Parser, build


def manual() -> str:
    """The page, for man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    parser = build("mantou")
    yield f'.TH MANTOU 1 "" "mantou {mantou.__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"mantou \\- {_text(DESCRIPTION)}"
    yield ".SH SYNOPSIS"
    yield ".B mantou"
    yield ".I COMMAND"
    yield "[options]"
    yield ".SH COMMANDS"
    for name, summary in COMMANDS.items():
        yield from _command(name, summary, parser.commands[name])
    yield ".SH EXIT STATUS"
    yield f"Of all commands but {_text('run')}, which ends as its program does:"
    for code, meaning in MEANINGS.items():
        yield ".TP"
        yield str(int(code))
        yield _text(meaning)
    yield ".SH ENVIRONMENT"
    yield ".TP"
    yield "NO_COLOR"
    yield "If it is set and not empty, nothing is coloured."
    yield ".TP"
    yield "SSL_CERT_FILE, SSL_CERT_DIR"
    yield "Where the certificates are that are trusted, instead of the system's."


def _command(name: str, summary: str, parser: Parser) -> Iterator[str]:
    yield f".SS {name}: {_text(summary)}"
    yield _text(" ".join(parser.format_usage().removeprefix("usage: ").split()))
    for paragraph in (parser.description or "").strip().split("\n\n"):
        yield ".PP"
        yield _text(" ".join(paragraph.split()))
    for action in parser._actions:
        if not action.option_strings and action.help is not argparse.SUPPRESS:
            yield ".TP"
            yield f".I {_text(str(action.metavar or action.dest))}"
            yield _text(action.help or "")
    for flag in flags(parser):
        yield ".TP"
        names = ", ".join(_text(each) for each in flag.names)
        yield f'.BI "{names} " {_text(flag.takes)}' if flag.takes else f'.B "{names}"'
        yield _text(flag.help)
    yield ".PP"
    yield "Examples:"
    yield ".PP"
    yield ".nf"
    for line in parser.examples.splitlines():
        yield _text(line)
    yield ".fi"


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    # A dot or an apostrophe at the beginning of a line would be a command.
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    [path] = sys.argv[1:]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(manual())

"""The parser of the command line. Help, completion and the manual are made of it, too."""

from __future__ import annotations

import argparse
import difflib
import functools
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from importlib import import_module
from typing import Any, NoReturn

import mantou

from .endings import MEANINGS, Code
from .stdio import show
from .terminal import say

COMMANDS = {
    "connect": "stdin to a server, and its answer to stdout",
    "listen": "a server: echo, a file, a command, or stdin and stdout",
    "proxy": "carry connections on to other servers",
    "bench": "measure a server that echoes: latencies and rate",
    "inspect": "look at a server's TLS: certificates, versions, trust",
    "run": "run a program on mantou's event loop",
    "completion": "what bash, zsh or fish need to complete this command",
}
DESCRIPTION = "TCP, unix and TLS sockets, and an event loop for asyncio's programs."


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Fits paragraphs to the terminal, but leaves examples and tables as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            paragraph
            if "\n  " in paragraph
            else textwrap.fill(paragraph, width, initial_indent=indent)
            for paragraph in text.split("\n\n")
        )


class Parser(argparse.ArgumentParser):
    """A parser whose options are not abbreviated: what is added later would change scripts."""

    def __init__(self, *, examples: str = "", **options: Any) -> None:
        super().__init__(
            **options,
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self.examples = examples
        self.commands: dict[str, Parser] = {}

    def error(self, message: str) -> NoReturn:
        """Ends the process, and says in a line what is wrong: the usage is not what was asked."""
        say(self.prog, f"{message} (see {self.prog} --help)")
        sys.exit(Code.MISUSE)

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stderr:
            super()._print_message(message, file)
        else:
            show(message.rstrip("\n"))


def build(name: str, wanted: Collection[str] = COMMANDS.keys()) -> Parser:
    """The parser, with the options of those commands that are wanted: others are not loaded."""
    parser = Parser(prog=name, description=DESCRIPTION)
    parser.epilog = "exit codes, of all but run, which ends as its program does:\n" + "\n".join(
        f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items()
    )
    parser.add_argument("--version", action="version", version=f"mantou {mantou.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command, summary in COMMANDS.items():
        if command not in wanted:
            commands.add_parser(command, help=summary)
            continue
        module: Any = import_module(f"{__package__}.{command}")
        own = parser.commands[command] = commands.add_parser(
            command, help=summary, description=module.DESCRIPTION, examples=module.EXAMPLES
        )
        module.declare(own)
        own.set_defaults(
            start=module.start,
            fail=own.error,
            say=functools.partial(say, own.prog),
            known=[flag for action in own._actions for flag in action.option_strings],
        )
    return parser


def parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """What the arguments say. Ends the process if they are wrong, and suggests the nearest."""
    command = arguments[0] if arguments else ""
    if command and not command.startswith("-") and command not in COMMANDS:
        parser.error(f"there is no command {command!r}{_nearest(command, COMMANDS)}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        _refuse(options, unknown)
    return options


def _refuse(options: argparse.Namespace, unknown: Sequence[str]) -> NoReturn:
    for argument in unknown:
        flag = argument.partition("=")[0]
        if flag.startswith("-"):
            options.fail(f"there is no option {flag}{_nearest(flag, options.known)}")
    options.fail(f"too many arguments: {' '.join(unknown)}")
    raise AssertionError("fail() exits")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""

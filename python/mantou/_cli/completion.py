"""`mantou completion`: scripts for shells, made from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from .endings import Code
from .parser import COMMANDS, build
from .stdio import show

DESCRIPTION = "Writes what a shell needs to complete this command."
EXAMPLES = """\
  mantou completion bash > ~/.local/share/bash-completion/completions/mantou
  mantou completion zsh > ~/.zfunc/_mantou
  mantou completion fish > ~/.config/fish/completions/mantou.fish
"""
# What these stand for is completed as the name of a file.
_FILES = {"FILE", "PROGRAM"}


class Flag(NamedTuple):
    """An option: its spellings, what it means, and what may follow it."""

    names: list[str]
    help: str
    takes: str
    choices: list[str]


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument("shell", choices=tuple(_SHELLS), metavar="SHELL", help="bash, zsh or fish")


def start(options: argparse.Namespace) -> Code:
    """Does it; the exit code."""
    show(_SHELLS[options.shell]().rstrip("\n"))
    return Code.FINE


def flags(parser: argparse.ArgumentParser) -> Iterator[Flag]:
    """The options of a command."""
    for action in parser._actions:
        if action.option_strings:
            takes = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
            choices = [str(choice) for choice in action.choices or ()]
            yield Flag(list(action.option_strings), action.help or "", takes, choices)


def _commands() -> dict[str, list[Flag]]:
    return {name: list(flags(each)) for name, each in build("mantou").commands.items()}


def _bash() -> str:
    lines = [
        "# bash completion for mantou",
        "_mantou() {",
        '    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags=""',
        "    COMPREPLY=()",
        "    if [ $COMP_CWORD -eq 1 ]; then",
        f'        COMPREPLY=($(compgen -W "{" ".join(COMMANDS)} --help --version" -- "$word"))',
        "        return",
        "    fi",
        "    case ${COMP_WORDS[1]}:$before in",
    ]
    for command, known in _commands().items():
        for flag in known:
            pattern = "|".join(f"{command}:{name}" for name in flag.names)
            if flag.choices:
                words = " ".join(flag.choices)
                reply = f'COMPREPLY=($(compgen -W "{words}" -- "$word"))'
            elif flag.takes in _FILES:
                reply = 'COMPREPLY=($(compgen -f -- "$word"))'
            elif flag.takes:
                reply = ":"
            else:
                continue
            lines.append(f"        {pattern}) {reply}; return ;;")
    lines += ["    esac", "    case ${COMP_WORDS[1]} in"]
    for command, known in _commands().items():
        words = " ".join(name for flag in known for name in flag.names)
        if command == "completion":
            words += " " + " ".join(_SHELLS)
        lines.append(f'        {command}) flags="{words}" ;;')
    lines += [
        "    esac",
        '    COMPREPLY=($(compgen -W "$flags" -- "$word"))',
        "}",
        "complete -o default -F _mantou mantou",
    ]
    return "\n".join(lines) + "\n"


def _zsh() -> str:
    lines = ["#compdef mantou", "_mantou() {", "    local -a commands", "    commands=("]
    lines += [f"        {_quoted(f'{name}:{text}')}" for name, text in COMMANDS.items()]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe command commands",
        "        return",
        "    fi",
        "    case $words[2] in",
    ]
    for command, known in _commands().items():
        lines.append(f"        {command}) shift words; (( CURRENT-- )); _arguments \\")
        for flag in known:
            follows = ""
            if flag.choices:
                follows = f":{flag.takes}:({' '.join(flag.choices)})"
            elif flag.takes:
                follows = f":{flag.takes}:" + ("_files" if flag.takes in _FILES else " ")
            text = flag.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
            lines += [f"            {_quoted(f'{n}[{text}]{follows}')} \\" for n in flag.names]
        last = f":shell:({' '.join(_SHELLS)})" if command == "completion" else "*:argument:_files"
        lines.append(f"            {_quoted(last)} ;;")
    lines += ["    esac", "}", 'if [ "$funcstack[1]" = _mantou ]; then _mantou "$@"']
    lines += ["else compdef _mantou mantou", "fi"]
    return "\n".join(lines) + "\n"


def _fish() -> str:
    lines = ["# fish completion for mantou"]
    for name, text in COMMANDS.items():
        lines.append(
            f"complete -c mantou -n __fish_use_subcommand -f -a {name} -d {_quoted_for_fish(text)}"
        )
    for command, known in _commands().items():
        within = f"complete -c mantou -n '__fish_seen_subcommand_from {command}'"
        for flag in known:
            line = within
            for name in flag.names:
                line += f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"
            if flag.choices:
                line += f" -x -a {_quoted_for_fish(' '.join(flag.choices))}"
            elif flag.takes:
                line += " -r" if flag.takes in _FILES else " -x"
            lines.append(f"{line} -d {_quoted_for_fish(flag.help)}")
    shells = " ".join(_SHELLS)
    lines.append(f"complete -c mantou -n '__fish_seen_subcommand_from completion' -f -a '{shells}'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _quoted_for_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}

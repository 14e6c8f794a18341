"""The command `mantou`: sockets, TLS and the event loop for people at a terminal.

A file for each command, with its options and what it does. What several share is beside them:
`addresses`, `tls_flags`, `starttls`, `carrying` (bytes both ways), `stdio`, `terminal`, `endings`
(exit codes). Nothing in here is imported by `import mantou`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .endings import Failure
from .parser import COMMANDS, build, parse


def main(name: str = "mantou", arguments: Sequence[str] | None = None) -> None:
    """Does what the command line says, and exits with what became of it."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(build(name, COMMANDS.keys() & given), given)
    if options.command == "run":
        # Ends as the program ends that it runs.
        options.start(options)
        return
    _keep_descriptors()
    try:
        code = options.start(options)
    except Failure as failure:
        if failure.text:
            options.say(failure.text)
        code = failure.code
    sys.exit(code)


def _keep_descriptors() -> None:
    """Has 0, 1 and 2 stand for what they stand for, also where the caller has closed them.

    A connection would get the number otherwise, and what is said to people would be sent to it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)

"""The command `mantou`: sockets, TLS and the event loop for people at a terminal.

A file for each command, with its options and what it does. What several share is beside them:
`addresses`, `tls_flags`, `starttls`, `carrying` (bytes both ways), `stdio`, `terminal`, `endings`
(exit codes). Nothing in here is imported by `import mantou`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence


def main(name: str = "mantou", arguments: Sequence[str] | None = None) -> None:
    """Does what the command line says, and exits with what became of it."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:
        # Until there is something to be ended in order, Ctrl-C ends it as it ends other commands.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .endings import Failure  # noqa: PLC0415
    from .parser import COMMANDS, build, parse  # noqa: PLC0415
    from .terminal import Saying, say  # noqa: PLC0415

    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = parse(build(name, COMMANDS.keys() & given), given)
        if options.command == "run":
            # Ends as the program ends that it runs, at Ctrl-C, too.
            signal.signal(signal.SIGINT, heard)
            options.start(options)
            return
        name = f"{name} {options.command}"
        logging.getLogger("mantou").addHandler(Saying(name))
        _keep_descriptors()
        code = options.start(options)
    except Failure as failure:
        if failure.text:
            say(name, failure.text)
        code = failure.code
    sys.exit(code)


def _keep_descriptors() -> None:
    """Has 0, 1 and 2 stand for what they stand for, also where the caller has closed them.

    A connection would get the number otherwise, and what is said to people would be sent to it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)

"""`mantou run PROGRAM`: runs an unchanged asyncio program on mantou's loop."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, ModuleSpec, SourceFileLoader
from multiprocessing import spawn
from types import CodeType, ModuleType, TracebackType
from typing import Any, cast

import mantou

DESCRIPTION = """\
Runs a program as `python PROGRAM ARGS` does, with mantou.install() done before its first line:
asyncio.run() and everything else that asks asyncio for a loop uses mantou's, in the processes that
multiprocessing starts for it, too.
Options of `run` itself come before PROGRAM. What asks for another loop by name (uvicorn does, for
uvloop, where that is installed) gets that one: see its own options.
"""
EXAMPLES = """\
  mantou run server.py
  mantou run -m package.server --port 8000
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.usage = f"{parser.prog} [-h] [--tls ENGINE] [-m | -c] PROGRAM ARGS..."
    parser.add_argument(
        "--tls",
        choices=("openssl", "rustls"),
        default="openssl",
        metavar="ENGINE",
        help="rustls: mantou.inject_into_ssl(), too, so that ssl.SSLContext is mantou's; "
        "openssl (default): ssl stays as it is",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module's name")
    kind.add_argument("-c", dest="code", action="store_true", help="PROGRAM is the code itself")
    parser.add_argument(
        "program", metavar="PROGRAM", help="a file, or a folder or zip file with a __main__.py"
    )
    parser.add_argument(
        "args", metavar="ARGS", nargs=argparse.REMAINDER, help="what the program finds in sys.argv"
    )


def start(options: argparse.Namespace) -> None:
    """Runs the program. Ends as it ends."""
    _prepare(options.tls)
    sys.argv[1:] = options.args
    begin: Callable[[str], None] = _run_file
    if options.module:
        begin = _run_module
    elif options.code:
        begin = _run_code
    try:
        begin(options.program)
    except SystemExit:
        raise
    except BaseException:
        _tell_without_us()
        raise


def _prepare(tls: str) -> None:
    if tls == "rustls":
        cast("Any", mantou).inject_into_ssl()
    mantou.install()
    # A process that is not forked, but begins anew, is sent what it needs for that: us, too.
    prepared: Callable[[str], dict[str, object]] = spawn.get_preparation_data

    def prepared_with_us(name: str) -> dict[str, object]:
        return {**prepared(name), "mantou": _Preparation(tls)}

    cast("Any", spawn).get_preparation_data = prepared_with_us


class _Preparation:
    """Prepares the process in which it is unpickled."""

    def __init__(self, tls: str) -> None:
        self.tls = tls

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return _prepare, (self.tls,)


def _run_file(path: str) -> None:
    sys.argv[0] = path
    path = os.path.join(os.getcwd(), path)  # not normalized, as the interpreter has it
    if pkgutil.get_importer(path) is not None:  # a folder or a zip file
        _put_on_path(path, instead=not sys.flags.safe_path)
        _execute(*_found("__main__", path))
        return
    if not sys.flags.safe_path:
        _put_on_path(os.path.dirname(os.path.realpath(path)), instead=True)
    loader = SourceFileLoader("__main__", path)
    try:
        code = cast("CodeType", loader.get_code("__main__"))
    except OSError as error:
        print(
            f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}",
            file=sys.stderr,
        )
        sys.exit(2)
    _execute(code, path, loader=loader)


def _run_module(name: str) -> None:
    sys.argv[0] = "-m"
    if not sys.flags.safe_path:
        _put_on_path(os.getcwd(), instead=True)
    code, path, spec = _found(name, name)
    sys.argv[0] = path
    _execute(code, path, spec)


def _run_code(text: str) -> None:
    sys.argv[0] = "-c"
    if not sys.flags.safe_path:
        _put_on_path("", instead=True)
    _execute(compile(text, "<string>", "exec"), None, loader=BuiltinImporter)


def _put_on_path(entry: str, *, instead: bool) -> None:
    # The interpreter has put there the place of whatever it was told to run: ours.
    sys.path[0 : 1 if instead else 0] = [entry]


def _found(name: str, asked: str) -> tuple[CodeType, str, ModuleSpec]:
    """The code of a module or of a package's `__main__`, as `python -m` finds it."""
    try:
        # Our own __main__ would be found, otherwise.
        ours = sys.modules.pop("__main__", None)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            if ours is not None:
                sys.modules["__main__"] = ours
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        sys.exit(f"{sys.executable}: Error while finding {asked!r}: {error!r}")
    if spec is None and name == "__main__":
        sys.exit(f"{sys.executable}: can't find '__main__' module in {asked!r}")
    if spec is None:
        sys.exit(f"{sys.executable}: No module named {asked}")
    if spec.submodule_search_locations is not None:
        return _found(f"{name}.__main__", asked)
    loader: Any = spec.loader
    code = loader.get_code(name) if loader is not None and hasattr(loader, "get_code") else None
    if code is None:
        sys.exit(f"{sys.executable}: No code object available for {asked}")
    return code, spec.origin or asked, spec


def _execute(
    code: CodeType, path: str | None, spec: ModuleSpec | None = None, *, loader: Any = None
) -> None:
    # As the interpreter itself sets it up. It stays in place at the end, when threads, atexit
    # functions and pickles still look for it.
    module: Any = ModuleType("__main__")
    module.__builtins__ = sys.modules["builtins"]
    module.__loader__ = loader if spec is None else spec.loader
    module.__spec__ = spec
    if path is not None:
        module.__file__ = path
        module.__cached__ = None if spec is None else spec.cached
    module.__package__ = None if spec is None else spec.parent
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _tell_without_us() -> None:
    """Has the exception that ends the program told without the frames that began it."""
    hook = sys.excepthook

    def told(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        inside = traceback
        while inside is not None and inside.tb_frame.f_code is not _execute.__code__:
            inside = inside.tb_next
        # Nothing is left of a program that could not even be compiled.
        error.__traceback__ = inside and inside.tb_next
        hook(kind, error, error.__traceback__)

    sys.excepthook = told

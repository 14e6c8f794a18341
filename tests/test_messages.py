"""What users are told when something is wrong: `messages.md` has all of it, to be read as a whole.

Each of its examples is run, and ends with the error that stands below it. A `raise` of the package
that no example comes by, or a text of the native module that no example shows, has to stand in one
of the lists below, with the reason.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import doctest
import inspect
import os
import re
import socket as kernel
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import mantou
import mantou.testing
from tests.support import descriptors_left
from tests.tls import key_pem, new_key
from tests.tls_support import CA, CERTIFICATE, KEY, context

_KEY = new_key()
ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("messages.md")


def examples(text: str) -> Iterator[doctest.Example]:
    """Each with all that stands above its error."""
    begun = ""
    for part in doctest.DocTestParser().get_examples(text):
        begun += part.source
        if part.want:
            yield doctest.Example(begun, part.want, lineno=part.lineno)
            begun = ""


def name_of(example: doctest.Example) -> str:
    return f"{example.lineno + 1} {example.source.strip().splitlines()[-1]}"


EXAMPLES = list(examples(TABLE.read_text(encoding="utf-8")))

# Functions (a module's name alone: all of them) whose errors no example shows.
NOT_SHOWN = {
    # What asyncio itself says where the same is wrong: its users know it, its tests look for it.
    "_asyncio_arguments": "asyncio's words",
    "_asyncio_open": "asyncio's words",
    "_asyncio_server": "asyncio's words",
    "_asyncio_streams": "asyncio's words",
    "_asyncio_transport": "asyncio's words",
    "_attempts": "asyncio's words",
    "_transport": "asyncio's words",
    "_transport_options": "asyncio's words",
    "_descriptors.Descriptors.select": "only code inside of asyncio could call it",
    # What `ssl.SSLObject` says, and what it cannot do where rustls stands in for it.
    "_ssl_object": "the ssl module's words",
    # Told by `tls_engine_reason`; tests/test_ssl_context_engine.py has them all.
    "_ssl_faithful": "never reaches a user as an exception",
    "_ssl_twin": "never reaches a user as an exception",
    "_ssl_judge": "a bug of ours, if ever",
    # What cannot be had on the machine that runs the tests.
    "__init__": "tests/test_free_threading.py; and other systems than Linux",
    "_bind._bind": "every Linux has SO_REUSEPORT",
    "_certificates.load": "cryptography is installed here",
    "_pem.Source.private_key": "cryptography is installed here",
    "prometheus": "prometheus-client is installed here",
    "testing.certificates": "trustme is installed here",
    "_host.Host._living_loop": "a loop that was dropped while its sockets wait",
    "_ssl_driver.SSLDriver._server_certificate": "tests/test_ssl_context.py: several certificates",
    "_stream_info": "anyio's words",
}

# Texts of the native module likewise.
NOT_SHOWN_NATIVE = {
    "the socket engine was entered twice": "a bug of ours, if ever",
    "a native method failed": "a bug of ours, if ever",
    "a method of another class": "only by unbound methods of private classes",
    "no such handler: ": "a bug of ours, if ever",
    "not an address: ": "a bug of ours, if ever",
    "SocketHandler lacks a handler": "a bug of ours, if ever",
    "the stream failed": "a bug of ours, if ever",
    " is not asyncio's own": "a reason within, never told",
    "Result is not ready.": "asyncio's words",
    "index out of range": "Python's words",
    "when cannot be None": "asyncio's words",
    "delay must not be None": "asyncio's words",
    "() missing required argument: '": "Python's words",
    "Event loop is closed": "asyncio's words",
    "Cannot call write() after write_eof()": "asyncio's words",
    "unable to write; sendfile is in progress": "asyncio's words",
    "data argument must be a bytes-like object, not ": "asyncio's words",
    ": expected a bytes-like object, ": "Python's words",
    ") must be >= 0": "asyncio's words",
    "get_buffer() returned an empty buffer": "asyncio's words",
    "File descriptor ": "asyncio's words",
    " is the scheduler's own: it can be emptied, not replaced": "only code inside of asyncio could",
    "the event loop of this socket is gone": "a loop that was dropped while its sockets wait",
    " that wait are more than can be counted": "tests/test_send_file.py: sparse files",
    "the event loop of this thread is closed": "only while a loop is being closed",
    "this event loop and its sockets belong to the process that was forked": "tests/test_fork.py",
    "the event loop cannot be run from inside a handler": "asyncio says it first",
    "there must be a delimiter": "a bug of ours, if ever",
    " has changed its size": "a thread that resizes a buffer while it is in use",
    "() of the SSLObject kept the buffer that it was given": "somebody's own sslobject_class",
    "received bytes are lent for the time of the call only": "only by way of a memoryview's `obj`",
    "pipe() got sockets of two event loops": "two loops of one thread, of which one does not run",
}


# Above those of the engine's texts that no example comes by.
LISTED = "## What the engine says of its own"

# Those that are none for users.
NOT_TOLD = {
    "mantou runs on Linux; another system needs a Selector beside sys/epoll.rs": "the compiler's",
    "-----BEGIN ...-----\\n": "what a session's certificates are handed out in",
    "\\n-----END ...-----\\n": "the same",
    "a host with max_connections_per_host open": "counted, and told to nobody",
    "a foreign trust store": "where a judge of Python's has words of its own",
    "refused by a foreign judge": "the same",
}


@pytest.mark.loops("mantou")
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
async def test_users_are_told(example: doctest.Example) -> None:
    error = await error_of(example)
    assert matches(told(error), example.want), told(error)


@pytest.mark.timeout(600)
def test_no_raise_is_left_out() -> None:
    reached = set[tuple[str, int]]()
    for example in EXAMPLES:
        with asyncio.Runner(loop_factory=mantou.new_event_loop) as runner:
            reached.update(places(runner.run(error_of(example))))
    missing = [
        f"{place}:{first}"
        for name, place, first, last in raises()
        if not any((name, line) in reached for line in range(first, last + 1))
        and not is_listed(place)
    ]
    assert missing == []


def test_no_text_of_the_native_module_is_left_out() -> None:
    table = " ".join(TABLE.read_text(encoding="utf-8").split())
    missing = [
        f"{path.relative_to(ROOT)}: {text}"
        for path, text in native_texts()
        if not any(text.find(known) >= 0 for known in NOT_SHOWN_NATIVE)
        and " ".join(longest_piece(text).split()) not in table
    ]
    assert missing == []


def test_no_text_of_the_engine_is_left_out() -> None:
    page, _, listed = TABLE.read_text(encoding="utf-8").partition(f"\n{LISTED}\n")
    shown = " ".join(page.split())
    lines = [
        re.sub(r"\s+", " ", it) for it in re.findall(r"^- (.*(?:\n  .*)*)", listed, re.MULTILINE)
    ]
    told = {
        text
        for text in engine_texts()
        if text not in NOT_TOLD and max(text.split("..."), key=len) not in shown
    }
    assert told - set(lines) == set()
    native = {text for _, text in native_texts()}
    assert set(lines) - told - native == set()
    assert lines == list(dict.fromkeys(lines))


async def error_of(example: doctest.Example) -> BaseException:
    """What the example ends with; the connections that it may use are made for it."""
    code = compile(example.source, TABLE.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as open_things:
            names = Scene(open_things, Path(folder)).names()
            try:
                async with asyncio.timeout(10):
                    if code.co_flags & inspect.CO_COROUTINE:
                        await FunctionType(code, names)()
                    else:
                        exec(code, names)
            except Exception as error:
                return error
    pytest.fail(f"nothing is raised by {example.source}")


class Quiet(mantou.SocketHandler[Any]):
    """Handlers as good as any."""

    def data(self, socket: Any, data: Any) -> None:
        pass


class Scene:
    """What the examples find there, beside the names of mantou."""

    def __init__(self, open_things: contextlib.AsyncExitStack, folder: Path) -> None:
        self._open = open_things
        self._folder = folder

    def names(self) -> dict[str, Any]:
        for name, text in (("cert.pem", CERTIFICATE), ("key.pem", KEY), ("ca.pem", CA)):
            (self._folder / name).write_text(text)
        handlers = Quiet()
        return {
            **{name: getattr(mantou, name) for name in mantou.__all__},
            "__builtins__": builtins,
            "asyncio": asyncio,
            "kernel": kernel,
            "os": os,
            "ssl": ssl,
            "testing": mantou.testing,
            "CERT": CERTIFICATE,
            "KEY": KEY,
            "CA": CA,
            "ENCRYPTED": key_pem(_KEY, passphrase=b"secret"),
            "OTHER_KEY": key_pem(_KEY),
            "folder": self._folder,
            "handlers": handlers,
            "here": {"hostname": "127.0.0.1", "port": 0, "socket": handlers},
            "there": {"hostname": "localhost", "port": 1, "socket": handlers},
            "context": context,
            "a_socket": self.a_socket,
            "a_stream": self.a_stream,
            "a_listener": self.a_listener,
            "fate": self.fate,
            "within": self.within,
            "listen_in_another_thread": self.listen_in_another_thread,
            "in_a_thread": in_a_thread,
            "session": self.session,
            "descriptors_left": descriptors_left,
        }

    async def a_socket(self, *, tls: Any = False, **options: Any) -> mantou.Socket[Any]:
        """A connected socket."""
        pair = mantou.testing.socket_pair(Quiet(), Quiet(), tls=tls, connected_options=options)
        return (await self._open.enter_async_context(pair))[1]

    def a_listener(self, **options: Any) -> mantou.TCPSocketListener[Any]:
        """One that serves nothing."""
        options = {"socket": Quiet(), **options}
        listener = mantou.listen(hostname="127.0.0.1", port=0, **options)
        self._open.callback(listener.stop, True)
        return listener

    async def session(self) -> Any:
        """One that could be resumed."""
        socket = await self.a_socket(tls=True)
        while (session := socket.get_session()) is None:
            await asyncio.sleep(0)
        return session

    async def within(self, event: str, does: Callable[..., object], **options: Any) -> None:
        """Raises what this raises, as that handler of a server's connection."""
        told = asyncio.get_running_loop().create_future()

        def error(_: Any, error: BaseException) -> None:
            told.set_exception(error)

        # With a `handshake` handler, `open` comes before the handshake.
        handlers = {event: does, "error": error, "handshake": lambda *_: None}
        listener = self.a_listener(socket=handlers, **options)
        with kernel.create_connection(("127.0.0.1", listener.port)) as peer:
            peer.send(b"something")
            await told

    def listen_in_another_thread(self) -> mantou.TCPSocketListener[Any]:
        """What waits for a loop of that thread."""
        listens, over = threading.Event(), threading.Event()
        made: list[mantou.TCPSocketListener[Any]] = []

        def work() -> None:
            made.append(mantou.listen(hostname="127.0.0.1", port=0, socket=Quiet()))
            listens.set()
            over.wait()
            made[0].stop()
            mantou.run()

        thread = threading.Thread(target=work)
        thread.start()
        self._open.callback(thread.join)
        self._open.callback(over.set)
        listens.wait()
        return made[0]

    async def a_stream(self) -> mantou.Stream:
        """A connected stream, whose peer stays silent."""
        listener = self.a_listener()
        stream = await mantou.connect_stream(hostname="127.0.0.1", port=listener.port)
        return await self._open.enter_async_context(stream)

    async def fate(self, does: Callable[[kernel.socket], object], **options: Any) -> None:
        """Raises what the end of a connection is told whose peer does this."""
        told = asyncio.get_running_loop().create_future()

        class Told(mantou.SocketHandler[Any]):
            def close(self, socket: Any, error: BaseException | None) -> None:
                told.done() or told.set_result(error)

            connect_error = close

        listener = self.a_listener(socket=Told(), **options)
        with kernel.create_connection(("127.0.0.1", listener.port)) as peer:
            does(peer)
            if (error := await told) is not None:
                raise error


def in_a_thread(call: Callable[[], object]) -> object:
    """What the call does in a thread without a loop."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def told(error: BaseException) -> str:
    """As a traceback ends."""
    return f"{type(error).__name__}: {error}"


def matches(text: str, pattern: str) -> bool:
    """Whether it is what stands there: "..." is for anything, lines may be broken at blanks."""
    pieces = map(re.escape, " ".join(pattern.split()).split("..."))
    return re.fullmatch(".*".join(pieces), " ".join(text.split())) is not None


def places(error: BaseException | None) -> Iterator[tuple[str, int]]:
    """The lines of the package that the error came by, and those that it came from."""
    while error is not None:
        step = error.__traceback__
        while step is not None:
            path = Path(step.tb_frame.f_code.co_filename)
            if path.parent.name == "mantou":
                yield path.stem, step.tb_lineno
            step = step.tb_next
        error = error.__cause__ or error.__context__


def raises() -> Iterator[tuple[str, str, int, int]]:
    """Where the package makes an error and raises it: module, place, first and last line."""
    for path in sorted((ROOT / "python/mantou").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from _raises_in(tree, path.stem, path.stem)


def _raises_in(node: ast.AST, module: str, place: str) -> Iterator[tuple[str, str, int, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            yield module, place, child.lineno, child.end_lineno or child.lineno
        inner = place
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{place}.{child.name}"
        yield from _raises_in(child, module, inner)


def is_listed(place: str) -> bool:
    return any(place == name or place.startswith(f"{name}.") for name in NOT_SHOWN)


def native_texts() -> Iterator[tuple[Path, str]]:
    """The texts of the exceptions that the native module makes."""
    for path in sorted((ROOT / "crates/binding/src").rglob("*.rs")):
        source = path.read_text(encoding="utf-8")
        for found in re.finditer(r"(?:new_err|\baborted|\btimed_out)\(", source):
            texts = literals(_balanced(source[found.end() :]))
            if texts:
                yield path, texts[0]


def engine_texts() -> Iterator[str]:
    """The sentences of the engine: it hands them up as they are, so users may read any."""
    engine = ROOT / "crates/engine/src"
    tests = re.findall(r"#\[cfg\(test\)\]\nmod (\w+);", (engine / "lib.rs").read_text())
    for path in sorted(set(engine.rglob("*.rs")) - {engine / f"{name}.rs" for name in tests}):
        source, *_ = path.read_text(encoding="utf-8").partition("#[cfg(test)]")
        for text in literals(source):
            # Kinds of PEM blocks are in capitals.
            if " " in text.strip() and not text.isupper():
                yield re.sub(r"\{[^}]*\}", "...", text)


def literals(source: str) -> list[str]:
    """The strings of a piece of Rust, without bytes, characters and comments."""
    found = re.finditer(
        r"""//[^\n]*|b"(?:\\.|[^"\\])*"|b?'(?:\\.|[^'\\])'|"((?:\\.|[^"\\])*)\"""",
        source,
        re.DOTALL,
    )
    texts = [re.sub(r"\\\n\s*", "", it[1]) for it in found if it[1] is not None]
    return [text.replace('\\"', '"') for text in texts]


def _balanced(source: str) -> str:
    """What comes before the parenthesis that closes."""
    depth = 1
    for end, character in enumerate(source):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return source[:end]
    return source


def longest_piece(text: str) -> str:
    """Of a text with places for values the longest piece without one."""
    return max(re.split(r"\{[^}]*\}", text), key=len)

"""What help() and editors show: everything is described, and what is said is so."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import pydoc
import re
import socket as kernel
import ssl
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, get_type_hints

import pytest

import mantou
from mantou import errors
from mantou._handlers import D
from mantou._options import parse_connect, parse_listen
from tests.support import Recorder, connected
from tools.docstrings import __main__ as docstrings
from tools.docstrings import options, stub
from tools.docstrings.edit import edited

CLASSES = [
    mantou.Socket,
    mantou.TCPSocketListener,
    mantou.UnixSocketListener,
    mantou.SocketHandler,
    mantou.HandlerMapping,
    mantou.EventLoop,
    mantou.ProxyHeader,
    mantou.ProxySSL,
    mantou.ReadyState,
    mantou.SSLContext,
    mantou.Stats,
    mantou.ListenerStats,
    mantou.SocketStats,
    mantou.TcpInfo,
    mantou.HandshakeFailures,
    mantou.Pauses,
    mantou.PeerCredentials,
    mantou.WrongThreadError,
    errors.HandshakeTimeoutError,
    errors.PacketIncomplete,
    errors.PacketTooLarge,
    errors.ProxyProtocolError,
    errors.ProxyTimeoutError,
    mantou.Stream,
    mantou.StreamServer,
    mantou.EndOfStream,
    mantou.IncompleteRead,
    mantou.DelimiterNotFound,
    mantou.BusyResourceError,
    mantou.ClosedResourceError,
    mantou.BrokenResourceError,
]
FUNCTIONS = [
    mantou.connect,
    mantou.listen,
    mantou.run,
    mantou.new_event_loop,
    mantou.install,
    mantou.uninstall,
    mantou.stats,
    mantou.pipe,
    mantou.inject_into_ssl,
    mantou.extract_from_ssl,
    mantou.connect_stream,
    mantou.serve_streams,
    mantou.open_connection,
    mantou.start_server,
]
OPTIONS = options.described(ast.parse((docstrings.PACKAGE / "_option_types.py").read_text()))
DICTIONARIES = [name for name in OPTIONS if not name.startswith("_")]
INTERNAL = {"engine", "until_idle"}
HANDLERS = [
    name
    for name in vars(mantou.SocketHandler)
    if inspect.isfunction(getattr(mantou.SocketHandler, name))
]


def members() -> Iterator[tuple[str, object]]:
    """Everything public that is mantou's own, with its name."""
    for function in FUNCTIONS:
        yield function.__name__, function
    for described in CLASSES:
        yield described.__name__, described
        for owner in described.__mro__:
            # What asyncio and Python themselves bring along is theirs to describe.
            if not owner.__module__.startswith("mantou"):
                continue
            for name, member in vars(owner).items():
                is_described = inspect.isroutine(member) or inspect.isdatadescriptor(member)
                if is_described and not name.startswith("_") and name not in INTERNAL:
                    yield f"{described.__name__}.{name}", member


# Sorted: a native class has its members in another order in each process.
MEMBERS = [pytest.param(member, id=name) for name, member in sorted(members(), key=itemgetter(0))]


def text_of(member: object) -> str:
    text = getattr(member, "__doc__", None)
    assert isinstance(text, str)
    return text


# Copies


def test_the_copies_are_as_their_originals() -> None:
    assert docstrings.outdated() == []


def test_another_copy_is_noticed_and_put_right() -> None:
    text = (docstrings.PACKAGE / "_core.pyi").read_text()
    for changed in (
        text.replace("Hands data to the kernel", "Throws data at the kernel"),
        re.sub(r'(def resume.*:\n) +"""[^"]*"""', r"\1        ...", text),
    ):
        assert changed != text
        (edit,) = (edit for edit in stub.edits(ast.parse(changed)) if edit.is_needed)
        assert edit.name in {"Socket.write", "Socket.resume"}
        assert ast.dump(ast.parse(edited(changed, [edit]))) == ast.dump(ast.parse(text))


def test_an_option_without_a_text_is_noticed() -> None:
    described = options.described(
        ast.parse('class Options(TypedDict):\n    a: int\n    "What it is."\n    b: int\n')
    )
    assert described == {"Options": {"a": "What it is.", "b": ""}}


# Everything is described


def test_the_list_is_of_everything_that_is_public() -> None:
    types = {"HandlerObject", "PipedBytes", "__version__", *DICTIONARIES}
    listed = {described.__name__ for described in [*CLASSES, *FUNCTIONS]}
    assert listed | types == {*mantou.__all__, *errors.__all__}


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_is_described(member: object) -> None:
    assert len(text_of(member).split()) >= 3


@pytest.mark.parametrize(
    "member",
    # What these have is asyncio's and the ssl module's.
    [one for one in MEMBERS if not str(one.id).startswith(("EventLoop.", "SSLContext."))],
)
def test_every_member_says_what_others_call_it(member: object) -> None:
    # Bun, or for streams whoever has them.
    others = r"\b(Bun|anyio|asyncio): `|\bNot in (Bun|anyio)\b"
    assert re.search(others, text_of(member))


@pytest.mark.parametrize("dictionary", DICTIONARIES)
def test_the_types_of_options_can_be_asked_for(dictionary: str) -> None:
    """As validators and generators of documentation do."""
    hints = get_type_hints(getattr(mantou, dictionary))
    assert set(hints) == set(OPTIONS[dictionary])


def test_the_types_of_handlers_can_be_asked_for() -> None:
    for name in HANDLERS:
        assert get_type_hints(getattr(mantou.SocketHandler, name))["socket"] == mantou.Socket[D]


@pytest.mark.parametrize("dictionary", DICTIONARIES)
def test_every_option_is_described(dictionary: str) -> None:
    runtime = getattr(mantou, dictionary)
    assert set(OPTIONS[dictionary]) == set(runtime.__annotations__)
    for name, text in OPTIONS[dictionary].items():
        assert re.search(r"\bRequired\.|\bDefault: ", text), name
        assert re.search(r"\bBun: `|\bNot in Bun\b", text), name
        assert name in text_of(runtime)


@pytest.mark.parametrize(
    ("shown", "dictionaries"),
    [
        (mantou.connect, options.FUNCTIONS["connect"]),
        (mantou.listen, options.FUNCTIONS["listen"]),
        (mantou.TLSOptions, ["TLSOptions"]),
    ],
)
def test_help_shows_every_option_once(shown: Any, dictionaries: list[str]) -> None:
    # As help() does it; without the line breaks, which have no meaning.
    text = " ".join(pydoc.plain(pydoc.render_doc(shown)).replace("|", " ").split())
    for dictionary in dictionaries:
        for name, described in OPTIONS[dictionary].items():
            assert text.count(f" {name}: {described}") == 1, name


def test_help_groups_options_by_kind() -> None:
    text = text_of(mantou.connect)
    kinds = [kind for kind in options.KINDS if f"\n\n{kind}\n\n" in inspect.cleandoc(text)]
    assert kinds == [kind for kind in options.KINDS if "file" not in kind]
    places = [text.index(f"{kind}\n\n") for kind in kinds]
    assert places == sorted(places)


def test_every_state_is_described() -> None:
    for state in mantou.ReadyState:
        assert f"    {state.name}: " in text_of(mantou.ReadyState)


@pytest.mark.parametrize("described", [mantou.ProxyHeader, mantou.ProxySSL])
def test_every_field_is_described(described: Any) -> None:
    for field in dataclasses.fields(described):
        # From 3.13 on docstrings come without their indentation.
        assert re.search(rf"^ +{field.name}: ", text_of(described), re.MULTILINE)


# What is said is so


@pytest.mark.parametrize(
    ("parse", "dictionary", "given"),
    [
        (parse_connect, "TCPSocketConnectOptions", {"hostname": "x", "port": 1}),
        (parse_connect, "UnixSocketOptions", {"unix": "x"}),
        (parse_connect, "FdSocketOptions", {"fd": 7}),
        (parse_listen, "TCPSocketListenOptions", {"hostname": "x", "port": 1}),
        (parse_listen, "UnixSocketListenOptions", {"unix": "x"}),
        (parse_listen, "FdSocketListenOptions", {"fd": 7}),
    ],
)
def test_defaults_are_as_described(
    parse: Callable[..., Any], dictionary: str, given: dict[str, object]
) -> None:
    request = parse({**given, "socket": Recorder()})
    way = getattr(request, "way", request)
    compared = set()
    for name, text in OPTIONS[dictionary].items():
        stated = re.search(r"Default: (None|True|False|[\d.]*\d)", text)
        kept = [getattr(where, name, ...) for where in (way.connection, way, request)]
        actual = next((value for value in kept if value is not ...), ...)
        # How these two are kept is not how they are given.
        if stated and actual is not ... and name not in {"tls", "local_port"}:
            assert ast.literal_eval(stated[1]) == actual, name
            compared.add(name)
    assert {"data", "write_limit", "close_timeout", "idle_timeout"} <= compared


MISUSE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("write", (5,), {}),
    ("write", (b"x", 2), {}),
    ("write_all", (5,), {}),
    ("end", (5,), {}),
    ("end", (b"x", 0, 2), {}),
    ("timeout", ("1",), {}),
    ("timeout", (-1,), {}),
    ("set_keep_alive", (True, "1"), {}),
    ("set_keep_alive", (True, -1), {}),
    ("reload", ({},), {}),
    ("reload", ({"open": print, "binary_type": "str"},), {}),
    ("upgrade_tls", (), {"tls": {"ca": 5}, "socket": Recorder()}),
    ("upgrade_tls", (), {"tls": {"min_version": "TLSv9"}, "socket": Recorder()}),
    ("upgrade_tls", (), {"tls": {"ca_file": "/nowhere"}, "socket": Recorder()}),
    ("export_keying_material", (0, "label"), {}),
    ("channel_binding", ("unique",), {}),
    ("set_session", (5,), {}),
    ("set_servername", (5,), {}),
    ("set_servername", ("a b",), {}),
    ("set_verify_mode", (True, True), {}),
    ("renegotiate", (), {}),
]
AFTER_CLOSE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("write_all", (b"x",), {}),
    ("drained", (), {}),
    ("upgrade_tls", (), {"tls": True, "socket": Recorder()}),
]


@pytest.mark.loops("mantou")
@pytest.mark.parametrize(("name", "arguments", "keywords"), MISUSE)
async def test_a_member_says_what_it_raises(
    name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    async with connected(Recorder()) as (socket, _):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            getattr(socket, name)(*arguments, **keywords)
        socket.terminate()
        # Of OSError it is the subclass that fits its errno.
        kind = OSError if isinstance(caught.value, OSError) else type(caught.value)
        assert kind in raised_by(getattr(mantou.Socket, name))


@pytest.mark.loops("mantou")
@pytest.mark.parametrize(("name", "arguments", "keywords"), AFTER_CLOSE)
async def test_a_member_says_what_it_raises_once_closed(
    name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    recorder = Recorder()
    async with connected(recorder) as (socket, _):
        socket.terminate()
        await recorder.until("close")
        with pytest.raises(tuple(raised_by(getattr(mantou.Socket, name)))) as caught:
            await getattr(socket, name)(*arguments, **keywords)
        assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("member", MEMBERS)
def test_what_is_raised_exists(member: object) -> None:
    assert all(issubclass(error, Exception) for error in raised_by(member))


def raised_by(member: object) -> set[type]:
    """The exceptions that a docstring names."""
    modules = {"ssl": ssl, "socket": kernel, "": builtins}
    modules |= {"mantou": mantou, "mantou.errors": errors}
    found = set()
    for name in re.findall(r":raises ([\w.]+):", text_of(member)):
        module, _, last = name.rpartition(".")
        ours = (one for one in (errors, mantou) if hasattr(one, last))
        where = next(ours, modules[module])
        found.add(getattr(where, last))
    return found

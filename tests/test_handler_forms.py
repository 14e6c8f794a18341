"""The forms handlers may be given in."""

from __future__ import annotations

import functools
import inspect
from collections import ChainMap, UserDict
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

import mantou
from mantou._core import Handlers
from mantou._handlers import SocketHandler
from tests.support import RawListener, Recorder, connected

HANDLER_NAMES = (
    "open",
    "data",
    "drain",
    "end",
    "close",
    "error",
    "timeout",
    "connect_error",
    "handshake",
)


def ignore(*_: object) -> None:
    """A handler."""


def present(table: Handlers) -> set[str]:
    return {name for name in HANDLER_NAMES if table[name] is not None}


# Subclasses


@pytest.mark.parametrize("name", HANDLER_NAMES)
def test_only_overridden_methods_are_present(name: str) -> None:
    calls: list[object] = []

    def record(self: object, *args: object) -> None:
        calls.append((self, args))

    handler_class: type[SocketHandler[Any]] = type("Handler", (SocketHandler,), {name: record})
    handler = handler_class()
    table = Handlers(handler)
    assert present(table) == {name}
    handled = table[name]
    assert handled is not None
    handled("socket")
    assert calls == [(handler, ("socket",))]


def test_the_base_class_has_no_handlers() -> None:
    with pytest.raises(TypeError, match=r"'socket'.*at least one of open, data"):
        Handlers(SocketHandler[None]())


def test_the_base_class_does_nothing() -> None:
    handler: Any = SocketHandler()
    for name in HANDLER_NAMES:
        extra = {"data": 1, "close": 1, "error": 1, "connect_error": 1, "handshake": 2}
        assert getattr(handler, name)(*[None] * (1 + extra.get(name, 0))) is None


def test_methods_are_inherited() -> None:
    class Logging(SocketHandler[None]):
        def open(self, socket: object) -> None: ...

    class Echo(Logging):
        def data(self, socket: object, data: bytes) -> None: ...

    assert present(Handlers(Echo())) == {"open", "data"}


def test_an_override_that_calls_the_base_is_present() -> None:
    class Handler(SocketHandler[None]):
        def end(self, socket: Any) -> None:
            super().end(socket)

    assert present(Handlers(Handler())) == {"end"}


def test_a_subclass_can_take_a_handler_away() -> None:
    class Echo(SocketHandler[None]):
        def data(self, socket: object, data: bytes) -> None: ...
        def open(self, socket: object) -> None: ...

    class Silent(Echo):
        open = None  # type: ignore[assignment]

    assert present(Handlers(Silent())) == {"data"}


def test_static_and_class_methods() -> None:
    class Plain:
        @staticmethod
        def open(socket: object) -> str:
            return f"open {socket}"

        @classmethod
        def end(cls, socket: object) -> str:
            return f"end {socket}"

    table = Handlers(Plain())
    assert present(table) == {"open", "end"}
    assert table["open"] is not None
    assert table["end"] is not None
    assert table["open"]("s") == "open s"
    assert table["end"]("s") == "end s"


def test_an_instances_own_callables() -> None:
    class Open(SocketHandler[None]):
        pass

    handler: Any = Open()
    handler.data = ignore
    table = Handlers(handler)
    assert present(table) == {"data"}
    assert table["data"] is ignore


def test_async_handlers() -> None:
    class Handler(SocketHandler[None]):
        async def open(self, socket: object) -> None: ...

    assert present(Handlers(Handler())) == {"open"}


# Other objects


def test_any_object_with_some_of_the_methods() -> None:
    class Plain:
        def data(self, socket: object, data: bytes) -> None: ...
        def unrelated(self) -> None: ...

    assert present(Handlers(Plain())) == {"data"}
    assert present(Handlers(SimpleNamespace(open=ignore, close=None))) == {"open"}


def test_a_callable_object_that_is_false() -> None:
    class Empty:
        def __call__(self, *_: object) -> None: ...
        def __len__(self) -> int:
            return 0

    handler = Empty()
    assert Handlers({"open": handler})["open"] is handler


@pytest.mark.parametrize("value", [None, 5, "open", [], object(), ignore])
def test_objects_without_handlers(value: object) -> None:
    with pytest.raises(TypeError, match=r"'socket'.*at least one"):
        Handlers(value)


def test_a_class_instead_of_an_instance() -> None:
    class Echo(SocketHandler[None]):
        def data(self, socket: object, data: bytes) -> None: ...

    for wrong in (Echo, SocketHandler, dict):
        with pytest.raises(TypeError, match=rf"class '{wrong.__name__}'.*{wrong.__name__}\(\)"):
            Handlers(wrong)


def test_an_attribute_that_raises_is_not_hidden() -> None:
    class Broken:
        @property
        def open(self) -> object:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Handlers(Broken())


# Mappings


@pytest.mark.parametrize("name", HANDLER_NAMES)
@pytest.mark.parametrize("form", [dict, UserDict, MappingProxyType, ChainMap])
def test_mappings(form: Any, name: str) -> None:
    table = Handlers(form({name: ignore}))
    assert present(table) == {name}
    assert table[name] is ignore


def test_none_in_a_mapping_is_absent() -> None:
    assert present(Handlers({"open": None, "data": ignore})) == {"data"}


@pytest.mark.parametrize("empty", [{}, {"open": None}, {"binary_type": "bytes"}], ids=repr)
def test_mappings_without_handlers(empty: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"'socket'.*at least one"):
        Handlers(empty)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("dta", "data"),
        ("opens", "open"),
        ("handshakes", "handshake"),
        ("binary_typ", "binary_type"),
        ("data_received", "data"),
        ("connection_lost", "close"),
    ],
)
def test_unknown_name_with_suggestion(wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"'socket'.*'{wrong}'.*did you mean '{right}'"):
        Handlers({"open": ignore, wrong: ignore})


def test_unknown_name_like_none() -> None:
    with pytest.raises(TypeError, match="'zzz'") as caught:
        Handlers({"open": ignore, "zzz": ignore})
    assert "did you mean" not in str(caught.value)


def test_unknown_name_that_is_no_str() -> None:
    with pytest.raises(TypeError, match="'5'"):
        Handlers({"open": ignore, 5: ignore})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("connectError", "connect_error"),
        ("binaryType", "binary_type"),
        ("on_data", "data"),
        ("onClose", "close"),
    ],
)
def test_camel_case_names_the_right_spelling(wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"'{wrong}' is spelled '{right}'"):
        Handlers({"open": ignore, wrong: ignore})


# Wrong handlers


@pytest.mark.parametrize("name", HANDLER_NAMES)
@pytest.mark.parametrize("value", [5, False, "open", b"", [ignore]])
def test_handlers_are_callable(name: str, value: object) -> None:
    for form in ({"open": ignore, name: value}, SimpleNamespace(**{"open": ignore, name: value})):
        with pytest.raises(TypeError, match=f"'socket'.*'{name}' must be callable") as caught:
            Handlers(form)
        assert repr(value)[:8] in str(caught.value)


CALLED_WITH = {
    "open": "(socket)",
    "data": "(socket, data)",
    "drain": "(socket)",
    "end": "(socket)",
    "close": "(socket, error)",
    "error": "(socket, error)",
    "timeout": "(socket)",
    "connect_error": "(socket, error)",
    "handshake": "(socket, success, authorization_error)",
}


def function_of(arguments: str) -> Any:
    """A function with these arguments, in the syntax of its definition."""
    namespace: dict[str, Any] = {}
    exec(f"def made({arguments}): ...", namespace)
    return namespace["made"]


class Callable:
    """An object that can be called with one argument."""

    def __call__(self, socket: object) -> None: ...


class StaticallyCallable:
    @staticmethod
    def __call__(socket: object) -> None: ...


class CallableLikeABase(Callable):
    pass


async def coroutine_function(socket: object) -> None: ...


WITH_ONE_ARGUMENT = [
    function_of("socket"),
    function_of("socket, /"),
    function_of("socket, data=None"),
    function_of("socket, *, loud=False"),
    function_of("*everything"),
    function_of("socket, *rest, **more"),
    lambda socket: None,
    coroutine_function,
    Callable(),
    StaticallyCallable(),
    CallableLikeABase(),
    Callable().__call__,
    partial(function_of("name, socket"), "a name"),
    partial(function_of("socket, name"), name="a name"),
    partial(partial(function_of("name, number, socket"), "a name"), 5),
    partial(Callable()),
    len,
    [].append,
    list,
    type("Made", (), {"__init__": lambda self, socket: None}),
]


@pytest.mark.parametrize("handler", WITH_ONE_ARGUMENT)
def test_what_takes_the_arguments_is_a_handler(handler: Any) -> None:
    assert Handlers({"open": handler})["open"] is handler
    # It would be called like that.
    if not inspect.iscoroutinefunction(handler):
        handler([])


NOT_WITH_ONE_ARGUMENT = [
    function_of(""),
    function_of("*, socket=None, **more"),
    function_of("socket, data"),
    function_of("socket, data, error=None"),
    function_of("socket, *, loud"),
    function_of("socket, *, loud, quiet=False"),
    function_of("*everything, loud"),
    lambda: None,
    coroutine_function.__get__(5),
    type("Made", (), {"__call__": lambda self: None})(),
    partial(coroutine_function, "a name"),
    partial(Callable(), "a name"),
    partial(partial(function_of("a, b"), 1), 2),
]


@pytest.mark.parametrize("handler", NOT_WITH_ONE_ARGUMENT)
def test_what_cannot_take_the_arguments_is_refused(handler: Any) -> None:
    with pytest.raises(TypeError, match=r"'socket'.*'open' is called with \(socket\), which "):
        Handlers({"open": handler})
    # It could not be called like that, either.
    with pytest.raises(TypeError):
        handler([])


@pytest.mark.parametrize("name", HANDLER_NAMES)
def test_the_arguments_of_each_event_are_named(name: str) -> None:
    called_with = CALLED_WITH[name]
    fitting = function_of(called_with.strip("()"))
    assert present(Handlers({name: fitting})) == {name}
    for wrong in (function_of(""), function_of(called_with.strip("()") + ", more")):
        with pytest.raises(TypeError) as caught:
            Handlers({name: wrong})
        assert f"handler {name!r} is called with {called_with}" in str(caught.value)


def test_a_wrong_handler_is_shown_as_it_was_written() -> None:
    class Server(SocketHandler[None]):
        def open(self, socket: object) -> None: ...
        def close(self, *, reason: str = "bye") -> None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match=r"which Server\.close\(self, \*, reason='bye'\) cannot be"):
        Handlers(Server())


def test_a_decorated_handler_is_judged_by_what_is_called() -> None:
    @functools.wraps(function_of("nothing, like, it"))
    def wrapper(*arguments: object) -> None: ...

    assert Handlers({"open": wrapper})["open"] is wrapper

    @functools.wraps(function_of("socket"))
    def narrow() -> None: ...

    with pytest.raises(TypeError, match=r"which made\(\) cannot be"):
        Handlers({"open": narrow})


@pytest.mark.parametrize("name", HANDLER_NAMES)
@pytest.mark.parametrize("value", [5, 0.5, "text", False])
def test_an_attribute_with_the_name_of_an_event(name: str, value: object) -> None:
    class Server(SocketHandler[None]):
        def __init__(self) -> None:
            setattr(self, name, value)

    with pytest.raises(TypeError) as caught:
        Handlers(Server())
    message = str(caught.value)
    assert f"{name!r} must be callable with {CALLED_WITH[name]}, got {value!r}" in message
    assert f"{name!r} is the name of an event" in message
    assert "needs another name" in message


def test_a_method_with_the_name_of_an_event() -> None:
    class Pool:
        def data(self, socket: object, data: bytes) -> None: ...
        def close(self) -> None:
            """Closes the pool."""

    with pytest.raises(TypeError) as caught:
        Handlers(Pool())
    message = str(caught.value)
    assert "'close' is called with (socket, error), which Pool.close(self) cannot be" in message
    assert "'close' is the name of an event" in message


@pytest.mark.loops("mantou")
async def test_wrong_handlers_are_found_before_anything_is_opened() -> None:
    wrong: Any = {"data": function_of("socket")}
    fault = r"'data' is called with \(socket, data\)"
    with pytest.raises(TypeError, match=fault):
        mantou.listen(hostname="127.0.0.1", port=0, socket=wrong)
    async with connected(Recorder()) as (socket, _):
        with pytest.raises(TypeError, match=fault):
            socket.reload(wrong)
        with pytest.raises(TypeError, match=fault):
            socket.upgrade_tls(tls=True, socket=wrong)
        assert socket.write(b"as before") == 9
        socket.terminate()
    with RawListener() as nobody:
        with pytest.raises(TypeError, match=fault):
            await mantou.connect(hostname="127.0.0.1", port=nobody.port, socket=wrong)
        with pytest.raises(BlockingIOError):
            nobody.sock.accept()


def test_the_option_is_named() -> None:
    with pytest.raises(TypeError, match="'other'"):
        Handlers({}, option="other")


# binary_type


@pytest.mark.parametrize("binary_type", ["bytes", "bytearray", "memoryview"])
def test_binary_type(binary_type: str) -> None:
    handler_class = type("Handler", (SocketHandler,), {"binary_type": binary_type, "data": ignore})
    for form in (
        handler_class(),
        SimpleNamespace(data=ignore, binary_type=binary_type),
        {"data": ignore, "binary_type": binary_type},
    ):
        assert Handlers(form).binary_type == binary_type


def test_binary_type_is_bytes_by_default() -> None:
    class Handler(SocketHandler[None]):
        def open(self, socket: object) -> None: ...

    for form in (Handler(), SimpleNamespace(open=ignore), {"open": ignore}):
        assert Handlers(form).binary_type == "bytes"


@pytest.mark.parametrize("value", ["buffer", "", "Bytes", "uint8array"])
def test_unknown_binary_type(value: str) -> None:
    with pytest.raises(ValueError, match=r"'socket'.*'binary_type'.*bytearray"):
        Handlers({"open": ignore, "binary_type": value})


@pytest.mark.parametrize("value", [None, bytes, 1, b"bytes"], ids=repr)
def test_binary_type_of_a_wrong_type(value: object) -> None:
    for form in (
        {"open": ignore, "binary_type": value},
        SimpleNamespace(open=ignore, binary_type=value),
    ):
        with pytest.raises(TypeError, match=r"'socket'.*'binary_type'"):
            Handlers(form)


def test_the_table_is_frozen() -> None:
    table = Handlers({"open": ignore})
    with pytest.raises(TypeError):
        table["open"] = None  # type: ignore[index]
    with pytest.raises(AttributeError):
        table.binary_type = "bytearray"  # type: ignore[misc]


def test_a_name_that_no_handler_has() -> None:
    with pytest.raises(KeyError, match="opened"):
        Handlers({"open": ignore})["opened"]

"""Which options connect(), listen() and their kin have, in each form: over TCP, unix, an fd.

TypeError for a name that is none, or that does not go with the others.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, NoReturn

from ._names import unknown_name
from ._option_types import (
    FdSocketListenOptions,
    FdSocketOptions,
    FdStreamListenOptions,
    FdStreamOptions,
    TCPSocketConnectOptions,
    TCPSocketListenOptions,
    TCPStreamConnectOptions,
    TCPStreamListenOptions,
    TLSOptions,
    UnixSocketListenOptions,
    UnixSocketOptions,
    UnixStreamListenOptions,
    UnixStreamOptions,
)
from ._validate import Options

Form = Literal["tcp", "unix", "fd"]


class Function(NamedTuple):
    """The option names that a function knows, in each of its forms."""

    name: str
    forms: dict[Form, frozenset[str]]
    known: frozenset[str]


def _function(name: str, tcp: type, unix: type, fd: type) -> Function:
    types: dict[Form, type] = {"tcp": tcp, "unix": unix, "fd": fd}
    forms: dict[Form, frozenset[str]] = {
        form: frozenset[str](options.__required_keys__ | options.__optional_keys__)  # type: ignore[attr-defined]
        for form, options in types.items()
    }
    return Function(name, forms, frozenset[str]().union(*forms.values()))


CONNECT = _function("connect()", TCPSocketConnectOptions, UnixSocketOptions, FdSocketOptions)
LISTEN = _function(
    "listen()", TCPSocketListenOptions, UnixSocketListenOptions, FdSocketListenOptions
)
CONNECT_STREAM = _function(
    "connect_stream()", TCPStreamConnectOptions, UnixStreamOptions, FdStreamOptions
)
SERVE_STREAMS = _function(
    "serve_streams()", TCPStreamListenOptions, UnixStreamListenOptions, FdStreamListenOptions
)
# Whose place a stream takes.
_OF_HANDLERS = LISTEN.known - SERVE_STREAMS.known
_FORM_TITLES: dict[Form, str] = {"tcp": "'hostname' and 'port'", "unix": "'unix'", "fd": "'fd'"}


def form_of(options: Options, function: Function) -> Form:
    """Which of the three forms was used; TypeError unless all names fit exactly one."""
    for name in options:
        if name not in function.known:
            _refuse_name(name, function)
    given: list[Form] = []
    if "hostname" in options or "port" in options:
        given.append("tcp")
    if "unix" in options:
        given.append("unix")
    if "fd" in options:
        given.append("fd")
    if len(given) != 1:
        titles = " and ".join(_FORM_TITLES[form] for form in given) or "none of them"
        raise TypeError(
            f"{function.name} needs exactly one of 'hostname' and 'port', 'unix' or 'fd', "
            f"got {titles}"
        )
    form = given[0]
    for name in options:
        if name not in function.forms[form]:
            fitting = " or ".join(
                _FORM_TITLES[other] for other, names in function.forms.items() if name in names
            )
            raise TypeError(
                f"{function.name}: option {name!r} is only for {fitting}, "
                f"not together with {_FORM_TITLES[form]}"
            )
    if form == "tcp":
        required(options, "hostname", function)
        required(options, "port", function)
    return form


def required(options: Options, name: str, function: Function) -> object:
    """What was given for the option, which there has to be."""
    if name not in options:
        raise TypeError(f"{function.name}: option {name!r} is missing")
    return options[name]


def _refuse_name(name: str, function: Function) -> NoReturn:
    of_streams = function in (CONNECT_STREAM, SERVE_STREAMS)
    if of_streams and name in _OF_HANDLERS:
        raise TypeError(
            f"{function.name}: option {name!r} is for handlers, whose place the stream takes"
        )
    connects = function in (CONNECT, CONNECT_STREAM)
    if of_streams:
        other = SERVE_STREAMS if connects else CONNECT_STREAM
    else:
        other = LISTEN if connects else CONNECT
    if name in other.known:
        raise TypeError(f"{function.name}: option {name!r} is only for {other.name}")
    of_tls = TLSOptions.__required_keys__ | TLSOptions.__optional_keys__
    raise unknown_name(function.name, name, sorted(function.known), sorted(of_tls))

"""Options of connect() and listen(): defaults, wrong values, contradictions, wrong names."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from mantou._addresses import Literal
from mantou._options import ConnectRequest, ListenRequest, parse_connect, parse_listen
from mantou._targets import FdTarget, TcpTarget, UnixTarget
from mantou._tls_options import parse_tls

Parse = Callable[[Mapping[str, object]], ConnectRequest | ListenRequest]

MIB = 1024 * 1024


def ignore(*_: object) -> None:
    """A handler."""


HANDLERS = {"data": ignore}
TCP = {"hostname": "example.com", "port": 80, "socket": HANDLERS}
UNIX = {"unix": "/tmp/s", "socket": HANDLERS}
FD = {"fd": 7, "socket": HANDLERS}

FORMS = [
    pytest.param(parse, form, id=f"{parse.__name__}-{next(iter(form))}")
    for parse in (parse_connect, parse_listen)
    for form in (TCP, UNIX, FD)
]


def refused(
    error: type[Exception], parse: Parse, options: Mapping[str, object], *mentioned: str
) -> str:
    """Asserts that exactly this class is raised and that the message has all of `mentioned`."""
    with pytest.raises(error) as caught:
        parse(options)
    assert type(caught.value) is error
    message = str(caught.value)
    for text in mentioned:
        assert text in message
    return message


# Defaults


def test_defaults_of_connect_over_tcp() -> None:
    request = parse_connect(TCP)
    way = request.way
    assert isinstance(way.target, TcpTarget)
    assert request.data is None
    assert request.tls is None
    assert (way.exclusive, way.reuse_port, way.ipv6_only) == (False, False, False)
    assert (way.local_address, way.local_port) == (None, 0)
    assert way.connect_timeout == 30.0
    stream = way.connection
    assert stream.allow_half_open is False
    assert stream.no_delay is True
    assert stream.keep_alive is None
    assert stream.idle_timeout is None
    assert stream.handshake_timeout == 30.0
    assert stream.close_timeout == 30.0
    assert stream.write_limit == 16 * MIB


def test_defaults_of_listen_over_tcp() -> None:
    request = parse_listen(TCP)
    assert isinstance(request.target, TcpTarget)
    assert request.data is None
    assert request.data_factory is None
    assert request.tls is None
    assert (request.exclusive, request.reuse_port, request.ipv6_only) == (False, False, False)
    assert request.connection == parse_connect(TCP).way.connection


def test_default_backlog_is_the_systems() -> None:
    proc = Path("/proc/sys/net/core/somaxconn")
    expected = int(proc.read_text()) if proc.exists() else socket.SOMAXCONN
    assert parse_listen(TCP).backlog == expected
    assert parse_listen(UNIX).backlog == expected


def test_default_backlog_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path) -> bytes:
        raise FileNotFoundError(str(self))

    monkeypatch.setattr(Path, "read_bytes", missing)
    assert parse_listen(TCP).backlog == socket.SOMAXCONN


def test_unix_and_fd_leave_tcp_settings_alone() -> None:
    for form in (UNIX, FD):
        stream = parse_connect(form).way.connection
        assert stream.no_delay is False
        assert stream.keep_alive is None
        assert stream.write_limit == 16 * MIB
        assert parse_listen(form).connection == stream


def test_targets_of_each_form() -> None:
    assert parse_connect(UNIX).way.target == UnixTarget(b"/tmp/s", "/tmp/s")
    assert parse_connect(FD).way.target == FdTarget(7)
    assert parse_listen(UNIX).target == UnixTarget(b"/tmp/s", "/tmp/s", None, False)
    assert parse_listen(FD).target == FdTarget(7)
    assert parse_listen(FD).backlog == 0


# Accepted values


def test_values_arrive() -> None:
    context = ssl.create_default_context()
    data = object()
    request = parse_connect(
        {
            "hostname": "::1",
            "port": "443",
            "socket": HANDLERS,
            "data": data,
            "tls": context,
            "allow_half_open": True,
            "exclusive": True,
            "ipv6_only": True,
            "local_address": "[::1]",
            "local_port": 5000,
            "connect_timeout": 1,
            "handshake_timeout": 2.5,
            "idle_timeout": 3,
            "no_delay": False,
            "keep_alive": 60,
            "close_timeout": None,
            "write_limit": 1,
        }
    )
    assert isinstance(request.way.target, TcpTarget)
    assert request.way.target.port == 443
    assert request.handlers["data"] is ignore
    assert request.data is data
    assert request.tls is context
    assert request.way.exclusive is True
    assert request.way.ipv6_only is True
    assert request.way.local_address == Literal("::1", socket.AF_INET6)
    assert request.way.local_port == 5000
    assert request.way.connect_timeout == 1.0
    stream = request.way.connection
    assert stream.allow_half_open is True
    assert stream.no_delay is False
    assert stream.keep_alive == 60.0
    assert stream.idle_timeout == 3.0
    assert stream.handshake_timeout == 2.5
    assert stream.close_timeout is None
    assert stream.write_limit == 1


def test_listen_values_arrive() -> None:
    def factory(socket: object) -> object:
        return socket

    options = {"data_factory": factory, "backlog": 0, "reuse_port": True}
    request = parse_listen({**TCP, **options})
    assert request.data_factory is factory
    assert request.backlog == 0
    assert request.reuse_port is True
    assert parse_listen({**TCP, "data_factory": factory, "data": None}).data_factory is factory
    assert parse_listen({**TCP, "data_factory": None, "data": 1}).data == 1


@pytest.mark.parametrize("name", ["connect_timeout", "handshake_timeout", "close_timeout"])
def test_none_is_no_limit(name: str) -> None:
    way = parse_connect({**TCP, name: None}).way
    holder: Any = way if name == "connect_timeout" else way.connection
    assert getattr(holder, name) is None


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, None])
def test_idle_timeout_of_zero_is_off(zero: float | None) -> None:
    assert parse_connect({**TCP, "idle_timeout": zero}).way.connection.idle_timeout is None


@pytest.mark.parametrize("name", ["idle_timeout", "handshake_timeout", "keep_alive"])
@pytest.mark.parametrize("endless", [1e300, 10**400, 2e9])
def test_times_are_capped(name: str, endless: float) -> None:
    assert getattr(parse_connect({**TCP, name: endless}).way.connection, name) == 1e9


def test_seconds_are_floats_whatever_was_given() -> None:
    assert type(parse_connect({**TCP, "connect_timeout": 3}).way.connect_timeout) is float


@pytest.mark.parametrize("port", [1, 65535, "1", "65535", "00080"])
def test_ports_of_connect(port: int | str) -> None:
    target = parse_connect({**TCP, "port": port}).way.target
    assert isinstance(target, TcpTarget)
    assert target.port == int(port)


@pytest.mark.parametrize("port", [0, "0"])
def test_port_zero_is_for_listen_only(port: int | str) -> None:
    target = parse_listen({**TCP, "port": port}).target
    assert isinstance(target, TcpTarget)
    assert target.port == 0
    refused(ValueError, parse_connect, {**TCP, "port": port}, "'port'", "1 to 65535", repr(port))


def test_an_int_enum_is_an_int() -> None:
    class Ports(IntEnum):
        HTTP = 80

    target = parse_connect({**TCP, "port": Ports.HTTP}).way.target
    assert isinstance(target, TcpTarget)
    assert target.port == 80


@pytest.mark.parametrize(
    ("given", "expected"),
    [(False, None), (True, True), ({}, {}), ({"ca": "x"}, {"ca": "x"})],
)
def test_tls_of_connect(given: object, expected: object) -> None:
    assert parse_connect({**TCP, "tls": given}).tls == expected


EMPTY: list[object] = [True, {}, MappingProxyType[str, object]({})]


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
def test_listen_needs_a_certificate(empty: object) -> None:
    refused(ValueError, parse_listen, {**TCP, "tls": empty}, "'tls'", "certificate")


def test_listen_takes_tls_with_contents() -> None:
    options = {"key": "k", "cert": "c"}
    assert parse_listen({**TCP, "tls": options}).tls is options
    assert parse_listen({**TCP, "tls": False}).tls is None


# Wrong values of single options

FLAGS = ["allow_half_open", "exclusive", "reuse_port", "ipv6_only", "no_delay"]
NOT_FLAGS: list[object] = [None, 0, 1, "yes", "", [], 1.0]
LIMITS = ["connect_timeout", "handshake_timeout", "close_timeout", "keep_alive", "dead_after"]
NOT_SECONDS: list[object] = [True, False, "1", b"1", [], (1,), Decimal(1), 1j]
NOT_INTS: list[object] = [True, False, 1.0, math.nan, "1", b"1", [], Decimal(1)]


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", NOT_FLAGS, ids=repr)
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_flags_are_bools(parse: Parse, name: str, value: object) -> None:
    refused(TypeError, parse, {**TCP, name: value}, repr(name), repr(value), type(value).__name__)


@pytest.mark.parametrize("name", [*LIMITS, "idle_timeout"])
@pytest.mark.parametrize("value", NOT_SECONDS, ids=repr)
def test_times_of_a_wrong_type(name: str, value: object) -> None:
    refused(TypeError, parse_connect, {**TCP, name: value}, repr(name), type(value).__name__)


@pytest.mark.parametrize("name", [*LIMITS, "idle_timeout"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -0.001, -(10**400)])
def test_times_out_of_range(name: str, value: float) -> None:
    refused(ValueError, parse_connect, {**TCP, name: value}, repr(name), type(value).__name__)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_limits_of_zero(name: str, value: float) -> None:
    refused(ValueError, parse_connect, {**TCP, name: value}, repr(name), "greater than 0")


@pytest.mark.parametrize("name", ["handshake_timeout", "close_timeout", "keep_alive"])
def test_listen_checks_times_too(name: str) -> None:
    refused(ValueError, parse_listen, {**TCP, name: 0}, repr(name))
    refused(TypeError, parse_listen, {**TCP, name: "0"}, repr(name))


@pytest.mark.parametrize("value", [None, *NOT_INTS], ids=repr)
def test_write_limit_of_a_wrong_type(value: object) -> None:
    refused(TypeError, parse_connect, {**TCP, "write_limit": value}, "'write_limit'", repr(value))


@pytest.mark.parametrize("value", [0, -1, 2**63, 10**5000], ids=["0", "-1", "2**63", "huge"])
def test_write_limit_out_of_range(value: int) -> None:
    refused(ValueError, parse_connect, {**TCP, "write_limit": value}, "'write_limit'")


@pytest.mark.parametrize("value", [None, *NOT_INTS], ids=repr)
def test_backlog_of_a_wrong_type(value: object) -> None:
    refused(TypeError, parse_listen, {**TCP, "backlog": value}, "'backlog'", repr(value))


@pytest.mark.parametrize("value", [-1, 2**31])
def test_backlog_out_of_range(value: int) -> None:
    refused(ValueError, parse_listen, {**TCP, "backlog": value}, "'backlog'", str(value))


@pytest.mark.parametrize("value", [True, False, 80.0, None, b"80", [80], Decimal(80)], ids=repr)
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_port_of_a_wrong_type(parse: Parse, value: object) -> None:
    refused(TypeError, parse, {**TCP, "port": value}, "'port'", repr(value))


@pytest.mark.parametrize(
    "value",
    [
        -1,
        65536,
        10**5000,
        "",
        "-1",
        "+1",
        " 80",
        "80 ",
        "8_0",
        "80.0",
        "http",
        "65536",
        "\u0668\u0660",
        "\u00b2",
        "9" * 5000,
    ],
    ids=lambda value: repr(value)[:12] if isinstance(value, str) else "int",
)
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_port_out_of_range(parse: Parse, value: object) -> None:
    refused(ValueError, parse, {**TCP, "port": value}, "'port'")


@pytest.mark.parametrize("value", NOT_INTS, ids=repr)
def test_local_port_of_a_wrong_type(value: object) -> None:
    refused(TypeError, parse_connect, {**TCP, "local_port": value}, "'local_port'", repr(value))


@pytest.mark.parametrize("value", [-1, 65536])
def test_local_port_out_of_range(value: int) -> None:
    refused(ValueError, parse_connect, {**TCP, "local_port": value}, "'local_port'", str(value))


def test_local_port_none_or_zero_is_any() -> None:
    assert parse_connect({**TCP, "local_port": None}).way.local_port == 0
    assert parse_connect({**TCP, "local_port": 0}).way.local_port == 0


@pytest.mark.parametrize("value", [0, b"::1", True, ["::1"]], ids=repr)
def test_local_address_of_a_wrong_type(value: object) -> None:
    options = {**TCP, "local_address": value}
    refused(TypeError, parse_connect, options, "'local_address'", repr(value))


@pytest.mark.parametrize("value", ["", "localhost", "127.1", "[127.0.0.1]", "::1\0", "1.2.3.4\0"])
def test_local_address_is_no_name(value: str) -> None:
    options = {**TCP, "local_address": value}
    refused(ValueError, parse_connect, options, "'local_address'", repr(value))


@pytest.mark.parametrize("value", [None, 1, b"localhost", ["localhost"], True], ids=repr)
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_hostname_of_a_wrong_type(parse: Parse, value: object) -> None:
    refused(TypeError, parse, {**TCP, "hostname": value}, "'hostname'", repr(value))


@pytest.mark.parametrize("value", ["", "a\0b", "a b", "http://x"])
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_hostname_that_is_none(parse: Parse, value: str) -> None:
    refused(ValueError, parse, {**TCP, "hostname": value}, "'hostname'", repr(value))


@pytest.mark.parametrize("value", [None, 0, 1, "pem", b"pem", [], ["pem"], ssl], ids=repr)
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_tls_of_a_wrong_type(parse: Parse, value: object) -> None:
    refused(TypeError, parse, {**TCP, "tls": value}, "'tls'", type(value).__name__)


def test_tls_errors_do_not_show_what_may_be_a_key() -> None:
    message = refused(TypeError, parse_connect, {**TCP, "tls": "secret"}, "'tls'")
    assert "secret" not in message


@pytest.mark.parametrize("value", [0, 1, "f", {}, []], ids=repr)
def test_data_factory_is_callable(value: object) -> None:
    options = {**TCP, "data_factory": value}
    refused(TypeError, parse_listen, options, "'data_factory'", repr(value))


@pytest.mark.parametrize(("parse", "form"), FORMS)
@pytest.mark.parametrize("value", [None, {}, 5, object()], ids=["None", "{}", "5", "object"])
def test_socket_without_handlers(parse: Parse, form: dict[str, object], value: object) -> None:
    refused(TypeError, parse, {**form, "socket": value}, "'socket'", type(value).__name__)


def test_data_factory_takes_the_socket() -> None:
    def factory() -> None: ...

    options = {**TCP, "data_factory": factory}
    refused(TypeError, parse_listen, options, "'data_factory'", "(socket)", "factory()")
    parse_listen({**TCP, "data_factory": lambda socket: None})
    parse_listen({**TCP, "data_factory": dict})


# Contradictions


@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_exclusive_contradicts_reuse_port(parse: Parse) -> None:
    options = {**TCP, "exclusive": True, "reuse_port": True}
    refused(ValueError, parse, options, "'exclusive'", "'reuse_port'")
    for name in ("exclusive", "reuse_port"):
        parse({**options, name: False})


@pytest.mark.parametrize(
    "hostname", ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "[::FFFF:1.2.3.4]"]
)
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_ipv6_only_contradicts_ipv4(parse: Parse, hostname: str) -> None:
    options = {**TCP, "hostname": hostname, "ipv6_only": True}
    refused(ValueError, parse, options, "'hostname'", "'ipv6_only'")
    parse({**options, "ipv6_only": False})


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_ipv6_only_contradicts_an_ipv4_local_address(address: str) -> None:
    options = {**TCP, "local_address": address, "ipv6_only": True}
    refused(ValueError, parse_connect, options, "'local_address'", "'ipv6_only'", address)
    parse_connect({**options, "ipv6_only": False})


@pytest.mark.parametrize(("hostname", "local"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_families_contradict(hostname: str, local: str) -> None:
    options = {**TCP, "hostname": hostname, "local_address": local}
    refused(ValueError, parse_connect, options, "'local_address'", "'hostname'", hostname, local)
    parse_connect({**options, "local_address": hostname})


@pytest.mark.parametrize("form", [TCP, UNIX, FD], ids=["tcp", "unix", "fd"])
def test_data_contradicts_data_factory(form: dict[str, object]) -> None:
    options = {**form, "data": 5, "data_factory": ignore}
    refused(ValueError, parse_listen, options, "'data'", "'data_factory'", "5")


# Forms


@pytest.mark.parametrize(("parse", "form"), FORMS)
def test_socket_is_required(parse: Parse, form: dict[str, object]) -> None:
    options = {name: value for name, value in form.items() if name != "socket"}
    refused(TypeError, parse, options, "'socket'", "missing")


@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_hostname_and_port_go_together(parse: Parse) -> None:
    refused(TypeError, parse, {"hostname": "x", "socket": HANDLERS}, "'port'", "missing")
    refused(TypeError, parse, {"port": 1, "socket": HANDLERS}, "'hostname'", "missing")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {**TCP, **UNIX},
        {**TCP, **FD},
        {**UNIX, **FD},
        {**UNIX, "port": 1},
        {**FD, "hostname": ""},
    ],
    ids=["none", "tcp+unix", "tcp+fd", "unix+fd", "port+unix", "hostname+fd"],
)
@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
def test_exactly_one_form(parse: Parse, options: dict[str, object]) -> None:
    refused(TypeError, parse, options, "exactly one", "'hostname'", "'unix'", "'fd'")


TCP_ONLY = {
    "exclusive": False,
    "reuse_port": False,
    "ipv6_only": False,
    "no_delay": True,
    "keep_alive": None,
    "dead_after": None,
}
CONNECT_TCP_ONLY = {**TCP_ONLY, "local_address": None, "local_port": None}


@pytest.mark.parametrize("name", CONNECT_TCP_ONLY)
@pytest.mark.parametrize("form", [UNIX, FD], ids=["unix", "fd"])
def test_tcp_options_of_connect(name: str, form: dict[str, object]) -> None:
    form_name = next(iter(form))
    options = {**form, name: CONNECT_TCP_ONLY[name]}
    refused(TypeError, parse_connect, options, repr(name), "'hostname'", "'port'", repr(form_name))
    parse_connect({**TCP, name: CONNECT_TCP_ONLY[name]})


@pytest.mark.parametrize("name", TCP_ONLY)
@pytest.mark.parametrize("form", [UNIX, FD], ids=["unix", "fd"])
def test_tcp_options_of_listen(name: str, form: dict[str, object]) -> None:
    form_name = next(iter(form))
    options = {**form, name: TCP_ONLY[name]}
    refused(TypeError, parse_listen, options, repr(name), "'hostname'", "'port'", repr(form_name))
    parse_listen({**TCP, name: TCP_ONLY[name]})


@pytest.mark.parametrize(("name", "value"), [("mode", 0o600), ("unlink_stale", True)])
@pytest.mark.parametrize("form", [TCP, FD], ids=["tcp", "fd"])
def test_file_options_are_for_unix(form: dict[str, object], name: str, value: object) -> None:
    refused(TypeError, parse_listen, {**form, name: value}, repr(name), "'unix'")
    refused(TypeError, parse_connect, {**UNIX, name: value}, repr(name), "listen()")


def test_backlog_with_fd() -> None:
    refused(TypeError, parse_listen, {**FD, "backlog": 1}, "'backlog'", "'fd'")


@pytest.mark.parametrize("name", ["backlog", "data_factory"])
def test_listen_options_in_connect(name: str) -> None:
    refused(TypeError, parse_connect, {**TCP, name: None}, repr(name), "only for listen()")


@pytest.mark.parametrize("name", ["connect_timeout", "local_address", "local_port"])
def test_connect_options_in_listen(name: str) -> None:
    refused(TypeError, parse_listen, {**TCP, name: None}, repr(name), "only for connect()")


# Names


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("hostnme", "hostname"),
        ("prt", "port"),
        ("sockets", "socket"),
        ("connect_timeuot", "connect_timeout"),
        ("keepalives", "keep_alive"),
        ("dead_afer", "dead_after"),
        ("tcp_user_timeout", "dead_after"),
        ("nodelays", "no_delay"),
    ],
)
def test_unknown_name_with_suggestion(wrong: str, right: str) -> None:
    options = {**TCP, wrong: 1}
    refused(TypeError, parse_connect, options, repr(wrong), f"did you mean {right!r}")


@pytest.mark.parametrize("wrong", ["max_connection", "maxconn", "limit_concurrency"])
def test_unknown_name_of_a_limit(wrong: str) -> None:
    options = {**TCP, wrong: 1}
    refused(TypeError, parse_listen, options, repr(wrong), "did you mean 'max_connections'")


@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("host", "'hostname'"),
        ("address", "'hostname'"),
        ("path", "'unix'"),
        ("sock", "'fd'"),
        ("handler", "'socket'"),
        ("handlers", "'socket'"),
        ("protocol", "'socket'"),
        ("protocol_factory", "'socket'"),
        ("ssl", "'tls'"),
        ("ssl_context", "'tls'"),
        ("sslContext", "'tls'"),
        ("limit", "'write_limit'"),
        ("read_timeout", "'idle_timeout'"),
        ("ssl_shutdown_timeout", "'close_timeout'"),
        ("server_hostname", "tls={'server_name': ...}"),
        ("ca_certs", "tls={'ca': ...}"),
    ],
)
def test_names_of_other_libraries(parse: Parse, wrong: str, right: str) -> None:
    refused(TypeError, parse, {**TCP, wrong: 1}, repr(wrong), f"did you mean {right}?")


def test_a_name_that_stands_for_several() -> None:
    both = "did you mean 'connect_timeout' or 'idle_timeout'?"
    refused(TypeError, parse_connect, {**TCP, "timeout": 1}, both)
    refused(TypeError, parse_listen, {**TCP, "timeout": 1}, "did you mean 'idle_timeout'?")
    both = "did you mean 'local_address' or 'local_port'?"
    refused(TypeError, parse_connect, {**TCP, "local_addr": 1}, both)


@pytest.mark.parametrize("parse", [parse_connect, parse_listen])
@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("certfile", "cert_file"),
        ("keyfile", "key_file"),
        ("cafile", "ca_file"),
        ("cert", "cert"),
        ("ALPNProtocols", "alpn_protocols"),
        ("rejectUnauthorized", "reject_unauthorized"),
    ],
)
def test_options_of_tls_belong_there(parse: Parse, given: str, right: str) -> None:
    options = {**TCP, given: 1}
    refused(TypeError, parse, options, repr(given), "option of 'tls'", f"tls={{{right!r}: ...}}")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("certfile", "is spelled 'cert_file'"),
        ("password", "did you mean 'passphrase'?"),
        ("verify", "did you mean 'reject_unauthorized'?"),
        ("hostname", "did you mean 'server_name'?"),
        ("protocol", "did you mean 'alpn_protocols'?"),
    ],
)
def test_names_of_tls_options(wrong: str, hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        parse_tls({wrong: 1}, "client")
    assert repr(wrong) in str(caught.value)
    assert hint in str(caught.value)


def test_a_misspelt_required_name_is_reported_as_such() -> None:
    options = {"hostnme": "x", "port": 1, "socket": HANDLERS}
    refused(TypeError, parse_connect, options, "'hostnme'", "did you mean 'hostname'")


def test_unknown_name_like_none() -> None:
    message = refused(TypeError, parse_connect, {**TCP, "zzzzzz": 1}, "'zzzzzz'", "connect()")
    assert "did you mean" not in message


@pytest.mark.parametrize(
    ("parse", "wrong", "right"),
    [
        (parse_connect, "allowHalfOpen", "allow_half_open"),
        (parse_connect, "reusePort", "reuse_port"),
        (parse_connect, "ipv6Only", "ipv6_only"),
        (parse_connect, "noDelay", "no_delay"),
        (parse_connect, "keepAlive", "keep_alive"),
        (parse_connect, "idleTimeout", "idle_timeout"),
        (parse_connect, "localAddress", "local_address"),
        (parse_connect, "hostName", "hostname"),
        (parse_connect, "TLS", "tls"),
        (parse_listen, "allowHalfOpen", "allow_half_open"),
        (parse_listen, "unlinkStale", "unlink_stale"),
        (parse_listen, "dataFactory", "data_factory"),
    ],
)
def test_camel_case_names_the_right_spelling(parse: Parse, wrong: str, right: str) -> None:
    refused(TypeError, parse, {**TCP, wrong: True}, repr(wrong), f"spelled {right!r}")

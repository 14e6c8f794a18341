"""Listeners: `stop()`, unix sockets, options that are refused; timeouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.certificates import SERVER
from conformance.scenario import TRANSPORTS, Handler, Scenario, client, server, table
from conformance.steps import (
    accept,
    act,
    close,
    connect,
    finish,
    look_at_file,
    receive,
    receive_end,
    refused,
    replace_file,
    secure,
    send,
    settle,
    wait,
)


def _stopping() -> Iterator[Scenario]:
    unix: dict[str, Any] = {"unix": True}
    for what, options in TRANSPORTS:
        yield Scenario(
            f"{what}`stop()` leaves open connections",
            (server(**options),),
            (
                *(connect(), wait("open"), act("S", ("stop", False), ("listener_same",))),
                *(send("after"), wait("data"), refused(), act("S", ("stop", False))),
                *(finish(), receive_end()),
            ),
        )
        yield Scenario(
            f"{what}`stop(true)` closes them",
            (server(**options),),
            (connect(), wait("open"), act("S", ("stop", True)), receive_end(), refused()),
        )
    for how in ("yes", 1, None):
        yield Scenario(
            f"`stop()` with {how!r}",
            (server(),),
            (connect(), wait("open"), act("S", ("stop", how)), settle(), finish(), receive_end()),
            because=("`shutdown()` and `stop()` take",),
        )
    yield Scenario(
        "`stop()` in `open`, `stop(true)` in `data`",
        (server({"open": [("stop", False)], "data": [("stop", True)]}),),
        (connect(), wait("open"), send("x"), receive_end()),
    )
    yield Scenario(
        "`stop(true)` in `close`",
        (server({"close": [("stop", True)]}),),
        (
            *(connect(), wait("open"), connect("P2"), wait("open", "S2")),
            *(finish(), receive_end(), receive_end("P2")),
        ),
    )
    yield Scenario(
        "leaving the scope of a listener",
        (server(),),
        (
            *(connect(), wait("open"), act("S", ("dispose_listener",)), refused()),
            *(finish(), receive_end()),
        ),
        because=("a listener's scope ends",),
    )
    yield Scenario(
        "leaving the scope of a socket",
        (client(),),
        (
            *(accept(), wait("open", "C"), act("C", ("write", "in scope"), ("dispose",))),
            *(receive_end(), finish()),
        ),
        because=("`end()` closes the descriptor",),
    )
    yield Scenario(
        "`reload()` after `stop()`",
        (server(),),
        (act("S", ("stop", False), ("reload_listener", table("S", {"data": []}))),),
        because=("`reload()` after `stop()` throws",),
    )
    yield Scenario(
        "the peer sends and is gone",
        (client(),),
        (accept(), send("hello"), close(), wait("close", "C")),
    )
    place = (("listener_host",), ("listener_port",), ("listener_path",))
    for what, options in (("a listener", {}), ("a unix listener", unix)):
        yield Scenario(
            f"{what}'s place stays known",
            (server(**options),),
            (act("S", *place, ("stop", False), *place),),
        )
    yield Scenario(
        "`stop()`, and the unix socket's file",
        (server(**unix),),
        (
            *(connect(), look_at_file(), act("S", ("stop", False)), look_at_file()),
            *(finish(), receive_end()),
        ),
    )
    yield Scenario(
        "`stop()`, and another file in its place",
        (server(**unix),),
        (
            *(connect(), replace_file(), act("S", ("stop", False)), look_at_file()),
            *(finish(), receive_end()),
        ),
        because=("`stop()` removes whatever",),
    )


def _places() -> Iterator[Scenario]:
    shares: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({}, {}),
        ({}, {"exclusive": True}),
        ({"exclusive": True}, {"exclusive": True}),
        ({}, {"reuse_port": True}),
        ({"reuse_port": True}, {"reuse_port": True}),
        ({"reuse_port": True}, {}),
    )
    for first, second in shares:
        names = [", ".join(f"`{one}`" for one in options) or "plain" for options in (first, second)]
        yield Scenario(
            f"the same port twice: {names[0]}, then {names[1]}",
            (server(**first),),
            (act("S", ("listen_again", {"hostname": "127.0.0.1", **second})),),
        )
    hosts: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("::", "0.0.0.0", {}),
        ("::", "0.0.0.0", {"ipv6_only": True}),
        ("0.0.0.0", "127.0.0.1", {}),
        ("::1", "127.0.0.1", {}),
    )
    for one, other, options in hosts:
        yield Scenario(
            f"the same port on `{one}` and `{other}`" + (", `ipv6_only`" if options else ""),
            (server(hostname=one, **options),),
            (act("S", ("listen_again", {"hostname": other})),),
        )
    yield Scenario(
        "an address that is not local",
        (server(hostname="192.0.2.1", port=0),),
        (),
    )
    yield Scenario(
        "a unix socket where there is no directory",
        (server(unix="/nonexistent/socket"),),
        (),
    )


def _unix() -> Iterator[Scenario]:
    yield Scenario(
        "unix: an accepted socket, half-open",
        (server(unix=True, allow_half_open=True),),
        (
            *(connect(), send("hi"), finish(), wait("end"), settle()),
            *(act("S", ("write", "late"), ("end",)), receive_end()),
        ),
    )
    yield Scenario(
        "unix: a connected socket, half-open",
        (client(unix=True, allow_half_open=True),),
        (
            *(accept(), send("bye"), finish(), wait("end", "C"), settle()),
            *(act("C", ("write", "late"), ("end",)), receive_end()),
        ),
    )
    yield Scenario(
        "unix: a connected socket's addresses, `set_no_delay()`, `end()`",
        (
            client(
                {
                    "open": [
                        *(("remote_address",), ("remote_family",)),
                        *(("no_delay", True), ("keep_alive", True, 5), ("write", "x")),
                    ]
                },
                unix=True,
            ),
        ),
        (accept(), receive(1), act("C", ("end",)), receive_end(), finish()),
        because=("`end()` closes the descriptor",),
    )
    yield Scenario(
        "unix: data, RST's like",
        (server(unix=True),),
        (connect(), send("hi"), wait("data"), finish(), receive_end()),
    )
    yield Scenario(
        "`localhost`, IPv4 and IPv6",
        (server(hostname="::"), client(hostname="localhost")),
        (wait("open", "C"), settle(), act("C", ("terminate",)), wait("close")),
        because=("all addresses at once",),
        abroad=("all addresses at once",),
    )
    yield Scenario(
        "`localhost`, IPv4 only",
        (client({"open": [("remote_address",)]}, hostname="localhost"),),
        (accept(), finish(), receive_end()),
    )


def _options() -> Iterator[Scenario]:
    for name, value in (
        ("port", -1),
        ("port", 65536),
        ("port", 1.5),
        ("port", "http"),
        ("port", None),
        ("hostname", ""),
        ("hostname", "local\0host"),
        ("hostname", None),
        ("unix", 5),
        ("allow_half_open", "yes"),
        ("exclusive", 1),
        ("reuse_port", None),
        ("ipv6_only", "no"),
        ("tls", "yes"),
        ("tls", 1),
    ):
        for make in (server, client):
            options: dict[str, Any] = {"port": 1, name: value}
            if name == "unix":
                del options["port"]
            one = make(**options)
            call = "listen" if one.role == "S" else "connect"
            yield Scenario(
                f"`{call}()` with {name}: {value!r}".replace("\0", "\\0"),
                (one,),
                (wait(call, one.role),),
            )
    yield Scenario(
        "`listen()` with handlers that are none",
        (server(without=["open", "data", "end", "close", "error"]),),
        (),
    )
    yield Scenario(
        "`listen()` without `data` and `drain`",
        (server(without=["data"]),),
        (act("S", ("stop", False)),),
        because=("at least `data` or `drain`",),
    )
    yield Scenario(
        "`connect()` with an option that nobody knows",
        (client(frobnicate=1),),
        (wait("open|connect", "C"),),
        because=("unknown options are ignored",),
        stays_open=True,
    )
    for name in ("exclusive", "reuse_port"):
        yield Scenario(
            f"`connect()` with `{name}`",
            (client(**{name: True}),),  # type: ignore[arg-type]
            (accept(), wait("open", "C"), finish(), receive_end()),
        )
    yield Scenario(
        "`connect()` with `local_address`",
        (client({"open": [("local_address",)]}, local_address="127.0.0.9"),),
        (accept(), wait("open", "C"), finish(), receive_end()),
    )
    yield Scenario(
        "`connect()` to IPv4 with `ipv6_only`",
        (client(ipv6_only=True),),
        (wait("open|connect", "C"),),
        because=("`exclusive`, `reusePort`, `ipv6Only` do nothing",),
        stays_open=True,
    )


def _timeouts() -> Iterator[Scenario]:
    yield Scenario(
        "`timeout(1)`",
        (server({"open": [("timeout", 1)], "timeout": [("state",)]}),),
        (connect(), wait("timeout"), settle(), act("S", ("state",), ("terminate",))),
        because=("`timeout()` only calls",),
    )
    yield Scenario(
        "`timeout(1)`, and `timeout` returns True",
        (server({"open": [("timeout", 1)], "timeout": Handler([("timeout", 0)], gives="true")}),),
        (
            *(connect(), wait("timeout"), settle(), act("S", ("state",))),
            *(finish(), receive_end()),
        ),
    )
    yield Scenario(
        "`timeout()` raises",
        (server({"open": [("timeout", 1)], "timeout": [("throw", "boom")]}),),
        (connect(), wait("timeout"), settle(), act("S", ("state",), ("terminate",))),
        because=("a handler that throws leaves",),
    )
    yield Scenario(
        "`timeout(1)` over TLS",
        (server({"open": [("timeout", 1)], "timeout": []}, tls=SERVER),),
        (connect(), secure(), wait("timeout"), settle(), act("S", ("terminate",))),
        because=("`timeout()` only calls",),
    )
    yield Scenario(
        "`timeout()` with a negative time",
        (server({"open": [("timeout", -1)]}),),
        (connect(), finish(), receive_end()),
    )


STOPPING = tuple(_stopping())
PLACES = (*_places(), *_unix())
OPTIONS = tuple(_options())
TIMEOUTS = tuple(_timeouts())

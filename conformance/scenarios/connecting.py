"""Connecting: what fails, what is over before the loop's next turn, descriptors."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.scenario import TRANSPORTS, Handler, Scenario, client
from conformance.steps import (
    accept,
    act,
    close,
    fill_backlog,
    finish,
    receive,
    release,
    send,
    settle,
    wait,
)

NOBODY = 1  # a port where nobody listens


def _failing() -> Iterator[Scenario]:
    for what, handler, because in (
        ("", Handler(), ()),
        (" raises", Handler([("throw", "boom")]), ("what `connectError` throws",)),
        (
            ", asynchronous, raises",
            Handler([("throw", "boom")], is_async=True),
            ("what `connectError` throws",),
        ),
        (" returns an error", Handler(gives="error"), ("`open` may return",)),
    ):
        yield Scenario(
            f"refused; `connect_error`{what}",
            (client({"connect_error": handler}, port=NOBODY, tells_promise=True),),
            (wait("failed", "C"), settle()),
            because=because,
        )
    yield Scenario(
        "refused; `connect_error` raises, no `error` handler",
        (
            client(
                {"connect_error": [("throw", "boom")]},
                without=["error"],
                port=NOBODY,
                tells_promise=True,
            ),
        ),
        (wait("failed", "C"), settle()),
        because=("what `connectError` throws",),
    )
    yield Scenario(
        "refused, no `connect_error` handler",
        (client(port=NOBODY, tells_promise=True),),
        (wait("failed", "C"), settle()),
    )
    yield Scenario(
        "refused; `data` is there in `connect_error`",
        (
            client(
                {
                    "connect_error": [
                        ("data",),
                        ("set_data", 2),
                        ("data",),
                        ("write", "x"),
                        ("end",),
                    ]
                },
                data={"c": 1},
                port=NOBODY,
                tells_promise=True,
            ),
        ),
        (wait("failed", "C"),),
    )
    yield Scenario(
        "a name that nobody has",
        (
            client(
                {"connect_error": []}, hostname="nobody.invalid", port=NOBODY, tells_promise=True
            ),
        ),
        (wait("failed", "C"),),
    )
    yield Scenario(
        "no such unix socket",
        (client({"connect_error": []}, unix="/nonexistent/socket", tells_promise=True),),
        (wait("failed", "C"),),
    )


def _at_once() -> Iterator[Scenario]:
    """What has happened before the loop looks for the first time."""
    for what, options in TRANSPORTS:
        one = client({"connect_error": []}, tells_promise=True, is_held=True, **options)
        yield Scenario(
            f"{what}the peer has accepted, answered and closed before the first turn",
            (one,),
            (accept(), send("hello"), close(), release()),
            because=("a unix peer that",) if what else (),
        )
    yield Scenario(
        "unix: the queue of the listener is full",
        (client({"connect_error": []}, unix=True, tells_promise=True, connect_timeout=0.2),),
        (wait("open", "C"), fill_backlog(), act("C", ("connect_again",)), wait("failed", "C")),
        because=("a unix listener whose queue",),
        stays_open=True,
    )


def _descriptors() -> Iterator[Scenario]:
    for what, options in (
        ("connected socket", {"fd": "connected"}),
        ("connected socket, half-open", {"fd": "connected", "allow_half_open": True}),
    ):
        yield Scenario(
            f"`connect()` with the descriptor of a {what}",
            (client({"open": [("write", "hello")], "drain": []}, tells_promise=True, **options),),
            (accept(), receive(5), send("hi"), finish(), wait("end", "C"), settle()),
            because=("`drain` also after",),
            stays_open=True,
        )
    for what, fd in (("a file's descriptor", "a file"), ("a descriptor that is none", -1)):
        yield Scenario(
            f"`connect()` with {what}",
            (client({"connect_error": []}, tells_promise=True, fd=fd),),
            (wait("failed|connect", "C"),),
            because=("any failure is",),
        )


FAILING = tuple(_failing())
AT_ONCE = (*_at_once(), *_descriptors())

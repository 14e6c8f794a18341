"""Handlers that raise, that are asynchronous, that call from within; `data`, `reload()`."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.scenario import Handler, Program, Scenario, Step, client, fill, server, table
from conformance.steps import (
    accept,
    act,
    connect,
    finish,
    receive,
    receive_end,
    receive_until,
    send,
    settle,
    wait,
)

BIG = 16 << 20
ZOMBIE = ("a handler that throws leaves",)


def _end(role: str, on: dict[str, object], error: bool) -> tuple[Program, Step]:
    without = () if error else ("error",)
    if role == "S":
        return server(on, without=without), connect()  # type: ignore[arg-type]
    return client(on, without=without), accept()  # type: ignore[arg-type]


def _story(role: str, event: str) -> tuple[Step, ...]:
    """What leads to the event, and what is to be seen after it."""
    after = (settle(), act(role, ("write", "still"), ("terminate",)))
    return {
        "open": (wait("open", role), settle(), *after),
        "data": (send("ping"), wait("data", role), *after),
        "drain": (receive_until("drain", role), *after),
        "end": (finish(), wait("end", role), *after),
        "close": (wait("open", role), act(role, ("terminate",)), wait("close", role)),
    }[event]


def _raising() -> Iterator[Scenario]:
    for error in (True, False):
        for role, whose in (("S", "an accepted"), ("C", "a connected")):
            for event in ("open", "data", "drain", "end", "close"):
                on: dict[str, object] = {event: [("throw", "boom")]}
                if event == "drain":
                    on["open"] = [("write", fill(BIG))]
                one, first = _end(role, on, error)
                yield Scenario(
                    f"`{event}` of {whose} socket raises"
                    + ("" if error else ", no `error` handler"),
                    (one,),
                    (first, *_story(role, event)),
                    because={
                        "close": ("what `close` throws",) if error else (),
                        "open": ("`close` gets an error for",),
                        "end": ("`close` gets an error for",),
                    }.get(event, ZOMBIE),
                )
    yield Scenario(
        "`error` raises",
        (server({"data": [("throw", "boom")], "error": [("throw", "again")]}),),
        (
            connect(),
            send("x"),
            wait("error"),
            settle(),
            act("S", ("write", "still"), ("terminate",)),
        ),
        because=ZOMBIE,
    )
    yield Scenario(
        "`data` raises, `error` returns True",
        (server({"data": [("throw", "boom")], "error": Handler(gives="true")}),),
        (
            connect(),
            send("x"),
            wait("error"),
            settle(),
            act("S", ("write", "still"), ("terminate",)),
        ),
    )


def _asynchronous() -> Iterator[Scenario]:
    for error in (True, False):
        also = "" if error else ", no `error` handler"
        for event in ("open", "data", "end", "close"):
            rejects = Handler([("throw", "boom")], is_async=True)
            one, first = _end("S", {event: rejects}, error)
            yield Scenario(
                f"asynchronous `{event}` raises{also}",
                (one,),
                (first, *_story("S", event)),
                because=() if event == "close" else ("a rejection is",),
            )
            one, first = _end("S", {event: Handler(gives="error")}, error)
            yield Scenario(
                f"`{event}` returns an error{also}",
                (one,),
                (first, *_story("S", event)),
                because=("`open` may return",) if event == "open" else (),
            )
    yield Scenario(
        "asynchronous `error` raises",
        (
            server(
                {
                    "data": [("throw", "boom")],
                    "error": Handler([("throw", "again")], is_async=True),
                }
            ),
        ),
        (
            connect(),
            send("x"),
            wait("error"),
            settle(),
            act("S", ("write", "still"), ("terminate",)),
        ),
        because=ZOMBIE,
    )
    yield Scenario(
        "data while an asynchronous `open` waits",
        (server({"open": Handler([("gate", "door"), ("mark", "opened")], is_async=True)}),),
        (
            *(connect(), wait("open"), send("a"), settle(), act("S", ("open_gate", "door"))),
            *(wait("data"), wait("mark"), finish(), receive_end()),
        ),
        because=("promises of handlers are",),
    )


def _within() -> Iterator[Scenario]:
    yield Scenario(
        "calls in `close`",
        (server({"close": [("write", "x"), ("end",), ("terminate",), ("no_delay", True)]}),),
        (connect(), send("hi"), finish(), receive_end()),
    )
    yield Scenario(
        "addresses in `close`",
        (server({"close": [("remote_address",), ("remote_family",)]}),),
        (connect(), finish(), receive_end()),
        because=("addresses are gone",),
    )
    for action in (("end", "bye"), ("terminate",), ("close",)):
        yield Scenario(
            f"`{action[0]}()` in `end`",
            (server({"end": [action]}),),
            (connect(), send("hi"), finish(), receive_end()),
        )
    yield Scenario(
        "`terminate()` in `open`",
        (server({"open": [("terminate",)]}),),
        (connect(), wait("close"), receive_end()),
    )
    yield Scenario(
        "`shutdown()` twice, then `end()` twice",
        (server({"data": [("shutdown",), ("shutdown",), ("write", "x"), ("end",), ("end",)]}),),
        (connect(), send("hi"), receive_end(), send("more"), finish()),
        because=("`end()` closes the descriptor",),
    )
    yield Scenario(
        "`shutdown()`, later `end()`",
        (server({"data": [("shutdown",)]}),),
        (connect(), send("hi"), receive_end(), act("S", ("end",)), send("more"), finish()),
        because=("`end()` closes the descriptor",),
    )
    for what in ("x", 0, None):
        yield Scenario(
            f"`shutdown()` with {what!r}",
            (server({"data": [("shutdown", what), ("write", "after")]}),),
            (connect(), send("hi"), wait("data"), finish(), receive_end()),
            because=("`shutdown()` and `stop()` take",),
        )
    yield Scenario(
        "`end()` in `data` and `terminate()` after it",
        (server({"data": [("end", "bye"), ("terminate",)]}),),
        (connect(), send("hi"), wait("close"), receive_end()),
        because=("`close` runs within",),
    )
    yield Scenario(
        "`state()` from `open` to `close`",
        (server({one: [("state",)] for one in ("open", "data", "end", "close")}),),
        (connect(), send("hi"), finish(), receive_end()),
        because=("after the end `readyState`",),
    )
    yield Scenario(
        "connecting again in `data`",
        (client({"data": [("connect_again",)]}),),
        (
            accept(),
            send("hi"),
            accept("P2"),
            wait("open", "C2"),
            finish(),
            wait("close", "C"),
            finish("P2"),
        ),
    )
    yield Scenario(
        "only `drain` is there",
        (server({"drain": []}, without=["open", "data", "end", "close", "error"]),),
        (connect(), send("dropped"), finish(), receive_end()),
    )
    yield Scenario(
        "`set_no_delay()`, `set_keep_alive()`",
        (server({"open": [("no_delay", True), ("no_delay", False), ("keep_alive", True, 5)]}),),
        (connect(), finish(), receive_end()),
    )


def _data() -> Iterator[Scenario]:
    yield Scenario(
        "`data` of a listener and its sockets",
        (server({"open": [("data",), ("data_shared",)], "close": [("data",)]}, data={"n": 1}),),
        (
            *(connect(), wait("open"), connect("P2"), wait("open", "S2")),
            *(act("S", ("set_data", {"own": 1}), socket=0), act("S", ("data",), socket=1)),
            *(act("S", ("set_listener_data", {"n": 2})), connect("P3"), wait("open", "S3")),
            *(finish(), wait("close"), finish("P2"), wait("close", "S2")),
            *(finish("P3"), wait("close", "S3"), act("S", ("listener_data",))),
        ),
    )
    yield Scenario(
        "`data` of a connected socket",
        (
            client(
                {"open": [("data",)], "close": [("data",), ("set_data", 7), ("data",)]}, data=[1]
            ),
        ),
        (accept(), finish(), receive_end()),
    )
    yield Scenario(
        "`data` that was not given",
        (server({"open": [("data",)]}),),
        (connect(), finish(), receive_end()),
    )
    for kind in ("bytes", "bytearray", "memoryview"):
        yield Scenario(
            f"`{kind}` that is looked at later",
            (server({"data": [("keep_chunk",)]}, binary=kind),),
            (
                *(connect(), send("first"), wait("data"), act("S", ("kept_chunk",))),
                *(finish(), receive_end()),
            ),
            because=("an `ArrayBuffer` is",) if kind == "memoryview" else (),
        )
        yield Scenario(
            f"binary type `{kind}`",
            (server(binary=kind),),
            (connect(), send("hello"), finish(), receive_end()),
        )


def _reloading() -> Iterator[Scenario]:
    new = table("S", {"data": [("mark", "new handlers"), ("write", "new")]})
    newer = table("S", {"data": [("mark", "newer handlers"), ("write", "newer")]})
    nothing = {"name": "S", "on": {}, "binary": ""}
    deaf = table("S", {"drain": []}, without=["data"])
    tail = (finish(), receive_end())
    yield Scenario(
        "`reload()` of a listener counts for open sockets",
        (server({"data": [("write", "old")]}),),
        (
            *(connect(), send("a"), receive(3), act("S", ("reload_listener", new))),
            *(send("b"), receive(3), connect("P2"), send("c", "P2"), receive(3, "P2")),
            *(*tail, finish("P2"), receive_end("P2")),
        ),
    )
    yield Scenario(
        "`reload()` of an accepted socket is its listener's",
        (server({"data": [("write", "old")]}),),
        (
            *(connect(), wait("open"), connect("P2"), wait("open", "S2")),
            *(act("S", ("reload", new), socket=0), send("b", "P2"), receive(3, "P2")),
            *(*tail, finish("P2"), receive_end("P2")),
        ),
    )
    yield Scenario(
        "`reload()` in `data` counts for the next",
        (server({"data": [("write", "old"), ("reload", newer)]}),),
        (connect(), send("a"), receive(3), send("b"), receive(5), *tail),
    )
    yield Scenario(
        "`reload()` of a connected socket",
        (client(),),
        (accept(), wait("open", "C"), act("C", ("reload", new)), send("a"), receive(3), *tail),
    )
    yield Scenario(
        "`reload()` without `data`",
        (server(),),
        (
            *(connect(), send("a"), wait("data"), act("S", ("reload_listener", deaf))),
            *(send("b"), settle(), *tail),
        ),
    )
    yield Scenario(
        "`reload()` with nothing",
        (server(),),
        (
            *(connect(), wait("open"), act("S", ("reload_listener", nothing), ("reload", nothing))),
            *(send("still"), wait("data"), *tail),
        ),
    )


RAISING = tuple(_raising())
ASYNCHRONOUS = tuple(_asynchronous())
WITHIN = (*_within(), *_data(), *_reloading())

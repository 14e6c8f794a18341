"""What a peer's FIN or RST does, with and without `allow_half_open`, seen from the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.scenario import Program, Scenario, server
from conformance.steps import (
    act,
    connect,
    finish,
    receive,
    receive_end,
    reset,
    send,
    send_while_taken,
    settle,
    wait,
)

ENDS = ("`end()` closes the descriptor",)


def _scenarios(half: bool) -> Iterator[Scenario]:
    def serves(on: Any = None, **options: Any) -> tuple[Program, ...]:
        return (server(on, allow_half_open=half, **options),)

    def named(name: str) -> str:
        return f"{name}; half-open" if half else name

    last = () if half else (receive_end(),)
    yield Scenario(
        named("data, FIN; an answer in `end`"),
        serves({"end": [("write", "answer"), ("state",)]}),
        (connect(), send("hi"), finish(), receive(6), wait("end"), *last),
        stays_open=half,
    )
    yield Scenario(
        named("data, FIN; an answer later"),
        serves(),
        (
            *(connect(), send("hi"), finish(), wait("end"), settle()),
            *(act("S", ("write", "late"), ("end", "fin")), receive_end()),
        ),
    )
    yield Scenario(
        named("FIN, and no `end` handler"),
        serves(without=["end"]),
        (connect(), wait("open"), finish(), settle(), act("S", ("write", "late")), *last),
        because=("`allowHalfOpen` is off where",) if half else (),
        stays_open=half,
    )
    yield Scenario(
        named("data, FIN, then RST"),
        serves(),
        (connect(), send("hi"), finish(), wait("end"), settle(), reset()),
    )
    yield Scenario(
        named("RST while idle"), serves(), (connect(), send("hi"), wait("data"), reset())
    )
    yield Scenario(named("data, RST at once"), serves(), (connect(), send("hi"), reset()))
    yield Scenario(
        named("`end(data)` in `data`, the peer goes on"),
        serves({"data": [("end", "bye")]}),
        (connect(), send("hi"), receive_end(), send("more"), finish()),
        because=ENDS,
    )
    yield Scenario(
        named("`shutdown()` in `data`, the peer goes on"),
        serves({"data": [("write", "w1"), ("shutdown",), ("write", "w2")]}),
        (connect(), send("hi"), receive_end(), send("more"), wait("data", count=2), finish()),
        because=("after `shutdown()` the peer's FIN",),
    )
    yield Scenario(
        named("`shutdown(true)` in `data`"),
        serves({"data": [("shutdown", True), ("state",), ("write", "w2")]}),
        (
            connect(),
            send("hi"),
            receive(2),
            settle(),
            send("more"),
            settle(),
            finish(),
            wait("end"),
            *last,
        ),
        stays_open=half,
    )
    yield Scenario(
        named("`shutdown(true)`, and the peer sends 16 MiB"),
        serves({"data": [("shutdown", True)]}),
        (connect(), send("hi"), wait("data"), settle(), send_while_taken(16 << 20), finish()),
        because=("`shutdown(true)` counts as",),
        stays_open=True,
    )
    yield Scenario(
        named("`terminate()` in `data`"),
        serves({"data": [("terminate",)]}),
        (connect(), send("hi"), receive_end()),
    )
    yield Scenario(
        named("`close()` in `data`"),
        serves({"data": [("close",)]}),
        (connect(), send("hi"), receive_end()),
    )


SCENARIOS = (*_scenarios(half=False), *_scenarios(half=True))

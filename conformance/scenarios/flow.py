"""Backpressure, `drain`, large answers; pausing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.scenario import Handler, Scenario, fill, server
from conformance.steps import (
    act,
    close,
    connect,
    finish,
    flood,
    receive,
    receive_end,
    receive_until,
    release,
    reset,
    send,
    send_filled,
    settle,
    wait,
)

BIG = 16 << 20  # more than the kernel takes
LOST = ("`end(data)` drops what",)


def _sending() -> Iterator[Scenario]:
    for half in (False, True):
        also = "; half-open" if half else ""
        options: dict[str, Any] = {"allow_half_open": half}
        yield Scenario(
            f"`end()` with 16 MiB{also}",
            (server({"open": [("end", fill(BIG))], "drain": []}, **options),),
            (connect(), wait("end()"), receive_end(of=BIG), finish()),
            because=LOST,
        )
        yield Scenario(
            f"FIN under backpressure{also}",
            (server({"open": [("write", fill(BIG))]}, **options),),
            (
                connect(),
                wait("open"),
                finish(),
                wait("end"),
                *(() if half else (receive_end(of=BIG),)),
            ),
            stays_open=half,
        )
        yield Scenario(
            f"FIN under backpressure, then RST{also}",
            (server({"open": [("write", fill(BIG))]}, **options),),
            (connect(), wait("open"), finish(), wait("end"), settle(), reset()),
        )
        yield Scenario(
            f"RST under backpressure{also}",
            (server({"open": [("write", fill(BIG))]}, **options),),
            (connect(), wait("open"), settle(), reset()),
        )
    yield Scenario(
        "`end()` with 16 MiB, no `drain` handler",
        (server({"open": [("end", fill(BIG))]}),),
        (connect(), receive_until("open"), settle(), act("S", ("state",)), close()),
        because=LOST,
    )
    yield Scenario(
        "a short `write()`, then `end()`",
        (server({"open": [("write", fill(BIG)), ("end",)]}),),
        (connect(), wait("end()"), receive_end(of=BIG), finish()),
        because=("`end()` closes the descriptor",),
    )
    yield Scenario(
        "a short `write()`, then `end(data)`",
        (server({"open": [("write", fill(BIG)), ("end", fill(BIG))], "drain": []}),),
        (connect(), wait("end()"), receive_end(tail=BIG), finish()),
        because=LOST,
    )
    yield Scenario(
        "a short `write()`, others, one `drain`",
        (
            server(
                {
                    "open": [("write", fill(BIG)), ("write", fill(BIG)), ("write", "")],
                    "drain": [("write", "z"), ("terminate",)],
                }
            ),
        ),
        (connect(), wait("write()", count=3), receive_until("drain")),
    )
    yield Scenario(
        "a whole `write()` is followed by no `drain`",
        (server({"open": [("write", "whole")], "drain": []}),),
        (connect(), receive(5), settle(), finish(), receive_end()),
    )
    yield Scenario(
        "16 MiB by `write()` and `drain`",
        (server({"open": [("pump", fill(BIG), [("shutdown",)])], "drain": []}),),
        (connect(), receive_end(of=BIG), close()),
        because=("after `shutdown()` the peer's FIN",),
    )
    yield Scenario(
        "a short `write()`, then `shutdown()`",
        (server({"open": [("write", fill(BIG)), ("shutdown",), ("write", "x")]}),),
        (connect(), wait("write()", count=2), receive_end(of=BIG), close()),
        because=("after `shutdown()` the peer's FIN",),
    )
    yield Scenario(
        "a short `write()`, then `terminate()`",
        (server({"open": [("write", fill(BIG)), ("terminate",)]}),),
        (connect(), wait("close"), receive_end(of=BIG)),
    )
    yield Scenario(
        "a short `write()` in `end`",
        (server({"end": [("write", fill(BIG))]}),),
        (connect(), finish(), wait("write()"), receive_end(of=BIG)),
    )
    yield Scenario(
        "16 MiB from `end` on; half-open",
        (server({"end": [("pump", fill(BIG), [("end",)])], "drain": []}, allow_half_open=True),),
        (connect(), finish(), receive_end(of=BIG)),
    )
    yield Scenario(
        "16 MiB and `end()`, and the peer sends, too",
        (server({"open": [("pump", fill(BIG), [("end",)])], "drain": []}),),
        (connect(), receive_until("pump"), send("late"), settle(), receive_end(of=BIG), finish()),
        because=("unread input makes a RST",),
    )
    yield Scenario(
        "`close()` in `drain`",
        (server({"open": [("write", fill(BIG))], "drain": [("close",)]}),),
        (connect(), wait("write()"), receive_end(of=BIG)),
    )
    yield Scenario(
        "five small writes",
        (server({"open": [("write", one) for one in "hello"]}),),
        (connect(), receive(5), finish(), receive_end()),
    )
    yield Scenario(
        "`write()` and offsets",
        (
            server(
                {
                    "data": [
                        *(("write", "hello", 2, 2), ("write", "hello", 6), ("write", "hello", -1)),
                        *(("write", ""), ("write", "grüße"), ("bytes_written",)),
                    ]
                }
            ),
        ),
        (connect(), send("x"), receive(9), finish(), receive_end()),
    )
    yield Scenario(
        "`write(data, offset)` without a length",
        (server({"data": [("write", "hello", 2)]}),),
        (connect(), send("x"), wait("data"), finish(), receive_end()),
        because=("`write(data, offset)` raises",),
    )
    yield Scenario(
        "`flush()`",
        (server({"data": [("flush",), ("write", "a"), ("flush",)]}),),
        (connect(), send("hi"), receive(1), finish(), receive_end()),
    )
    yield Scenario(
        "20 MB arrive, in chunks of 512 KiB at most",
        (server({"end": [("chunks_within", 512 << 10)]}),),
        (connect(), send_filled(20_000_000), finish(), receive_end()),
    )
    yield Scenario(
        "one peer floods, another has its answers",
        (server({"data": Handler([("echo", 64)], is_silent=True)}),),
        (
            *(connect(), wait("open"), flood("P"), connect("P2")),
            *(
                one
                for text in ("one", "two", "three")
                for one in (send(text, "P2"), receive(len(text), "P2"))
            ),
            *(close("P2"), wait("close", "S2")),
        ),
        stays_open=True,
    )
    yield Scenario(
        "20 MB arrive",
        (server(),),
        (connect(), send_filled(20_000_000), finish(), receive_end()),
    )


def _pausing() -> Iterator[Scenario]:
    for half in (False, True):
        also = "; half-open" if half else ""
        last = () if half else (receive_end(),)
        options: dict[str, Any] = {"allow_half_open": half}
        yield Scenario(
            f"`pause()` in `open`; data, FIN; `resume()`{also}",
            (server({"open": [("pause",)]}, **options),),
            (
                *(connect(), wait("open"), send("hello"), finish(), settle(), act("S", ("state",))),
                *(act("S", ("resume",)), wait("end"), *last),
            ),
            stays_open=half,
        )
        yield Scenario(
            f"`pause()` in `open`; data, RST; `resume()`{also}",
            (server({"open": [("pause",)]}, **options),),
            (connect(), wait("open"), send("hello"), reset(), settle(), act("S", ("resume",))),
            because=("a reset ends a pause",),
        )
        yield Scenario(
            f"`pause()` in `open`; the peer is gone; a `write()`{also}",
            (server({"open": [("pause",)]}, **options),),
            (
                *(connect(), wait("open"), send("hello"), close(), settle()),
                *(act("S", ("write", "x")), settle(), act("S", ("resume",))),
            ),
            because=("a reset ends a pause",),
        )
        yield Scenario(
            f"`pause()` in `data`; more data, FIN; `resume()`{also}",
            (server({"data": [("pause",)]}, **options),),
            (
                *(connect(), send("one"), wait("data"), send("two"), send("three"), finish()),
                *(settle(), act("S", ("resume",)), wait("data", count=2)),
                *(settle(), act("S", ("resume",)), wait("end"), *last),
            ),
            stays_open=half,
        )
        yield Scenario(
            f"paused, `write()` and `drain` go on{also}",
            (
                server(
                    {"open": [("pause",), ("write", fill(BIG))], "drain": [("terminate",)]},
                    **options,
                ),
            ),
            (connect(), receive_until("drain")),
        )
        yield Scenario(
            f"`pause()`, unread data, `end(data)`{also}",
            (server({"open": [("pause",)]}, **options),),
            (
                *(connect(), wait("open"), send("unread"), act("S", ("end", "bye"))),
                *(receive_end(), finish(), act("S", ("resume",))),
            ),
            because=("unread input makes a RST",),
        )
    yield Scenario(
        "`end(data)` in `data`, and more is unread",
        (server({"data": [("hold",), ("end", "bye")]}),),
        (
            *(connect(), send("one"), wait("data"), send("two"), release()),
            *(receive_end(), finish()),
        ),
        because=("unread input makes a RST",),
    )
    yield Scenario(
        "`pause()`, 100 kB unread, `end(data)`",
        (server({"open": [("pause",)]}),),
        (
            *(connect(), wait("open"), send_filled(100_000), act("S", ("end", "bye"))),
            *(receive_end(), finish(), act("S", ("resume",))),
        ),
        because=("unread input makes a RST",),
    )
    yield Scenario(
        "`pause()` twice, `resume()` once",
        (server({"open": [("pause",), ("pause",)]}),),
        (
            connect(),
            wait("open"),
            send("hi"),
            act("S", ("resume",)),
            wait("data"),
            finish(),
            receive_end(),
        ),
    )
    yield Scenario(
        "`drain` after `pause()` and `resume()`",
        (server({"open": [("pause",)], "drain": []}),),
        (
            *(connect(), wait("open"), settle(), act("S", ("mark", "a moment later"), ("resume",))),
            *(settle(), finish(), receive_end()),
        ),
        because=("`drain` also after",),
    )


SENDING = tuple(_sending())
PAUSING = tuple(_pausing())

"""close_notify, FIN and RST under TLS, seen from the wire; TLS on a connection that is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.certificates import SERVER
from conformance.scenario import Program, Scenario, client, fill, server
from conformance.scenarios.tls_programs import (
    AFTER_END,
    TRUSTS,
)
from conformance.steps import (
    act,
    connect,
    finish,
    notify,
    receive,
    receive_end,
    receive_fin,
    reset,
    secure,
    send,
    send_filled,
    send_raw,
    settle,
    wait,
)

BIG = 16 << 20
TRUNCATED = ("over TLS a FIN without",)
SILENT_CLOSE = ("over TLS `close()` sends",)


def _endings(version: str, half: bool) -> Iterator[Scenario]:
    def serves(on: Any = None, **options: Any) -> tuple[Program, ...]:
        return (server(on, tls=SERVER, allow_half_open=half, **options),)

    def named(name: str) -> str:
        return f"{version}: {name}" + ("; half-open" if half else "")

    first = (connect(), secure(version=version), send("hi"))
    yield Scenario(
        named("`end(data)` in `data`, the peer ends, too"),
        serves({"data": [("end", "bye")]}),
        (*first, receive_end(), notify(), finish(), receive_fin()),
        because=AFTER_END,
    )
    yield Scenario(
        named("`end()` in `data`, the peer goes on"),
        serves({"data": [("end",)]}),
        (*first, receive_end(), send("more"), wait("data", count=2), settle(), notify(), finish()),
        because=AFTER_END,
    )
    yield Scenario(
        named("data, close_notify; an answer in `end`"),
        serves({"end": [("write", "reply")]}),
        (*first, wait("data"), notify(), receive(5), *(() if half else (receive_fin(),))),
        stays_open=half,
    )
    yield Scenario(
        named("data, FIN without close_notify"),
        serves(),
        (*first, wait("data"), finish(), settle(), act("S", ("write", "reply"), ("terminate",))),
        because=TRUNCATED,
    )
    yield Scenario(named("RST"), serves(), (*first, wait("data"), reset()))
    yield Scenario(
        named("`shutdown()` in `data`, the peer goes on"),
        serves({"data": [("shutdown",), ("write", "x")]}),
        (
            *first,
            receive_end(),
            send("more"),
            wait("data", count=2),
            notify(),
            finish(),
            receive_fin(),
        ),
    )
    yield Scenario(
        named("`terminate()` in `data`"),
        serves({"data": [("terminate",)]}),
        (*first, receive_end()),
    )
    yield Scenario(
        named("`close()` in `data`"),
        serves({"data": [("close",)]}),
        (*first, receive_end()),
        because=SILENT_CLOSE,
    )


def _others() -> Iterator[Scenario]:
    first = (connect(), secure(), send("hi"), wait("data"))
    for what, without in (("", ()), (", no `error` handler", ("error",))):
        yield Scenario(
            f"garbage on an established session{what}",
            (server(tls=SERVER, without=without),),
            (*first, send_raw("no record at all, but a line of text\n"), wait("close")),
            because=("`close` gets an error for",),
        )
    yield Scenario(
        "`end()` with 16 MiB over TLS",
        (server({"data": [("end", fill(BIG))], "drain": []}, tls=SERVER),),
        (*first, wait("end()"), receive_end(of=BIG), notify(), finish()),
        because=("`end(data)` drops what",),
    )
    yield Scenario(
        "16 MiB over TLS by `write()` and `drain`",
        (server({"data": [("pump", fill(BIG), [("end",)])], "drain": []}, tls=SERVER),),
        (*first, receive_end(of=BIG), notify(), finish()),
        because=AFTER_END,
    )
    yield Scenario(
        "a short `write()` over TLS, then RST",
        (server({"data": [("write", fill(BIG)), ("write", "more")]}, tls=SERVER),),
        (*first, settle(), reset()),
    )
    yield Scenario(
        "5 MB arrive over TLS, in chunks of 512 KiB at most",
        (server({"end": [("chunks_within", 512 << 10)]}, tls=SERVER),),
        (connect(), secure(), send_filled(5_000_000), notify(), receive_fin()),
    )
    yield Scenario(
        "20,000 bytes over TLS are counted as the application's",
        (server({"data": [("write", fill(20_000)), ("bytes_written",)]}, tls=SERVER),),
        (*first, receive(20_000), act("S", ("bytes_written",)), reset()),
        because=("five writes are five sends",),
    )
    yield Scenario(
        "`stop(true)` over TLS",
        (server(tls=SERVER),),
        (*first, act("S", ("stop", True)), receive_end(), receive_fin()),
        because=("`stop(true)` over TLS",),
    )
    yield Scenario(
        "`pause()`, data, close_notify, `resume()` over TLS",
        (server({"open": [("pause",)]}, tls=SERVER),),
        (
            *(connect(), secure(), wait("open"), send("one"), send("two"), notify(), settle()),
            *(act("S", ("resume",)), wait("close"), receive_fin()),
        ),
    )
    for event, raises in (
        ("open", (wait("error"),)),
        ("data", (send("hi"), wait("error"))),
    ):
        yield Scenario(
            f"`{event}` raises over TLS",
            (server({event: [("throw", "boom")]}, tls=SERVER),),
            (
                *(connect(), secure(), *raises, settle()),
                act("S", ("write", "x"), ("terminate",)),
            ),
            because=("a handler that throws leaves",)
            if event == "data"
            else ("`close` gets an error for",),
        )


def _pairs() -> Iterator[Scenario]:
    def pair(on_server: Any, on_client: Any, **options: Any) -> tuple[Program, ...]:
        return (
            server(on_server, tls=SERVER, **options),
            client(on_client, tls=TRUSTS, hostname="localhost"),
        )

    yield Scenario(
        "TLS: client `end()`, then the answer",
        pair({"end": [("write", "reply"), ("end",)]}, {"open": [("end", "request")]}),
        (wait("close"), wait("close", "C")),
    )
    yield Scenario(
        "TLS: server `end(data)` in `data`",
        pair({"data": [("end", "bye")]}, {"open": [("write", "hi")]}),
        (wait("close", "C"), wait("close")),
        because=AFTER_END,
    )
    yield Scenario(
        "TLS: both `end(data)` in `open`",
        pair({"open": [("end", "s")]}, {"open": [("end", "c")]}),
        (wait("close", "C"), wait("close")),
    )
    yield Scenario(
        "TLS: `shutdown(true)`",
        pair({"open": [("shutdown", True), ("write", "x")]}, {"data": [("end",)]}),
        (wait("close", "C"), wait("close")),
        because=AFTER_END,
    )
    yield Scenario(
        "TLS: `write()` of nothing, `flush()`",
        pair({"data": [("write", ""), ("flush",), ("end", "bye")]}, {"open": [("write", "hi")]}),
        (wait("close", "C"), wait("close")),
        because=AFTER_END,
    )
    yield Scenario(
        "TLS: `handshake` raises",
        pair(None, {"handshake": [("throw", "boom")]}),
        (
            *(wait("open"), wait("error", "C"), settle()),
            act("C", ("write", "still"), ("terminate",)),
        ),
        because=("a handler that throws leaves",),
        alone=True,
    )
    yield Scenario(
        "TLS: client `close()`",
        pair(None, None),
        (wait("open"), wait("open", "C"), act("C", ("close",)), wait("close")),
        abroad=SILENT_CLOSE,
    )
    yield Scenario(
        "TLS: client `terminate()`",
        pair(None, None),
        (wait("open"), wait("open", "C"), act("C", ("terminate",)), wait("close")),
    )
    for size in (20_000, 5 << 20):
        yield Scenario(
            f"TLS: {size} bytes from the client",
            pair({"end": [("end",)]}, {"open": [("pump", fill(size), [("end",)])], "drain": []}),
            (wait("close"), wait("close", "C")),
            because=AFTER_END,
        )
    yield Scenario(
        "TLS over a unix socket",
        (
            server({"data": [("end", "bye")]}, tls=SERVER, unix=True),
            client(
                {"open": [("write", "hi")]}, tls={**TRUSTS, "server_name": "localhost"}, unix=True
            ),
        ),
        (wait("close", "C"), wait("close")),
        because=AFTER_END,
    )


ENDINGS = tuple(
    one
    for version in ("TLSv1.3", "TLSv1.2")
    for half in (False, True)
    for one in _endings(version, half)
)
OTHERS = (*_others(), *_pairs())

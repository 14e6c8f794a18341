"""close_notify, FIN and RST under TLS, seen from the wire; TLS on a connection that is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.certificates import CA, SERVER, STRANGERS_CA
from conformance.scenario import Program, Scenario, client, fill, server, table
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
    send_raw,
    settle,
    wait,
)

BIG = 16 << 20
TRUSTS: dict[str, Any] = {"ca": CA}
AFTER_END = ("after `end()` over TLS",)
TRUNCATED = ("over TLS a FIN without",)
CUT_SHORT = ("a handshake that is cut short",)
TOLD_WHY = ("`close` gets an error for",)
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
        (*first, receive_end(of=BIG), notify(), finish()),
        because=("`end(data)` drops what",),
    )
    yield Scenario(
        "16 MiB over TLS by `write()` and `drain`",
        (server({"data": [("pump", fill(BIG), [("end",)])], "drain": []}, tls=SERVER),),
        (*first, receive_end(of=BIG), notify(), finish()),
        because=AFTER_END,
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
    for event in ("open", "data"):
        yield Scenario(
            f"`{event}` raises over TLS",
            (server({event: [("throw", "boom")]}, tls=SERVER),),
            (
                *(connect(), secure(), send("hi"), wait("error"), settle()),
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


def _upgrades() -> Iterator[Scenario]:
    secure_server = table("ST", {"handshake": [], "data": [("write", "answer")]})
    secure_client = table("CT", {"handshake": [("write", "question")]})
    upgrade_server = ("upgrade", SERVER, secure_server)
    upgrade_client = ("upgrade", {**TRUSTS, "server_name": "localhost"}, secure_client)
    begun = (wait("open"), wait("open", "C"), act("S", upgrade_server), act("C", upgrade_client))
    both = (server({"drain": []}, without=["data"]), client({"drain": []}, without=["data"]))
    yield Scenario(
        "`upgrade_tls()` on both sides",
        both,
        (*begun, wait("data", "CT"), act("CT", ("end",)), wait("close", "CT"), wait("close", "ST")),
        because=NO_QUESTION,
    )
    trusts_others = {"ca": STRANGERS_CA, "server_name": "localhost"}
    for what, tls in (
        ("an unknown authority", trusts_others),
        ("another name", {**TRUSTS, "server_name": "foo.test"}),
    ):
        yield Scenario(
            f"`upgrade_tls()` of a client: {what}",
            (server({"drain": []}, without=["data"]), client({"drain": []}, without=["data"])),
            (
                *(wait("open"), wait("open", "C")),
                *(act("S", upgrade_server), act("C", ("upgrade", tls, secure_client))),
                *(wait("close", "CT"), wait("close", "ST")),
            ),
            because=(*CUT_SHORT, *TOLD_WHY),
            abroad=CUT_SHORT,
        )
    yield Scenario(
        "`upgrade_tls()` of a client: the host's address is the name",
        both,
        (
            *(wait("open"), wait("open", "C")),
            *(act("S", upgrade_server), act("C", ("upgrade", TRUSTS, secure_client))),
            *(wait("data", "CT"), act("CT", ("terminate",)), wait("close", "ST")),
        ),
        because=NO_QUESTION,
    )
    yield Scenario(
        "`upgrade_tls()`, no `handshake` handlers",
        both,
        (
            *(wait("open"), wait("open", "C")),
            act("S", ("upgrade", SERVER, table("ST", {"data": [("write", "answer")]}))),
            act(
                "C",
                (
                    "upgrade",
                    {**TRUSTS, "server_name": "localhost"},
                    table("CT", {"open": [("write", "question")]}),
                ),
            ),
            *(wait("data", "CT"), act("CT", ("end",)), wait("close", "CT"), wait("close", "ST")),
        ),
        because=AFTER_END,
    )
    yield Scenario(
        "`upgrade_tls()` and `stop(true)`",
        both,
        (*begun, wait("data", "CT"), act("S", ("stop", True)), settle()),
        because=("`stop(true)` misses",),
        abroad=("`stop(true)` misses",),
        stays_open=True,
    )
    yield Scenario(
        "after `upgrade_tls()` the old `data` handler",
        (server({"data": []}),),
        (
            *(connect(), wait("open"), act("S", upgrade_server), secure(), send("hi")),
            *(receive(6), notify(), wait("close", "ST")),
        ),
        because=("after an upgrade the old handlers",),
    )
    yield Scenario(
        "STARTTLS, and the ClientHello in the same segment",
        (server({"data": [("upgrade", SERVER, secure_server, True)]}),),
        (
            *(connect(), secure(before="STARTTLS\n"), send("hi")),
            *(receive(6), notify(), wait("close", "ST")),
        ),
        because=("after an upgrade the old handlers",),
    )
    yield Scenario(
        "plaintext behind STARTTLS",
        (server({"data": [("upgrade", SERVER, secure_server, True)]}),),
        (connect(), send("STARTTLS\ninjected, in the clear\n"), wait("close", "ST")),
        because=("`close` gets an error for",),
    )
    refused: tuple[tuple[str, Any], ...] = (
        ("nothing", None),
        ("`false`", False),
        ("a key that is none", {"key": "none"}),
    )
    for what, tls in refused:
        yield Scenario(
            f"`upgrade_tls()` with {what}",
            (server({"data": [("write", "still in the clear")]}),),
            (
                *(connect(), wait("open"), act("S", ("upgrade", tls, secure_server))),
                *(send("x"), receive(18), finish(), receive_end()),
            ),
        )


NO_QUESTION = ("a server that asks for no certificate",)
ENDINGS = tuple(
    one
    for version in ("TLSv1.3", "TLSv1.2")
    for half in (False, True)
    for one in _endings(version, half)
)
OTHERS = (*_others(), *_pairs())
UPGRADES = tuple(_upgrades())

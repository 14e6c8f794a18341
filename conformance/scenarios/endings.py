"""Who ends first, and what the other gets to know."""

from __future__ import annotations

from conformance.scenario import TRANSPORTS, Scenario, client, fill, server
from conformance.steps import act, wait

HALVES = [(s, c) for s in (False, True) for c in (False, True)]
ENDS = ("`end()` closes the descriptor",)


def _both(action: str, s: bool, c: bool) -> str:
    who = {(True, False): "server", (False, True): "client", (True, True): "both"}.get((s, c))
    return f"{action}; {who} half-open" if who else action


SCENARIOS = (
    *(
        Scenario(
            _both("client `end()`", s, c),
            (server(allow_half_open=s), client(allow_half_open=c)),
            (wait("open"), wait("open", "C"), act("C", ("end",)), wait("end")),
            because=ENDS,
            stays_open=s,
        )
        for s, c in HALVES
    ),
    *(
        Scenario(
            _both("server `end(data)` in `data`", s, c),
            (server({"data": [("end", "bye")]}, allow_half_open=s), client(allow_half_open=c)),
            (wait("open", "C"), act("C", ("write", "hi")), wait("end", "C")),
            because=ENDS,
            stays_open=c,
        )
        for s, c in HALVES
    ),
    Scenario(
        "client `end(data)`",
        (server(), client()),
        (wait("open"), wait("open", "C"), act("C", ("end", "bye"))),
        because=ENDS,
    ),
    Scenario(
        "both `end(data)` in `open`",
        (server({"open": [("end", "s")]}), client({"open": [("end", "c")]})),
        (wait("close"), wait("close", "C")),
        because=ENDS,
        alone=True,
    ),
    Scenario(
        "server `end(data)` in `open`",
        (server({"open": [("end", "hello")]}), client(tells_promise=True)),
        (wait("connected", "C"),),
        because=ENDS,
    ),
    Scenario(
        "client `end(data)` in `open`",
        (server(), client({"open": [("end", "hello")]}, tells_promise=True)),
        (wait("connected", "C"),),
        because=(*ENDS, "`close` runs within"),
    ),
    *(
        Scenario(
            f"{what}5 MB there and 5 MB back",
            (
                server(
                    {"end": [("pump", fill(5_000_000), [("end",)])], "drain": []},
                    allow_half_open=True,
                    **options,
                ),
                client(
                    {"open": [("pump", fill(5_000_000), [("shutdown",)])], "drain": []}, **options
                ),
            ),
            (wait("close"), wait("close", "C")),
            because=("after `shutdown()` the peer's FIN",),
        )
        for what, options in TRANSPORTS
    ),
    Scenario(
        "client `shutdown()`, then the answer",
        (
            server({"end": [("write", "reply"), ("end",)]}),
            client({"open": [("write", "request"), ("shutdown",)]}),
        ),
        (wait("close"), wait("close", "C")),
        because=("after `shutdown()` the peer's FIN",),
    ),
    Scenario(
        "`close` within `end()`",
        (
            server(),
            client({"open": [("mark", "before"), ("end",), ("mark", "after")]}),
        ),
        (wait("close"), wait("close", "C")),
        because=("`close` runs within", *ENDS),
    ),
)

"""Who ends first, and what the other gets to know."""

from __future__ import annotations

from conformance.scenario import Scenario, client, server
from conformance.steps import act, wait

HALF = (False, True)
ENDS = "`end()` closes the descriptor"


def _both(action: str, s: bool, c: bool) -> str:
    names = {(False, False): "", (True, False): "the server", (False, True): "the client"}
    who = names.get((s, c), "both")
    return f"{action}; {who} may be half-open" if who else action


SCENARIOS = (
    *(
        Scenario(
            _both("client end()", s, c),
            (server(allow_half_open=s), client(allow_half_open=c)),
            (wait("open"), wait("open", "C"), act("C", ("end",)), wait("end")),
            stays_open=s,
        )
        for s in HALF
        for c in HALF
    ),
    *(
        Scenario(
            _both("server end(data) in data", s, c),
            (server({"data": [("end", "bye")]}, allow_half_open=s), client(allow_half_open=c)),
            (wait("open", "C"), act("C", ("write", "hi")), wait("end", "C")),
            stays_open=c,
        )
        for s in HALF
        for c in HALF
    ),
    Scenario(
        "client end(data)",
        (server(), client()),
        (wait("open"), wait("open", "C"), act("C", ("end", "bye"))),
    ),
    Scenario(
        "server end(data) in open",
        (server({"open": [("end", "hello")]}), client(tells_promise=True)),
        (wait("connected", "C"),),
    ),
    Scenario(
        "client end(data) in open",
        (server(), client({"open": [("end", "hello")]}, tells_promise=True)),
        (wait("connected", "C"),),
    ),
)

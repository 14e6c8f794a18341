"""What a peer's FIN or RST does, with and without `allow_half_open`, seen from the wire."""

from __future__ import annotations

from conformance.scenario import Scenario, server
from conformance.steps import act, connect, finish, receive, receive_end, reset, send, wait

HALF = (False, True)

def _for(name: str, half: bool) -> str:
    return f"{name}, half-open" if half else name


SCENARIOS = (
    *(
        Scenario(
            _for("data, FIN; the answer in end", half),
            (server({"end": [("write", "answer"), ("state",)]}, allow_half_open=half),),
            (connect(), send("hi"), finish(), receive(6), wait("end")),
            stays_open=half,
        )
        for half in HALF
    ),
)

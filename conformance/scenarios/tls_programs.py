"""What scenarios of TLS have in common: programs, steps, and the reasons to differ."""

from __future__ import annotations

from typing import Any

from conformance.certificates import CA, SERVER
from conformance.scenario import Action, Program, Step, client, server
from conformance.steps import act, wait

TRUSTS: dict[str, Any] = {"ca": CA}
VERSIONS = ("TLSv1.2", "TLSv1.3")
NO_QUESTION = ("a server that asks for no certificate",)
EARLY_OPEN = ("without a `handshake` handler `open`",)
ADDRESS = ("an address is sent as SNI",)
TOLD_WHY = ("`close` gets an error for",)
NO_ALERT = ("a client that refuses a server",)
CUT_SHORT = ("a handshake that is cut short",)
ENDS = ("`end()` closes the descriptor",)
AFTER_END = ("after `end()` over TLS",)
ONE_VERDICT = ("`handshake(success, error)`",)
AS_WAS_SEEN: tuple[Action, ...] = (("authorized",), ("verdict",))
# A handshake that failed: Bun has called `open` as well, mantou has not.
OVER = "close|connect_error"
NEITHER: dict[str, Any] = {}


def pair(
    serves: dict[str, Any],
    connects: Any,
    on_server: Any = None,
    on_client: Any = None,
    **options: Any,
) -> tuple[Program, ...]:
    """A server with its certificate, and a client that calls it by its name."""
    return (
        server(on_server, tls={**SERVER, **serves}),
        client(on_client, tls=connects, **{"hostname": "localhost", **options}),
    )


def told(*more: Action) -> dict[str, Any]:
    """A handler that tells what the handshake has found out."""
    return {"handshake": [*AS_WAS_SEEN, *more]}


# The client has the last word once both sides have opened, so that nothing depends on timing.
PART: tuple[Step, ...] = (
    wait("open"),
    wait("open", "C"),
    act("C", ("terminate",)),
    wait("close", "C"),
)
SHAKEN: tuple[Step, ...] = (wait("handshake"), wait("handshake", "C"), act("C", ("terminate",)))

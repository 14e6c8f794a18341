"""All scenarios, by what they are about."""

from __future__ import annotations

from conformance.scenario import Scenario
from conformance.scenarios import (
    endings,
    flow,
    halves,
    handlers,
    listeners,
    tls,
    tls_endings,
)

GROUPS: dict[str, tuple[Scenario, ...]] = {
    "Two programs end": endings.SCENARIOS,
    "FIN, RST, half-open": halves.SCENARIOS,
    "Sending": flow.SENDING,
    "Pausing": flow.PAUSING,
    "Handlers that raise": handlers.RAISING,
    "Asynchronous handlers": handlers.ASYNCHRONOUS,
    "Connecting fails": handlers.FAILING,
    "Calls, data, reload": handlers.WITHIN,
    "Stopping": listeners.STOPPING,
    "Places to listen": listeners.PLACES,
    "Options": listeners.OPTIONS,
    "TLS handshakes": tls.HANDSHAKES,
    "Names, protocols, certificates, sessions": tls.NAMES,
    "Bad peers and options of TLS": tls.BAD,
    "TLS endings": tls_endings.ENDINGS,
    "TLS, other": tls_endings.OTHERS,
    "Upgrades": tls_endings.UPGRADES,
    "Timeouts": listeners.TIMEOUTS,
}

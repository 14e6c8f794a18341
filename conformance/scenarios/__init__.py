"""All scenarios, by what they are about."""

from __future__ import annotations

from conformance.scenario import Scenario
from conformance.scenarios import (
    connecting,
    endings,
    flow,
    halves,
    handlers,
    listeners,
    tls,
    tls_bad,
    tls_endings,
    tls_names,
    upgrades,
)

GROUPS: dict[str, tuple[Scenario, ...]] = {
    "Two programs end": endings.SCENARIOS,
    "FIN, RST, half-open": halves.SCENARIOS,
    "Sending": flow.SENDING,
    "Pausing": flow.PAUSING,
    "Handlers that raise": handlers.RAISING,
    "Asynchronous handlers": handlers.ASYNCHRONOUS,
    "Connecting fails": connecting.FAILING,
    "Connecting, before the first turn and by descriptor": connecting.AT_ONCE,
    "Calls, data, reload": handlers.WITHIN,
    "Stopping": listeners.STOPPING,
    "Places to listen": listeners.PLACES,
    "Options": listeners.OPTIONS,
    "TLS handshakes": tls.HANDSHAKES,
    "Names, protocols, certificates, sessions": tls_names.NAMES,
    "Bad peers and options of TLS": tls_bad.BAD,
    "TLS endings": tls_endings.ENDINGS,
    "TLS, other": tls_endings.OTHERS,
    "Upgrades": upgrades.UPGRADES,
    "Timeouts": listeners.TIMEOUTS,
}

"""All scenarios, by what they are about."""

from __future__ import annotations

from conformance.scenario import Scenario
from conformance.scenarios import endings, halves

GROUPS: dict[str, tuple[Scenario, ...]] = {
    "Endings between two programs": endings.SCENARIOS,
    "FIN, RST and half-open": halves.SCENARIOS,
}

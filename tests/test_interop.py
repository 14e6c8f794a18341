"""TLS with OpenSSL's programs: what takes a process to show. All peers: `make interop`."""

from __future__ import annotations

import pytest

from tests.interop.peers import PEERS
from tests.interop.talks import (
    OPENSSL,
    RUSTLS,
    SCENARIOS,
    Engine,
    Scenario,
    attempt,
    why_not,
)

OPENSSL_PROGRAMS = PEERS[0]
PLAYED = [
    (role, scenario, engine)
    for role in OPENSSL_PROGRAMS.roles
    for scenario in SCENARIOS
    for engine in (RUSTLS, OPENSSL)
    if scenario.name in ("key update", "early close", "resumption, TLSv1.3")
    and why_not(OPENSSL_PROGRAMS, role, engine, scenario) is None
]


@pytest.mark.loops("mantou")
@pytest.mark.parametrize(
    ("role", "scenario", "engine"),
    PLAYED,
    ids=[f"{role}-{scenario.name}-{engine.name}" for role, scenario, engine in PLAYED],
)
async def test_openssl_and_mantou_get_on(role: str, scenario: Scenario, engine: Engine) -> None:
    assert await attempt(OPENSSL_PROGRAMS, role, engine, scenario) == ""

"""Plays all scenarios with all peers, and writes the page.

python -m tests.interop [PEER [SCENARIO]]      patterns: those only, shown and not written
"""

from __future__ import annotations

import datetime
import fnmatch
import ssl
import sys
from pathlib import Path

import mantou
from tests.interop.peers import PEERS, Peer
from tests.interop.talks import OPENSSL, RUSTLS, SCENARIOS, Scenario, attempt, why_not

PAGE = Path(__file__).resolve().parent / "results.md"
PASSED = "passed"
ROLES = {
    "serves": "the peer serves, mantou connects",
    "connects": "mantou serves, the peer connects",
}

HEAD = """
# TLS with others

{scenarios} scenarios, with each peer in both roles, over mantou's own TLS (rustls) and over an
`ssl.SSLContext` ({openssl}): {passed} of {all} cells passed, {failed} failed, {lacking} cannot be,
for one of the two has not got what it takes. Of {date}; `make interop` plays them anew and writes
this page, and fails where one does.

- *TLSv1.2, TLSv1.3*: that version and no other; a text there and back, `close_notify` from mantou.
- *X25519, P-256, P-384, X25519MLKEM768*: that group and no other, as mantou tells it, too.
- *client certificate*: asked for, shown and verified. *resumption*: a second connection, which both
  ends call resumed.
- *key update*: three times, the peer asking for ours, too; with OpenSSL both directions are read
  from its log of messages.
- *early close*: the peer is killed; mantou tells of an `ssl.SSLEOFError` or a reset, never of an
  end.
- *records of 16 KiB*: 256 KiB there and back. *records of one byte*: each byte in a record, there
  and back before the next.

selfserv and curl speak HTTP: requests and answers are those texts and records. curl with an early
close is mantou's `terminate()`, which curl has to call an error.

| peer | version |
|---|---|
{versions}
"""


async def main(peers: str = "*", scenarios: str = "*") -> int:
    """Returns 1 if one failed."""
    wanted = [peer for peer in PEERS if fnmatch.fnmatch(peer.name, peers)]
    if missing := [peer.name for peer in wanted if not peer.is_there()]:
        raise SystemExit(f"not here: {', '.join(missing)}; see CONTRIBUTING.md for what to install")
    played = [one for one in SCENARIOS if fnmatch.fnmatch(one.name, scenarios)]
    cells: dict[tuple[str, str, str], list[str]] = {}
    for peer in wanted:
        for role in peer.roles:
            for scenario in played:
                cells[peer.name, role, scenario.name] = await outcomes(peer, role, scenario)
    found = [one for pair in cells.values() for one in pair]
    failed = [one for one in found if one.startswith("FAILED")]
    if (peers, scenarios) == ("*", "*") and not failed:
        PAGE.write_text(page(wanted, cells))
    print(f"{len(found)} cells, {found.count(PASSED)} passed, {len(failed)} failed")
    return int(bool(failed))


async def outcomes(peer: Peer, role: str, scenario: Scenario) -> list[str]:
    """With rustls, and with OpenSSL."""
    found = []
    for engine in (RUSTLS, OPENSSL):
        outcome = why_not(peer, role, engine, scenario)
        if outcome is None:
            failure = await attempt(peer, role, engine, scenario)
            outcome = f"FAILED: {failure}" if failure else PASSED
        if outcome.startswith("FAILED"):
            print(f"{peer.name}, {role}, {scenario.name}, {engine.name}: {outcome}", flush=True)
        found.append(outcome)
    return found


def page(peers: list[Peer], cells: dict[tuple[str, str, str], list[str]]) -> str:
    found = [one for pair in cells.values() for one in pair]
    passed = found.count(PASSED)
    parts = [
        HEAD.format(
            scenarios=len(SCENARIOS),
            openssl=" ".join(ssl.OPENSSL_VERSION.split()[:2]),
            passed=passed,
            all=len(found),
            failed=0,
            lacking=len(found) - passed,
            date=datetime.datetime.now(datetime.UTC).date(),
            versions="\n".join(f"| {peer.name} | {peer.version()} |" for peer in peers),
        ).strip()
    ]
    for peer in peers:
        lines = [f"## {peer.name}", ""]
        lines.append("| scenario | " + " | ".join(ROLES[role] for role in peer.roles) + " |")
        lines.append("|---" * (1 + len(peer.roles)) + "|")
        for scenario in SCENARIOS:
            row = [joined(cells[peer.name, role, scenario.name]) for role in peer.roles]
            lines.append(f"| {scenario.name} | " + " | ".join(row) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def joined(pair: list[str]) -> str:
    """Both engines in one cell."""
    rustls, openssl = pair
    return rustls if rustls == openssl else f"rustls: {rustls}<br>OpenSSL: {openssl}"


if __name__ == "__main__":
    sys.exit(mantou.run(main(*sys.argv[1:])))

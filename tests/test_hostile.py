"""A few of each kind of hostile peer, and their bounds; thousands of each: `make hostile`."""

from __future__ import annotations

import asyncio
import os
import socket as kernel
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mantou
from tests.hostile.attacks import key_updates_in_a_row
from tests.hostile.forging import Forger, send_all
from tests.hostile.kinds import KINDS, Kind, table
from tests.hostile.measure import cost_of, excess, measure
from tests.hostile.victim import Live, Victim, victim
from tests.support import Recorder, listen
from tests.tls_support import context

# One victim each is enough for those that need no options of their own.
SHARED = [("handlers", "tcp"), ("handlers", "tls"), ("asyncio", "context")]
# For `make hostile` only.
LONG = {"the same, with ffdhe8192", "the same, of 64 KiB", "wants new keys, again and again"}


@pytest.fixture(scope="module", params=SHARED, ids="/".join)
def attacked(request: pytest.FixtureRequest) -> Iterator[tuple[Victim, Live]]:
    with victim(*request.param) as made:
        live = Live(made)
        yield made, live
        live.close()


def named(kind: Kind) -> str:
    return kind.name


@pytest.mark.alone
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.options and kind.name not in LONG], ids=named
)
def test_what_a_peer_can_claim_is_bounded(kind: Kind, attacked: tuple[Victim, Live]) -> None:
    made, live = attacked
    if (made.program, made.link) not in kind.victims():
        pytest.skip("it has no such peers")
    measure(kind, made, live, 1)
    cost = measure(kind, made, live, kind.few)
    assert not excess(kind, made.link, cost, kind.few), cost


@pytest.mark.alone
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.options], ids=named)
def test_what_it_can_claim_where_there_are_options(kind: Kind) -> None:
    program, link = kind.victims()[0]
    cost = cost_of(kind, program, link, kind.few)
    assert not excess(kind, link, cost, kind.few), cost


def test_security_md_states_the_bounds() -> None:
    assert table() in Path("SECURITY.md").read_text()


@pytest.mark.loops("mantou")
async def test_who_has_openssl_answer_without_end_is_cut_off() -> None:
    """It answers each KeyUpdate, also where nobody reads that."""

    def narrow(socket: mantou.Socket[Any]) -> None:
        with kernel.socket(fileno=os.dup(socket.fileno())) as ours:
            ours.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, 4096)

    def attack(sock: kernel.socket) -> None:
        sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", listener.port))
        forger = Forger(sock, context(server_side=False, version="TLSv1.3"))
        for _ in range(200):
            wire = key_updates_in_a_row(forger)
            if send_all(sock, wire) < len(wire):
                break

    recorder = Recorder(open=narrow)
    with listen(recorder, "context", close_timeout=0.2) as listener, kernel.socket() as sock:
        await asyncio.to_thread(attack, sock)
        _, error = await recorder.until("close")
    assert isinstance(error, ssl.SSLError)
    assert "reads nothing" in str(error)
    assert recorder.names == ["open", "error", "close"]

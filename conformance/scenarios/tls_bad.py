"""TLS: peers that speak something else, options that are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.certificates import CLIENT, SERVER
from conformance.scenario import Scenario, client, server
from conformance.scenarios.tls_programs import CUT_SHORT, EARLY_OPEN, OVER, TOLD_WHY, TRUSTS
from conformance.steps import accept, act, connect, finish, receive_end, reset, send, wait


def _bad_peers() -> Iterator[Scenario]:
    for what, steps in (
        ("HTTP", (send("GET / HTTP/1.0\r\n\r\n"), wait("close"))),
        ("a FIN and nothing else", (finish(), receive_end())),
        (
            "a RST and nothing else",
            (
                wait("open"),
                reset(),
            ),
        ),
    ):
        yield Scenario(
            f"a TLS port gets {what}",
            (server({"handshake": []}, tls=SERVER),),
            (connect(), *steps),
            because=TOLD_WHY if what == "HTTP" else (*CUT_SHORT, *TOLD_WHY),
        )
        if "RST" not in what:
            yield Scenario(
                f"a TLS port gets {what}, no `handshake` handler",
                (server({"connect_error": []}, tls=SERVER),),
                (connect(), steps[0], wait(OVER)),
                because=EARLY_OPEN,
            )
    answers = (accept(), send("HTTP/1.0 400 Bad Request\r\n\r\n"))
    tables: tuple[tuple[str, dict[str, Any]], ...] = (
        ("", {"handshake": []}),
        (", no `handshake` handler", {"connect_error": []}),
    )
    for what, on in tables:
        yield Scenario(
            f"a TLS client gets an answer in the clear{what}",
            (client(on, tls=TRUSTS),),
            (*answers, wait(OVER, "C")),
            because=EARLY_OPEN if "no" in what else TOLD_WHY,
        )
        yield Scenario(
            f"a TLS client's peer closes{what}",
            (client(on, tls=TRUSTS),),
            (accept(), finish(), wait(OVER, "C")),
            because=EARLY_OPEN if "no" in what else (*CUT_SHORT, *TOLD_WHY),
        )
    yield Scenario(
        "a client in the clear at a TLS port",
        (server({"handshake": []}, tls=SERVER), client({"open": [("write", "in the clear")]})),
        (wait("close"), wait("close", "C")),
        because=TOLD_WHY,
    )
    yield Scenario(
        "refused, with TLS",
        (client({"connect_error": []}, port=1, tls=TRUSTS, tells_promise=True),),
        (wait("failed", "C"),),
    )


def _options() -> Iterator[Scenario]:
    for what, options in (
        ("a key that is none", {"key": "none", "cert": "none"}),
        ("a key that is another's", {**SERVER, "key": CLIENT["key"]}),
        ("an authority that is none", {**SERVER, "ca": "none"}),
        ("a CRL that is none", {**SERVER, "crl": "none"}),
        ("an unknown cipher", {**SERVER, "ciphers": "NO-SUCH-CIPHER"}),
        ("`reject_unauthorized` that is no bool", {**SERVER, "reject_unauthorized": "yes"}),
        ("a NUL in the name", {**SERVER, "server_name": "local\0host"}),
        ("a key file that is not there", {"key_file": "/none", "cert_file": "/none"}),
    ):
        because = ("a file of TLS that is not there",) if "file" in what else ()
        yield Scenario(f"`listen()` with {what}", (server(tls=options),), (), because)
        one = client(tls=options, tells_promise=True)
        yield Scenario(f"`connect()` with {what}", (one,), (wait("connect|failed", "C"),), because)
    yield Scenario(
        "`listen()` with `tls: {}`",
        (server(tls={}),),
        (act("S", ("mark", "goes on")),),
        because=("`tls: {}` is plaintext",),
    )


BAD = (*_bad_peers(), *_options())

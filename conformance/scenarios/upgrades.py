"""TLS on a connection that is there: `upgrade_tls()`, STARTTLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.certificates import CA, CLIENT, SERVER, STRANGERS_CA
from conformance.scenario import Scenario, client, server, table
from conformance.scenarios.tls_programs import (
    AFTER_END,
    CUT_SHORT,
    NO_QUESTION,
    TOLD_WHY,
    TRUSTS,
    VERSIONS,
)
from conformance.steps import (
    act,
    connect,
    finish,
    notify,
    receive,
    receive_end,
    secure,
    send,
    settle,
    wait,
)


def _upgrades() -> Iterator[Scenario]:
    secure_server = table("ST", {"handshake": [], "data": [("write", "answer")]})
    secure_client = table("CT", {"handshake": [("write", "question")]})
    upgrade_server = ("upgrade", SERVER, secure_server)
    upgrade_client = ("upgrade", {**TRUSTS, "server_name": "localhost"}, secure_client)
    begun = (wait("open"), wait("open", "C"), act("S", upgrade_server), act("C", upgrade_client))
    both = (server({"drain": []}, without=["data"]), client({"drain": []}, without=["data"]))
    yield Scenario(
        "`upgrade_tls()` on both sides",
        both,
        (*begun, wait("data", "CT"), act("CT", ("end",)), wait("close", "CT"), wait("close", "ST")),
        because=NO_QUESTION,
    )
    for version in VERSIONS:
        only = {"min_version": version, "max_version": version}
        for what, asks, shows in (
            ("", {}, {}),
            (", client certificate", {"request_cert": True, "ca": CA}, CLIENT),
        ):
            serves = ("upgrade", {**SERVER, **only, **asks}, secure_server)
            connects = ("upgrade", {**TRUSTS, **shows, "server_name": "localhost"}, secure_client)
            yield Scenario(
                f"{version}{what}: `upgrade_tls()` on both sides",
                both,
                (
                    *(wait("open"), wait("open", "C"), act("S", serves), act("C", connects)),
                    *(wait("data", "CT"), act("CT", ("end",))),
                    *(wait("close", "CT"), wait("close", "ST")),
                ),
                because=AFTER_END if what else (*NO_QUESTION, *AFTER_END),
            )
    trusts_others = {"ca": STRANGERS_CA, "server_name": "localhost"}
    for what, tls in (
        ("an unknown authority", trusts_others),
        ("another name", {**TRUSTS, "server_name": "foo.test"}),
    ):
        yield Scenario(
            f"`upgrade_tls()` of a client: {what}",
            (server({"drain": []}, without=["data"]), client({"drain": []}, without=["data"])),
            (
                *(wait("open"), wait("open", "C")),
                *(act("S", upgrade_server), act("C", ("upgrade", tls, secure_client))),
                *(wait("close", "CT"), wait("close", "ST")),
            ),
            because=(*CUT_SHORT, *TOLD_WHY),
            abroad=CUT_SHORT,
        )
    yield Scenario(
        "`upgrade_tls()` of a client: the host's address is the name",
        both,
        (
            *(wait("open"), wait("open", "C")),
            *(act("S", upgrade_server), act("C", ("upgrade", TRUSTS, secure_client))),
            *(wait("data", "CT"), act("CT", ("terminate",)), wait("close", "ST")),
        ),
        because=NO_QUESTION,
    )
    yield Scenario(
        "`upgrade_tls()`, no `handshake` handlers",
        both,
        (
            *(wait("open"), wait("open", "C")),
            act("S", ("upgrade", SERVER, table("ST", {"data": [("write", "answer")]}))),
            act(
                "C",
                (
                    "upgrade",
                    {**TRUSTS, "server_name": "localhost"},
                    table("CT", {"open": [("write", "question")]}),
                ),
            ),
            *(wait("data", "CT"), act("CT", ("end",)), wait("close", "CT"), wait("close", "ST")),
        ),
        because=AFTER_END,
    )
    yield Scenario(
        "`upgrade_tls()` and `stop(true)`",
        both,
        (*begun, wait("data", "CT"), act("S", ("stop", True)), settle()),
        because=("`stop(true)` misses",),
        abroad=("`stop(true)` misses",),
        stays_open=True,
    )
    yield Scenario(
        "after `upgrade_tls()` the old `data` handler",
        (server({"data": []}),),
        (
            *(connect(), wait("open"), act("S", upgrade_server), secure(), send("hi")),
            *(receive(6), notify(), wait("close", "ST")),
        ),
        because=("after an upgrade the old handlers",),
    )
    yield Scenario(
        "after `upgrade_tls()` a `write()` to the old socket",
        (server({"data": []}),),
        (
            *(connect(), wait("open"), act("S", upgrade_server), secure()),
            *(act("S", ("write_raw", "in the clear"), ("end",)), receive_end()),
        ),
        because=("after an upgrade the old handlers",),
        stays_open=True,
    )
    yield Scenario(
        "STARTTLS, and the ClientHello in the same segment",
        (server({"data": [("upgrade", SERVER, secure_server, True)]}),),
        (
            *(connect(), secure(before="STARTTLS\n"), send("hi")),
            *(receive(6), notify(), wait("close", "ST")),
        ),
        because=("after an upgrade the old handlers",),
    )
    yield Scenario(
        "plaintext behind STARTTLS",
        (server({"data": [("upgrade", SERVER, secure_server, True)]}),),
        (connect(), send("STARTTLS\ninjected, in the clear\n"), wait("close", "ST")),
        because=("`close` gets an error for",),
    )
    refused: tuple[tuple[str, Any], ...] = (
        ("nothing", None),
        ("`false`", False),
        ("`{}`", {}),
        ("a key that is none", {"key": "none"}),
    )
    for what, tls in refused:
        yield Scenario(
            f"`upgrade_tls()` with {what}",
            (server({"data": [("write", "still in the clear")]}),),
            (
                *(connect(), wait("open"), act("S", ("upgrade", tls, secure_server))),
                *(send("x"), receive(18), finish(), receive_end()),
            ),
        )
    yield Scenario(
        "`upgrade_tls()` with no handlers",
        (server({"data": [("write", "still in the clear")]}),),
        (
            *(connect(), wait("open")),
            act("S", ("upgrade", SERVER, {"name": "ST", "on": {}, "binary": ""})),
            *(send("x"), receive(18), finish(), receive_end()),
        ),
    )
    yield Scenario(
        "`upgrade_tls()` after the end",
        (server({"close": [upgrade_server]}),),
        (connect(), finish(), wait("close"), receive_end()),
    )


UPGRADES = tuple(_upgrades())

"""TLS: handshakes, who is refused, what is done before they are over."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.certificates import EXPIRED, OTHER_NAME, SERVER, STRANGERS_CA
from conformance.scenario import Handler, Scenario, client, fill, server
from conformance.scenarios.tls_programs import (
    AFTER_END,
    AS_WAS_SEEN,
    CUT_SHORT,
    EARLY_OPEN,
    ENDS,
    NEITHER,
    NO_ALERT,
    NO_QUESTION,
    ONE_VERDICT,
    OVER,
    SHAKEN,
    TRUSTS,
    VERSIONS,
    pair,
    told,
)
from conformance.steps import accept, act, finish, settle, wait

# There the client is the last to know that the handshake is over.
ONLY_12 = {"min_version": "TLSv1.2", "max_version": "TLSv1.2"}


def _handshakes() -> Iterator[Scenario]:
    for version in VERSIONS:
        yield Scenario(
            f"{version}: what both are told",
            pair(
                {"min_version": version, "max_version": version},
                TRUSTS,
                {"handshake": [("tls_version",), ("server_name",), ("exported",)]},
                {"handshake": [*AS_WAS_SEEN, ("tls_version",), ("cipher_version",), ("exported",)]},
            ),
            SHAKEN,
            because=NO_QUESTION,
        )
        yield Scenario(
            f"{version}: `open` and data, no `handshake` handlers",
            pair(
                {"min_version": version, "max_version": version},
                TRUSTS,
                {"data": [("write", "answer")]},
                {"open": [("write", "question")]},
            ),
            (wait("data", "C"), act("C", ("terminate",))),
        )
    yield Scenario(
        "`pause()` in `open`, before the handshake",
        pair(
            NEITHER,
            TRUSTS,
            {"handshake": []},
            {"open": [("pause",)], "handshake": [("mark", "shaken")]},
        ),
        (
            *(wait("open"), wait("open", "C"), settle(), act("C", ("mark", "on"), ("resume",))),
            *(wait("handshake", "C"), wait("handshake"), act("C", ("terminate",))),
        ),
        because=("`pause()` stops a handshake",),
    )
    for action in ("terminate", "close", "end"):
        yield Scenario(
            f"client `{action}()` in `handshake`",
            pair(ONLY_12, TRUSTS, None, {"handshake": [(action,)]}),
            (wait("close", "C"), wait("close")),
            because=AFTER_END if action == "end" else (),
            abroad=("over TLS `close()` sends",) if action == "close" else (),
        )
    yield Scenario(
        "server `end(data)` in `handshake`",
        pair(NEITHER, TRUSTS, {"handshake": [("end", "bye")]}, {"handshake": []}),
        (wait("close", "C"), wait("close")),
        because=(*NO_QUESTION, *AFTER_END),
    )
    yield Scenario(
        "when `connect()` is done",
        (
            server(tls=SERVER),
            client({"handshake": []}, tls=TRUSTS, hostname="localhost", tells_promise=True),
        ),
        (wait("open"), wait("handshake", "C"), wait("connected", "C"), act("C", ("terminate",))),
        because=("`connect()` resolves when TCP",),
    )
    for what, serves, trusts in (
        ("nobody the system knows", NEITHER, True),
        ("an unknown authority", NEITHER, {"ca": STRANGERS_CA}),
        ("an expired certificate", EXPIRED, TRUSTS),
        ("another name", OTHER_NAME, TRUSTS),
    ):
        yield Scenario(
            f"{what}: refused",
            pair(serves, trusts, {"connect_error": []}, told(("write", "secret"))),
            (wait("close", "C"), wait(OVER)),
            because=EARLY_OPEN,
            abroad=NO_ALERT,
        )
        yield Scenario(
            f"{what}: refused, no `handshake` handler",
            pair(serves, trusts, {"connect_error": []}, {"connect_error": []}),
            (wait(OVER, "C"), wait(OVER)),
            because=EARLY_OPEN,
            abroad=NO_ALERT,
        )
        lenient = {**(trusts if isinstance(trusts, dict) else {}), "reject_unauthorized": False}
        yield Scenario(
            f"{what}: `reject_unauthorized` off",
            pair(serves, lenient, None, told()),
            (wait("open"), wait("handshake", "C"), act("C", ("terminate",))),
            because=ONE_VERDICT if serves is OTHER_NAME else (),
        )


def _before() -> Iterator[Scenario]:
    early = {"open": [("write", "early"), ("bytes_written",)], "handshake": [], "drain": []}
    late = (
        *(wait("drain", "C"), act("C", ("write", "again")), wait("data")),
        act("C", ("terminate",)),
    )
    yield Scenario("`write()` before the handshake", pair(NEITHER, TRUSTS, None, early), late)
    yield Scenario(
        "a `write()` of 16 MiB before the handshake",
        pair(NEITHER, TRUSTS, None, {**early, "open": [("write", fill(16 << 20))]}),
        late,
    )
    yield Scenario(
        "server `write()` before the handshake",
        pair(NEITHER, TRUSTS, {**early, "drain": [("write", "again"), ("end",)]}, None),
        (wait("close", "C"),),
        because=NO_QUESTION,
    )
    yield Scenario(
        "`end(data)` before the handshake",
        pair(NEITHER, TRUSTS, None, {"open": [("end", "early")], "handshake": [], "drain": []}),
        (wait("end"), wait("close", "C")),
        because=("`end(data)` drops what",),
        abroad=("`end(data)` drops what",),
    )
    for action in ("end", "terminate", "close"):
        yield Scenario(
            f"`{action}()` before the handshake",
            (client({"open": [(action,)], "handshake": []}, tls=TRUSTS),),
            (accept(), *((finish(),) if action == "end" else ()), wait("close", "C")),
            because=ENDS if action == "end" else CUT_SHORT,
        )
    # What a Bun that is gone at once has sent by then is a matter of timing.
    silent_server = server(
        {"data": Handler(is_silent=True)}, without=("open", "end", "close", "error"), tls=SERVER
    )
    for action in ("terminate", "end"):
        yield Scenario(
            f"`{action}()` when `connect()` is done",
            (
                silent_server,
                client({"handshake": []}, tls=TRUSTS, hostname="localhost", connected=[(action,)]),
            ),
            (wait("close", "C"),),
            because=("`connect()` resolves when TCP",),
            abroad=("`connect()` resolves when TCP",),
        )
    secret = [("write", "secret")]
    yield Scenario(
        "a refused server, and a secret written when `connect()` is done",
        (
            server({"connect_error": []}, tls=SERVER),
            client(
                {"handshake": []},
                tls={"ca": STRANGERS_CA},
                hostname="localhost",
                tells_promise=True,
                connected=secret,
            ),
        ),
        (wait("close", "C"), wait(OVER)),
        because=("`connect()` resolves when TCP",),
        abroad=NO_ALERT,
    )
    yield Scenario(
        "a refused server, and a secret written in `open`",
        pair(
            NEITHER,
            {"ca": STRANGERS_CA},
            {"connect_error": []},
            {"open": secret, "handshake": secret},
        ),
        (wait("close", "C"), wait(OVER)),
        because=EARLY_OPEN,
        abroad=NO_ALERT,
    )
    yield Scenario(
        "a refused server, a secret in `open`, no `handshake` handler",
        pair(
            NEITHER,
            {"ca": STRANGERS_CA},
            {"connect_error": []},
            {"open": secret, "connect_error": []},
        ),
        (wait(OVER, "C"), wait(OVER)),
        because=EARLY_OPEN,
        abroad=NO_ALERT,
    )


HANDSHAKES = (*_handshakes(), *_before())

"""TLS: handshakes, who is refused, names, protocols, client certificates, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.certificates import (
    CA,
    CLIENT,
    EXPIRED,
    OTHER_NAME,
    SERVER,
    STRANGE_CLIENT,
    STRANGERS_CA,
)
from conformance.scenario import Action, Program, Scenario, Step, client, fill, server
from conformance.steps import accept, act, connect, finish, receive_end, reset, send, wait

TRUSTS: dict[str, Any] = {"ca": CA}
VERSIONS = ("TLSv1.2", "TLSv1.3")
NO_QUESTION = ("a server that asks for no certificate",)
EARLY_OPEN = ("without a `handshake` handler `open`",)
ADDRESS = ("an address is sent as SNI",)
TOLD_WHY = ("`close` gets an error for",)
NO_ALERT = ("a client that refuses a server",)
CUT_SHORT = ("a handshake that is cut short",)
ENDS = ("`end()` closes the descriptor",)
ONE_VERDICT = ("`handshake(success, error)`",)
AS_WAS_SEEN: tuple[Action, ...] = (("authorized",), ("verdict",))
# A handshake that failed: Bun has called `open` as well, mantou has not.
OVER = "close|connect_error"
NEITHER: dict[str, Any] = {}


def _pair(
    serves: dict[str, Any],
    connects: Any,
    on_server: Any = None,
    on_client: Any = None,
    **options: Any,
) -> tuple[Program, ...]:
    return (
        server(on_server, tls={**SERVER, **serves}),
        client(on_client, tls=connects, **{"hostname": "localhost", **options}),
    )


def _told(*more: Action) -> dict[str, Any]:
    return {"handshake": [*AS_WAS_SEEN, *more]}


# The client has the last word once both sides have opened, so that nothing depends on timing.
PART: tuple[Step, ...] = (
    wait("open"),
    wait("open", "C"),
    act("C", ("terminate",)),
    wait("close", "C"),
)
SHAKEN: tuple[Step, ...] = (wait("handshake"), wait("handshake", "C"), act("C", ("terminate",)))


def _handshakes() -> Iterator[Scenario]:
    for version in VERSIONS:
        yield Scenario(
            f"{version}: what both are told",
            _pair(
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
            _pair(
                {"min_version": version, "max_version": version},
                TRUSTS,
                {"data": [("write", "answer")]},
                {"open": [("write", "question")]},
            ),
            (wait("data", "C"), act("C", ("terminate",))),
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
            _pair(serves, trusts, {"connect_error": []}, _told(("write", "secret"))),
            (wait("close", "C"), wait(OVER)),
            because=EARLY_OPEN,
            abroad=NO_ALERT,
        )
        yield Scenario(
            f"{what}: refused, no `handshake` handler",
            _pair(serves, trusts, {"connect_error": []}, {"connect_error": []}),
            (wait(OVER, "C"), wait(OVER)),
            because=EARLY_OPEN,
            abroad=NO_ALERT,
        )
        lenient = {**(trusts if isinstance(trusts, dict) else {}), "reject_unauthorized": False}
        yield Scenario(
            f"{what}: `reject_unauthorized` off",
            _pair(serves, lenient, None, _told()),
            (wait("open"), wait("handshake", "C"), act("C", ("terminate",))),
            because=ONE_VERDICT if serves is OTHER_NAME else (),
        )


def _protocols() -> Iterator[Scenario]:
    both = ["h2", "http/1.1"]
    for what, serves, connects in (
        ("both", both, both),
        ("the server's order counts", ["http/1.1", "h2"], both),
        ("only the client", None, both),
        ("only the server", both, None),
    ):
        yield Scenario(
            f"ALPN: {what}",
            _pair(
                {"alpn_protocols": serves} if serves else NEITHER,
                {**TRUSTS, **({"alpn_protocols": connects} if connects else {})},
                {"open": [("alpn",)]},
                {"open": [("alpn",)]},
            ),
            PART,
        )
    yield Scenario(
        "ALPN: none in common",
        _pair(
            {"alpn_protocols": ["h2"]},
            {**TRUSTS, "alpn_protocols": ["spdy"]},
            {"handshake": []},
            {"handshake": []},
        ),
        (wait("close"), wait("close", "C")),
        because=TOLD_WHY,
    )
    yield Scenario(
        "ALPN: malformed",
        _pair(NEITHER, {**TRUSTS, "alpn_protocols": "h2,http/1.1"}, None, {"open": [("alpn",)]}),
        (wait("open|connect", "C"),),
        because=("malformed ALPN is ignored",),
        stays_open=True,
        alone=True,
    )
    name = {"open": [("server_name",)]}
    yield Scenario("SNI: the hostname", _pair(NEITHER, TRUSTS, name, name), PART)
    yield Scenario(
        "SNI: an address",
        _pair(NEITHER, TRUSTS, name, name, hostname="127.0.0.1"),
        PART,
        because=ADDRESS,
        abroad=ADDRESS,
    )
    other = {**TRUSTS, "server_name": "foo.test"}
    yield Scenario(
        "SNI: another name, refused",
        _pair(NEITHER, other, {"connect_error": []}, {"handshake": []}),
        (wait("close", "C"), wait(OVER)),
        because=EARLY_OPEN,
        abroad=NO_ALERT,
    )
    yield Scenario(
        "SNI: another name, `reject_unauthorized` off",
        _pair(NEITHER, {**other, "reject_unauthorized": False}, name, {"handshake": []}),
        (wait("open"), wait("handshake", "C"), act("C", ("terminate",))),
        because=ONE_VERDICT,
    )
    yield Scenario(
        "SNI: `set_servername()` in `open`",
        _pair(
            NEITHER,
            {**TRUSTS, "reject_unauthorized": False},
            name,
            {"open": [("set_server_name", "localhost")], "handshake": [("server_name",)]},
            hostname="127.0.0.1",
        ),
        (wait("open"), wait("handshake", "C"), act("C", ("terminate",))),
    )
    late = {"open": [("set_server_name", "late.test")]}
    yield Scenario(
        "SNI: `set_servername()` after the handshake", _pair(NEITHER, TRUSTS, late, late), PART
    )


def _client_certificates() -> Iterator[Scenario]:
    asks = {"request_cert": True, "ca": CA}
    lenient = {**asks, "reject_unauthorized": False}
    seen = {"handshake": [*AS_WAS_SEEN, ("peer_name",)]}
    for what, serves, connects, because in (
        ("a valid one", asks, {**TRUSTS, **CLIENT}, ()),
        ("none, `reject_unauthorized` off", lenient, TRUSTS, ("a client without a certificate",)),
        ("a stranger's, `reject_unauthorized` off", lenient, {**TRUSTS, **STRANGE_CLIENT}, ()),
        ("offered and not asked for", {"ca": CA}, {**TRUSTS, **CLIENT}, NO_QUESTION),
        (
            "not asked for, `reject_unauthorized` on",
            {"reject_unauthorized": True},
            TRUSTS,
            NO_QUESTION,
        ),
    ):
        yield Scenario(
            f"client certificate: {what}",
            _pair(serves, connects, seen, {"handshake": []}),
            SHAKEN,
            because=because,
        )
    for version in VERSIONS:
        for what, connects in (("none", TRUSTS), ("a stranger's", {**TRUSTS, **STRANGE_CLIENT})):
            yield Scenario(
                f"client certificate, {version}: {what}, refused",
                _pair(
                    {**asks, "min_version": version, "max_version": version},
                    connects,
                    {"handshake": [*AS_WAS_SEEN, ("write", "secret")]},
                    {"handshake": []},
                ),
                (wait("close"), wait("close", "C")),
                because=ONE_VERDICT,
                abroad=(*ONE_VERDICT, "over TLS a FIN without") if what != "none" else (),
            )


def _before() -> Iterator[Scenario]:
    early = {"open": [("write", "early"), ("bytes_written",)], "handshake": [], "drain": []}
    late = (
        *(wait("drain", "C"), act("C", ("write", "again")), wait("data")),
        act("C", ("terminate",)),
    )
    yield Scenario("`write()` before the handshake", _pair(NEITHER, TRUSTS, None, early), late)
    yield Scenario(
        "a `write()` of 16 MiB before the handshake",
        _pair(NEITHER, TRUSTS, None, {**early, "open": [("write", fill(16 << 20))]}),
        late,
    )
    yield Scenario(
        "server `write()` before the handshake",
        _pair(NEITHER, TRUSTS, {**early, "drain": [("write", "again"), ("end",)]}, None),
        (wait("close", "C"),),
        because=NO_QUESTION,
    )
    yield Scenario(
        "`end(data)` before the handshake",
        _pair(NEITHER, TRUSTS, None, {"open": [("end", "early")], "handshake": [], "drain": []}),
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
    secret = [("write", "secret")]
    yield Scenario(
        "a refused server, and a secret written in `open`",
        _pair(
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
        _pair(
            NEITHER,
            {"ca": STRANGERS_CA},
            {"connect_error": []},
            {"open": secret, "connect_error": []},
        ),
        (wait(OVER, "C"), wait(OVER)),
        because=EARLY_OPEN,
        abroad=NO_ALERT,
    )


def _sessions() -> Iterator[Scenario]:
    for version in VERSIONS:
        for what, opened in (("", [("set_session",)]), (", garbage", [("set_session", "garbage")])):
            yield Scenario(
                f"{version}: a session is resumed{what}",
                _pair(
                    {"min_version": version, "max_version": version},
                    TRUSTS,
                    {"open": [("resumed",), ("write", "hello")], "data": []},
                    {
                        "open": opened,
                        "handshake": [("resumed",)],
                        "data": [("keep_session",), ("terminate",)],
                    },
                ),
                (
                    *(wait("close", "C"), wait("close"), act("C", ("connect_again",))),
                    *(wait("close", "C2"), wait("close", "S2")),
                ),
                because=("a session that is none",) if what else (),
            )

    yield Scenario(
        "a session is set in `open`, no `handshake` handler",
        _pair(
            NEITHER,
            TRUSTS,
            {"open": [("resumed",), ("write", "hello")]},
            {"open": [("set_session",)], "data": [("keep_session",), ("terminate",)]},
        ),
        (
            *(wait("close", "C"), wait("close"), act("C", ("connect_again",))),
            *(wait("close", "C2"), wait("close", "S2")),
        ),
        because=("a session that is none",),
    )


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


HANDSHAKES = (*_handshakes(), *_before())
NAMES = (*_protocols(), *_client_certificates(), *_sessions())
BAD = (*_bad_peers(), *_options())

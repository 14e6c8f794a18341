"""TLS: protocols, names, client certificates, sessions."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.certificates import CA, CLIENT, SERVER, STRANGE_CLIENT
from conformance.scenario import Scenario, client, server
from conformance.scenarios.tls_programs import (
    ADDRESS,
    AS_WAS_SEEN,
    EARLY_OPEN,
    NEITHER,
    NO_ALERT,
    NO_QUESTION,
    ONE_VERDICT,
    OVER,
    PART,
    SHAKEN,
    TOLD_WHY,
    TRUSTS,
    VERSIONS,
    pair,
)
from conformance.steps import act, wait


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
            pair(
                {"alpn_protocols": serves} if serves else NEITHER,
                {**TRUSTS, **({"alpn_protocols": connects} if connects else {})},
                {"open": [("alpn",)]},
                {"open": [("alpn",)]},
            ),
            PART,
        )
    yield Scenario(
        "ALPN: none in common",
        pair(
            {"alpn_protocols": ["h2"]},
            {**TRUSTS, "alpn_protocols": ["spdy"]},
            {"handshake": []},
            {"handshake": []},
        ),
        (wait("close"), wait("close", "C")),
        because=TOLD_WHY,
    )
    for spelling in ("h2,http/1.1", "h2"):
        yield Scenario(
            f"ALPN: malformed, {spelling!r}",
            pair(NEITHER, {**TRUSTS, "alpn_protocols": spelling}, None, {"open": [("alpn",)]}),
            (wait("open|connect", "C"),),
            because=("malformed ALPN is ignored",),
            stays_open=True,
            alone=True,
        )
    yield Scenario(
        "ALPN: as it is on the wire",
        pair(
            {"alpn_protocols": "\x02h2\x08http/1.1"},
            {**TRUSTS, "alpn_protocols": "\x02h2"},
            {"open": [("alpn",)]},
            {"open": [("alpn",)]},
        ),
        PART,
    )
    name = {"open": [("server_name",)]}
    yield Scenario("SNI: the hostname", pair(NEITHER, TRUSTS, name, name), PART)
    yield Scenario(
        "SNI: an address",
        pair(NEITHER, TRUSTS, name, name, hostname="127.0.0.1"),
        PART,
        because=ADDRESS,
        abroad=ADDRESS,
    )
    other = {**TRUSTS, "server_name": "foo.test"}
    yield Scenario(
        "SNI: another name, refused",
        pair(NEITHER, other, {"connect_error": []}, {"handshake": []}),
        (wait("close", "C"), wait(OVER)),
        because=EARLY_OPEN,
        abroad=NO_ALERT,
    )
    yield Scenario(
        "SNI: another name, `reject_unauthorized` off",
        pair(NEITHER, {**other, "reject_unauthorized": False}, name, {"handshake": []}),
        (wait("open"), wait("handshake", "C"), act("C", ("terminate",))),
        because=ONE_VERDICT,
    )
    yield Scenario(
        "SNI: `set_servername()` in `open`",
        pair(
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
        "SNI: `set_servername()` after the handshake", pair(NEITHER, TRUSTS, late, late), PART
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
            pair(serves, connects, seen, {"handshake": []}),
            SHAKEN,
            because=because,
        )
    for version in VERSIONS:
        yield Scenario(
            f"client certificate, {version}: a valid one",
            pair(
                {**asks, "min_version": version, "max_version": version},
                {**TRUSTS, **CLIENT},
                {**seen, "data": [("write", "answer")]},
                {"handshake": [("write", "question")]},
            ),
            (wait("data", "C"), act("C", ("terminate",))),
        )
        for what, connects in (("none", TRUSTS), ("a stranger's", {**TRUSTS, **STRANGE_CLIENT})):
            yield Scenario(
                f"client certificate, {version}: {what}, refused",
                pair(
                    {**asks, "min_version": version, "max_version": version},
                    connects,
                    {"handshake": [*AS_WAS_SEEN, ("write", "secret")]},
                    {"handshake": []},
                ),
                (wait("close"), wait("close", "C")),
                because=ONE_VERDICT,
                abroad=(*ONE_VERDICT, "over TLS a FIN without") if what != "none" else (),
            )


def _sessions() -> Iterator[Scenario]:
    for version in VERSIONS:
        for what, opened in (
            ("", [("set_session",)]),
            (", garbage", [("set_session", "garbage")]),
            (", a number", [("set_session", 5)]),
        ):
            yield Scenario(
                f"{version}: a session is resumed{what}",
                pair(
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
                because=("a session that is none",) if "garbage" in what else (),
            )
        yield Scenario(
            f"{version}: a session is set when `connect()` is done",
            (
                server(
                    {"open": [("resumed",)]},
                    tls={**SERVER, "min_version": version, "max_version": version},
                ),
                client(
                    {"handshake": [("resumed",)]},
                    tls=TRUSTS,
                    hostname="localhost",
                    connected=[("set_session",)],
                ),
            ),
            (
                *(wait("open"), wait("handshake", "C"), wait("set_session()", "C")),
                *(act("S", ("write", "hello")), wait("data", "C")),  # the tickets are before it
                *(act("C", ("keep_session",), ("terminate",)), wait("close"), wait("close", "C")),
                *(act("C", ("connect_again",)), wait("open", "S2"), wait("handshake", "C2")),
                *(wait("set_session()", "C2"), act("C", ("terminate",)), wait("close", "S2")),
            ),
            because=("`connect()` resolves when TCP",),
            abroad=("`connect()` resolves when TCP",),
        )

    yield Scenario(
        "a session is set in `open`, no `handshake` handler",
        pair(
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


NAMES = (*_protocols(), *_client_certificates(), *_sessions())

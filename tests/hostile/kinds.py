"""The kinds of hostile peers, and what each may cost, which SECURITY.md repeats (`--table`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.hostile import attacks, hello
from tests.hostile.attacks import MIB, Attack

EVERY_PROGRAM = ("handlers", "streams", "asyncio")
# rustls; an `ssl.SSLContext`, so OpenSSL; a `mantou.SSLContext`, which is either.
OVER_TLS = ("tls", "context", "faithful")
EVERY_LINK = ("tcp", *OVER_TLS)
IN_CLEAR = ("tcp",)


@dataclass(frozen=True)
class Bound:
    kib: float
    """Allocated for one peer, at most. What waits in the kernel is not in it."""
    us: float
    """Of the processor: three times what a machine of 2026 takes."""


@dataclass(frozen=True)
class Kind:
    name: str
    attack: Attack
    bound: Bound
    held_by: str
    per: Literal["connection", "byte"] = "connection"
    with_openssl: Bound | None = None
    links: tuple[str, ...] = OVER_TLS
    programs: tuple[str, ...] = EVERY_PROGRAM
    options: Mapping[str, Any] = field(default_factory=dict)
    # Peers, in the tests and by `make hostile`.
    few: int = 30
    many: int = 2000
    # Seconds that the median echo of somebody else takes meanwhile, beyond what it takes anyway.
    pulse: float = 0.05

    def victims(self) -> list[tuple[str, str]]:
        """Programs, and what they are connected over. asyncio's servers have no options of ours."""
        pairs = [(program, link) for program in self.programs for link in self.links]
        fitting = [pair for pair in pairs if pair != ("asyncio", "tls")]
        takes_all = self.options.keys() <= {"request_cert"}
        return [pair for pair in fitting if pair[0] != "asyncio" or takes_all]

    def bound_over(self, link: str) -> Bound:
        return self.bound if link in ("tcp", "tls") else self.with_openssl or self.bound


def _says(words: Any) -> Attack:
    return attacks.says(words=words)


def _floods(batch: Any, most: int, **choices: Any) -> Attack:
    return attacks.floods(batch=batch, most=most, **choices)


HANDSHAKE = "`handshake_timeout`, `max_handshakes`"
CONNECTIONS = "`max_connections`, `max_connections_per_host`, `idle_timeout`"

KINDS = [
    Kind(
        "connects, and says nothing",
        _says(attacks.nothing),
        Bound(8, 200),
        CONNECTIONS,
        with_openssl=Bound(96, 400),
        links=EVERY_LINK,
        many=10_000,
    ),
    Kind(
        "says a part of its hello",
        _says(attacks.half_a_hello),
        Bound(8, 250),
        HANDSHAKE,
        with_openssl=Bound(128, 500),
    ),
    Kind(
        "says it byte by byte",
        attacks.drips(words=attacks.half_a_hello),
        Bound(8, 20),
        HANDSHAKE,
        per="byte",
        with_openssl=Bound(128, 20),
        few=3,
        many=100,
    ),
    Kind(
        "says a record but for its end",
        _says(attacks.half_a_record),
        Bound(64, 400),
        HANDSHAKE,
        with_openssl=Bound(192, 800),
    ),
    Kind(
        "says a hello, and no more",
        _says(attacks.hello_with(hello.X25519)),
        Bound(16, 600),
        HANDSHAKE,
        with_openssl=Bound(96, 2000),
        many=10_000,
    ),
    Kind(
        "the same, with a post-quantum group",
        _says(attacks.hello_with(hello.X25519MLKEM768)),
        Bound(16, 800),
        HANDSHAKE,
        with_openssl=Bound(96, 2000),
    ),
    Kind(
        "the same, with P-384",
        _says(attacks.hello_with(hello.P384)),
        Bound(16, 1500),
        HANDSHAKE,
        with_openssl=Bound(96, 10_000),
    ),
    # OpenSSL takes these in large pieces, so that somebody else waits.
    Kind(
        "the same, with ffdhe8192",
        _says(attacks.hello_with(hello.FFDHE8192)),
        Bound(16, 2000),
        "rustls has no such group; of OpenSSL `accept_rate`, `set_ecdh_curve()`",
        with_openssl=Bound(96, 400_000),
        few=3,
        many=50,
        pulse=5.0,
    ),
    Kind(
        "says a hello in records of one byte",
        _says(attacks.some_tiny_records),
        Bound(384, 0.5),
        "128 KiB of a message that is not complete",
        per="byte",
        with_openssl=Bound(512, 1),
        few=5,
        many=50,
        pulse=5.0,
    ),
    Kind(
        "the same, of 64 KiB",
        _says(attacks.tiny_records),
        Bound(8, 0.5),
        "the same: an error",
        per="byte",
        with_openssl=Bound(384, 1),
        few=5,
        many=50,
        pulse=5.0,
    ),
    Kind(
        "shows 230 certificates, nine of one name",
        attacks.shows(context=attacks.crowd_of_certificates),
        Bound(16, 5000),
        "16 of them are looked at",
        with_openssl=Bound(64, 100_000),
        options={"request_cert": True},
        few=3,
        many=50,
        pulse=0.5,
    ),
    Kind(
        "shows an RSA key of 8,192 bits",
        attacks.forges(messages=attacks.huge_key),
        Bound(16, 8000),
        "no larger key is looked at",
        links=("tls",),
        options={"request_cert": True, "lenient": True},
        few=3,
        many=50,
    ),
    Kind(
        "shows a certificate of 16 MiB, compressed",
        attacks.forges(messages=attacks.compressed_certificate),
        Bound(16, 5000),
        "there is no compression: an error",
        with_openssl=Bound(16, 8000),
        options={"request_cert": True},
        few=3,
        many=50,
    ),
    Kind(
        "wants new keys, a byte between",
        _floods(attacks.key_updates, MIB // 4),
        Bound(64, 0.5),
        "nothing is read for who takes nothing",
        per="byte",
        with_openssl=Bound(256, 1),
        few=1,
        many=5,
    ),
    Kind(
        "wants new keys, again and again",
        _floods(attacks.key_updates_in_a_row, 4 * MIB),
        Bound(16, 0.5),
        "32 in a row, or 128 KiB of answers: an error",
        per="byte",
        with_openssl=Bound(384, 3),
        few=1,
        many=5,
    ),
    Kind(
        "sends warnings",
        _floods(attacks.warnings, MIB // 4),
        Bound(64, 0.5),
        "four or five of them: an error",
        per="byte",
        with_openssl=Bound(256, 0.5),
        few=1,
        many=5,
    ),
    Kind(
        "sends warnings of TLS 1.2",
        _floods(attacks.warnings, MIB // 4, context=attacks.tls12),
        Bound(64, 0.5),
        "the same",
        per="byte",
        with_openssl=Bound(256, 0.5),
        few=1,
        many=5,
    ),
    Kind(
        "wants to renegotiate",
        _floods(attacks.renegotiations, 2 * MIB, context=attacks.tls12),
        Bound(16, 0.5),
        "there is none: once, or 128 KiB of answers, then an error",
        per="byte",
        with_openssl=Bound(384, 0.5),
        few=1,
        many=5,
    ),
    Kind(
        "sends records of one byte",
        _floods(attacks.single_bytes, MIB // 4),
        Bound(64, 0.5),
        "nothing is read for who takes nothing",
        per="byte",
        with_openssl=Bound(256, 0.5),
        few=1,
        many=5,
    ),
    Kind(
        "a server that sends tickets of 64 KiB",
        attacks.floods_clients(batch=attacks.tickets, most=2 * MIB),
        Bound(512, 0.1),
        "four tickets are kept",
        per="byte",
        with_openssl=Bound(512, 0.1),
        few=1,
        many=5,
    ),
    Kind(
        "a server that sends small tickets",
        attacks.floods_clients(batch=attacks.small_tickets, most=MIB // 4),
        Bound(64, 0.5),
        "the same",
        per="byte",
        with_openssl=Bound(192, 1),
        few=1,
        many=5,
    ),
    Kind(
        "has everything come back, and reads none of it",
        attacks.never_reads(most=16 * MIB),
        Bound(1024, 20_000),
        "`pause()`, what streams and protocols wait for; `write_limit`",
        with_openssl=Bound(1024, 40_000),
        links=EVERY_LINK,
        few=1,
        many=20,
    ),
    Kind(
        "sends single bytes",
        attacks.drips(words=attacks.zeros),
        Bound(8, 30),
        "nothing: each is a segment, an event, a call",
        per="byte",
        links=IN_CLEAR,
        few=1,
        many=5,
    ),
    Kind(
        "a line of 1 MiB, at last byte by byte",
        attacks.drips(words=attacks.letters, behind=b"a" * (MIB - 4000)),
        Bound(2560, 20),
        "`packet_size`",
        per="byte",
        links=IN_CLEAR,
        programs=("handlers",),
        options={"packet": "line"},
        few=1,
        many=5,
    ),
    Kind(
        "a packet of 1 MiB, at last byte by byte",
        attacks.drips(words=attacks.letters, behind=b"\0\x10\0\0" + b"a" * (MIB - 4000)),
        Bound(2560, 20),
        "`packet_size`",
        per="byte",
        links=IN_CLEAR,
        programs=("handlers",),
        options={"packet": 4},
        few=1,
        many=5,
    ),
    Kind(
        "announces a packet of 4 GiB",
        _says(attacks.four_gib),
        Bound(8, 500),
        "`packet_size`: an error, at once",
        links=IN_CLEAR,
        programs=("handlers",),
        options={"packet": 4},
    ),
    Kind(
        "a PROXY header of version 1 without an end",
        attacks.drips(words=attacks.endless_proxy_v1),
        Bound(8, 20),
        "107 bytes: an error",
        per="byte",
        links=("tcp", "tls"),
        options={"proxy_protocol": "require"},
        few=1,
        many=5,
    ),
    Kind(
        "one of version 2 of 16 KiB, at last byte by byte",
        attacks.drips(words=attacks.zeros, behind=attacks.LONG_PROXY_V2 + bytes(13_000)),
        Bound(8, 60),
        HANDSHAKE,
        per="byte",
        links=("tcp", "tls"),
        options={"proxy_protocol": "require"},
        few=1,
        many=5,
    ),
    Kind(
        "comes, and is gone with a RST",
        attacks.resets(),
        Bound(4, 500),
        "`accept_rate`",
        links=("tcp", "tls"),
        few=100,
        many=5000,
    ),
    Kind(
        "comes where `max_connections` are, and the backlog is full",
        attacks.crowds_at_the_door(),
        Bound(1, 50),
        "it waits, or its SYN is dropped, in the kernel",
        links=("tcp", "tls"),
        options={"max_connections": 2, "backlog": 16},
        few=100,
        many=5000,
    ),
    Kind(
        "comes where `max_connections_per_host` are",
        attacks.crowds_at_the_door(),
        Bound(1, 200),
        "a RST",
        links=("tcp", "tls"),
        options={"max_connections_per_host": 1},
        few=100,
        many=5000,
    ),
]


def table() -> str:
    """The bounds, as SECURITY.md has them."""
    rows = [
        "| what a peer does | KiB | with OpenSSL | µs | with OpenSSL | for each | what bounds it |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        ours, theirs = kind.bound, kind.with_openssl
        figures = [
            f"{ours.kib:g}",
            f"{theirs.kib:g}" if theirs else "",
            f"{ours.us:,g}",
            f"{theirs.us:,g}" if theirs else "",
        ]
        rows.append(f"| {' | '.join([kind.name, *figures, kind.per, kind.held_by])} |")
    return "\n".join(rows)

"""What is measured of unchanged asyncio programs, on which loops, and what the goals are."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contender:
    """A loop that the programs run on, and what an ssl.SSLContext is to them."""

    name: str
    label: str
    loop: str
    tls: str = "openssl"
    needs: tuple[str, ...] = ()
    """Distributions from requirements/bench.txt."""


CONTENDERS = (
    Contender("mantou", "mantou", "mantou"),
    Contender("mantou-rustls", "mantou, mantou.SSLContext", "mantou", tls="rustls"),
    Contender("uvloop", "uvloop", "uvloop", needs=("uvloop",)),
    Contender("asyncio", "asyncio", "asyncio"),
    Contender(
        "aiofastnet-uvloop",
        "aiofastnet on uvloop",
        "aiofastnet-uvloop",
        needs=("uvloop", "aiofastnet"),
    ),
)
PLAIN = ("mantou", "uvloop", "asyncio", "aiofastnet-uvloop")
TLS = tuple(each.name for each in CONTENDERS)
LOOPS = ("mantou", "uvloop", "asyncio")
"""Where aiofastnet would be uvloop again: it brings transports only."""
BASE = "uvloop"


@dataclass(frozen=True)
class Row:
    """A program, what drives it, and by a contender's name how dear it may be."""

    name: str
    title: str
    group: str
    program: str
    kind: str
    contenders: tuple[str, ...]
    goals: dict[str, float] = field(default_factory=dict)
    """In times uvloop; of idle memory in KiB."""
    tls: bool = False
    load: str = "wrk"
    """`wrk`; `own`: the program runs the rounds; `hold`: connections that are only held."""
    service: str = ""
    """What a client is served by: one of services.py, or another row."""
    connections: int = 50
    unit: str = "request"
    resume = False

    @property
    def figure(self) -> str:
        """What is compared: the key of a round's figures."""
        return "bytes" if self.load == "hold" else "cpu_us"


def build() -> list[Row]:
    """Return all of them, in the order of the page."""
    return [*servers(), *scheduling(), *clients(), memory()]


def servers() -> list[Row]:
    """HTTP in the clear and over TLS; the goals of TLS are those of mantou's two engines."""
    programs = (
        ("protocol", "Protocol", "http_protocol.py", 0.88, {"mantou": 0.85, "mantou-rustls": 0.65}),
        ("buffered", "BufferedProtocol", "http_protocol.py", 0.88, None),
        ("streams", "asyncio streams", "http_protocol.py", 0.90, {"mantou": 0.75}),
        ("uvicorn", "uvicorn, httptools", "http_frameworks.py", 0.93, {"mantou-rustls": 0.80}),
        ("aiohttp", "aiohttp", "http_frameworks.py", 0.95, {"mantou-rustls": 0.80}),
    )
    found = []
    for kind, title, program, plain, tls in programs:
        group, goals = "HTTP servers", {"mantou": plain}
        found.append(Row(f"{kind}-plain", f"{title}, plain", group, program, kind, PLAIN, goals))
        if tls is not None:
            row = Row(f"{kind}-tls", f"{title}, TLS", group, program, kind, TLS, tls, tls=True)
            found.append(row)
    return found


def scheduling() -> list[Row]:
    """The loop alone. A visit is a thousand: its microseconds are one's nanoseconds."""
    titles = {
        "call-soon": "call_soon",
        "call-soon-chain": "call_soon, a turn each",
        "call-soon-threadsafe": "call_soon_threadsafe",
        "task-switch": "task switch, sleep(0)",
        "task-switch-alone": "sleep(0) of one task",
        "create-task": "create_task, await",
        "timer": "call_later, cancel",
        "timer-fires": "call_later that fires",
        "future": "future's wake-up",
    }
    return [
        Row(
            kind,
            title,
            "scheduling",
            "scheduling.py",
            kind,
            LOOPS,
            {"mantou": 1.0},
            load="own",
            connections=1,
            unit="thousand",
        )
        for kind, title in titles.items()
    ]


def clients() -> list[Row]:
    """The process of the client is measured, on 10 connections."""
    kinds = (
        ("redis", "redis-py, pipeline of 10", "redis"),
        ("asyncpg", "asyncpg, select", "postgresql"),
        ("aiohttp", "aiohttp client", "protocol-plain"),
    )
    return [
        Row(
            f"client-{kind}",
            title,
            "clients",
            "clients.py",
            kind,
            PLAIN,
            {"mantou": 0.95},
            load="own",
            service=service,
            connections=10,
        )
        for kind, title, service in kinds
    ]


def memory() -> Row:
    """A server's end of connections that are open and were never used."""
    return Row(
        "idle-memory-tls",
        "idle TLS connection",
        "idle memory",
        "http_protocol.py",
        "echo",
        TLS,
        {"mantou": 50.0, "mantou-rustls": 24.0},
        tls=True,
        load="hold",
        connections=10_000,
        unit="connection",
    )


ROWS = build()

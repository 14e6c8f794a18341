"""What is measured."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 1 << 20


@dataclass(frozen=True)
class Scenario:
    """What the servers do (the role) and what the load does with them."""

    name: str
    title: str
    group: str
    role: str = "echo"
    load: str = "echo"
    connections: int = 50
    size: int = 64
    depth: int = 1
    idle: int = 0
    tls: bool = False
    resume: bool = False
    unit: str = "message"

    @property
    def figure(self) -> str:
        """What is compared: the key of a round's figures."""
        return "bytes" if self.load == "hold" else "cpu_us"

    def load_options(self) -> list[str]:
        options = f"{self.load} --connections {self.connections} --size {self.size}"
        options += f" --depth {self.depth} --idle {self.idle}" + " --resume" * self.resume
        return options.split()


def size_name(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


def build() -> list[Scenario]:
    """Return all of them, in the order of the page."""
    found: list[Scenario] = []
    for tls in (False, True):
        prefix, kind = ("tls-", "TLS ") if tls else ("", "")
        for connections in (1, 50, 500):
            for size in (64, 1024, 16384, 65536):
                short = size_name(size).replace(" B", "").replace(" KiB", "k")
                found.append(
                    Scenario(
                        f"{prefix}echo-{short}-{connections}",
                        f"{kind}echo {size_name(size)}, {connections} connection"
                        + "s" * (connections > 1),
                        f"{kind}echo, {connections} connection" + "s" * (connections > 1),
                        connections=connections,
                        size=size,
                        tls=tls,
                    )
                )
        group = f"{kind}streams"
        found += [
            Scenario(
                f"{prefix}pipelined",
                f"{kind}pipelined: 16 x 64 B at once, 50 connections",
                group,
                depth=16,
                tls=tls,
            ),
            *(
                Scenario(
                    f"{prefix}bulk-{way}",
                    f"{kind}bulk {way}, 4 connections",
                    group,
                    role=role,
                    load=role,
                    connections=4,
                    size=BLOCK,
                    depth=4,
                    tls=tls,
                    unit="MiB",
                )
                for way, role in (("in", "sink"), ("out", "source"))
            ),
        ]
    handshake = {"group": "TLS handshakes", "load": "churn", "tls": True, "unit": "connection"}
    found += [
        Scenario("handshake-full", "full handshake, echo, close", connections=8, **handshake),  # type: ignore[arg-type]
        Scenario(
            "handshake-resumed",
            "resumed handshake, echo, close",
            connections=8,
            resume=True,
            **handshake,  # type: ignore[arg-type]
        ),
        Scenario("churn", "accept, echo, close", "connections", load="churn", unit="connection"),
        Scenario(
            "connect", "connect, echo, close (client)", "connections", "connect", unit="connection"
        ),
        Scenario(
            "tls-connect",
            "connect, full handshake, echo, close (client)",
            "TLS handshakes",
            role="connect",
            connections=8,
            tls=True,
            unit="connection",
        ),
    ]
    for tls in (False, True):
        found += many(tls)
    return [
        *found,
        *(
            Scenario(
                f"{prefix}idle-memory",
                f"{kind}10,000 idle connections",
                "idle memory",
                load="hold",
                connections=10_000,
                tls=bool(kind),
                unit="connection",
            )
            for prefix, kind in (("", ""), ("tls-", "TLS "))
        ),
    ]


def many(tls: bool) -> list[Scenario]:
    """Return what has many receivers, many pieces or many idle connections."""
    prefix, kind = ("tls-", "TLS ") if tls else ("", "")
    return [
        Scenario(
            f"{prefix}fanout",
            f"{kind}1 message to 1,000",
            f"{kind}fan-out",
            role="fanout",
            load="fanout",
            connections=1000,
            tls=tls,
            unit="delivery",
        ),
        *(
            Scenario(
                f"{prefix}{role}",
                f"{kind}16 writes of 4 B{', corked' * (role == 'corked')}",
                f"{kind}many small writes",
                role=role,
                tls=tls,
            )
            for role in ("pieces", "corked")
        ),
        *(
            Scenario(
                f"{prefix}idle-{idle}",
                f"{kind}50 active, {idle:,} idle",
                f"{kind}scale",
                idle=idle,
                tls=tls,
            )
            for idle in (10, 100, 1000, 10_000)
        ),
        Scenario(
            f"{prefix}timeouts-10000",
            f"{kind}50 active, 10,000 idle, timeouts armed",
            f"{kind}scale",
            role="timeouts",
            idle=10_000,
            tls=tls,
        ),
    ]


SCENARIOS = build()

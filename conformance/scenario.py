"""What a scenario is made of: the programs at its ends, and the steps of those who look on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.stage import Stage

Action = tuple[Any, ...]
"""What a driver does to a socket: a name that both drivers have, and its arguments."""

Step = Callable[["Stage"], None]
"""What the raw peers and the watcher do, one after another: see steps.py."""

Handlers = Mapping[str, "Sequence[Action] | Handler"]

TRANSPORTS: tuple[tuple[str, dict[str, Any]], ...] = (("", {}), ("unix: ", {"unix": True}))
"""Where names begin so, the options of both ends."""

USUAL = ("open", "data", "end", "close", "error")


@dataclass(frozen=True)
class Handler:
    """What is done in an event; a plain list of actions where nothing else is to be said."""

    do: Sequence[Action] = ()
    is_async: bool = False
    gives: str = ""
    """What it returns: "error", an exception object, or "true"."""
    is_silent: bool = False
    """Not told, where timing decides how often it is called."""

    def declared(self) -> dict[str, Any]:
        """As the drivers read it."""
        return {
            "do": list(self.do),
            "async": self.is_async,
            "gives": self.gives,
            "silent": self.is_silent,
        }


@dataclass(frozen=True)
class Program:
    """One end that is mantou's or Bun's: S listens, C connects."""

    role: str
    options: dict[str, Any]
    table: dict[str, Any]
    tells_promise: bool = False
    """Whether it is told when `connect()` is done."""
    connected: Sequence[Action] = ()
    """What is done with what `connect()` gives."""
    is_held: bool = False
    """Its loop stands still after `connect()` until the step `release()`, as after `hold`."""

    def declared(self) -> dict[str, Any]:
        """As the drivers read it."""
        return {
            "role": self.role,
            "call": "listen" if self.role == "S" else "connect",
            "options": self.options,
            "table": self.table,
            "tells_promise": self.tells_promise,
            "connected": list(self.connected),
            "is_held": self.is_held,
        }


@dataclass(frozen=True)
class Scenario:
    """Something that happens, and who takes part in it."""

    name: str
    programs: tuple[Program, ...]
    steps: tuple[Step, ...]
    because: tuple[str, ...] = ()
    """Where the two differ: how the rows of docs/porting/from-bun.md begin that say why."""
    stays_open: bool = False
    """Nobody has closed the connection when the steps are done."""
    alone: bool = False
    """Not played by Bun and mantou with each other: there, timing decides what they see."""
    abroad: tuple[str, ...] = ()
    """Where an end behaves differently towards the other implementation: rows that say why."""


def table(
    name: str, on: Handlers | None = None, without: Iterable[str] = (), binary: str = ""
) -> dict[str, Any]:
    """A table of handlers: the usual ones, and what is said of them or of others."""
    handlers: dict[str, Any] = {event: Handler() for event in USUAL if event not in without}
    for event, handler in (on or {}).items():
        handlers[event] = handler if isinstance(handler, Handler) else Handler(handler)
    told = {event: handler.declared() for event, handler in handlers.items()}
    return {"name": name, "on": told, "binary": binary}


def server(
    on: Handlers | None = None, *, without: Iterable[str] = (), binary: str = "", **options: Any
) -> Program:
    """Who listens: on 127.0.0.1 unless it is told otherwise."""
    return Program("S", options, table("S", on, without, binary))


def client(
    on: Handlers | None = None,
    *,
    without: Iterable[str] = (),
    binary: str = "",
    tells_promise: bool = False,
    connected: Sequence[Action] = (),
    is_held: bool = False,
    **options: Any,
) -> Program:
    """Who connects: to the server of its scenario, else to the raw peer's listener."""
    handlers = table("C", on, without, binary)
    return Program("C", options, handlers, tells_promise, connected, is_held)


def fill(count: int) -> dict[str, int]:
    """So many bytes that tell their place."""
    return {"fill": count}

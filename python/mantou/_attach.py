"""Which engine belongs to which loop: mantou's own, a stock asyncio or uvloop one, or none yet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import weakref
from collections.abc import AsyncGenerator

from ._core import Engine, own_engine
from ._host import Host
from ._log import log

# The loop itself keeps its engine: what it calls for the engine's descriptor is a method of it.
_attached: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ReferenceType[Engine]] = (
    weakref.WeakKeyDictionary()
)


# A forked child parts from every engine of its parent, and every one of them counts.
_engines: set[weakref.ReferenceType[Engine]] = set()


class _LeftBehind:
    """What a forked process had to leave with its parent."""

    listeners = False


class _Waiting(threading.local):
    """The engine of a thread whose loop does not run yet."""

    engine: Engine | None = None


_waiting = _Waiting()
_left_behind = _LeftBehind()


def new_engine() -> Engine:
    engine = Engine()
    _engines.add(weakref.ref(engine, _engines.discard))
    return engine


def engines() -> list[Engine]:
    """Those of this process that are there, also if another thread makes one this moment."""
    return [engine for reference in tuple(_engines) if (engine := reference()) is not None]


def running_engine() -> Engine:
    """The engine of the running loop. RuntimeError if none runs."""
    own = own_engine()
    if own is not None:
        return own
    loop = asyncio.get_running_loop()
    attached = _attached.get(loop)
    return (attached and attached()) or _attach(loop)


def current_engine() -> Engine:
    """The engine of the running loop, else the one that the thread's next loop will run."""
    try:
        return running_engine()
    except RuntimeError:
        if _waiting.engine is None:
            _waiting.engine = new_engine()
        return _waiting.engine


def take_waiting_engine() -> Engine | None:
    """Hands over what was listened on before a loop was there."""
    engine, _waiting.engine = _waiting.engine, None
    return engine


def _attach(loop: asyncio.AbstractEventLoop) -> Engine:
    """Runs an engine on a loop that is not ours."""
    engine = new_engine()
    host = Host(loop, engine)
    # As it is now: a loop that is not ours does not tell when that changes.
    engine.set_debug(loop.get_debug())
    engine.watch_from_outside()
    loop.add_reader(engine.fileno(), engine.turn)
    _end_with(loop, engine, host)
    _attached[loop] = weakref.ref(engine)
    return engine


def _end_with(loop: asyncio.AbstractEventLoop, engine: Engine, host: Host) -> None:
    """Has the loop end the engine.

    Loops have no hook for that, but each one closes its asynchronous generators before it goes,
    while it can still run tasks.
    """
    loop_reference = weakref.ref(loop)

    async def life() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not engine.left_behind:
                await host.end()
            if (loop := loop_reference()) is not None:
                loop.remove_reader(engine.fileno())
            host.guard = None
            host.let_go()

    guard = life()
    # The first step announces the generator to the running loop; it does not wait.
    with contextlib.suppress(StopIteration):
        guard.asend(None).send(None)
    host.guard = guard


def listeners_out_of_reach() -> str | None:
    """Why the listeners of this process cannot be served by a loop that has none; else None."""
    if _left_behind.listeners:
        return (
            "listeners of an event loop stay with the process that was forked; listen() in the "
            "child, or fork before there is a loop"
        )
    if any(engine.awaits_loop and engine.referenced for engine in engines()):
        return "what another thread listens on waits for a loop in that thread; call run() there"
    return None


def _part_from_parent() -> None:
    # The queues of a forked parent are shared with it: the child must not touch them.
    _attached.clear()
    if sys.version_info < (3, 12):  # asyncio does so itself from there on.
        signal.set_wakeup_fd(-1)
    for engine in engines():
        try:
            _left_behind.listeners |= engine.begin_anew()
        except OSError as error:
            # It raises wherever it is used from now on.
            log(logging.ERROR, "an event loop cannot be used in this forked process: %s", error)
            continue
        if _waiting.engine is None and not engine.left_behind and engine.referenced:
            # Listened on by a thread that is not here any more.
            _waiting.engine = engine


os.register_at_fork(after_in_child=_part_from_parent)

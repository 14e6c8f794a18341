"""`install()`: every loop that a program makes is mantou's, wherever it asks asyncio for one."""

from __future__ import annotations

import asyncio
import selectors
from asyncio import events, unix_events
from typing import Any, cast

from ._loop import EventLoop

# On every supported Python `asyncio.run()`, `Runner` and `new_event_loop()` come down to this class
# attribute. It is set in place of a policy, because policies are deprecated since 3.14, and because
# a policy would be lost where a program or a test plugin goes back to the default one.
_DefaultPolicy: Any = cast("Any", unix_events)._UnixDefaultEventLoopPolicy
_Stock: Any = asyncio.SelectorEventLoop

# What was there before, in the order in which it was replaced: (owner, attribute, value).
_replaced: list[tuple[Any, str, Any]] = []


def install() -> None:
    """Has asyncio make mantou's loops from now on, in this process and those forked from it.

    `asyncio.run()`, `asyncio.Runner()`, `asyncio.new_event_loop()`, `asyncio.SelectorEventLoop()`
    and `asyncio.EventLoop()` are meant, and so whatever is built on them; loops that exist already
    stay what they are. What a program gets from elsewhere stays, too: a loop of uvloop's, a class
    of its own that derives from asyncio's, or asyncio's loop around a selector of its own making.
    A policy that was set before gives way, one that is set later is obeyed. Calling it again does
    nothing. Not in Bun.
    """
    if _replaced:
        return
    _replace(_DefaultPolicy, "_loop_factory", EventLoop)
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):  # `asyncio.EventLoop` is there since 3.13
                _replace(module, name, _SelectorEventLoop)
    # Not through the public functions, which warn since 3.14.
    policy = cast("Any", events)._event_loop_policy
    if policy is not None and not isinstance(policy, _DefaultPolicy):
        _replace(events, "_event_loop_policy", None)


def uninstall() -> None:
    """Takes `install()` back: asyncio makes its own loops again, or those of the policy before it.

    Loops that exist already stay what they are. Where nothing is installed, it does nothing.
    Not in Bun.
    """
    while _replaced:
        owner, name, value = _replaced.pop()
        setattr(owner, name, value)


def _replace(owner: Any, name: str, value: object) -> None:
    _replaced.append((owner, name, getattr(owner, name)))
    setattr(owner, name, value)


class _StandIn(type):
    """Makes mantou's loops where asyncio's class is called, and derives from asyncio's otherwise.

    A subclass relies on what it inherits, down to private names: it keeps asyncio's loop.
    """

    def __call__(
        cls, selector: selectors.BaseSelector | None = None, *more: Any, **named: Any
    ) -> Any:
        if not _is_stand_in(cls):
            return super().__call__(selector, *more, **named)
        # The kinds of selectors differ in how they ask the kernel, which ours does in its own way.
        if selector is None or type(selector).__module__ == selectors.__name__:
            if selector is not None:
                selector.close()
            return EventLoop(*more, **named)
        return _Stock(selector, *more, **named)

    def __instancecheck__(cls, instance: object) -> bool:
        return issubclass(type(instance), cls)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if _is_stand_in(cls):
            return issubclass(subclass, (_Stock, EventLoop))
        return super().__subclasscheck__(subclass)


def _is_stand_in(kind: object) -> bool:
    return kind is _SelectorEventLoop


class _SelectorEventLoop(_Stock, metaclass=_StandIn):  # type: ignore[misc]
    __doc__ = _Stock.__doc__


_SelectorEventLoop.__name__ = _SelectorEventLoop.__qualname__ = _Stock.__name__
_SelectorEventLoop.__module__ = _Stock.__module__

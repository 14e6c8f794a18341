"""`mantou.SSLContext` for programs that only know `ssl.SSLContext`."""

from __future__ import annotations

import ssl
from typing import Any

from ._ssl_context import SSLContext

# Not the name in the module is replaced, but what calling the class makes: so who has imported
# the class before gets the others, too, and `isinstance()` and `super()` go on meaning it.
_new_context = ssl.SSLContext.__new__


def inject_into_ssl() -> None:
    """Has `ssl.SSLContext(...)` make `mantou.SSLContext`s from now on.

    So do `ssl.create_default_context()` and all others that call the class. What was made before
    stays what it is, and classes that are derived from it make what they did. Idempotent.

    Not in Bun.
    """

    def make(cls: type[ssl.SSLContext], *args: Any, **kwargs: Any) -> ssl.SSLContext:
        if cls is ssl.SSLContext:
            return SSLContext.__new__(SSLContext, *args, **kwargs)
        return _new_context(cls, *args, **kwargs)

    setattr(ssl.SSLContext, "__new__", make)  # noqa: B010


def extract_from_ssl() -> None:
    """Takes back `inject_into_ssl()`. What was made meanwhile stays. Idempotent. Not in Bun."""
    setattr(ssl.SSLContext, "__new__", _new_context)  # noqa: B010

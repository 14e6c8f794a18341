"""The exceptions that are mantou's own; every other error is one of Python's."""

__all__ = ["WrongThreadError"]


class WrongThreadError(RuntimeError):
    """A socket or listener was used from a thread other than that of its event loop.

    ``loop.call_soon_threadsafe()`` reaches the right thread. Nothing in Bun: there an object
    cannot be shared between threads at all.
    """

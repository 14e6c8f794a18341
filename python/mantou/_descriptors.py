"""What asyncio's own code watches on our loop: pipes, signals, `add_reader()`."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ._core import Scheduler

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


# Private, but what each of Python's own selectors is made of.
class Descriptors(selectors._BaseSelectorImpl):  # pyright: ignore[reportPrivateUsage]
    """The descriptors that asyncio's own code watches, registered with their handles.

    Nobody selects here: the scheduler's turn finds them ready and calls the handles.
    """

    _fd_to_key: dict[int, selectors.SelectorKey]
    _fileobj_lookup: Callable[[FileDescriptorLike], int]

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def select(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - selectors' name
        raise RuntimeError("the descriptors of this loop are waited for by the loop itself")

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        try:
            self._scheduler._watch(key.fd, events, data)
        except BaseException:
            super().unregister(fileobj)
            raise
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self._scheduler._unwatch(key.fd)
        return key

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        try:
            self._scheduler._watch(key.fd, events, data)
        except BaseException:
            super().unregister(fileobj)
            raise
        key = key._replace(events=events, data=data)
        self._fd_to_key[key.fd] = key
        return key

    def forget_stale(self, fileobj: FileDescriptorLike) -> None:
        """Forgets a descriptor that was closed meanwhile, and is one of our sockets' now."""
        with contextlib.suppress(ValueError):
            fd = self._fileobj_lookup(fileobj)
            if self._scheduler._forget_stale(fd):
                self._fd_to_key.pop(fd, None)

    def close(self) -> None:
        super().close()
        del self._scheduler

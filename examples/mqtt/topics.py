"""Who wants what: a tree of topics, a level of it for each part between slashes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscriptions(Generic[T]):
    """Filters, in which `+` is any one level and a last `#` any number of them."""

    def __init__(self) -> None:
        self._below: dict[bytes, Subscriptions[T]] = {}
        self._here: dict[T, int] = {}  # with the quality that each asked for

    def add(self, topic_filter: bytes, who: T, qos: int) -> None:
        node = self
        for level in topic_filter.split(b"/"):
            node = node._below.setdefault(level, Subscriptions())
        node._here[who] = qos

    def discard(self, topic_filter: bytes, who: T) -> None:
        level, _, rest = topic_filter.partition(b"/")
        node = self._below.get(level)
        if node is None:
            return
        if b"/" in topic_filter:
            node.discard(rest, who)
        else:
            node._here.pop(who, None)
        if not node._here and not node._below:
            del self._below[level]

    def matching(self, topic: bytes) -> dict[T, int]:
        """Everybody who wants the topic, with the best quality that any filter asks for."""
        # What begins with "$" is of the server itself: no wildcard stands for that.
        found: dict[T, int] = {}
        for node in self._nodes(topic.split(b"/"), 0, not topic.startswith(b"$")):
            for who, qos in node._here.items():
                found[who] = max(qos, found.get(who, 0))
        return found

    def _nodes(
        self, levels: list[bytes], at: int, wildcards: bool = True
    ) -> Iterator[Subscriptions[T]]:
        if wildcards and (rest := self._below.get(b"#")):
            yield rest
        if at == len(levels):
            yield self
            return
        for level in (levels[at], b"+") if wildcards else (levels[at],):
            if node := self._below.get(level):
                yield from node._nodes(levels, at + 1)


def is_filter(topic_filter: bytes) -> bool:
    """Wildcards must be whole levels, and `#` the last one."""
    levels = topic_filter.split(b"/")
    for number, level in enumerate(levels):
        if b"#" in level and (level != b"#" or number + 1 < len(levels)):
            return False
        if b"+" in level and level != b"+":
            return False
    return bool(topic_filter) and b"\0" not in topic_filter

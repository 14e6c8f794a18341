"""The data of the server: strings, of which some end by themselves."""

from __future__ import annotations

import time

from examples.redis.protocol import bulk

OK = b"+OK\r\n"
Words = list[bytes]


class Store:
    """Each method answers the command of its name, `incr` INCRBY as well.

    A ValueError is a number that is none.
    """

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.deadlines: dict[bytes, float] = {}  # of those that end, by time.monotonic()

    def get(self, words: Words) -> bytes:
        return bulk(self.lookup(words[1]))

    def set(self, words: Words) -> bytes:
        if len(words) == 5 and words[3].lower() == b"ex":
            self.deadlines[words[1]] = time.monotonic() + int(words[4])
        elif len(words) == 3:
            self.deadlines.pop(words[1], None)
        else:
            return b"-ERR syntax error\r\n"
        self.values[words[1]] = words[2]
        return OK

    def delete(self, words: Words) -> bytes:
        return b":%d\r\n" % sum([self.forget(key) for key in words[1:]])

    def incr(self, words: Words) -> bytes:
        number = int(self.lookup(words[1]) or b"0") + (int(words[2]) if words[2:] else 1)
        self.values[words[1]] = b"%d" % number
        return b":%d\r\n" % number

    def expire(self, words: Words) -> bytes:
        seconds = int(words[2])
        if self.lookup(words[1]) is None:
            return b":0\r\n"
        self.deadlines[words[1]] = time.monotonic() + seconds
        return b":1\r\n"

    def ttl(self, words: Words) -> bytes:
        if self.lookup(words[1]) is None:
            return b":-2\r\n"
        deadline = self.deadlines.get(words[1])
        return b":%d\r\n" % (-1 if deadline is None else round(deadline - time.monotonic()))

    def lookup(self, key: bytes) -> bytes | None:
        """The value, unless its time is over: whoever looks finds that out."""
        if key in self.deadlines and self.deadlines[key] <= time.monotonic():
            self.forget(key)
        return self.values.get(key)

    def forget(self, key: bytes) -> bool:
        self.deadlines.pop(key, None)
        return self.values.pop(key, None) is not None

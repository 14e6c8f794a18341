"""RESP, the protocol of Redis: taking apart what has come, as far as it has come."""

from __future__ import annotations

LINE = b"\r\n"
NIL = b"$-1\r\n"
Reply = bytes | int | None | Exception | list["Reply"]


class ReplyError(Exception):
    """An answer that begins with "-"."""


class Incomplete(Exception):
    """The end of it has not arrived."""


def bulk(value: bytes | None) -> bytes:
    return NIL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def split_commands(data: bytes) -> tuple[list[list[bytes]], bytes]:
    """The commands that are whole, and the rest. ValueError: that is not the protocol."""
    parts = data.split(LINE)
    end = len(parts) - 1  # what follows the last line's end is not a line yet
    commands: list[list[bytes]] = []
    whole = at = 0
    while at < end:
        head, at = parts[at], at + 1
        if head[:1] != b"*":  # as a person types it
            commands.append(head.split())
            whole = at
            continue
        words: list[bytes] = []
        count = int(head[1:])
        while len(words) < count and at < end:
            if parts[at][:1] != b"$":
                raise ValueError("expected '$'")
            if at + 1 == end:
                break
            length, word, at = int(parts[at][1:]), parts[at + 1], at + 2
            while len(word) < length and at < end:  # there is a line's end within the word
                word, at = word + LINE + parts[at], at + 1
            if len(word) > length:
                raise ValueError("invalid bulk length")
            if len(word) < length:
                break
            words.append(word)
        if len(words) < count:
            break
        commands.append(words)
        whole = at
    return commands, LINE.join(parts[whole:])


def split_replies(data: bytes) -> tuple[list[Reply], bytes]:
    """The replies that are whole, and the rest. ValueError: that is not the protocol."""
    replies: list[Reply] = []
    at = 0
    while at < len(data):
        try:
            reply, at = _reply(data, at)
        except Incomplete:
            break
        replies.append(reply)
    return replies, data[at:]


def _reply(data: bytes, at: int) -> tuple[Reply, int]:
    end = data.find(LINE, at)
    if end < 0:
        raise Incomplete
    kind, text, at = data[at : at + 1], data[at + 1 : end], end + 2
    match kind:
        case b"+":
            return text, at
        case b"-":
            return ReplyError(text.decode(errors="replace")), at
        case b":":
            return int(text), at
        case b"$":
            return _bulk(data, at, int(text))
        case b"*":
            items: list[Reply] = []
            for _ in range(int(text)):
                item, at = _reply(data, at)
                items.append(item)
            return items, at
        case _:
            raise ValueError(f"a reply does not begin with {kind!r}")


def _bulk(data: bytes, at: int, length: int) -> tuple[bytes | None, int]:
    if length < 0:
        return None, at
    if len(data) < at + length + 2:
        raise Incomplete
    return data[at : at + length], at + length + 2

"""Who hears what is published, and what the server knows about them."""

from __future__ import annotations

from dataclasses import dataclass, field

import mantou
from examples.redis.protocol import bulk, request
from examples.redis.store import Words


@dataclass
class Client:
    """What the server knows about one connection."""

    rest: bytes = b""  # the beginning of a command whose end has not arrived
    channels: set[bytes] = field(default_factory=set)
    pushes: bytes = b"*"  # what begins a message that nobody asked for; in RESP 3 it is another


Socket = mantou.Socket[Client]


class Audience:
    """The subscribers of all channels."""

    def __init__(self) -> None:
        self._subscribers: dict[bytes, set[Socket]] = {}

    def subscribe(self, socket: Socket, channels: Words) -> bytes:
        answers = b""
        for channel in channels:
            socket.data.channels.add(channel)
            self._subscribers.setdefault(channel, set()).add(socket)
            answers += self._told(b"subscribe", channel, socket)
        return answers

    def unsubscribe(self, socket: Socket, channels: Words) -> bytes:
        answers = b""
        for channel in channels or list(socket.data.channels):
            socket.data.channels.discard(channel)
            listening = self._subscribers.get(channel, set())
            listening.discard(socket)
            if not listening:
                self._subscribers.pop(channel, None)
            answers += self._told(b"unsubscribe", channel, socket)
        return answers or self._told(b"unsubscribe", None, socket)

    def _told(self, kind: bytes, channel: bytes | None, socket: Socket) -> bytes:
        count = len(socket.data.channels)
        return socket.data.pushes + b"3\r\n" + bulk(kind) + bulk(channel) + b":%d\r\n" % count

    def publish(self, words: Words) -> bytes:
        listening = self._subscribers.get(words[1], set())
        message = request(b"message", words[1], words[2])[1:]
        for socket in list(listening):
            try:
                socket.write_all(socket.data.pushes + message)
            except BufferError:  # too far behind
                socket.terminate()
        return b":%d\r\n" % len(listening)

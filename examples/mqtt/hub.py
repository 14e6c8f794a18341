"""Where messages meet their subscribers."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field

import mantou
from examples.mqtt.packets import Message, publish
from examples.mqtt.topics import Subscriptions

FAR_BEHIND = 1024 * 1024  # bytes that a subscriber has not read


@dataclass
class Client:
    """What the broker knows about one connection."""

    rest: bytes = b""  # the beginning of a packet whose end has not arrived
    client_id: bytes | None = None  # until it has introduced itself
    will: Message | None = None  # what is published if it does not take its leave
    filters: set[bytes] = field(default_factory=set)
    numbers: itertools.cycle[int] = field(default_factory=lambda: itertools.cycle(range(1, 65536)))


Socket = mantou.Socket[Client]


class Hub:
    """Who wants what, and what is kept for those who will."""

    def __init__(self) -> None:
        self._subscriptions: Subscriptions[Socket] = Subscriptions()
        self._retained: dict[bytes, Message] = {}

    def subscribe(self, socket: Socket, topic_filter: bytes, qos: int) -> list[Message]:
        """From now on; returns the retained messages that the newcomer gets."""
        socket.data.filters.add(topic_filter)
        self._subscriptions.add(topic_filter, socket, qos)
        alone: Subscriptions[Socket] = Subscriptions()
        alone.add(topic_filter, socket, qos)
        return [kept for kept in self._retained.values() if alone.matching(kept.topic)]

    def unsubscribe(self, socket: Socket, topic_filter: bytes) -> None:
        socket.data.filters.discard(topic_filter)
        self._subscriptions.discard(topic_filter, socket)

    def leave(self, socket: Socket) -> None:
        for topic_filter in list(socket.data.filters):
            self.unsubscribe(socket, topic_filter)

    def publish(self, message: Message) -> None:
        if message.retain and message.payload:
            self._retained[message.topic] = message
        elif message.retain:
            self._retained.pop(message.topic, None)
        for socket, qos in self._subscriptions.matching(message.topic).items():
            self.deliver(socket, message, qos)

    def deliver(self, socket: Socket, message: Message, qos: int, retain: bool = False) -> None:
        qos = min(qos, message.qos)
        if socket.buffered > FAR_BEHIND:
            if qos:
                socket.terminate()
            return
        number = next(socket.data.numbers) if qos else 0
        with contextlib.suppress(BrokenPipeError):  # has just left: `close` is about to be called
            socket.write_all(publish(message, qos, number, retain))

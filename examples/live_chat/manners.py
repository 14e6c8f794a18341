"""What the chat does with what people say. Change something, save, and go on talking."""

from __future__ import annotations

from dataclasses import dataclass, field

import mantou


@dataclass
class Room:
    """What outlives a change of manners."""

    present: set[mantou.Socket[Room]] = field(default_factory=set)


Socket = mantou.Socket[Room]


class Manners(mantou.SocketHandler[Room]):
    """One line is one message."""

    greeting = "welcome"

    def open(self, socket: Socket) -> None:
        socket.data.present.add(socket)
        socket.write_all(f"{self.greeting}\n")

    def data(self, socket: Socket, line: bytes) -> None:
        text = self.shown(line.decode(errors="replace"))
        for other in socket.data.present - {socket}:
            try:
                other.write_all(f"{text}\n")
            except (BrokenPipeError, BufferError):  # leaves, or reads nothing
                other.terminate()

    def close(self, socket: Socket, error: BaseException | None) -> None:
        socket.data.present.discard(socket)

    def shown(self, text: str) -> str:
        return text

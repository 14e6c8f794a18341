"""The small parts: echo with a context per connection, half-open, hot reload, idle timeout."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mantou

from .endpoint import connect, listen

if TYPE_CHECKING:
    from pathlib import Path

    from .narrator import Narrator

IDLE = 0.3  # seconds of silence that the last part allows


@dataclass
class Talk:
    """One connection's context on either side: whose it is and what has come so far."""

    who: str
    inbox: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)  # None: it is over
    messages: int = 0

    async def hear(self) -> str | None:
        async with asyncio.timeout(10):
            return await self.inbox.get()


class Client(mantou.SocketHandler[Talk]):
    """Tells each event and puts what arrives into the inbox of the connection's context."""

    def __init__(self, narrator: Narrator) -> None:
        self.narrator = narrator

    def open(self, socket: mantou.Socket[Talk]) -> None:
        self.narrator.event(socket.data.who, "open", "connected")

    def data(self, socket: mantou.Socket[Talk], data: bytes) -> None:
        self.narrator.event(socket.data.who, "data", data.decode())
        socket.data.inbox.put_nowait(data.decode())

    def end(self, socket: mantou.Socket[Talk]) -> None:
        self.narrator.event(socket.data.who, "end", "the server will send nothing more")

    def close(self, socket: mantou.Socket[Talk], error: BaseException | None) -> None:
        self.narrator.event(socket.data.who, "close", repr(error) if error else "clean")
        socket.data.inbox.put_nowait(None)


class Server(mantou.SocketHandler[Talk]):
    """Tells each event; the parts say what it answers."""

    def __init__(self, narrator: Narrator) -> None:
        self.narrator = narrator

    def open(self, socket: mantou.Socket[Talk]) -> None:
        self.narrator.event(socket.data.who, "open", "accepted a connection")

    def answer(self, socket: mantou.Socket[Talk], text: str) -> None:
        socket.data.messages += 1
        socket.write_all(text)

    def data(self, socket: mantou.Socket[Talk], data: bytes) -> None:
        self.narrator.event(socket.data.who, "data", data.decode())
        self.answer(socket, data.decode())

    def close(self, socket: mantou.Socket[Talk], error: BaseException | None) -> None:
        count = socket.data.messages
        how = repr(error) if error else "clean"
        self.narrator.event(socket.data.who, "close", f"{how}, {count} messages answered")
        socket.data.inbox.put_nowait(None)


async def echo(narrator: Narrator, path: Path | None) -> None:
    """Three clients at once; each must get back its own words and nothing else."""
    accepted: list[Talk] = []

    def new_talk(socket: mantou.Socket[Talk]) -> Talk:
        accepted.append(Talk(f"server #{len(accepted) + 1}"))
        return accepted[-1]

    async def speak(name: str, count: int) -> bool:
        talk = Talk(f"client {name}")
        socket = await connect(path, listener, Client(narrator), talk)
        right = socket.data is talk
        for number in range(1, count + 1):
            text = f"{name} {number}"
            right &= socket.write(text) == len(text)
            right &= await talk.hear() == text
        socket.end()
        return right and await talk.hear() is None

    listener = listen(path, Server(narrator), new_talk)
    with listener:
        names = {"Ann": 1, "Bo": 2, "Cy": 3}
        right = await asyncio.gather(*(speak(name, count) for name, count in names.items()))
    await listener.closed()
    narrator.check("every client got back exactly what it sent", passed=all(right))
    counts = sorted(talk.messages for talk in accepted)
    narrator.check("the server counted per connection: 1, 2, 3", passed=counts == [1, 2, 3])


class Adder(Server):
    """Answers only when the client has ended its side."""

    def data(self, socket: mantou.Socket[Talk], data: bytes) -> None:
        self.narrator.event(socket.data.who, "data", data.decode())
        socket.data.inbox.put_nowait(data.decode())

    def end(self, socket: mantou.Socket[Talk]) -> None:
        self.narrator.event(socket.data.who, "end", "the client has ended its side; adding up")
        asyncio.get_running_loop().call_later(0.1, self.add_up, socket)

    def add_up(self, socket: mantou.Socket[Talk]) -> None:
        words = ""
        while not socket.data.inbox.empty():
            words += socket.data.inbox.get_nowait() or ""
        total = str(sum(int(word) for word in words.split()))
        self.narrator.event(socket.data.who, "", f"answers {total} and ends its side too")
        self.answer(socket, total)
        socket.end()


async def half_open(narrator: Narrator) -> None:
    """The client ends its side first, the server answers 100 ms after that."""
    talk = Talk("client")
    with mantou.listen(
        hostname="127.0.0.1",
        port=0,
        socket=Adder(narrator),
        data_factory=lambda socket: Talk("server"),
        allow_half_open=True,
    ) as listener:
        socket = await connect(None, listener, Client(narrator), talk)
        socket.write_all("1 2 3 4")
        narrator.event("client", "", "sends four numbers and ends its side")
        socket.end()
        answer, over = await talk.hear(), await talk.hear()
    await listener.closed()
    narrator.check("the answer came after the client's end", passed=(answer, over) == ("10", None))


class German(Server):
    def answer(self, socket: mantou.Socket[Talk], text: str) -> None:
        super().answer(socket, f"Guten Tag, {text}")


class English(Server):
    def answer(self, socket: mantou.Socket[Talk], text: str) -> None:
        super().answer(socket, f"Good day, {text}")


async def hot_reload(narrator: Narrator) -> None:
    """Replace the server's handlers while a connection is open."""
    talk = Talk("client")
    listener = listen(None, German(narrator), lambda socket: Talk("server"))
    with listener:
        socket = await connect(None, listener, Client(narrator), talk)
        port = socket.local_port
        socket.write_all("Ann")
        before = await talk.hear()
        listener.reload(socket=English(narrator))
        narrator.event("server", "", "listener.reload(): now in English")
        socket.write_all("Ann")
        after = await talk.hear()
        same = socket.local_port == port
        socket.end()
        over = await talk.hear()
    await listener.closed()
    greetings = (before, after) == ("Guten Tag, Ann", "Good day, Ann")
    narrator.check("the old handlers, then the new ones", passed=greetings)
    narrator.check("on one and the same connection", passed=same and over is None)


class Impatient(Server):
    """Tells when it fires. Returning True would keep the connection."""

    def timeout(self, socket: mantou.Socket[Talk]) -> None:
        self.narrator.event(socket.data.who, "timeout", f"nothing for {IDLE} s: closing")
        socket.data.inbox.put_nowait("timeout")


async def idle_timeout(narrator: Narrator) -> None:
    """A client that says nothing after its first word."""
    loop = asyncio.get_running_loop()
    client, server = Talk("client"), Talk("server")
    with mantou.listen(
        hostname="127.0.0.1",
        port=0,
        socket=Impatient(narrator),
        data_factory=lambda socket: server,
        idle_timeout=IDLE,
    ) as listener:
        socket = await connect(None, listener, Client(narrator), client)
        socket.write_all("hello")
        await client.hear()
        silent_since = loop.time()
        over = await client.hear()
        silence = loop.time() - silent_since
        fired = await server.hear()
    await listener.closed()
    narrator.check("the timeout fired, then the connection closed", passed=fired == "timeout")
    narrator.check(
        f"after {silence:.3f} s of silence ({IDLE} s allowed)",
        passed=over is None and IDLE - 0.05 <= silence <= IDLE + 2,
    )

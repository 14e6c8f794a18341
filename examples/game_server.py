r"""A game server: a tick twenty times a second, in which each player hears where all others are.

    python examples/game_server.py --port 7002
    printf 'right\ndown\n' | nc 127.0.0.1 7002

What happened in a tick is told once to everybody, as one `bytes` object that all of their queues
share. A player whose connection is slow misses ticks, and gets the whole picture afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import time
from dataclasses import dataclass

import mantou

MOVES = {b"left": (-1, 0), b"right": (1, 0), b"up": (0, -1), b"down": (0, 1)}
SIZE = 100  # the world is a torus
SLOW = 64 * 1024  # bytes that a player has not read


@dataclass
class Player:
    """A connection, and where it is in the world."""

    number: int
    x: int = SIZE // 2
    y: int = SIZE // 2
    behind: bool = True  # has to be told of everybody, not only of what has changed


Socket = mantou.Socket[Player]


class Game(mantou.SocketHandler[Player]):
    """The world, and everybody in it."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.players: set[Socket] = set()
        self.changed: set[Socket] = set()
        self.gone: list[int] = []
        self.tick = 0
        self.slowest = 0.0  # seconds that a tick has taken

    def join(self, socket: mantou.Socket[Player]) -> Player:
        return Player(next(self.numbers))

    def open(self, socket: Socket) -> None:
        self.players.add(socket)
        self.changed.add(socket)

    def data(self, socket: Socket, line: bytes) -> None:
        across, down = MOVES.get(line, (0, 0))
        player = socket.data
        player.x, player.y = (player.x + across) % SIZE, (player.y + down) % SIZE
        self.changed.add(socket)

    def close(self, socket: Socket, error: BaseException | None) -> None:
        if socket in self.players:
            self.players.remove(socket)
            self.changed.discard(socket)
            self.gone.append(socket.data.number)

    async def run(self, ticks_per_second: float) -> None:
        """Ticks for ever. A tick that takes too long is followed by the next one at once."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            before = time.perf_counter()
            self.broadcast()
            self.slowest = max(self.slowest, time.perf_counter() - before)
            due = max(due + 1 / ticks_per_second, loop.time())
            await asyncio.sleep(due - loop.time())

    def broadcast(self) -> None:
        self.tick += 1
        news = self.picture(self.changed)
        everything: bytes | None = None
        for socket in self.players:
            if socket.buffered > SLOW:
                socket.data.behind = True
                continue
            if socket.data.behind:
                everything = everything or self.picture(self.players)
            with contextlib.suppress(BrokenPipeError):  # is about to leave
                socket.write_all(everything if socket.data.behind and everything else news)
            socket.data.behind = False
        self.changed.clear()
        self.gone.clear()

    def picture(self, sockets: set[Socket]) -> bytes:
        players = {socket.data.number: (socket.data.x, socket.data.y) for socket in sockets}
        whole = {"tick": self.tick, "players": players, "gone": self.gone}
        return json.dumps(whole, separators=(",", ":")).encode() + b"\n"


async def serve(hostname: str, port: int, ticks_per_second: float) -> None:
    game = Game()
    listener = mantou.listen(
        hostname=hostname,
        port=port,
        socket=game,
        data_factory=game.join,
        packet="line",
        packet_size=64,
    )
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    try:
        await game.run(ticks_per_second)
    finally:
        listener.stop(True)
        print(f"{game.tick} ticks, the slowest took {game.slowest * 1000:.1f} ms")


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="A game server with a tick loop.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7002, help="7002; 0 picks a free one")
    parser.add_argument("--ticks", type=rate, default=20.0, help="a second")
    options = parser.parse_args()
    try:
        mantou.run(serve(options.hostname, options.port, options.ticks))
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    main()

"""A client of Redis that pipelines: commands need not wait for each other's answers.

python -m examples.redis.client --port 6379 set answer 42
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import sys
from typing import Any

import mantou
from examples.redis.protocol import Reply, ReplyError, request, split_replies


class Answers(mantou.SocketHandler[None]):
    """Gives each answer to whoever waits for it: they come in the order of the commands."""

    def __init__(self) -> None:
        self.waiting: collections.deque[asyncio.Future[Reply]] = collections.deque()
        self.rest = b""

    def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        try:
            replies, self.rest = split_replies(self.rest + data)
        except ValueError as error:
            self.refuse(socket, f"that is no Redis: {error}")
            return
        for reply in replies:
            if not self.waiting:
                self.refuse(socket, "an answer that nobody asked for")
                return
            answer = self.waiting.popleft()
            if answer.done():  # whoever asked was cancelled
                continue
            if isinstance(reply, ReplyError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

    def close(self, socket: mantou.Socket[None], error: BaseException | None) -> None:
        self.fail(error or ConnectionError("the server ended the connection"))

    def refuse(self, socket: mantou.Socket[None], why: str) -> None:
        self.fail(ConnectionError(why))
        socket.terminate()

    def fail(self, error: BaseException) -> None:
        while self.waiting:
            answer = self.waiting.popleft()
            if not answer.done():
                answer.set_exception(error)


class Client:
    """One connection to a server."""

    def __init__(self, socket: mantou.Socket[None], answers: Answers) -> None:
        self._socket = socket
        self._answers = answers

    @classmethod
    async def connect(cls, **options: Any) -> Client:
        """The options are those of `mantou.connect()`."""
        answers = Answers()
        return cls(await mantou.connect(socket=answers, **options), answers)

    def ask(self, *words: str | bytes) -> asyncio.Future[Reply]:
        """Sends a command. Awaiting what this returns waits for the answer, or raises it."""
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        self._socket.write_all(request(*encoded))
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers.waiting.append(answer)
        return answer

    async def pipeline(self, *commands: tuple[str | bytes, ...]) -> list[Reply | BaseException]:
        """Sends the commands together, in one send; errors are among what it returns."""
        with self._socket.cork():
            answers = [self.ask(*command) for command in commands]
        return list(await asyncio.gather(*answers, return_exceptions=True))

    async def close(self) -> None:
        """Ends the connection, once what was asked has been sent."""
        self._socket.end()
        await self._socket.closed()


async def ask_once(hostname: str, port: int, words: list[str]) -> Reply:
    client = await Client.connect(hostname=hostname, port=port)
    try:
        return await client.ask(*words)
    finally:
        await client.close()


def shown(reply: Reply) -> str:
    match reply:
        case None:
            return "(nil)"
        case list():
            return "\n".join(f"{number}) {shown(item)}" for number, item in enumerate(reply, 1))
        case bytes():
            return reply.decode(errors="replace")
        case _:
            return str(reply)


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask a Redis server, and print its answer.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("words", nargs="+", help="the command")
    options = parser.parse_args()
    try:
        print(shown(mantou.run(ask_once(options.hostname, options.port, options.words))))
    except (OSError, ReplyError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

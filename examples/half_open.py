"""Half-open connections: the client ends its side, and the server answers after that.

    python examples/half_open.py

Ending one side says "that was all" without cutting the other direction: here the server cannot
know the sum before it has seen the last number.
"""

from __future__ import annotations

import asyncio

import mantou


class Adder(mantou.SocketHandler[bytearray]):
    """Collects numbers until the client ends its side, then answers with their sum."""

    def data(self, socket: mantou.Socket[bytearray], data: bytes) -> None:
        socket.data += data

    def end(self, socket: mantou.Socket[bytearray]) -> None:
        numbers = [int(word) for word in socket.data.split()]
        print(f"server: the client is done, {len(numbers)} numbers came")
        # With allow_half_open our side stays open for as long as the answer takes.
        asyncio.get_running_loop().call_later(0.1, self.answer, socket, sum(numbers))

    def answer(self, socket: mantou.Socket[bytearray], total: int) -> None:
        print(f"server: answers {total}")
        socket.end(f"{total}\n")


class Asker(mantou.SocketHandler[asyncio.Future[str]]):
    def data(self, socket: mantou.Socket[asyncio.Future[str]], data: bytes) -> None:
        print(f"client: got {data.decode().strip()}")
        if not socket.data.done():
            socket.data.set_result(data.decode().strip())

    def close(
        self, socket: mantou.Socket[asyncio.Future[str]], error: BaseException | None
    ) -> None:
        print("client: both sides are done")
        if not socket.data.done():
            socket.data.set_exception(error or EOFError("no answer"))


async def main() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with mantou.listen(
        hostname="127.0.0.1",
        port=0,
        socket=Adder(),
        data_factory=lambda socket: bytearray(),
        allow_half_open=True,
    ) as listener:
        client = await mantou.connect(
            hostname="127.0.0.1", port=listener.port, socket=Asker(), data=answer
        )
        client.write_all(" ".join(str(number) for number in range(1, 101)))
        print("client: sent the numbers from 1 to 100, ends its side")
        client.end()
        total = await answer
    await listener.closed()
    print(f"The sum is {total}.")


if __name__ == "__main__":
    mantou.run(main())

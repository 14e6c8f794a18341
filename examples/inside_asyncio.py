"""mantou inside asyncio: a listener beside tasks, timers and streams of asyncio.

    python examples/inside_asyncio.py

The same coroutine runs twice: on mantou's own loop, which is an asyncio loop that serves its
sockets natively, and on the stock loop of asyncio. Nothing but the last lines knows which it is.
"""

from __future__ import annotations

import asyncio

import mantou


class Shout(mantou.SocketHandler[None]):
    """Answers in capitals, from a coroutine: a handler may be one."""

    async def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        await asyncio.sleep(0.05)  # stands for a database, another service, ...
        socket.write_all(data.upper())


async def tick(ticks: list[float]) -> None:
    """A task that goes on beside the sockets."""
    while True:
        await asyncio.sleep(0.01)
        ticks.append(asyncio.get_running_loop().time())


async def ask(port: int, text: str) -> str:
    """A client that knows nothing of mantou."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{text}\n".encode())
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()


async def main() -> None:
    loop = asyncio.get_running_loop()
    print(f"on {type(loop).__module__}.{type(loop).__qualname__}")
    ticks: list[float] = []
    ticker = asyncio.create_task(tick(ticks))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Shout()) as listener:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            answers = [
                group.create_task(ask(listener.port, word)) for word in ("steam", "fold", "bake")
            ]
    await listener.closed()
    ticker.cancel()
    print("  answers:", ", ".join(answer.result() for answer in answers))
    print("  the ticker", "went on" if ticks else "stood still")


if __name__ == "__main__":
    mantou.run(main())
    asyncio.run(main())

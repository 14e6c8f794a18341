"""mantou inside asyncio: a listener beside tasks, timers and streams of asyncio.

    python examples/inside_asyncio.py

The same coroutine runs twice: on mantou's own loop, which is an asyncio loop that serves its
sockets natively, and on the stock loop of asyncio. Nothing but the last lines knows which it is.
"""

from __future__ import annotations

import asyncio

import mantou


class Shout(mantou.SocketHandler[None]):
    """Answers in capitals, from a coroutine: a handler may be one.

    While it waits, nothing more of its connection is handled: answers leave in the order of the
    questions, however long each takes. Other connections go on meanwhile.
    """

    async def data(self, socket: mantou.Socket[None], data: bytes) -> None:
        await asyncio.sleep(0.01 * len(data))  # stands for a database, another service, ...
        socket.write_all(data.upper())


async def tick(ticks: list[float]) -> None:
    """A task that goes on beside the sockets."""
    while True:
        await asyncio.sleep(0.01)
        ticks.append(asyncio.get_running_loop().time())


async def ask(port: int, *words: str) -> list[str]:
    """A client that knows nothing of mantou, and asks on before it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for word in words:
        writer.write(f"{word}\n".encode())
        await asyncio.sleep(0)  # so that each arrives by itself, as if somebody typed
    answers = [(await reader.readline()).decode().strip() for _ in words]
    writer.close()
    await writer.wait_closed()
    return answers


async def main() -> None:
    loop = asyncio.get_running_loop()
    print(f"on {type(loop).__module__}.{type(loop).__qualname__}")
    ticks: list[float] = []
    ticker = asyncio.create_task(tick(ticks))
    with mantou.listen(hostname="127.0.0.1", port=0, socket=Shout()) as listener:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            ann = group.create_task(ask(listener.port, "steam", "fold", "bun"))
            ben = group.create_task(ask(listener.port, "knead", "rest", "eat"))
    await listener.closed()
    ticker.cancel()
    for client in (ann, ben):
        print("  answers:", ", ".join(client.result()))
    print("  the ticker", "went on" if ticks else "stood still")


if __name__ == "__main__":
    mantou.run(main())
    asyncio.run(main())

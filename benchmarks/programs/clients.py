"""clients.py KIND LOOP TLS PORT: clients that everybody uses, on connections that stay open.

Kinds: `redis` (redis-py, a pipeline of ten commands), `asyncpg` (a select with a parameter),
`aiohttp` (a GET). Runs a round for each line on stdin, as the benchmark's other clients do; every
answer is looked at.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
from redis.asyncio import Redis
from rounds import rounds
from setting import BODY, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CONNECTIONS = 10
COMMANDS = 10


@contextlib.asynccontextmanager
async def redis(port: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    async with Redis(host="127.0.0.1", port=port) as client:

        async def visit() -> None:
            pipeline = client.pipeline(transaction=False)
            for number in range(COMMANDS // 2):
                pipeline.set(f"key{number}", number).get(f"key{number}")
            expected = [each for n in range(COMMANDS // 2) for each in (True, b"%d" % n)]
            check(await pipeline.execute(), expected)

        yield visit


@contextlib.asynccontextmanager
async def postgresql(port: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "bench"}
    options |= {"database": "postgres", "min_size": CONNECTIONS, "max_size": CONNECTIONS}
    async with asyncpg.create_pool(**options) as pool:

        async def visit() -> None:
            check(await pool.fetchval("select $1::int + 1", 41), 42)

        yield visit


@contextlib.asynccontextmanager
async def http(port: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    async with aiohttp.ClientSession() as session:

        async def visit() -> None:
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                check(await response.read(), BODY)

        yield visit


def check(answer: Any, expected: Any) -> None:
    if answer != expected:
        raise RuntimeError(f"error: the answer is {answer!r}")


async def main(kind: str, port: str) -> None:
    # Nothing of the user's own settings: PGPASSFILE, PGSSLMODE and their like.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    async with {"redis": redis, "asyncpg": postgresql, "aiohttp": http}[kind](int(port)) as visit:
        await rounds(CONNECTIONS, visit)


if __name__ == "__main__":
    run(main)

"""Clients of databases, against the real servers: redis-py, asyncpg and psycopg."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import asyncpg
import psycopg
import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.programs.conftest import Certificates
from tests.programs.servers import Postgres, Redis

LARGE = bytes(range(256)) * 4096  # 1 MiB


def redis_client(
    link: str, server: Redis, certificates: Certificates, **options: Any
) -> redis.asyncio.Redis:
    if link == "unix":
        return redis.asyncio.Redis(unix_socket_path=str(server.unix), **options)
    if link == "tls":
        options |= {"ssl": True, "ssl_ca_certs": str(certificates.ca_file)}
    port = server.tls_port if link == "tls" else server.port
    return redis.asyncio.Redis(host="localhost", port=port, **options)


@pytest.mark.parametrize("link", ["tcp", "unix", "tls"])
async def test_redis(redis_server: Redis, certificates: Certificates, link: str) -> None:
    async with redis_client(link, redis_server, certificates) as client:
        await client.flushall()
        assert await client.set("large", LARGE)
        assert await client.get("large") == LARGE
        async with client.pipeline(transaction=True) as pipeline:
            for number in range(2000):
                pipeline.incrby("sum", number)
            answers = await pipeline.execute()
        assert answers[-1] == sum(range(2000))
        await asyncio.gather(*(client.rpush("list", number) for number in range(100)))
        assert sorted(map(int, await client.lrange("list", 0, -1))) == list(range(100))


async def test_redis_messages_and_waiting(redis_server: Redis, certificates: Certificates) -> None:
    async with (
        redis_client("tls", redis_server, certificates) as client,
        client.pubsub(ignore_subscribe_messages=True) as subscription,
    ):
        await subscription.subscribe("news")

        async def listen() -> list[bytes]:
            found = []
            async for message in subscription.listen():
                found.append(message["data"])
                if len(found) == 100:
                    return found
            raise AssertionError("ended")

        listener = asyncio.create_task(listen())
        while not await client.publish("news", b"0"):
            await asyncio.sleep(0)
        for number in range(1, 100):
            await client.publish("news", b"%d" % number)
        assert await listener == [b"%d" % number for number in range(100)]
        waiting = asyncio.create_task(client.blpop(["queue"], timeout=20))
        async with redis_client("tcp", redis_server, certificates) as other:
            await other.rpush("queue", "job")
        assert list(await waiting) == [b"queue", b"job"]


async def test_redis_ends_a_call_that_is_cancelled(
    redis_server: Redis, certificates: Certificates
) -> None:
    async with (
        redis_client("tcp", redis_server, certificates, max_connections=1) as client,
        redis_client("tcp", redis_server, certificates) as observer,
    ):
        call = asyncio.ensure_future(client.blpop(["never"], timeout=30))
        # Of what is cancelled earlier, while it connects, redis-py loses sight.
        while not (await observer.info("clients"))["blocked_clients"]:
            pass
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await client.ping()


async def test_redis_refuses_a_certificate_of_no_authority(redis_server: Redis) -> None:
    client = redis.asyncio.Redis(host="localhost", port=redis_server.tls_port, ssl=True, retry=None)
    async with client:
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            await client.ping()


def asyncpg_options(link: str, server: Postgres, certificates: Certificates) -> dict[str, Any]:
    host = {"tcp": "127.0.0.1", "tls": "localhost", "unix": str(server.folder)}[link]
    context = certificates.client() if link == "tls" else False
    return {"host": host, "port": server.port, "user": "postgres", "ssl": context}


@pytest.mark.parametrize("link", ["tcp", "unix", "tls"])
async def test_asyncpg(postgres: Postgres, certificates: Certificates, link: str) -> None:
    options = asyncpg_options(link, postgres, certificates)
    async with asyncpg.create_pool(**options, min_size=1, max_size=4) as pool:

        async def double(number: int) -> int:
            return int(await pool.fetchval("SELECT $1::int * 2", number))

        numbers = range(200)
        assert await asyncio.gather(*map(double, numbers)) == [2 * one for one in numbers]
        async with pool.acquire() as connection:
            uses = await connection.fetchval(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
            assert uses == (link == "tls")
            await connection.execute("CREATE TEMP TABLE made (number int, blob bytea)")
            await connection.copy_records_to_table(
                "made", records=[(number, LARGE[:number]) for number in range(5000)]
            )
            found = await connection.fetchrow("SELECT count(*), sum(length(blob)) FROM made")
            assert tuple(found) == (5000, sum(range(5000)))
            assert await connection.fetchval("SELECT $1::bytea", LARGE) == LARGE

            async def fail() -> None:
                async with connection.transaction():
                    await connection.execute("INSERT INTO made VALUES (-1, NULL)")
                    await connection.execute("SELECT 1 / 0")

            with pytest.raises(asyncpg.DivisionByZeroError):
                await fail()
            assert not await connection.fetch("SELECT * FROM made WHERE number = -1")
            async with connection.transaction():
                cursor = connection.cursor("SELECT generate_series(1, 3000)", prefetch=100)
                assert [row[0] async for row in cursor] == list(range(1, 3001))


async def test_asyncpg_cancels_and_listens(postgres: Postgres, certificates: Certificates) -> None:
    options = asyncpg_options("tls", postgres, certificates)
    connection = await asyncpg.connect(**options)
    other = await asyncpg.connect(**options)
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    try:
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)
        await connection.add_listener("news", lambda *told: heard.set_result(told[-1]))
        await other.execute("NOTIFY news, 'hello'")
        assert await heard == "hello"
    finally:
        await connection.close()
        other.terminate()


async def test_asyncpg_refuses_a_certificate_of_no_authority(
    postgres: Postgres, certificates: Certificates
) -> None:
    options = asyncpg_options("tls", postgres, certificates)
    options["ssl"] = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(**options)


@pytest.mark.parametrize("link", ["unix", "tls"])
async def test_psycopg(postgres: Postgres, certificates: Certificates, link: str) -> None:
    where = {"unix": postgres.folder, "tls": "localhost"}[link]
    text = f"host={where} port={postgres.port} user=postgres"
    if link == "tls":
        text += f" sslmode=verify-full sslrootcert={certificates.ca_file}"
    async with await psycopg.AsyncConnection.connect(text) as connection:
        async with connection.cursor() as cursor:
            await cursor.execute("CREATE TEMP TABLE made (number int, word text)")
            async with cursor.copy("COPY made FROM STDIN") as copy:
                for number in range(3000):
                    await copy.write_row((number, "x" * (number % 100)))
            await cursor.execute("SELECT count(*), sum(length(word)) FROM made")
            assert await cursor.fetchone() == (3000, sum(one % 100 for one in range(3000)))
            await cursor.execute("SELECT %b", [LARGE], binary=True)
            assert await cursor.fetchone() == (LARGE,)
        async with connection.pipeline():
            cursors = [await connection.execute("SELECT %s", [one]) for one in range(50)]
            assert [await one.fetchone() for one in cursors] == [(one,) for one in range(50)]
        waiting = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        running = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND query LIKE '%%pg_sleep%%'"
        async with await psycopg.AsyncConnection.connect(text, autocommit=True) as other:
            pid = connection.info.backend_pid
            while not await (await other.execute(running, [pid])).fetchone():
                pass
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, psycopg.errors.QueryCanceled)):
            await waiting
        await connection.rollback()

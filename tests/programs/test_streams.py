"""redis-py, which is written for asyncio's streams, on mantou's: one import is another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio.connection

import mantou
from tests.programs import test_databases
from tests.programs.conftest import Certificates
from tests.programs.servers import Redis


class Changed:
    """asyncio, but for the one function."""

    calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def open_connection(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        return await mantou.open_connection(*arguments, **options)


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Changed:
    module = Changed()
    monkeypatch.setattr(redis.asyncio.connection, "asyncio", module)
    return module


@pytest.mark.parametrize("link", ["tcp", "tls"])
async def test_redis(
    redis_server: Redis, certificates: Certificates, link: str, changed: Changed
) -> None:
    await test_databases.test_redis(redis_server, certificates, link)
    assert changed.calls


async def test_redis_messages_and_waiting(
    redis_server: Redis, certificates: Certificates, changed: Changed
) -> None:
    await test_databases.test_redis_messages_and_waiting(redis_server, certificates)
    assert changed.calls


async def test_redis_ends_a_call_that_is_cancelled(
    redis_server: Redis, certificates: Certificates, changed: Changed
) -> None:
    await test_databases.test_redis_ends_a_call_that_is_cancelled(redis_server, certificates)
    assert changed.calls

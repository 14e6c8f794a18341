"""Each `async def` test is run by `asyncio.run()`, and finds that it runs on mantou's loop.

A test fails if anything reaches the loop's exception handler. With `--stock` all of it runs on
asyncio's loop instead, which tells whose fault a failure is.
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import mantou
from tests.programs.servers import Mosquitto, Postgres, Redis

# Bounds each asynchronous test, in seconds.
LIMIT = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stock", action="store_true", help="run on asyncio's own loop")


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.stock:
        mantou.install()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    errors: list[dict[str, Any]] = []

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, mantou.EventLoop) is not pyfuncitem.config.option.stock
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        async with asyncio.timeout(LIMIT):
            await test(**arguments)

    asyncio.run(bounded())
    assert not errors
    return True


@pytest.fixture(scope="session")
def loop_command(pytestconfig: pytest.Config) -> list[str]:
    """What comes before a program's arguments to run it in a process of its own."""
    import sys

    return [sys.executable, *([] if pytestconfig.option.stock else ["-m", "mantou", "run"])]


class Certificates:
    """An authority, a certificate for localhost, and contexts of both sides."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        own = authority.issue_cert("localhost", "127.0.0.1")
        self.ca_file = folder / "ca.pem"
        self.cert_file = folder / "cert.pem"
        self.key_file = folder / "key.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        for number, part in enumerate(own.cert_chain_pems):
            part.write_to_path(self.cert_file, append=number > 0)
        own.private_key_pem.write_to_path(self.key_file)

    def server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def redis_server(certificates: Certificates) -> Iterator[Redis]:
    with Redis(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(certificates: Certificates) -> Iterator[Postgres]:
    with Postgres(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto(certificates: Certificates) -> Iterator[Mosquitto]:
    with Mosquitto(certificates) as server:
        yield server

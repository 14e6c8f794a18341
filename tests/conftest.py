"""Every `async def` test runs on mantou's loop, on asyncio's and on uvloop's.

A test fails if anything reaches the loop's exception handler that it did not take out of
`loop_errors`, if a descriptor is left open, or (by pytest itself) on an unraisable exception.

Several processes may share the tests (`-n auto`); one that is marked `alone` runs by itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import inspect
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import settings

import mantou

# A suite of its own, in an environment of its own: `make program-suites`.
collect_ignore = ["programs"]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "mantou": mantou.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}

# Bounds every asynchronous test, in seconds; far more than any of them needs. One that is told to
# take long has a `timeout` marker.
TEST_TIMEOUT = 60.0

LoopErrors = list[dict[str, Any]]


# The same examples each time. `make random` has new ones.
settings.register_profile("tests", derandomize="EXAMPLES_TIMES" not in os.environ)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loops", default=",".join(LOOPS), help="the kinds of loops to run on, with commas between"
    )
    parser.addoption(
        "--thorough",
        action="store_true",
        help="run what takes minutes, of which a part is run else",
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Turns(Path(config.option.basetemp).parent))


def pytest_collection_finish() -> None:
    # What was imported and collected stays. Without it, the many collections of the tests (each
    # that meets an open descriptor, or asks for one) take a millisecond instead of a hundred.
    gc.collect()
    gc.freeze()


class Turns:
    """Lets the processes that share the tests run side by side, except for what must be alone."""

    def __init__(self, shared: Path) -> None:
        self._door, self._room = (
            os.open(shared / name, os.O_CREAT | os.O_RDWR) for name in ("door", "room")
        )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        # Whoever wants to be alone keeps newcomers at the door until the room is empty.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        alone = item.get_closest_marker("alone")
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        marker = metafunc.definition.get_closest_marker("loops")
        wanted = metafunc.config.option.loops.split(",")
        kinds = [kind for kind in (marker.args if marker else LOOPS) if kind in wanted]
        metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", kinds)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    names = inspect.signature(test).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    marker = pyfuncitem.get_closest_marker("timeout")
    seconds = marker.args[0] if marker else TEST_TIMEOUT
    loop_errors = pyfuncitem.funcargs["loop_errors"]
    run_on(pyfuncitem.callspec.params["loop_kind"], test, loop_errors, arguments, seconds)
    return True


def run_on(
    kind: str,
    test: Callable[..., Any],
    loop_errors: LoopErrors,
    arguments: dict[str, Any],
    seconds: float,
) -> None:
    """Runs one test on a loop of the kind, and closes that loop."""

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: loop_errors.append(context))
        async with asyncio.timeout(seconds):
            await test(**arguments)

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(bounded())


@pytest.fixture(autouse=True)
def loop_errors() -> Iterator[LoopErrors]:
    """What the loop's exception handler was given. A test that expects some takes them out."""
    errors: LoopErrors = []
    yield errors
    assert not errors, f"unexpected in the loop's exception handler: {errors}"


@pytest.fixture(scope="session", autouse=True)
def _pipes_of_the_process() -> None:
    """What libuv and CPython open once for the whole process is no leak of the first test."""
    for new_loop in LOOPS.values():
        new_loop().close()


@pytest.fixture(autouse=True)
def _no_descriptor_is_leaked() -> Iterator[None]:
    before = _descriptors()
    yield
    after = _descriptors()
    if after - before:
        gc.collect()
        after = _descriptors()
    assert not after - before, "descriptors left open"


def _descriptors() -> set[str]:
    """The sockets, pipes and queues of this process, each with its number."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            # The descriptor of the listing itself.
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:")):
            found.add(f"{entry.name} {target}")
    return found


@pytest.fixture(params=["mantou", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A loop that does not run, of ours and of asyncio's own, for what the two have in common."""
    loop = LOOPS[request.param]()
    yield loop
    loop.close()


@pytest.fixture
def told(loop: Any) -> list[dict[str, Any]]:
    """What reaches that loop's exception handler."""
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


@pytest.fixture
def stats_before() -> Iterator[mantou.Stats]:
    """What other tests have done to the process. They leave nothing open."""
    yield mantou.stats()
    after = mantou.stats()
    assert (after.listeners, after.connections, after.queued) == (0, 0, 0)

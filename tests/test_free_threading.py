"""What a free-threaded Python makes of mantou: `make free-threading` builds it for one.

The environment variable `FREE_THREADED_PYTHON` names the interpreter. Where mantou is not installed
for it, as none can be for 3.13, only what comes before the native module is tested.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import mantou

PYTHON = os.environ.get("FREE_THREADED_PYTHON")
REASON = "FREE_THREADED_PYTHON names no free-threaded Python: see `make free-threading`"
PACKAGE = Path(mantou.__file__).parents[1]

ECHO = """
import asyncio, sys, threading
import mantou

class Echo(mantou.SocketHandler):
    def data(self, socket, data):
        socket.end(data)

class Client(mantou.SocketHandler):
    def data(self, socket, data):
        socket.data.append(bytes(data))

async def main():
    listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Echo())
    answers = []
    socket = await mantou.connect(
        hostname="127.0.0.1", port=listener.port, socket=Client(), data=answers
    )
    socket.write("hello")
    async with asyncio.timeout(20):
        await socket.closed()
    listener.stop()
    return answers

def serve():
    assert mantou.run(main()) == [b"hello"]
    done.append(True)

done = []
threads = [threading.Thread(target=serve) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sys._is_gil_enabled(), len(done))
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if PYTHON is None:
        pytest.skip(REASON)
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [PYTHON, *arguments],
        cwd="/",
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def _installed() -> None:
    found = run(
        "-c", "import importlib.util; print(importlib.util.find_spec('mantou') is not None)"
    )
    if found.stdout != "True\n":
        pytest.skip(f"mantou is not installed for {PYTHON}: see `make free-threading`")


def test_the_interpreter_is_free_threaded() -> None:
    assert run("-c", "import sys; print(sys._is_gil_enabled())").stdout == "False\n"


@pytest.mark.parametrize("by", ["environment", "option"])
def test_forbidding_the_lock_is_refused(by: str) -> None:
    # The package in place, and so another Python's: it does not come to its native module.
    place = {"PYTHONPATH": str(PACKAGE)}
    if by == "environment":
        done = run("-c", "import mantou", **place, PYTHON_GIL="0")
    else:
        done = run("-X", "gil=0", "-c", "import mantou", **place)
    assert done.returncode == 1
    assert "ImportError: mantou needs the global interpreter lock" in done.stderr
    assert "PYTHON_GIL=0" in done.stderr


@pytest.mark.usefixtures("_installed")
def test_importing_turns_the_lock_on_and_python_says_so() -> None:
    done = run("-c", "import mantou, sys; print(sys._is_gil_enabled())")
    assert (done.stdout, done.returncode) == ("True\n", 0)
    assert "RuntimeWarning" in done.stderr
    assert "'mantou._core'" in done.stderr


@pytest.mark.usefixtures("_installed")
def test_loops_in_several_threads_serve_with_the_lock() -> None:
    done = run("-W", "ignore::RuntimeWarning", "-c", ECHO)
    assert (done.stdout, done.returncode) == ("True 4\n", 0), done.stderr


@pytest.mark.usefixtures("_installed")
def test_the_lock_may_be_asked_for() -> None:
    done = run("-W", "error", "-c", "import mantou", PYTHON_GIL="1")
    assert (done.returncode, done.stderr) == (0, "")

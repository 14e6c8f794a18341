"""The recipes in the README, each of them run."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.programs.servers import free_port, running
from tests.programs.test_web import ASGI

README = Path(__file__).resolve().parents[2] / "README.md"
SECTION = README.read_text().partition("## Unchanged asyncio programs\n")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| (.+?) \| (.+) \|$", SECTION, re.MULTILINE))
OURS = "mantou._loop.EventLoop"

PROGRAM = """
import asyncio

async def main():
    loop = type(asyncio.get_running_loop())
    print(f"{loop.__module__}.{loop.__qualname__}", flush=True)
"""

# Each recipe by the name of its row; one that is missing here is missing a test.
TESTED = {"uvicorn", "gunicorn", "hypercorn", "aiohttp", "anyio", "anyio's tests", "pytest-asyncio"}


def code(row: str, number: int = 0) -> str:
    return re.findall("`(.+?)`", ROWS[row])[number]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "program.py").write_text(ASGI)
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", SECTION, re.DOTALL):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def command(text: str) -> list[str]:
    """A command as a shell finds it in the environment of these tests."""
    program, *arguments = shlex.split(text)
    return [sys.executable, "-m", program, *arguments]


def served(arguments: list[str], port: int, folder: Path) -> str:
    with running(arguments, port, folder / "log", cwd=folder) as process:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/loop", timeout=30) as answer:
            loop: str = answer.read().decode()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    return loop


def test_each_recipe_is_tested() -> None:
    assert ROWS.keys() - {"program"} == TESTED


def test_scripts(folder: Path) -> None:
    (folder / "server.py").write_text(PROGRAM + "asyncio.run(main())\n")
    (folder / "package").mkdir()
    (folder / "package" / "server.py").write_text(
        PROGRAM + "import sys\nassert sys.argv[1:] == ['--port', '8000']\nasyncio.run(main())\n"
    )
    [commands] = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    for line in commands.splitlines():
        assert python(*command(line)[1:]).stdout == f"{OURS}\n"


def test_a_script_that_installs(folder: Path) -> None:
    assert "`mantou.install()` does the same" in SECTION
    (folder / "own.py").write_text(
        "import mantou\nmantou.install()" + PROGRAM + "asyncio.run(main())"
    )
    assert python("own.py").stdout == f"{OURS}\n"


def test_uvicorn(folder: Path) -> None:
    port = free_port()
    assert served(command(f"{code('uvicorn')} --port {port}"), port, folder) == OURS


def test_uvicorn_with_processes(folder: Path) -> None:
    port = free_port()
    assert served(command(f"{code('uvicorn')} --workers 2 --port {port}"), port, folder) == OURS


def test_gunicorn(folder: Path) -> None:
    port = free_port()
    assert (
        served(command(f"{code('gunicorn')} --workers 2 -b 127.0.0.1:{port}"), port, folder) == OURS
    )


def test_hypercorn(folder: Path) -> None:
    port = free_port()
    assert served(command(f"{code('hypercorn')} --bind 127.0.0.1:{port}"), port, folder) == OURS


def test_aiohttp(folder: Path) -> None:
    port = free_port()
    run = code("aiohttp").replace("app,", f"app, host='127.0.0.1', port={port},")
    (folder / "own.py").write_text(
        "from aiohttp import web\nimport asyncio, mantou\n"
        "async def look(request):\n"
        "    loop = type(asyncio.get_running_loop())\n"
        "    return web.Response(text=f'{loop.__module__}.{loop.__qualname__}')\n"
        f"app = web.Application()\napp.router.add_get('/loop', look)\n{run}\n"
    )
    assert served([sys.executable, "own.py"], port, folder) == OURS


def test_anyio(folder: Path) -> None:
    (folder / "own.py").write_text(f"import anyio, mantou{PROGRAM}{code('anyio')}\n")
    assert python("own.py").stdout == f"{OURS}\n"


CHECK = """
async def test_loop(capsys):
    await main()
    assert capsys.readouterr().out == "mantou._loop.EventLoop\\n"
"""


def run_pytest(*arguments: str) -> None:
    done = python(*arguments, "-q", "-p", "no:cacheprovider", "test_own.py")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_anyio_tests(folder: Path) -> None:
    (folder / "conftest.py").write_text(
        "import mantou, pytest\n@pytest.fixture\ndef anyio_backend():\n"
        "    " + code("anyio's tests") + "\n"
    )
    (folder / "test_own.py").write_text(
        f"import pytest\npytestmark = pytest.mark.anyio\n{PROGRAM}{CHECK}"
    )
    run_pytest("-m", "pytest", "-p", "no:asyncio")


def test_pytest_asyncio(folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (folder / "test_own.py").write_text(PROGRAM + CHECK)
    assert code("pytest-asyncio", 2) == "mantou run -m pytest"
    run_pytest("-m", "mantou", "run", "-m", "pytest")
    (folder / "conftest.py").write_text(f"import mantou\n{code('pytest-asyncio')}\n")
    run_pytest("-m", "pytest")

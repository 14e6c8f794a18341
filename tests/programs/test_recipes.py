"""The recipes for unchanged asyncio programs in docs/, each of them run."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.pages import Block, blocks, pages
from tests.programs.servers import Postgres, Redis, free_port, running
from tests.programs.test_web import ASGI

PAGE = pages()["guides/asyncio-programs"]
TEXT = PAGE.read_text()
ROWS = dict(re.findall(r"^\| (.+?) \| (.+) \|$", TEXT, re.MULTILINE))
FILES = {
    block.text.split("\n")[0].removeprefix("# "): block
    for block in blocks(PAGE)
    if block.kind == "python"
}
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
    (tmp_path / "workers.py").write_text(FILES["workers.py"].text)
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


def commands(word: str) -> list[str]:
    """The commands on the page with that word."""
    lines = [line for block in blocks(PAGE) if block.kind == "console" for line in lines_of(block)]
    found = [line for line in lines if word in line.split()]
    assert found
    return found


def lines_of(block: Block) -> list[str]:
    return [line.removeprefix("$ ") for line in block.text.splitlines()]


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
    for line in commands("server.py") + commands("package.server"):
        assert python(*command(line)[1:]).stdout == f"{OURS}\n"


def test_a_script_that_installs(folder: Path) -> None:
    assert "`mantou.install()` before its `asyncio.run()` does the same" in " ".join(TEXT.split())
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


# The programs of the page, as they are printed but for the ports, and what they print.


def output_after(name: str) -> str:
    """What the page says that a program prints."""
    kinds = [(block.kind, block.text) for block in blocks(PAGE)]
    place = kinds.index(("python", FILES[name].text))
    return next(text for kind, text in kinds[place:] if kind == "output")


def run_client(folder: Path, name: str, port: str, there: int, *options: str) -> None:
    text = FILES[name].text
    assert port in text
    (folder / name).write_text(text.replace(port, port.replace(port[-4:], str(there))))
    (line,) = (line for line in commands(name) if "--tls=rustls" not in line)
    done = python(*command(line)[1:4], *options, *command(line)[4:])
    assert (done.stdout, done.stderr) == (output_after(name), "")


def test_the_application_on_uvicorn_and_gunicorn(folder: Path) -> None:
    (folder / "program.py").write_text(FILES["program.py"].text)
    for word, place in (("uvicorn", "--port={}"), ("gunicorn", "--bind=127.0.0.1:{}")):
        (line,) = commands(word)
        port = free_port()
        arguments = [*command(line), place.format(port)]
        with (
            running(arguments, port, folder / word, cwd=folder),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer,
        ):
            assert answer.read() == b"hello"


def test_the_programs_with_aiohttp(folder: Path) -> None:
    port = free_port()
    text = FILES["web_server.py"].text
    assert "port=8080" in text
    (folder / "web_server.py").write_text(text.replace("8080", str(port)))
    (line,) = commands("web_server.py")
    with running([sys.executable, *shlex.split(line)[1:]], port, folder / "log", cwd=folder):
        run_client(folder, "web_client.py", "127.0.0.1:8080", port)
        run_client(folder, "web_client.py", "127.0.0.1:8080", port, "--tls=rustls")


def test_the_program_with_redis(folder: Path, redis_server: Redis) -> None:
    run_client(folder, "redis_client.py", "port=6379", redis_server.port)


def test_the_program_with_postgres(folder: Path, postgres: Postgres) -> None:
    run_client(folder, "database.py", "port=5432", postgres.port)


def test_each_program_is_tested() -> None:
    assert FILES.keys() == {
        "program.py",
        "workers.py",
        "web_server.py",
        "web_client.py",
        "redis_client.py",
        "database.py",
    }

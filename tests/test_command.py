"""`mantou run`: an unchanged program runs as Python would run it, but for the loop."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import mantou

# What a program can see of how it was started.
LOOKS = """
import sys
print(__name__, sys.argv, sys.path[0], globals().get("__file__"), __package__)
print(__spec__ and (__spec__.name, __spec__.origin), type(__loader__).__name__)
print(sys.modules["__main__"].__dict__ is globals(), __builtins__ is sys.modules["builtins"])
"""

LOOP = """
import asyncio
async def main():
    print(type(asyncio.get_running_loop()).__module__)
asyncio.run(main())
"""


def start(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def as_python_does(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `mantou run` gives, which is what Python itself gives."""
    expected = start(*arguments, cwd=cwd)
    found = start("-m", "mantou", "run", *arguments, cwd=cwd)
    assert (found.returncode, found.stdout, found.stderr) == (
        expected.returncode,
        expected.stdout,
        expected.stderr,
    )
    return found


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "looks.py").write_text(LOOKS + "import beside\n")
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(LOOKS + "from . import __main__\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(LOOKS)
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", LOOKS)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("looks.py", "--help", "-m", "x y", "--tls=rustls", "--"),
        ("./looks.py",),
        ("folder", "1"),
        ("archive.pyz",),
        ("-m", "looks", "-m", "--version"),
        ("-m", "package", "-c"),
        ("-c", LOOKS, "-c", "more"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]) if arguments[0] != "-c" else "-c",
)
def test_a_program_sees_what_it_sees_without_us(programs: Path, arguments: tuple[str, ...]) -> None:
    assert as_python_does(programs, *arguments).returncode == 0


def test_a_link_to_a_program_leads_to_what_lies_beside_it(programs: Path) -> None:
    link = programs / "elsewhere" / "link.py"
    link.symlink_to(programs / "looks.py")
    assert as_python_does(programs, str(link)).returncode == 0


def test_a_safe_path_stays_safe(programs: Path) -> None:
    done = start("-P", "-m", "mantou", "run", "looks.py", cwd=programs)
    assert "No module named 'beside'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("loop.py",), ("-m", "loop"), ("-c", LOOP)], ids=["", "-m", "-c"]
)
def test_a_program_runs_on_our_loop(programs: Path, arguments: tuple[str, ...]) -> None:
    done = start("-m", "mantou", "run", *arguments, cwd=programs)
    assert (done.stdout, done.stderr, done.returncode) == ("mantou._loop\n", "", 0)


def test_the_command_is_installed(programs: Path) -> None:
    command = Path(sys.executable).with_name("mantou")
    done = subprocess.run(
        [command, "run", "looks.py", "x"], cwd=programs, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == start("looks.py", "x", cwd=programs).stdout.encode()


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit()", 0),
        ("sys.exit(7)", 7),
        ("sys.exit('a word')", 1),
        ("1 / 0", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import atexit; atexit.register(lambda: print(__name__)); raise OSError(3)", 1),
        ("raise OSError(3, 'x') from ValueError()", 1),
        ("sys.excepthook = lambda *error: print(error[1], error[2].tb_lineno); 1 / 0", 1),
        ("x = = 3", 1),
    ],
)
def test_a_program_ends_as_it_ends_without_us(tmp_path: Path, ending: str, code: int) -> None:
    (tmp_path / "program.py").write_text(f"import sys\ndef end():\n    {ending}\nend()\n")
    assert as_python_does(tmp_path, "program.py").returncode == code


@pytest.mark.parametrize("name", ["missing.py", "elsewhere"])
def test_what_is_no_program_is_told_as_python_tells_it(programs: Path, name: str) -> None:
    done = start("-m", "mantou", "run", name, cwd=programs)
    expected = start(name, cwd=programs)
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == expected.returncode


@pytest.mark.parametrize("name", ["missing", "missing.inner", "elsewhere"])
def test_what_is_no_module_is_told(programs: Path, name: str) -> None:
    done = start("-m", "mantou", "run", "-m", name, cwd=programs)
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 1


def test_spawned_processes_find_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
            import multiprocessing, pickle
            class Own:
                pass
            def double(number):
                return 2 * number
            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.map(double, [1, 2]))
                print(type(pickle.loads(pickle.dumps(Own()))) is Own)
        """)
    )
    for arguments in [("program.py",), ("-m", "program")]:
        assert as_python_does(tmp_path, *arguments).stdout == "[2, 4]\nTrue\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_a_program_have_our_loop(tmp_path: Path, method: str) -> None:
    (tmp_path / "program.py").write_text(
        textwrap.dedent(f"""
            import asyncio, multiprocessing
            async def look():
                return type(asyncio.get_running_loop()).__module__
            def of_child(depth=0):
                if depth == 0:
                    return asyncio.run(look())
                context = multiprocessing.get_context({method!r})
                pipe, far = context.Pipe()
                child = context.Process(target=answer, args=(far, depth - 1))
                child.start()
                found = pipe.recv()
                child.join()
                return found
            def answer(pipe, depth):
                pipe.send(of_child(depth))
            if __name__ == "__main__":
                print(of_child(1), of_child(2))
        """)
    )
    done = start("-m", "mantou", "run", "program.py", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("mantou._loop mantou._loop\n", "")


@pytest.mark.skipif(not hasattr(mantou, "inject_into_ssl"), reason="there is no such function yet")
def test_rustls_stands_in_for_openssl_where_asked_for(programs: Path) -> None:
    look = "import ssl; print(ssl.create_default_context().__class__.__module__.partition('.')[0])"
    for options, module in [
        ((), "ssl"),
        (("--tls=openssl",), "ssl"),
        (("--tls=rustls",), "mantou"),
    ]:
        done = start("-m", "mantou", "run", *options, "-c", look, cwd=programs)
        assert (done.stdout, done.stderr) == (f"{module}\n", "")


def test_help_and_version(tmp_path: Path) -> None:
    version = start("-m", "mantou", "--version", cwd=tmp_path)
    assert version.stdout == f"mantou {mantou.__version__}\n"
    assert "run" in start("-m", "mantou", "--help", cwd=tmp_path).stdout
    described = start("-m", "mantou", "run", "--help", cwd=tmp_path).stdout
    for option in ("PROGRAM", "-m", "-c", "--tls"):
        assert option in described


@pytest.mark.parametrize(
    "arguments", [(), ("run",), ("walk",), ("run", "--tls=gnutls", "x"), ("run", "-m", "-c", "x")]
)
def test_misuse_is_told(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = start("-m", "mantou", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("--help)\n")
    assert len(done.stderr.splitlines()) == 1

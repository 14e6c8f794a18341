"""Help, suggestions, completion and the manual, all of them made from one parser."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mantou._cli import addresses, numbers
from mantou._cli.completion import flags
from mantou._cli.endings import MEANINGS
from mantou._cli.parser import COMMANDS, build
from tests.cli import COMMAND, LIMIT, mantou
from tools.manual import manual

PEM = "FILE.pem"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_all_options_and_has_examples(command: str) -> None:
    done = mantou(command, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert f"mantou {command} " in text.partition("examples:")[2]
    for flag in flags(build("mantou").commands[command]):
        assert flag.names[-1] in text
        assert flag.names[-1].replace("-", "\\-") in manual()


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("command", ["connect", "bench"])
def test_help_fits_the_terminal(command: str, columns: int) -> None:
    done = mantou(command, "--help", env={**os.environ, "COLUMNS": str(columns)})
    text, _, examples = done.stdout.decode().partition("examples:\n")
    assert columns - 15 < max(map(len, text.splitlines())) < columns
    assert "\n  mantou " in examples


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["conect"], "there is no command 'conect'; did you mean connect?"),
        (["connect", "a:1", "--tmeout", "3"], "no option --tmeout; did you mean --timeout?"),
        (["connect", "a:1", "--insec"], "no option --insec; did you mean --insecure?"),
        (["connect", "a:1", "b:2"], "too many arguments: b:2"),
        (["connect", "localhost"], "neither HOST:PORT nor unix:PATH; did you mean localhost:PORT?"),
        (["connect", "80"], "did you mean localhost:80?"),
        (["connect", "::1:80"], "an IPv6 address needs brackets: [::1]:80"),
        (["connect", "a:0"], "must be a number from 1 to 65535"),
        (["connect", "a:http"], "must be a number from 1 to 65535"),
        (["connect", ":80"], "HOST must be a host name or an IP address"),
        (["connect", "unix:"], "unix: needs a path"),
        (["connect", "a:1", "--timeout", "soon"], "'soon' is no time: seconds, or 100ms, 5m, 1h"),
        (["connect", "a:1", "--sni", "b"], "--sni needs --tls or --starttls"),
        (["connect", "a:1", "--tls", "--key", PEM], "--key needs --cert"),
        (["connect", "a:1", "--tls", "--cert", PEM], "--key must name its file"),
        (["connect", "a:1", "--tls", "--ca", PEM], "mantou connect: --ca holds no certificate"),
        (["connect", "a:1", "--tls", "--ca", os.devnull], "is not in PEM"),
        (["connect", "a:1", "--tls", "--sni", "a b"], "mantou connect: --sni must be a host name"),
        (["connect", f"unix:/{'x' * 200}"], "mantou connect: ADDRESS must be at most 107 bytes"),
        (["connect", "a:1", "--tls", "--ca", "/nowhere.pem"], "/nowhere.pem: no such file"),
        (["bench", "a:1", "--ca", PEM], "--ca needs --tls (see"),
        (["bench", "a:1", "--size", "0"], "'0' is no number from 1 on, or 4k, 16Ki, 1M"),
        (["proxy", "a:1", "b:2", "--sni", "x"], "--sni needs --tls-out"),
        (["listen", "a:1", "--key", PEM], "--key needs --tls"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_is_told_and_the_way_out(tmp_path: Path, arguments: list[str], said: str) -> None:
    path = tmp_path / "file.pem"
    path.write_text("-----BEGIN NOTHING-----\n-----END NOTHING-----\n")
    done = mantou(*(path if each is PEM else each for each in arguments))
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["completion", "zsh"]])
def test_a_result_that_cannot_be_written_is_told(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=LIMIT, check=False
        )
    assert (done.returncode, done.stderr[-32:]) == (1, b"stdout: no space left on device\n"[-32:])
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=LIMIT, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_exit_codes_are_told() -> None:
    text = mantou("--help").stdout.decode()
    for code, meaning in MEANINGS.items():
        assert f" {int(code)}  {meaning}\n" in text
        assert f"{int(code)}\n{meaning}" in manual().replace("\\-", "-")


def test_addresses() -> None:
    assert addresses.target("[::1]:80") == ("::1", 80, "")
    assert addresses.target("unix:@name").options() == {"unix": "\0name"}
    assert str(addresses.target("unix:@name")) == "unix:@name"
    assert addresses.place(":0") == ("", 0, "")
    assert addresses.target_or_host(443)("example.com") == ("example.com", 443, "")
    assert addresses.target_or_host(443)("[::1]") == ("::1", 443, "")


def test_numbers() -> None:
    assert [numbers.seconds(text) for text in ("2", "0.5s", "100ms", "5m", "1h")] == [
        *(2.0, 0.5, 0.1, 300.0, 3600.0)
    ]
    assert [numbers.count(text) for text in ("64", "4k", "16Ki", "1M")] == [64, 4000, 16384, 10**6]
    for text in ("nan", "inf", "-1", "0", "", "1e999"):
        with pytest.raises(argparse.ArgumentTypeError):
            numbers.seconds(text)
    for text in ("-1", "0", "", "1.5", "k", "1kk", "٣"):
        with pytest.raises(argparse.ArgumentTypeError):
            numbers.count(text)
    shown = [numbers.shown_seconds(value) for value in (5e-7, 1.23e-5, 0.00456, 1.234, 4000)]
    assert shown == ["500 ns", "12.3 us", "4.56 ms", "1.23 s", "4000 s"]
    assert [numbers.shown_bytes(value) for value in (999, 1234, 5e9)] == [
        "999 B",
        "1.2 kB",
        "5.0 GB",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mantou in", {"inspect"}),
        ("mantou connect --st", {"--starttls"}),
        ("mantou connect a:1 --starttls p", {"pop3", "postgres"}),
        ("mantou proxy --tls-", {"--tls-in", "--tls-out"}),
        ("mantou completion f", {"fish"}),
    ],
)
def test_bash_completes(words: str, expected: set[str]) -> None:
    script = mantou("completion", "bash").stdout.decode()
    script += f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _mantou\n"
    script += 'echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(
        ["bash", "-eu", "-c", script], capture_output=True, timeout=LIMIT, check=True
    )
    assert set(done.stdout.decode().split()) == expected


def test_nothing_of_it_is_imported_with_mantou_and_little_for_its_help() -> None:
    code = (
        "import sys, mantou\n"
        "assert not any(f'{name}.'.startswith('mantou._cli.') for name in sys.modules)\n"
        "import mantou._cli\n"
        "try: mantou._cli.main(arguments=['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'cryptography', 'anyio', 'mantou._streams', 'mantou._cli.bench'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT, capture_output=True)

"""The command `mantou` with those of others: ncat, socat, openssl, exim, PostgreSQL, shells."""

from __future__ import annotations

import getpass
import json
import os
import random
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs.conftest import Certificates
from tests.programs.servers import LIMIT, Postgres, find, free_port, running
from tools.manual import manual

MANTOU = [sys.executable, "-m", "mantou"]
BODY = random.Random(17).randbytes(1_000_000)


def run(*command: Any, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    words = [str(word) for word in command]
    return subprocess.run(words, input=given, capture_output=True, timeout=LIMIT, check=False)


def output(*command: Any, given: bytes = b"") -> bytes:
    done = run(*command, given=given)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@contextmanager
def listening(*arguments: Any) -> Iterator[int]:
    """`mantou listen`, until the end of the block."""
    command = [*MANTOU, "listen", "localhost:0", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        try:
            yield int(process.stderr.readline().decode().rpartition(":")[2])
        finally:
            process.kill()


# ncat, socat and openssl as clients


def test_clients_of_an_echo() -> None:
    with listening("--echo") as port:
        assert output(find("ncat"), "localhost", port, given=BODY) == BODY
        assert output(find("socat"), "-", f"TCP:localhost:{port}", given=BODY) == BODY


def test_clients_of_an_echo_over_tls(certificates: Certificates) -> None:
    keys = ["--cert", certificates.cert_file, "--key", certificates.key_file]
    with listening("--echo", "--tls", *keys) as port:
        ca = certificates.ca_file
        trusted = ["--ssl-verify", "--ssl-trustfile", ca]
        assert output(find("ncat"), *trusted, "localhost", port, given=BODY) == BODY
        place = f"OPENSSL:localhost:{port},cafile={ca},verify=1"
        assert output(find("socat"), "-", place, given=BODY) == BODY
        told = ["-quiet", "-CAfile", ca, "-verify_return_error", "-no_ign_eof"]
        command = [find("openssl"), "s_client", "-connect", f"localhost:{port}", *told]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"hello\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"hello\n"
            client.kill()


# and as servers


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_socat_as_server(certificates: Certificates, tmp_path: Path, secure: bool) -> None:
    port = free_port()
    cert, key = certificates.cert_file, certificates.key_file
    kind = (
        f"OPENSSL-LISTEN:{port},cert={cert},key={key},verify=0" if secure else f"TCP-LISTEN:{port}"
    )
    command = [find("socat"), f"{kind},bind=127.0.0.1,reuseaddr,fork", "EXEC:cat"]
    with running(command, port, tmp_path / "log"):
        flags = ["--tls", "--ca", certificates.ca_file] if secure else []
        done = run(*MANTOU, "connect", f"localhost:{port}", *flags, "--half-open", given=BODY)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == BODY


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("sender", ["ncat", "mantou"])
def test_ncat_as_server(
    certificates: Certificates, tmp_path: Path, sender: str, secure: bool
) -> None:
    """One sends while the other's stdin stays open: ncat cannot have one way of TLS end first."""
    port = free_port()
    keys = ["--ssl", "--ssl-cert", certificates.cert_file, "--ssl-key", certificates.key_file]
    flags = ["--tls", "--ca", certificates.ca_file]
    listen = ["ncat", "-v", "-l", "127.0.0.1", port, *(keys if secure else [])]
    connect = [*MANTOU, "connect", f"localhost:{port}", *(flags if secure else [])]
    listen[0] = find("ncat")
    (tmp_path / "sent").write_bytes(BODY)
    open_end, silent = os.pipe()

    def started(command: list[Any], name: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "sent").open("rb") as file, (tmp_path / name).open("wb") as taken:
            given = file if name.startswith(sender) else open_end
            words = [str(word) for word in command]
            return subprocess.Popen(words, stdin=given, stdout=taken, stderr=subprocess.PIPE)

    with started(listen, "ncat") as server:
        assert server.stderr is not None
        try:
            while f"Listening on 127.0.0.1:{port}".encode() not in server.stderr.readline():
                assert server.poll() is None
            with started(connect, "mantou") as client:
                said = client.communicate(timeout=LIMIT)[1]
            server.communicate(timeout=LIMIT)
        finally:
            server.kill()
            os.close(open_end)
            os.close(silent)
    assert (tmp_path / {"ncat": "mantou", "mantou": "ncat"}[sender]).read_bytes() == BODY
    # ncat's own end of TLS has no close_notify, which is told.
    cut = secure and sender == "ncat"
    assert client.returncode == (5 if cut else 0), said.decode()


def test_through_two_proxies(certificates: Certificates) -> None:
    keys = ["--cert", certificates.cert_file, "--key", certificates.key_file]

    @contextmanager
    def proxy(*arguments: Any) -> Iterator[int]:
        command = [*MANTOU, "proxy", "localhost:0", *map(str, arguments)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            try:
                yield int(process.stderr.readline().decode().rpartition(":")[2])
            finally:
                process.kill()

    with (
        listening("--echo") as port,
        proxy(f"localhost:{port}", "--tls-in", *keys) as inner,
        proxy(f"localhost:{inner}", "--tls-out", "--ca", certificates.ca_file) as outer,
    ):
        assert output(find("ncat"), "localhost", outer, given=BODY) == BODY


# STARTTLS


@contextmanager
def exim(certificates: Certificates, folder: Path) -> Iterator[int]:
    """A real SMTP server with STARTTLS."""
    port = free_port()
    spool = folder / "spool"
    spool.mkdir()
    for name in ("cert_file", "key_file"):
        (folder / name).write_bytes(getattr(certificates, name).read_bytes())
        (folder / name).chmod(0o644)
    for each in (spool, folder, *folder.parents[:2]):
        each.chmod(0o777 if each in (spool, folder) else 0o755)
    configuration = folder / "exim.conf"
    configuration.write_text(
        f"primary_hostname = localhost\nexim_user = {getpass.getuser()}\n"
        f"spool_directory = {spool}\nlog_file_path = {spool}/%slog\n"
        f"local_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\n"
        f"pid_file_path = {spool}/pid\n"
        "tls_advertise_hosts = *\nqueue_only\n"
        f"tls_certificate = {folder}/cert_file\ntls_privatekey = {folder}/key_file\n"
        "acl_smtp_rcpt = accept\nbegin acl\nbegin routers\nbegin transports\n"
    )
    command = [find("exim4"), "-bdf", "-C", str(configuration)]
    with running(command, port, folder / "log"):
        yield port


def test_smtp(certificates: Certificates, tmp_path: Path) -> None:
    with exim(certificates, tmp_path) as port:
        flags = ["--starttls", "smtp", "--ca", certificates.ca_file]
        given = b"EHLO me\r\nQUIT\r\n"
        done = run(*MANTOU, "connect", f"localhost:{port}", *flags, "-v", given=given)
        assert b"250-localhost" in done.stdout
        assert b"221 " in done.stdout
        assert b"STARTTLS" not in done.stdout  # it is done
        assert b", TLSv1." in done.stderr
        found = json.loads(output(*MANTOU, "inspect", f"localhost:{port}", *flags, "--json"))
        assert found["verified"] is True


def test_postgres(certificates: Certificates, postgres: Postgres) -> None:
    place = f"localhost:{postgres.port}"
    flags = ["--starttls", "postgres", "--ca", certificates.ca_file]
    found = json.loads(output(*MANTOU, "inspect", place, *flags, "--json"))
    assert found["verified"] is True
    assert found["versions"]["TLSv1.3"]["spoken"] is True
    # A startup packet, and goodbye: it answers that we are in.
    words = b"user\0postgres\0database\0postgres\0\0"
    start = (8 + len(words)).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + words
    done = run(*MANTOU, "connect", place, *flags, given=start + b"X\0\0\0\x04")
    assert done.stdout.startswith(b"R\0\0\0\x08\0\0\0\0")
    assert b"server_version" in done.stdout


def test_openssl_sees_what_inspect_sees(certificates: Certificates) -> None:
    keys = ["--cert", certificates.cert_file, "--key", certificates.key_file]
    with listening("--echo", "--tls", *keys) as port:
        found = json.loads(
            output(*MANTOU, "inspect", f"localhost:{port}", "--ca", certificates.ca_file, "--json")
        )
        context = ssl.create_default_context(cafile=str(certificates.ca_file))
        with (
            socket.create_connection(("localhost", port), LIMIT) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            assert found["protocol"] == sock.version()
            cipher = sock.cipher()
            assert cipher is not None
            assert found["cipher"] == cipher[0]


# Shells and man


def completed(shell: str, folder: Path) -> Path:
    path = folder / f"completion.{shell}"
    path.write_bytes(output(*MANTOU, "completion", shell))
    return path


def test_fish(tmp_path: Path) -> None:
    script = f"source {completed('fish', tmp_path)}; complete -C"
    environment = [find("env"), f"HOME={tmp_path}", find("fish"), "--no-config", "-c"]
    assert b"inspect" in output(*environment, f"{script}'mantou in'")
    assert b"--starttls" in output(*environment, f"{script}'mantou connect --st'")
    assert b"postgres" in output(*environment, f"{script}'mantou connect x --starttls p'")


def test_zsh(tmp_path: Path) -> None:
    """It has no words for completing without a terminal: one is made by zpty."""
    path = completed("zsh", tmp_path)
    (tmp_path / "try.zsh").write_text(
        "zmodload zsh/zpty\nzpty shell zsh -f -i\n"
        "zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u -D'\n"
        f"zpty -w shell 'source {path}; echo rea\"\"dy'\n"
        "zpty -r shell shown '*ready*'\n"
        "zpty -n -w shell $'mantou connect --start\\t'\n"
        "zpty -r shell shown '*--starttls*'\nprint -r -- found\nzpty -d shell\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "TERM": "xterm"}
    done = subprocess.run(
        [find("zsh"), "-f", tmp_path / "try.zsh"],
        capture_output=True,
        timeout=LIMIT,
        check=False,
        env=environment,
    )
    assert b"found" in done.stdout, (done.stdout, done.stderr)


def test_the_manual_is_one(tmp_path: Path) -> None:
    (tmp_path / "mantou.1").write_text(manual())
    done = run(find("mandoc"), "-Tlint", "-Wwarning", tmp_path / "mantou.1")
    problems = done.stdout.decode().splitlines()
    # It has the version instead, so that it is the same whenever it is built.
    assert [line for line in problems if "missing date" not in line] == []
    shown = output(find("mandoc"), "-Tascii", tmp_path / "mantou.1").decode()
    assert "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | mantou connect example.com:80" in shown

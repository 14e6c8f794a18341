"""Servers that Debian's packages hold, and programs as servers, each in a process of its own."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

# Bounds a server's start and end, in seconds.
LIMIT = 30.0
UNPACKED = Path(__file__).resolve().parents[2] / "build" / "servers"


def find(program: str) -> str:
    """The path of a server's program; the test is skipped where it may be missing, and is."""
    # The folders of tools/get-servers.
    folders = [os.environ["PATH"], "/usr/sbin"]
    for root in ("", str(UNPACKED)):
        folders += [f"{root}/usr/bin", f"{root}/usr/sbin"]
        folders += sorted(glob.glob(f"{root}/usr/lib/postgresql/*/bin"), reverse=True)
    path = shutil.which(program, path=":".join(folders))
    if path is not None:
        return path
    missing = f"{program} is missing"
    if os.environ.get("ALLOW_MISSING") == "1":
        pytest.skip(missing)
    pytest.fail(missing)


def free_port() -> int:
    """A port that nobody listens on, for servers that cannot be told to choose one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path], ready: int | Path, log: Path, *, says: str = "", **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process, from when it is ready until it has ended.

    It is when it listens on a port or a path, and has said certain words.
    """
    environment = {**os.environ, **options.pop("env", {})}
    if str(command[0]).startswith(str(UNPACKED)):
        libraries = glob.glob(f"{UNPACKED}/usr/lib/*-linux-gnu")
        environment["LD_LIBRARY_PATH"] = ":".join(libraries)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            **options,
        )
    try:
        wait_until_it_listens(process, ready, log, says)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{command[0]} did not end:\n{log.read_text()}") from None


def wait_until_it_listens(
    process: subprocess.Popen[bytes], ready: int | Path, log: Path, says: str
) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_INET if isinstance(ready, int) else socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(("127.0.0.1", ready) if isinstance(ready, int) else str(ready))
            except OSError:
                # Nothing tells when another process listens: it is asked again.
                time.sleep(0.02)
            else:
                if says in log.read_text():
                    return
                time.sleep(0.02)
    raise AssertionError(f"{process.args!r} does not listen:\n{log.read_text()}")


@contextmanager
def haproxy(folder: Path, configuration: str) -> Iterator[None]:
    """HAProxy with these sections."""
    port = free_port()
    path = folder / "haproxy.cfg"
    path.write_text(
        "defaults\n mode tcp\n timeout connect 10s\n timeout client 30s\n timeout server 30s\n"
        f"frontend ready\n mode http\n bind 127.0.0.1:{port}\n http-request return status 200\n"
        f"{configuration}\n"
    )
    with running([find("haproxy"), "-db", "-f", path], port, folder / "haproxy.log"):
        # Until it answers, some of its doors may still be missing.
        with socket.create_connection(("127.0.0.1", port), LIMIT) as probe:
            probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert probe.recv(1) == b"H"
        yield


class Server:
    """A server with a folder of its own, that is open to whom it runs as."""

    def __init__(self, certificates: Any) -> None:
        self.certificates = certificates
        # Not below pytest's own folder, which no other user may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="mantou-"))
        self.port = free_port()
        self.tls_port = free_port()

    def start(self) -> Any:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.process = self.start()
            self.process.__enter__()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.process.__exit__(None, None, None)
        finally:
            shutil.rmtree(self.folder)


class Redis(Server):
    """redis-server in the clear and over TLS."""

    def start(self) -> Any:
        keys = self.certificates
        options = {
            "port": self.port,
            "tls-port": self.tls_port,
            "bind": "127.0.0.1",
            "tls-cert-file": keys.cert_file,
            "tls-key-file": keys.key_file,
            "tls-ca-cert-file": keys.ca_file,
            "tls-auth-clients": "no",
            "unixsocket": self.folder / "redis",
            "dir": self.folder,
            "save": "",
        }
        command: list[str] = [find("redis-server")]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.unix = self.folder / "redis"
        return running(command, self.unix, self.folder / "log")


class Postgres(Server):
    """PostgreSQL in the clear and over TLS, on one port."""

    def start(self) -> Any:
        # It does not run as root.
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            known = pwd.getpwnam("nobody")
            user = {"user": known.pw_uid, "group": known.pw_gid, "extra_groups": []}
            os.chown(self.folder, known.pw_uid, known.pw_gid)
        data = self.folder / "data"
        initdb = find("initdb")
        subprocess.run(
            [initdb, "--auth=trust", "--username=postgres", "--no-sync", f"--pgdata={data}"],
            check=True,
            capture_output=True,
            timeout=2 * LIMIT,
            cwd=self.folder,
            **user,
        )
        for name in ("cert_file", "key_file"):
            copy = data / getattr(self.certificates, name).name
            shutil.copy(getattr(self.certificates, name), copy)
            copy.chmod(0o600)
            if user:
                os.chown(copy, user["user"], user["group"])
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "ssl": "on",
            "ssl_cert_file": "cert.pem",
            "ssl_key_file": "key.pem",
            "fsync": "off",
        }
        command: list[str] = [str(Path(initdb).with_name("postgres")), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        ready = self.folder / f".s.PGSQL.{self.port}"
        says = "ready to accept connections"
        return running(command, ready, self.folder / "log", says=says, cwd=self.folder, **user)


class Mosquitto(Server):
    """An MQTT broker in the clear and over TLS."""

    def start(self) -> Any:
        keys = self.certificates
        configuration = self.folder / "mosquitto.conf"
        # As root it would become another user, who may not read the keys.
        configuration.write_text(
            f"user {pwd.getpwuid(os.getuid()).pw_name}\n"
            "allow_anonymous true\n"
            f"listener {self.port} 127.0.0.1\n"
            f"listener {self.tls_port} 127.0.0.1\n"
            f"certfile {keys.cert_file}\n"
            f"keyfile {keys.key_file}\n"
        )
        return running([find("mosquitto"), "-c", configuration], self.tls_port, self.folder / "log")

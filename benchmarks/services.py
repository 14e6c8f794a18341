"""What the clients are measured against: Redis and PostgreSQL, each with nothing in it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import tempfile
from typing import TYPE_CHECKING

import debian
import peers
from processes import Program

if TYPE_CHECKING:
    from collections.abc import Sequence


def redis(cpu: int | None, stack: contextlib.ExitStack) -> int:
    """Start a Redis that keeps everything in memory; return its port."""
    port = free_port()
    options = f"--port {port} --bind 127.0.0.1 --appendonly no"
    command = [*debian.command("redis-server"), *options.split(), "--save", ""]
    return serve("Redis", command, port, cpu, stack)


def postgresql(cpu: int | None, stack: contextlib.ExitStack) -> int:
    """Start a PostgreSQL with a new cluster; return its port."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="bench-postgresql-")
    stack.callback(shutil.rmtree, folder)
    owner = unprivileged(folder)
    options = f"-D {folder} -U bench -A trust -E UTF8 --no-locale --no-sync"
    peers.run([*owner, *debian.command("initdb"), *options.split()])
    options = f"-D {folder} -p {port} -h 127.0.0.1 -c fsync=off -c unix_socket_directories="
    command = [*owner, *debian.command("postgres"), *options.split()]
    return serve("PostgreSQL", command, port, cpu, stack)


def unprivileged(folder: str) -> list[str]:
    """Return how to run as the folder's owner: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return []
    names = {each.pw_name for each in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def serve(
    name: str, command: Sequence[str], port: int, cpu: int | None, stack: contextlib.ExitStack
) -> int:
    """Start a server, and wait until its log says that it is ready."""
    program = Program(name, ["sh", "-c", 'exec "$@" 2>&1', "sh", *command], cpu)
    # Killed, PostgreSQL would leave its processes and shared memory behind.
    stack.callback(program.stop, signal.SIGINT)
    while "ready to accept connections" not in program.line().lower():
        pass
    return port


def free_port() -> int:
    """Return a port that nobody has now: neither of the servers can be given 0 and asked later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


SERVICES = {"redis": redis, "postgresql": postgresql}

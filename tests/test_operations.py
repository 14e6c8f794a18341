"""Where servers have to run: small limits, poor namespaces, old kernels, odd clocks, halts."""

from __future__ import annotations

import os
import resource
import signal
import socket as kernel
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mantou import testing

ROOT = Path(__file__).parents[1]
# Every way to serve, each with a round trip; prints "served", or what kept it from that.
PROGRAM = """
import asyncio, os, resource, sys
import mantou

class Echo(mantou.SocketHandler):
    def data(self, socket, data):
        socket.write_all(data)

async def echo(stream):
    async for data in stream:
        await stream.send(data)

async def ask(port, **options):
    async with await mantou.connect_stream(hostname="127.0.0.1", port=port, **options) as stream:
        await stream.send(b"x" * 100_000)
        assert await stream.receive_exactly(100_000) == b"x" * 100_000

class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def main():
    tls = {"cert_file": sys.argv[1], "key_file": sys.argv[2]}
    client = {"tls": {"ca_file": sys.argv[3], "server_name": "localhost"}}
    here = {"hostname": "127.0.0.1", "port": 0}
    with mantou.listen(**here, socket=Echo()) as listener:
        await ask(listener.port)
    with mantou.listen(**here, socket=Echo(), tls=tls) as listener:
        await ask(listener.port, **client)
    async with mantou.serve_streams(echo, **here) as server:
        await ask(server.port)
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
    async with server:
        await ask(server.sockets[0].getsockname()[1])

try:
    mantou.run(main())
    print("served")
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A certificate, its key and the authority that it is of."""
    folder = tmp_path_factory.mktemp("certificates")
    made = testing.certificates()
    texts = (made.server["cert"], made.server["key"], made.client["ca"])
    paths = [folder / f"{number}.pem" for number in range(3)]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    return [str(path) for path in paths]


def serve(
    files: list[str],
    *before: str,
    prepare: Callable[[], object] | None = None,
    program: str = PROGRAM,
) -> str:
    """What the program printed, started by the command `before` it, in a process of its own."""
    done = subprocess.run(
        [*before, sys.executable, "-W", "error", "-B", "-c", program, *files],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=prepare,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        check=False,
    )
    assert (_without_warnings(done.stderr), done.returncode) == ("", 0)
    return done.stdout.strip()


def _without_warnings(said: str) -> str:
    """What is not the one line that tells that there are no descriptors left."""
    rests = "accepting connections rests until resources are free again"
    return "".join(line for line in said.splitlines() if rests not in line)


# Limits


@pytest.mark.parametrize("count", range(9, 24, 2))
def test_few_descriptors_are_an_error_or_enough(files: list[str], count: int) -> None:
    limit = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({count}, {count}))\ntry:\n    mantou.run"
    program = PROGRAM.replace("try:\n    mantou.run", limit)
    assert serve(files, program=program) in {"served", "OSError 24"}


def test_descriptors_of_high_numbers(files: list[str]) -> None:
    """All but the highest that this process may have are taken; above 65,535 where that is so."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = min(hard - 64, 70_000)
    taken = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({first + 64}, {first + 64}))\n"
    taken += f"for fd in range(3, {first}):\n    os.dup2(2, fd)\n"
    assert serve(files, program=PROGRAM.replace("class Echo", f"{taken}class Echo", 1)) == "served"


# What the system lacks

# prctl(2) and seccomp(2): a filter for one system call of x86-64, which fails with an errno.
DENY = """
import ctypes, struct
def deny(number, error):
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | error)]
    code.append((0x06, 0, 0, 0x7FFF0000))
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
"""
EPOLL_PWAIT2 = 441


@pytest.mark.parametrize("error", [1, 38], ids=["EPERM", "ENOSYS"])
def test_without_epoll_pwait2(files: list[str], error: int) -> None:
    """Before Linux 5.11, or in a container whose filter does not know it."""
    assert serve(files, program=f"{DENY}\ndeny({EPOLL_PWAIT2}, {error})\n{PROGRAM}") == "served"


def apart(*commands: str) -> list[str]:
    """Runs what follows with mounts of its own."""
    return ["unshare", "--mount", "sh", "-ec", "\n".join([*commands, 'exec "$@"']), "sh"]


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(("mount -t tmpfs none /proc",), id="without-proc"),
        pytest.param(("mount -o remount,bind,ro /",), id="read-only"),
        pytest.param(("mount --bind /dev/null /etc/resolv.conf",), id="without-resolvers"),
        pytest.param(("mount -t tmpfs none /sys",), id="without-sys"),
    ],
)
def test_with_a_poor_file_system(files: list[str], commands: tuple[str, ...]) -> None:
    assert serve(files, *apart(*commands)) == "served"


def test_names_without_resolvers(files: list[str]) -> None:
    program = """
import asyncio, mantou, socket
async def main():
    try:
        await mantou.connect(hostname="nowhere.invalid", port=9, socket={"open": print})
    except socket.gaierror as error:
        print("no such name")
mantou.run(main())
"""
    nothing = apart("mount --bind /dev/null /etc/resolv.conf")
    assert serve(files, *nothing, program=program) == "no such name"


# Time

# The wall clock as a library sees it, which goes an hour back and forth with each question.
JUMPING = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long hours(void) { static long asked; return asked++ % 2 ? 3600 : -3600; }
int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = syscall(SYS_clock_gettime, clock, at);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) at->tv_sec += hours();
    return result;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *at, void *zone) {
    at->tv_sec = time(0);
    at->tv_usec = 0;
    return 0;
}
"""
TIMES = """
import asyncio, mantou, time
assert abs(time.time() - time.time()) > 3000
class Quiet(mantou.SocketHandler):
    def data(self, socket, data):
        raise AssertionError("nothing was sent")
class Waiting(Quiet):
    def timeout(self, socket):
        print("timeout", flush=True)
async def main():
    began = time.monotonic()
    here = {"hostname": "127.0.0.1", "port": 0, "idle_timeout": 0.2}
    with mantou.listen(socket=Waiting(), **here) as listener:
        here = {"hostname": "127.0.0.1", "port": listener.port}
        socket = await mantou.connect(socket=Quiet(), **here)
        await socket.closed()
    await asyncio.sleep(0.1)
    took = time.monotonic() - began
    assert 0.3 <= took < 10, took
    print("in time")
mantou.run(main())
"""


def test_jumps_of_the_clock(files: list[str], tmp_path: Path) -> None:
    """Nothing waits by the wall clock, on either loop's account."""
    (tmp_path / "jumping.c").write_text(JUMPING)
    library = str(tmp_path / "jumping.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "jumping.c"], check=True)
    said = serve(files, "env", f"LD_PRELOAD={library}", program=TIMES)
    assert said.split("\n") == ["timeout", "in time"]
    assert serve(files, "env", f"LD_PRELOAD={library}") == "served"


HALTED = """
import mantou
class Echo(mantou.SocketHandler):
    def data(self, socket, data):
        socket.write_all(data)
    def close(self, socket, error):
        print(repr(error), flush=True)
        listener.stop()
listener = mantou.listen(hostname="127.0.0.1", port=0, socket=Echo(), idle_timeout=1.0)
print(listener.port, flush=True)
mantou.run()
"""


def test_who_spoke_while_the_server_was_halted_is_not_idle() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HALTED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with kernel.create_connection(("127.0.0.1", port), timeout=20) as peer:
            peer.sendall(b"before")
            assert peer.recv(6, kernel.MSG_WAITALL) == b"before"
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            peer.sendall(b"meanwhile")
            until = time.monotonic() + 1.5
            while (left := until - time.monotonic()) > 0:
                signal.sigtimedwait((), left)
            process.send_signal(signal.SIGCONT)
            assert peer.recv(9, kernel.MSG_WAITALL) == b"meanwhile"
            assert peer.recv(1) == b""
        assert process.stdout.read().startswith("TimeoutError(")
    assert process.returncode == 0


# Ends


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_lets_finish_and_the_second_does_not(times: int) -> None:
    """The deployed server of the examples, on a socket that it gets as from systemd."""
    listener = kernel.create_server(("127.0.0.1", 0))
    # systemd's protocol: descriptor 3, and the number of the process that it is for.
    start = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&0'
    program = [sys.executable, str(ROOT / "examples/deploy/server.py"), "--grace", "60"]
    with subprocess.Popen(
        ["sh", "-c", start, "sh", *program], stdin=listener, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("is ready\n")
        with kernel.create_connection(listener.getsockname(), timeout=20) as peer:
            lines = peer.makefile("rb")
            assert lines.readline().startswith(b"this is process")
            process.send_signal(signal.SIGTERM)
            # It is still answered, when the signal has come.
            peer.sendall(b"still there?\n")
            assert lines.readline() == b"STILL THERE?\n"
            if times == 2:
                process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionResetError):
                    lines.readline()
            lines.close()
        cut = times - 1
        assert process.stdout.readline().endswith(f"ends, {cut} connections were cut\n")
    assert process.returncode == 0
    listener.close()

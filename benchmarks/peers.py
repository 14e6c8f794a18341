"""Who takes part, and how each is installed, compiled and started.

python benchmarks/peers.py        installs all of them into build/ and says what is missing
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "bench"
SITE = BUILD / "python"
LOAD = ROOT / "target" / "release" / "mantou-load"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
ALL_ROLES = frozenset(
    {"echo", "timeouts", "sink", "source", "fanout", "pieces", "corked", "connect"}
)


@dataclass(frozen=True)
class Peer:
    """A system that is compared: which program of ours runs on it, and what it can do."""

    name: str
    label: str
    program: str
    """`c`, `node`, `bun`, or a Python server by its file name."""
    loop: str = ""
    needs: str = ""
    """A distribution from requirements/bench.txt."""
    plain: frozenset[str] = ALL_ROLES
    tls: frozenset[str] = ALL_ROLES
    limits: str = ""
    """Why it does not take part in everything."""
    root: Path = ROOT
    """The checkout whose build of mantou it runs on."""

    def roles(self, tls: bool) -> frozenset[str]:
        return self.tls if tls else self.plain


PEERS = (
    Peer("floor", "C epoll", "c"),
    Peer("mantou", "mantou", "mantou_server.py", "mantou"),
    Peer(
        "mantou-view",
        "mantou, memoryview",
        "mantou_server.py",
        "view",
        plain=frozenset({"echo"}),
        tls=frozenset({"echo"}),
        limits="echo only: it shows what the engine's buffer saves over bytes objects",
    ),
    Peer("mantou-asyncio", "mantou on asyncio", "mantou_server.py", "asyncio"),
    Peer("mantou-uvloop", "mantou on uvloop", "mantou_server.py", "uvloop", "uvloop"),
    Peer(
        "mantou-sslcontext",
        "mantou, ssl.SSLContext",
        "mantou_server.py",
        "sslcontext",
        plain=frozenset(),
        limits="over TLS only: without it is mantou",
    ),
    *(
        Peer(
            name,
            label,
            "stream_server.py",
            loop,
            needs,
            plain=frozenset({"echo"}),
            tls=frozenset({"echo"}),
            limits="echo only: it shows what await costs",
        )
        for name, label, loop, needs in (
            ("mantou-stream", "mantou.Stream", "mantou", ""),
            ("mantou-reader", "mantou's reader and writer", "reader", ""),
            ("uvloop-streams", "asyncio streams on uvloop", "uvloop", "uvloop"),
            ("asyncio-streams", "asyncio streams", "asyncio", ""),
        )
    ),
    Peer("bun", "Bun", "bun"),
    Peer("node", "Node", "node"),
    Peer("uvloop", "uvloop", "protocol_server.py", "uvloop", "uvloop"),
    Peer("asyncio", "asyncio", "protocol_server.py", "asyncio"),
    Peer(
        "aiofastnet-uvloop",
        "aiofastnet on uvloop",
        "protocol_server.py",
        "aiofastnet-uvloop",
        "aiofastnet",
    ),
    Peer("aiofastnet", "aiofastnet on asyncio", "protocol_server.py", "aiofastnet", "aiofastnet"),
    Peer(
        "rloop",
        "rloop",
        "protocol_server.py",
        "rloop",
        "rloop",
        tls=frozenset(),
        limits="not over TLS: it has none",
    ),
    Peer(
        "blocking",
        "blocking sockets, threads",
        "blocking_server.py",
        plain=frozenset({"echo"}),
        tls=frozenset(),
        limits="plain echo of up to 100 connections only: a thread for each of more makes no sense",
    ),
)
BY_NAME = {peer.name: peer for peer in PEERS}


def python_path(*folders: Path) -> dict[str, str]:
    """Return the environment of Python programs.

    The allocator is left as it is for everybody: what it costs a program is part of what it costs.
    """
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


ENVIRONMENT = python_path(SITE, HERE / "servers")


def certificate() -> tuple[str, str]:
    """Make this run's certificate: EC P-256, the same for every server."""
    files = BUILD / "certificate.pem", BUILD / "key.pem"
    request = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    run([*request.split(), "-out", str(files[0]), "-keyout", str(files[1])])
    return str(files[0]), str(files[1])


def server_command(peer: Peer, role: str, files: tuple[str, ...]) -> list[str]:
    """Return what starts its server."""
    if peer.program == "c":
        role = "echo" if role == "timeouts" else role  # it has none
        return [str(BUILD / ("floor_tls" if files else "floor")), role, *files]
    if peer.program in ("node", "bun"):
        script = str(HERE / "servers" / f"{peer.program}_server.mjs")
        return [program(peer.program), script, role, *files]
    arguments = [peer.loop] if peer.loop else []
    server = str(HERE / "servers" / peer.program)
    return [str(interpreter(peer.root)), server, *arguments, role, *files]


def client_command(
    peer: Peer, port: int, connections: int, certificate: tuple[str, ...]
) -> list[str]:
    """Return what starts its client, for connects."""
    if peer.program == "c":
        options = f"churn --port {port} --connections {connections}"
        tls = ["--tls", *certificate] if certificate else []
        return [str(LOAD), *options.split(), *tls]
    arguments = [str(port), str(connections), *certificate]
    if peer.program in ("node", "bun"):
        script = str(HERE / "clients" / f"{peer.program}_client.mjs")
        return [program(peer.program), script, *arguments]
    script = "mantou_client.py" if peer.program.startswith("mantou") else "stream_client.py"
    client = str(HERE / "clients" / script)
    return [str(interpreter(peer.root)), client, peer.loop, *arguments]


def interpreter(root: Path) -> Path:
    """Return the Python of a checkout; of our own, the one that runs this."""
    return Path(sys.executable) if root == ROOT else root / ".venv" / "bin" / "python"


def commit(root: Path) -> str:
    return run(["git", "-C", str(root), "describe", "--always", "--dirty"])


def program(name: str) -> str:
    if name == "bun":
        return str(BUILD / "node_modules" / "@oven" / "bun-linux-x64" / "bin" / "bun")
    return shutil.which(name) or name


def prepare(wanted: list[Peer], tls: bool = True) -> dict[str, str]:
    """Install and compile what the wanted need; return those that are missing, with the reason."""
    BUILD.mkdir(parents=True, exist_ok=True)
    missing: dict[str, str] = {}
    for peer in wanted:
        try:
            if peer.program == "c":
                compile_c("floor")
                if tls:
                    compile_c("floor_tls", "-lssl", "-lcrypto")
            elif peer.program == "bun":
                install_bun()
            elif peer.program == "node" and not shutil.which("node"):
                missing[peer.name] = "node is not on the PATH"
            if peer.needs:
                install_distribution(peer.needs)
            if peer.loop.endswith("uvloop"):
                install_distribution("uvloop")
        except (subprocess.CalledProcessError, OSError) as error:
            missing[peer.name] = reason(error)
    return missing


def reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else str(error)
    return str(error)


def run(command: list[str]) -> str:
    """Run a command to its end and return what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def build_load() -> None:
    """Build the load generator: only the benchmark needs it."""
    cargo = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "mantou-load"]
    subprocess.run(cargo, cwd=ROOT, check=True)


@functools.cache
def compile_c(name: str, *libraries: str) -> None:
    source, output = str(HERE / "servers" / f"{name}.c"), str(BUILD / name)
    options = ["-O2", "-Wall", "-Wextra"]
    run([os.environ.get("CC", "cc"), *options, "-o", output, source, *libraries])


@functools.cache
def install_bun() -> None:
    shutil.copy(HERE / "package.json", BUILD)
    run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(BUILD)])
    run([program("bun"), "--version"])


@functools.cache
def install_distribution(name: str) -> None:
    lines = (ROOT / "requirements" / "bench.txt").read_text().splitlines()
    pinned = next(line for line in lines if line.startswith(f"{name}=="))
    mark = SITE / f".{pinned}"
    if not mark.exists():
        run([*PIP, "--target", str(SITE), pinned])
        mark.touch()


@functools.cache
def install_requirements(name: str, site: Path) -> None:
    """Install all of a file in requirements/, again when it has changed."""
    requirements = ROOT / "requirements" / name
    mark = site / f".{name}"
    if not mark.exists() or mark.read_text() != requirements.read_text():
        run([*PIP, "--target", str(site), "--requirement", str(requirements)])
        shutil.copy(requirements, mark)


def versions() -> dict[str, str]:
    """Return the version of everything that is installed."""
    commands = {
        "bun": [program("bun"), "--version"],
        "node": ["node", "--version"],
        "openssl": ["openssl", "version"],
        "cc": [os.environ.get("CC", "cc"), "--version"],
        "rustc": ["rustc", "--version"],
        "mantou (commit)": ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
    }
    found = {"python": sys.version.split()[0]}
    for name, command in commands.items():
        try:
            found[name] = run(command).splitlines()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            found[name] = "missing"
    for line in (ROOT / "requirements" / "bench.txt").read_text().splitlines():
        name, mark, version = line.partition("==")
        if mark and (SITE / f".{line}").exists():
            found[name] = version
    return found


if __name__ == "__main__":
    absent = prepare(list(PEERS))
    for each in PEERS:
        print(f"{each.label:<28}{absent.get(each.name, 'ready')}")
    sys.exit(bool(absent))

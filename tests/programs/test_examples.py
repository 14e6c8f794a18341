"""The larger examples, against the programs that speak what they speak."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from redis.exceptions import ResponseError

from examples.postgres.client import Connection
from examples.postgres.scram import Scram
from examples.redis.client import Client
from examples.redis.protocol import ReplyError
from tests.programs.conftest import Certificates
from tests.programs.servers import Postgres, Redis, find

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30.0  # seconds for anything an example does


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", *arguments]


def run(*command: str, stdin: str = "", code: int = 0, **environment: str) -> str:
    """Runs a command to its end; returns what it printed."""
    result = subprocess.run(
        command,
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, **environment},
    )
    assert result.returncode == code, result
    return result.stdout + (result.stderr if code else "")


@contextlib.contextmanager
def example(*arguments: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server among the examples, on a free port; Ctrl-C must end it cleanly."""
    with subprocess.Popen(
        python(*arguments, "--port", "0"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], LIMIT)[0], "it never began to listen"
            line = process.stdout.readline()
            address = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
            assert address, (line, process.poll())
            yield int(address[1]), process
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=LIMIT)
            assert (process.returncode, stderr) == (0, "")
            assert stdout.endswith("bye\n")
        finally:
            process.kill()


@contextlib.contextmanager
def started(*command: str) -> Iterator[Any]:
    """A command whose output is read as it comes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# Redis


def test_redis_cli_takes_the_server_for_redis() -> None:
    with example("-m", "examples.redis.server") as (port, _):

        def ask(*words: str) -> str:
            return run(find("redis-cli"), "-p", str(port), *words).strip()

        assert ask("ping") == "PONG"
        assert ask("set", "answer", "41") == "OK"
        assert ask("incr", "answer") == "42"
        assert ask("get", "answer") == "42"
        assert ask("expire", "answer", "100") == "1"
        assert ask("ttl", "answer") in ("99", "100")
        assert ask("del", "answer", "nothing") == "1"
        assert ask("get", "answer") == ""
        assert ask("set", "word", "a b", "ex", "10") == "OK"
        assert ask("incr", "word").startswith("ERR value is not an integer")
        assert ask("get").startswith("ERR wrong number of arguments")
        assert ask("fly").startswith("ERR unknown command")
        assert "connected_clients:1" in ask("info")


def test_redis_py_takes_the_server_for_redis() -> None:
    with (
        example("-m", "examples.redis.server") as (port, _),
        redis.Redis(port=port) as client,
    ):
        large = os.urandom(1 << 20)
        assert client.set("large", large)
        assert client.get("large") == large
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(5000):
                pipeline.incr("sum")
            assert pipeline.execute()[-1] == 5000
        client.set("soon", 1)
        client.expire("soon", 0)
        assert client.get("soon") is None
        with pytest.raises(ResponseError):
            client.incr("large")
        with client.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe("news", "weather")
            assert subscription.get_message(timeout=0.01) is None
            while client.publish("news", "hello") != 1:
                pass
            message = None
            while message is None:
                message = subscription.get_message(timeout=LIMIT)
            assert (message["channel"], message["data"]) == (b"news", b"hello")
            subscription.unsubscribe("news", "weather")
            while client.publish("news", "hello") != 0:
                pass


def test_redis_benchmark_runs_to_its_end() -> None:
    with example("-m", "examples.redis.server") as (port, _):
        command = [find("redis-benchmark"), "-p", str(port), "-t", "ping,set,get,incr", "--csv"]
        for pipelined in ("1", "16"):
            output = run(*command, "-n", "5000", "-P", pipelined)
            assert {line.split(",")[0] for line in output.splitlines()} >= {'"SET"', '"INCR"'}


@pytest.mark.parametrize(
    "garbage",
    [b"*1\r\n+x\r\n", b"*1\r\n$1\r\nabc\r\n", b"*x\r\n", b"*1\r\n$99999999\r\n" + b"x" * (9 << 20)],
)
def test_the_redis_server_refuses_what_is_no_redis(garbage: bytes) -> None:
    with example("-m", "examples.redis.server") as (port, _):
        with socket.create_connection(("127.0.0.1", port), LIMIT) as peer:
            with contextlib.suppress(ConnectionError):
                peer.sendall(garbage)
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(100).startswith(b"-ERR Protocol error")
        assert run(find("redis-cli"), "-p", str(port), "ping") == "PONG\n"


async def test_the_redis_client_pipelines(redis_server: Redis) -> None:
    client = await Client.connect(hostname="127.0.0.1", port=redis_server.port)
    assert await client.ask("flushall") == b"OK"
    answers = await client.pipeline(*(("incrby", "sum", str(number)) for number in range(5000)))
    assert answers[-1] == sum(range(5000))
    assert await client.ask("rpush", "list", "a", b"b\r\n") == 2
    assert await client.ask("lrange", "list", "0", "-1") == [b"a", b"b\r\n"]
    assert await client.ask("get", "nothing") is None
    with pytest.raises(ReplyError, match="WRONGTYPE"):
        await client.ask("incr", "list")
    waiting = client.ask("blpop", "empty", "0")
    other = await Client.connect(hostname="127.0.0.1", port=redis_server.port)
    assert await other.ask("client", "kill", "type", "normal", "skipme", "yes") == 1
    with pytest.raises(ConnectionError):
        await waiting
    await other.close()
    await client.close()


def test_the_redis_client_prints(redis_server: Redis) -> None:
    def ask(*words: str, code: int = 0) -> str:
        port = str(redis_server.port)
        return run(*python("-m", "examples.redis.client", "--port", port, *words), code=code)

    assert ask("set", "printed", "yes") == "OK\n"
    assert ask("mget", "printed", "nothing") == "1) yes\n2) (nil)\n"
    assert "ERR" in ask("nonsense", code=1)


# MQTT


def test_mosquittos_clients_take_the_broker_for_one(tmp_path: Path) -> None:
    large = os.urandom(300_000)
    (tmp_path / "large").write_bytes(large)
    with example("-m", "examples.mqtt.broker") as (port, _):
        place = ["-p", str(port)]

        def publish(topic: str, *rest: str) -> None:
            run(find("mosquitto_pub"), *place, "-t", topic, *rest)

        publish("house/roof", "-m", "kept", "-r", "-q", "1")
        # Its output is a pipe, which C's library would only fill in blocks.
        subscribe = ["stdbuf", "-oL", find("mosquitto_sub"), *place]
        will = ["--will-topic", "house/will", "--will-payload", "gone"]
        topics = ["-t", "house/#", "-t", "+/status", "-q", "1"]
        with (
            started(*subscribe, *topics, "-F", "%t %q %r %l", "-C", "5") as subscriber,
            started(*subscribe, "-t", "x", "-d", *will) as doomed,
        ):
            assert subscriber.stdout.readline() == "house/roof 1 1 4\n"
            publish("house/door", "-m", "open", "-q", "1")
            publish("garden/door", "-m", "open")
            publish("garden/status", "-m", "green", "-q", "0")
            publish("house", "-f", str(tmp_path / "large"), "-q", "1")
            while "SUBACK" not in doomed.stdout.readline():
                assert doomed.poll() is None
            doomed.kill()  # it does not take its leave: its will is done
            assert subscriber.communicate(timeout=LIMIT)[0].splitlines() == [
                "house/door 1 0 4",
                "garden/status 0 0 5",
                f"house 1 0 {len(large)}",
                "house/will 0 0 4",
            ]
        publish("house/roof", "-n", "-r")
        run(find("mosquitto_sub"), *place, "-t", "house/#", "-C", "1", "-W", "1", code=27)


# HTTP


def test_curl_gets_files(tmp_path: Path) -> None:
    large = os.urandom(5_000_000)
    (tmp_path / "large").write_bytes(large)
    (tmp_path / "a b.txt").write_text("text\n")
    curl = [find("curl"), "--silent", "--show-error"]
    with example("examples/http_server.py", "--directory", str(tmp_path)) as (port, _):
        base = f"http://127.0.0.1:{port}"
        run(*curl, f"{base}/large", "--output", str(tmp_path / "copy"))
        assert (
            hashlib.sha256((tmp_path / "copy").read_bytes()).digest()
            == hashlib.sha256(large).digest()
        )
        report = run(*curl, f"{base}/a%20b.txt", f"{base}/a%20b.txt", "-w", "%{num_connects}\n")
        assert report == "text\n1\ntext\n0\n"
        head = run(*curl, "--head", f"{base}/large")
        assert "Content-Length: 5000000" in head
        for path, more, status in [
            ("/nothing", [], 404),
            ("/../../etc/passwd", ["--path-as-is"], 404),
            ("/a%20b.txt", ["--data", "body"], 405),
            ("/a%20b.txt", ["--http1.0"], 200),
            ("/", ["--header", "Host:"], 400),
            ("/", ["--header", f"Long: {'x' * 20000}"], 431),
        ]:
            answer = run(
                *curl, *more, "--output", str(tmp_path / "body"), "-w", "%{http_code}", base + path
            )
            assert int(answer) == status, path


def test_wrk_gets_its_answers(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("x" * 1000)
    with example("examples/http_server.py", "--directory", str(tmp_path)) as (port, _):
        report = run(find("wrk"), "-c", "20", "-d", "1", f"http://127.0.0.1:{port}/index")
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    assert int(re.findall(r"(\d+) requests in", report)[0]) > 100


# PostgreSQL


# For all that this process runs: tests come and go between processes, and a module's with them.
@pytest.fixture(scope="session")
def role(postgres: Postgres) -> str:
    """A user with a password, who may come in with that only."""
    rules = postgres.folder / "data" / "pg_hba.conf"
    rules.write_text(f"host all careful 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(
        f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres", autocommit=True
    ) as connection:
        connection.execute("create role careful login password 'pässword'")
        connection.execute("select pg_reload_conf()")
    return "careful"


@pytest.mark.parametrize("tls", [False, True])
def test_the_postgres_client(
    postgres: Postgres, certificates: Certificates, role: str, tls: bool
) -> None:
    command = python("-m", "examples.postgres", "--user", role, "--database", "postgres")
    command += ["--port", str(postgres.port)]
    if tls:
        command += ["--ca", str(certificates.ca_file)]

    def ask(query: str, password: str = "pässword", code: int = 0) -> str:
        return run(*command, query, code=code, PGPASSWORD=password)

    assert ask("select 1, null, 'ü'") == "1\tNULL\tü\n"
    assert len(ask("select repeat('x', 3000000)")) == 3_000_001
    assert ask("select generate_series(1, 3)") == "1\n2\n3\n"
    # It is TLS where it was asked for.
    assert ask("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == "ft"[tls] + "\n"
    assert "(42601)" in ask("selekt", code=1)
    assert "(28P01)" in ask("select 1", password="wrong", code=1)


async def test_the_postgres_client_binds_to_the_certificate(
    postgres: Postgres, certificates: Certificates, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mechanisms: list[str] = []

    class Observed(Scram):
        def first(self) -> bytes:
            mechanisms.append(self.mechanism)
            return super().first()

    monkeypatch.setattr("examples.postgres.client.Scram", Observed)
    for tls in (False, {"ca_file": certificates.ca_file, "server_name": "localhost"}):
        place = ("127.0.0.1", postgres.port)
        connection = await Connection.connect(place, role, "pässword", "postgres", tls)
        assert await connection.query("select 1") == [("1",)]
        await connection.close()
    # The server takes the second one only if the binding is right.
    assert mechanisms == ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]


# A game, and a chat that changes


def test_the_game_tells_a_thousand_players() -> None:
    with example("examples/game_server.py") as (port, _), contextlib.ExitStack() as stack:
        players = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT))
            for _ in range(1000)
        ]
        files = [stack.enter_context(player.makefile("rb")) for player in players]
        players[0].sendall(b"right\ndown\nnonsense\n")
        for file in files:
            seen: dict[str, list[int]] = {}
            while len(seen) < 1000 or seen["1"] != [51, 51]:
                seen.update(json.loads(file.readline())["players"])


def test_a_chat_changes_its_manners_while_people_talk(tmp_path: Path) -> None:
    manners = tmp_path / "manners.py"
    original = (ROOT / "examples" / "live_chat" / "manners.py").read_text()
    manners.write_text(original)
    with example("-m", "examples.live_chat", "--manners", str(manners)) as (port, process):
        assert process.stdout is not None
        with contextlib.ExitStack() as stack:
            ann, bo = (
                stack.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT))
                for _ in range(2)
            )
            ann_hears, bo_hears = (stack.enter_context(one.makefile("r")) for one in (ann, bo))
            assert ann_hears.readline() == bo_hears.readline() == "welcome\n"
            ann.sendall(b"hello\n")
            assert bo_hears.readline() == "hello\n"
            manners.write_text(original.replace("return text", "return text.upper()"))
            assert process.stdout.readline() == "reloaded\n"
            ann.sendall(b"hello\n")
            assert bo_hears.readline() == "HELLO\n"
            manners.write_text("this is no Python")
            assert process.stdout.readline().startswith("not reloaded: SyntaxError")
            bo.sendall(b"still here\n")
            assert ann_hears.readline() == "STILL HERE\n"

"""Where a scenario is played: drivers in their own processes, raw peers, and what all have seen."""

from __future__ import annotations

import json
import os
import socket as kernel
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.peer import LIMIT, Peer
from conformance.scenario import Program, Scenario

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUN = ROOT / "build" / "bench" / "node_modules" / "@oven" / "bun-linux-x64" / "bin" / "bun"
COMMANDS = {
    "mantou": [sys.executable, "-m", "conformance.drivers.mantou_driver"],
    "bun": [str(BUN), str(HERE / "drivers" / "bun_driver.ts")],
}
TURNS = 4  # of each loop: what one end does may be for the other to see
PATIENCE = 3.0  # seconds for a close that is expected; who never closes is told as "still open"


class Stuck(Exception):
    """What a step waits for does not come."""


class Driver:
    """A process that is one end of scenarios, one after another."""

    def __init__(self, runtime: str) -> None:
        self.process = subprocess.Popen(
            COMMANDS[runtime],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self._replies: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Has a command obeyed; what happened before the answer is in `events` then."""
        self.tell(**command)
        return self.answer()

    def tell(self, **command: Any) -> None:
        """Gives a command: it arrives as data does, by way of the loop that serves the sockets."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The answer to a command."""
        with self._news:
            if not self._news.wait_for(lambda: self._replies, LIMIT):
                raise Stuck("no answer")
            return self._replies.pop(0)

    def wait(self, who: str, event: str, count: int, seconds: float = LIMIT) -> bool:
        """Whether an event of somebody's, or one of several, has been told so often in the end."""
        wanted = event.split("|")

        def enough() -> bool:
            found = [e for e in self.events if e["who"] == who and e["event"] in wanted]
            return len(found) >= count

        with self._news:
            return self._news.wait_for(enough, seconds)

    def wait_closed(self, seconds: float) -> bool:
        """Whether every socket that was opened has been closed in the end."""

        def count(event: str) -> int:
            return sum(one["event"] == event for one in self.events)

        with self._news:
            return self._news.wait_for(lambda: count("open") <= count("close"), seconds)

    def stop(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            with self._news:
                (self.events if "event" in message else self._replies).append(message)
                self._news.notify_all()


class Stage:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, drivers: dict[str, Driver]) -> None:
        self.scenario = scenario
        self.drivers = {program.role: drivers[program.role] for program in scenario.programs}
        self.peers: dict[str, Peer] = {}
        self.address: Any = None
        self.family = kernel.AF_INET
        self._directory = tempfile.TemporaryDirectory()
        self._raw: kernel.socket | None = None
        self._held_by = str(Path(self._directory.name) / "held")
        os.mkfifo(self._held_by)
        self._pending: Driver | None = None
        self.tidy_up: list[Callable[[], object]] = []

    def play(self) -> dict[str, list[str]]:
        """Plays it; returns what each end has seen."""
        try:
            for driver in self.drivers.values():
                driver.events.clear()
            for program in self.scenario.programs:
                self._begin(program)
            for step in self.scenario.steps:
                step(self)
            return {**self._told(), **{label: peer.seen for label, peer in self.peers.items()}}
        finally:
            for tidy_up in self.tidy_up:
                tidy_up()
            for peer in self.peers.values():
                peer.close()
            if self._raw is not None:
                self._raw.close()
            for driver in self.drivers.values():
                driver.ask(finish=True)
            self.settle()
            self._directory.cleanup()

    def settle(self) -> None:
        """Each end takes what has arrived, and what others do about it."""
        for _ in range(TURNS):
            for driver in self.drivers.values():
                driver.ask(turn=True)

    def release(self) -> None:
        """Lets the loop go on that is held."""
        held_by = Path(self._held_by)
        held_by.write_bytes(b"")
        held_by.unlink()
        if self._pending is not None:
            self._pending.answer()
            self._pending = None

    def accept(self) -> kernel.socket:
        """The raw listener's next connection."""
        assert self._raw is not None
        sock, _ = self._raw.accept()
        return sock

    def fill_backlog(self) -> None:
        """Connects to the raw listener until nobody else can."""
        assert self._raw is not None
        self._raw.listen(0)
        while True:
            sock = kernel.socket(kernel.AF_UNIX, kernel.SOCK_STREAM)
            self.tidy_up.append(sock.close)
            sock.setblocking(False)
            if sock.connect_ex(self.address):
                return

    def driver(self, who: str) -> Driver:
        """Whose sockets are called so: S, S2, C... A socket after an upgrade has a T behind."""
        return self.drivers[who[0]]

    def _begin(self, program: Program) -> None:
        declared = program.declared()
        options = declared["options"] = dict(program.options)
        declared["held_by"] = self._held_by
        if program.role == "C" and "S" not in self.drivers and "port" not in options:
            self._listen_raw("unix" in options)
        if options.get("fd") == "connected":
            options["fd"] = {"connected": self.address[1]}
        if options.get("unix") is True:
            options["unix"] = self._path()
            self.family, self.address = kernel.AF_UNIX, options["unix"]
        elif not {"unix", "fd"} & set(options):
            options.setdefault("hostname", "127.0.0.1")
            if "port" not in options:
                options["port"] = 0 if program.role == "S" else self.address[1]
        if program.is_held:
            self._pending = self.drivers[program.role]
            self._pending.tell(begin=declared)
            return
        port = self.drivers[program.role].ask(begin=declared).get("port")
        if program.role == "S" and port:
            host = options["hostname"]
            self.family = kernel.AF_INET6 if ":" in host else kernel.AF_INET
            self.address = (host, port)

    def _listen_raw(self, unix: bool) -> None:
        family = kernel.AF_UNIX if unix else kernel.AF_INET
        self._raw = kernel.socket(family, kernel.SOCK_STREAM)
        self._raw.settimeout(LIMIT)
        self._raw.bind(self._path() if unix else ("127.0.0.1", 0))
        self._raw.listen()
        self.address = self._raw.getsockname()

    def _path(self) -> str:
        return str(Path(self._directory.name) / "socket")

    def _told(self) -> dict[str, list[str]]:
        told = {}
        deadline = time.monotonic() + PATIENCE
        for driver in self.drivers.values():
            if not self.scenario.stays_open:
                driver.wait_closed(max(deadline - time.monotonic(), 0))
        self.settle()
        for role, driver in self.drivers.items():
            still_open = driver.ask(turn=True)["open"]
            told[role] = [*entries(role, driver.events), *["still open"] * bool(still_open)]
        return told


def entries(role: str, events: list[dict[str, Any]]) -> list[str]:
    """What the table shows of events: names and values, chunks of data joined."""
    joined: list[dict[str, Any]] = []
    for event in sorted(events, key=lambda one: one["at"]):
        last = joined[-1] if joined else None
        if event["event"] == "data":
            chunk = json.loads(event["value"])
            if last and last["event"] == "data" and last["who"] == event["who"]:
                if (
                    chunk
                    == {one: last[one] for one in chunk}
                    == {**chunk, "text": "TLS", "size": 0}
                ):
                    continue
                whole = last["text"] and chunk["text"]
                last["text"] = last["text"] + chunk["text"] if whole else ""
                last["size"] += chunk["size"]
            else:
                joined.append({**event, **chunk})
        elif event["event"] != "drain" or not last or last["event"] != "drain":
            joined.append(event)
    return [_entry(role, event) for event in joined]


def _entry(role: str, event: dict[str, Any]) -> str:
    name, value = event["event"], event["value"]
    if name == "data":
        value = shown(event["text"].encode("latin-1"), event["size"])
        value = f"{event['kind']}: {value}" if event["kind"] else value
    if name == "mark":
        name, value = value, ""
    text = f"{name} = {value}" if name.endswith("()") else f"{name}({value})"
    prefix = "" if event["who"] == role else f"{event['who']}."
    return prefix + (text if value else name)


def shown(data: bytes, size: int | None = None) -> str:
    """Bytes as the table has them: short ones as they are, else their number."""
    if size is not None and size > len(data):
        return f"{size} bytes"
    if len(data) > 64:
        return f"{len(data)} bytes"
    text = "".join(chr(one) if 32 <= one < 127 and chr(one) not in "|`" else "." for one in data)
    return text.replace("..", ".")

"""The server: all kinds in one process, and one kind in forked workers.

    python -m soak.server FOLDER

Tells its ports by kind in a line of JSON, and at SIGTERM finishes and tells what it counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import mantou
from soak.servers import (
    BeforeTLS,
    Count,
    Digest,
    Echo,
    Faulty,
    Protocol,
    Source,
    echo_with_cancels,
)

EVERY_SECOND = 1.0
GRACE = 30.0
# Clients that start by the thousand on a busy machine need longer than the default.
PATIENCE = 120.0
WORKERS = 2
ENOUGH = 20
LOCAL: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0}


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


class Told(logging.Handler):
    """What was told to the log, where a peer's fault has no place."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < ENOUGH:
            self.lines.append(self.format(record))


class Server:
    """All listeners of this process, and what they counted."""

    def __init__(self, folder: Path) -> None:
        self.counts: dict[str, Count] = {}
        self.listeners: dict[str, mantou.TCPSocketListener[Any]] = {}
        self.certificates: list[mantou.TLSOptions] = [
            {"cert_file": str(folder / f"{n}.pem"), "key_file": str(folder / f"{n}-key.pem")}
            for n in range(2)
        ]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "0.pem", folder / "0-key.pem")
        self.ports: dict[str, int] = {}
        self.reloads = self.swaps = 0

    def count(self, kind: str) -> Count:
        return self.counts.setdefault(kind, Count())

    def listen(self, kind: str, handlers: Any, **options: Any) -> None:
        if "tls" in options:
            options["handshake_timeout"] = PATIENCE
        listener = mantou.listen(**LOCAL, socket=handlers, **options)
        self.listeners[kind] = listener
        self.ports[kind] = listener.port

    async def start(self) -> None:
        native = self.certificates[0]
        self.listen("echo", Echo(self.count("echo")))
        self.listen("churn", Echo(self.count("churn")))
        self.listen("reset", Echo(self.count("reset")))
        self.faulty = Faulty(self.count("faulty"))
        self.listen("faulty", self.faulty)
        # Slow readers have all of it in their own buffers, and do not look at its end for long.
        slow = {"close_timeout": PATIENCE}
        self.listen("source", Source(self.count("source")), **slow)
        self.listen("digest", Digest(self.count("digest")), allow_half_open=True)
        self.listen("tls", Echo(self.count("tls")), tls=native)
        self.listen("tls-source", Source(self.count("tls-source")), tls=native, **slow)
        self.listen("tls-context", Echo(self.count("tls-context")), tls=self.context)
        upgraded = Echo(self.count("upgraded"))
        self.listen("starttls", BeforeTLS(self.count("starttls"), native, upgraded))
        loop = asyncio.get_running_loop()
        self.others: list[Any] = []
        for kind, options in (
            ("stream", {}),
            ("tls-stream", {"tls": native, "handshake_timeout": PATIENCE}),
        ):
            self.others.append(self.serve_streams(kind, **options))
        for kind, context in (("protocol", None), ("tls-protocol", self.context)):
            count = self.count(kind)
            server = await loop.create_server(
                lambda count=count: Protocol(count),
                "127.0.0.1",
                0,
                ssl=context,
                ssl_handshake_timeout=PATIENCE if context else None,
            )
            self.ports[kind] = server.sockets[0].getsockname()[1]
            self.others.append(server)

    def serve_streams(self, kind: str, **options: Any) -> mantou.StreamServer:
        count = self.count(kind)
        server = mantou.serve_streams(
            lambda stream: echo_with_cancels(stream, count), **LOCAL, **options
        )
        self.ports[kind] = server.port
        return server

    def change(self) -> None:
        """New handlers for all connections that are open, new certificates for those to come."""
        self.reloads += 1
        self.listeners["echo"].reload(Echo(self.count("echo")))
        self.swaps += 1
        certificate = self.certificates[self.swaps % 2]
        for kind in ("tls", "tls-source"):
            self.listeners[kind].set_tls(certificate)
        asyncio.get_running_loop().call_later(EVERY_SECOND, self.change)

    async def finish(self) -> int:
        """Waits for who is connected; returns how many had to be cut."""
        drains = [listener.drain(GRACE) for listener in self.listeners.values()]
        cut = sum(await asyncio.gather(*drains))
        for server in self.others:
            if isinstance(server, mantou.StreamServer):
                await server.aclose()
            else:
                server.close()
                await server.wait_closed()
        return cut

    def told(self) -> dict[str, Any]:
        """For the report."""
        return {
            "counts": {kind: count.told() for kind, count in self.counts.items()},
            "faults": [self.faulty.raised, self.faulty.told],
            "reloads": self.reloads,
            "swaps": self.swaps,
        }


def start_workers() -> tuple[int, list[int]]:
    """Workers forked behind one listener, before there is a loop; returns its port and them."""
    count = Count()
    listener = mantou.listen(**LOCAL, socket=Echo(count))
    children = []
    for _ in range(WORKERS):
        if (child := os.fork()) == 0:
            status = 1
            try:
                mantou.run(_work(listener, count))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    port = listener.port
    listener.stop()
    return port, children


async def _work(listener: mantou.TCPSocketListener[Any], count: Count) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()
    cut = await listener.drain(GRACE)
    if cut or count.opened != count.closed or count.twice:
        raise SystemExit(f"a worker cut {cut} of {count.told()}")


async def serve(folder: Path, port: int, workers: list[int]) -> None:
    server = Server(folder)
    log = Told()
    logging.getLogger().addHandler(log)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    await asyncio.to_thread(int)  # a thread's own descriptors, if any, are there from the start
    before = descriptors()
    await server.start()
    server.ports["worker"] = port
    print(json.dumps(server.ports), flush=True)
    loop.call_later(EVERY_SECOND, server.change)
    await over.wait()
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    cut = await server.finish()
    ends = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        **server.told(),
        "cut": cut,
        "workers": ends,
        "log": log.lines,
        "descriptors": [before, descriptors()],
        "rss": usage.ru_maxrss * 1024,
        "cpu": usage.ru_utime + usage.ru_stime,
    }
    print(json.dumps(figures), flush=True)


def main() -> None:
    port, workers = start_workers()
    mantou.run(serve(Path(sys.argv[1]), port, workers))


if __name__ == "__main__":
    main()

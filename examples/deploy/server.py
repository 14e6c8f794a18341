"""A server as it is deployed: given its socket by systemd, behind HAProxy, replaced without a loss.

    systemd-socket-activate -l 7000 python examples/deploy/server.py
    python examples/deploy/server.py --port 7000 --proxy-protocol require

SIGTERM lets it finish: nothing new is accepted, and who is connected has `--grace` seconds. The
next one ends it at once. With a socket of systemd's, which stays open meanwhile, newcomers wait in
its queue for the next process.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
from typing import Any

import mantou

FIRST_FD = 3  # sd_listen_fds(3)


class Upper(mantou.SocketHandler[None]):
    """Answers lines in capitals. The first line tells which process it is, and who asks."""

    def open(self, socket: mantou.Socket[None]) -> None:
        who = f"{socket.remote_address}:{socket.remote_port}"
        socket.write_all(f"this is process {os.getpid()}, you are {who}\n")

    def data(self, socket: mantou.Socket[None], line: bytes) -> None:
        socket.write_all(line.upper() + b"\n")
        if socket.buffered:
            socket.pause()

    def drain(self, socket: mantou.Socket[None]) -> None:
        socket.resume()


def place(options: argparse.Namespace) -> dict[str, Any]:
    """Where to listen: on the socket that systemd has passed, else where the command line says."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        if os.environ.get("LISTEN_FDS") != "1":
            raise SystemExit("this server serves one socket: one ListenStream= a unit")
        return {"fd": FIRST_FD}
    return {
        "hostname": options.hostname,
        "port": options.port,
        "reuse_port": options.reuse_port,
        "dead_after": 60.0,
    }


async def serve(options: argparse.Namespace) -> None:
    over, at_once = asyncio.Event(), asyncio.Event()

    def end() -> None:
        (at_once if over.is_set() else over).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    settings: dict[str, Any] = {
        "packet": "line",
        "packet_size": 4096,
        "proxy_protocol": options.proxy_protocol,
        "idle_timeout": 300.0,
        "max_connections": 10_000,
    }
    if options.proxy_protocol != "off":
        settings["proxy_trusted"] = options.trusted
    listener = mantou.listen(socket=Upper(), **place(options), **settings)
    print(f"process {os.getpid()} is ready", flush=True)
    await over.wait()
    draining = asyncio.ensure_future(listener.drain(grace=options.grace))
    impatient = asyncio.ensure_future(at_once.wait())
    await asyncio.wait({draining, impatient}, return_when=asyncio.FIRST_COMPLETED)
    cut = await (draining if draining.done() else listener.drain(grace=0))
    print(f"process {os.getpid()} ends, {cut} connections were cut", flush=True)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="A server as it is deployed.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--reuse-port", action="store_true", help="beside others on this port")
    parser.add_argument("--grace", type=seconds, default=30.0, help="seconds to finish in")
    parser.add_argument("--proxy-protocol", default="off", choices=["off", "optional", "require"])
    parser.add_argument("--trusted", nargs="*", default=["127.0.0.0/8"], help="proxies' networks")
    mantou.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

"""A TCP proxy: whoever connects is connected on to another address.

    python examples/tcp_proxy.py --port 7000 --upstream localhost:8000

`mantou.pipe()` does what follows, and no handler is called for it: bytes both ways, at the pace of
the slower side, and each end as it comes, be it a FIN or a RST.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
import sys

import mantou


class Upstream(mantou.SocketHandler[None]):
    """The other half of a pipe has nothing to say of its own."""

    def close(self, socket: mantou.Socket[None], error: BaseException | None) -> None:
        pass


class Proxy(mantou.SocketHandler[None]):
    def __init__(self, hostname: str, port: int) -> None:
        self.hostname = hostname
        self.port = port
        self.upstream = Upstream()

    async def open(self, socket: mantou.Socket[None]) -> None:
        # The client waits meanwhile: nothing is read from it before there is somewhere to send it.
        upstream = await mantou.connect(
            hostname=self.hostname, port=self.port, socket=self.upstream, connect_timeout=5
        )
        try:
            mantou.pipe(socket, upstream)
        except ConnectionError:  # the client has gone meanwhile
            upstream.terminate()

    def error(self, socket: mantou.Socket[None], error: BaseException) -> None:
        print(f"{self.hostname}:{self.port}: {error}", file=sys.stderr)
        socket.terminate()  # not the end of an answer, so not a FIN either


async def serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    hostname, _, port = options.upstream.rpartition(":")
    with mantou.listen(
        hostname=options.hostname, port=options.port, socket=Proxy(hostname, int(port))
    ) as listener:
        print(f"listening on {listener.hostname}:{listener.port}", flush=True)
        await stop.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(listener.closed(), options.grace)  # those that are open go on
    print("bye")


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="A TCP proxy.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="7000; 0 picks a free one")
    parser.add_argument("--upstream", default="localhost:8000", help="HOSTNAME:PORT")
    parser.add_argument("--grace", type=seconds, default=5.0, help="seconds for those still open")
    mantou.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

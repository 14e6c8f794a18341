"""A proxy that ends TLS: clients speak it, and the server behind gets what they say in the clear.

    python examples/tls_proxy.py --cert cert.pem --key key.pem --port 7000 --upstream localhost:8000

`--upstream-tls` speaks TLS to the server as well, verified against the system's trust store or
`--upstream-ca`. SIGHUP reads certificate and key again, for new connections; those that are open go
on. What follows a handshake is `mantou.pipe()`'s: bytes both ways, and each end as it comes; a
client that is cut off without `close_notify` is never taken for one that has finished.
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
    def __init__(self, hostname: str, port: int, tls: bool | mantou.TLSOptions) -> None:
        self.hostname = hostname
        self.port = port
        self.tls = tls
        self.upstream = Upstream()

    async def open(self, socket: mantou.Socket[None]) -> None:
        # The client's handshake is done, and nothing is read from it before there is somewhere to
        # send it.
        upstream = await mantou.connect(
            hostname=self.hostname,
            port=self.port,
            socket=self.upstream,
            tls=self.tls,
            connect_timeout=5,
        )
        try:
            mantou.pipe(socket, upstream)
        except ConnectionError:  # the client has gone meanwhile
            upstream.terminate()

    def error(self, socket: mantou.Socket[None], error: BaseException) -> None:
        print(f"{self.hostname}:{self.port}: {error}", file=sys.stderr)
        socket.terminate()  # not the end of an answer, so not a FIN either


def renew(listener: mantou.TCPSocketListener[None], tls: mantou.TLSOptions) -> None:
    try:
        listener.set_tls(tls)
    except (OSError, ValueError) as error:
        print(f"the old certificate stays: {error}", file=sys.stderr)


async def serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    hostname, _, port = options.upstream.rpartition(":")
    upstream_tls: bool | mantou.TLSOptions = options.upstream_tls
    if options.upstream_ca is not None:
        upstream_tls = {"ca_file": options.upstream_ca}
    tls: mantou.TLSOptions = {"cert_file": options.cert, "key_file": options.key}
    with mantou.listen(
        hostname=options.hostname,
        port=options.port,
        socket=Proxy(hostname, int(port), upstream_tls),
        tls=tls,
        handshake_timeout=10,
    ) as listener:
        loop.add_signal_handler(signal.SIGHUP, renew, listener, tls)
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
    parser = argparse.ArgumentParser(description="A proxy that ends TLS.")
    parser.add_argument("--cert", required=True, help="the certificate chain, a PEM file")
    parser.add_argument("--key", required=True, help="its key, a PEM file")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="7000; 0 picks a free one")
    parser.add_argument("--upstream", default="localhost:8000", help="HOSTNAME:PORT")
    parser.add_argument("--upstream-tls", action="store_true", help="speak TLS to it, too")
    parser.add_argument("--upstream-ca", help="and trust these certificates only, a PEM file")
    parser.add_argument("--grace", type=seconds, default=5.0, help="seconds for those still open")
    mantou.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

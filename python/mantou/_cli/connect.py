"""`mantou connect`: stdin to a server, and what it answers to stdout."""

from __future__ import annotations

import argparse

from mantou._streams import Stream

from .addresses import Address, target
from .carrying import Sink, Source, carry
from .endings import Code, connected
from .hexdump import Dump, Dumped
from .numbers import seconds
from .opening import open_stream
from .running import run
from .stdio import Input, Output
from .tls_flags import checked, client_tls, declare_client

DESCRIPTION = """\
Sends stdin to a server and writes what it answers to stdout, both as they come. At the end of stdin
the server is told (FIN, with TLS close_notify), and its answer is awaited; it ends when the server
has finished.
"""
EXAMPLES = """\
  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | mantou connect example.com:80
  mantou connect example.com:443 --tls --alpn h2,http/1.1 --verbose
  mantou connect mail.example.com:25 --starttls smtp
  mantou connect unix:/run/server.sock --hex < request
  mantou connect [::1]:7000 --tls --ca ca.pem --cert me.pem --key me.key
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument(
        "address", metavar="ADDRESS", type=target, help="HOST:PORT, unix:PATH or unix:@NAME"
    )
    parser.add_argument(
        "--half-open",
        action="store_true",
        help="when the server has finished, go on sending until the end of stdin",
    )
    parser.add_argument(
        "--hex", action="store_true", help="write what goes each way (> and <) as a hex dump"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="give up when so long nothing connects, comes or goes (default: 30 to connect)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what was agreed on")
    declare_client(parser)


def start(options: argparse.Namespace) -> Code:
    """Does it; the exit code."""
    return run(_connect(options))


async def _connect(options: argparse.Namespace) -> None:
    tls = client_tls(options)
    address: Address = options.address
    stream = await open_stream(address, tls, options.starttls, options.timeout)
    checked(tls, stream.socket, options.say)
    if options.verbose:
        options.say(agreed(address, stream))
    source: Source = Input(0)
    sink: Sink = Output(1)
    if options.hex:
        source, sink = Dumped(source, Dump(">", sink)), Dump("<", sink)
    try:
        with connected(address):
            await carry(stream, source, sink, "both" if options.half_open else "received")
    except BaseException:
        stream.abort()
        raise
    await stream.aclose()


def agreed(address: Address, stream: Stream) -> str:
    """What a connection is, in a line."""
    socket = stream.socket
    parts = [f"connected to {address}"]
    if socket.remote_address is not None and socket.remote_address != address.host:
        parts.append(socket.remote_address)
    cipher = socket.get_cipher()
    if cipher is not None:
        parts += [str(cipher["version"]), str(cipher["name"])]
        parts.append(f"ALPN {socket.alpn_protocol}" if socket.alpn_protocol else "no ALPN")
    return ", ".join(parts)

"""`mantou proxy`: carries connections on to other servers."""

from __future__ import annotations

import argparse
import asyncio
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import mantou

from .addresses import Address, bound, place, shown_peer, shown_place, target
from .endings import Code, listening, reason
from .numbers import count, seconds, shown_bytes, shown_seconds
from .running import run
from .terminal import live, printable
from .tls_flags import declare_server, pem, server_tls

if TYPE_CHECKING:
    from rich.console import RenderableType

DESCRIPTION = """\
Carries each connection on to one of the targets, in turn. A target that cannot be reached is left
out for a while; a client is turned away (RST) only when none can. On a terminal, with rich
installed, a table shows the connections; else a line is written for each that has ended. At SIGTERM
nobody is accepted any more, and those that are open may finish.
"""
EXAMPLES = """\
  mantou proxy :8080 localhost:3000 localhost:3001
  mantou proxy :443 localhost:3000 --tls-in --cert cert.pem --key key.pem
  mantou proxy localhost:5432 unix:/run/postgresql/.s.PGSQL.5432
  mantou proxy localhost:8080 example.com:443 --tls-out
  mantou proxy :8080 localhost:3000 --proxy-protocol out --max-connections 500
"""
# Seconds for which a target is left out that could not be reached.
_REST = 5.0
_PATIENCE = 5.0
_MOST_ROWS = 20


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument("listen", metavar="LISTEN", type=place, help=_LISTEN)
    parser.add_argument(
        "targets", metavar="TARGET", type=target, nargs="+", help="HOST:PORT or unix:PATH"
    )
    parser.add_argument("--max-connections", type=count, metavar="N", help=_MOST)
    parser.add_argument(
        "--proxy-protocol",
        choices=("in", "out"),
        action="append",
        default=[],
        metavar="WAY",
        help="in: clients begin with a PROXY header, which says whose they are; "
        "out: targets are told so in one; may be given twice",
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="how long those that are open may go on at SIGTERM (default: 30)",
    )
    declare_server(parser, "--tls-in")
    group = parser.add_argument_group("TLS (--tls-out)")
    group.add_argument("--tls-out", action="store_true", help="speak TLS with the targets")
    group.add_argument("--ca", type=pem, metavar="FILE", help="trust these and no others, PEM")
    group.add_argument("--sni", metavar="NAME", help="the name to ask for and to verify")
    group.add_argument("--insecure", action="store_true", help="take any certificate")


_LISTEN = "HOST:PORT, :PORT for every address of this machine, unix:PATH"
_MOST = "so many at once; others wait to be accepted"


def start(options: argparse.Namespace) -> Code:
    """Does it; the exit code."""
    proxy = _Proxy(options)
    return run(proxy.run(), stop=proxy.stop)


@dataclass(eq=False)
class _Target:
    address: Address
    rests_until: float = 0.0
    served: int = 0
    failed: int = 0


@dataclass(eq=False)
class _Pair:
    """A client and its target."""

    client: mantou.Socket[Any]
    target: _Target
    began: float = field(default_factory=time.monotonic)


class _Proxy(mantou.SocketHandler[Any]):
    """The handlers of clients, and all there is to know."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.say = options.say
        self.targets = [_Target(address) for address in options.targets]
        self.turn = 0
        self.pairs: dict[mantou.Socket[Any], _Pair] = {}
        self.tls_out = _tls_out(options)
        self.stopping = asyncio.Event()
        self.drawn = False

    async def run(self) -> Code:
        options = self.options
        more: dict[str, Any] = {"max_connections": options.max_connections}
        tls = server_tls(options, "--tls-in", options.listen.host)
        if tls is not None:
            more["tls"] = tls
        if "in" in options.proxy_protocol:
            more["proxy_protocol"] = "require"
        with listening(options.listen):
            listener = cast(
                "mantou.TCPSocketListener[Any] | mantou.UnixSocketListener[Any]",
                mantou.listen(socket=self, **bound(options.listen, **more)),
            )
        with listener:
            self.say(f"listening on {shown_place(listener)}")
            showing = asyncio.create_task(self._show(listener))
            try:
                await self.stopping.wait()
                listener.stop()
                self.say("nobody is accepted any more; waiting for those that are open")
                await listener.drain(grace=options.grace)  # logs how many it had to cut
            except asyncio.CancelledError:
                if self.pairs:
                    self.say(f"open and cut: {len(self.pairs)}")
                raise
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
        return Code.FINE

    def stop(self) -> None:
        """Has those that are open finish."""
        self.stopping.set()

    # Clients

    async def open(self, socket: mantou.Socket[Any]) -> None:
        # Nothing is read from it before there is somewhere to send it.
        for each in self._in_turn():
            try:
                upstream = await self._reach(each, socket)
            except OSError as error:
                each.failed += 1
                each.rests_until = time.monotonic() + _REST
                self.say(f"{each.address}: {reason(error)}")
                continue
            each.served += 1
            try:
                piped = mantou.pipe(socket, upstream)
            except ConnectionError:  # the client has gone meanwhile
                upstream.terminate()
                return
            pair = self.pairs[socket] = _Pair(socket, each)
            piped.add_done_callback(functools.partial(self._ended, pair))
            return
        socket.terminate()

    def connect_error(self, socket: mantou.Socket[Any], error: BaseException) -> None:
        self.say(f"{shown_peer(socket)}: {reason(error)}")

    def _in_turn(self) -> Iterator[_Target]:
        """All of them, beginning with the next one; those that rest come last."""
        self.turn += 1
        first = (self.turn - 1) % len(self.targets)
        order = self.targets[first:] + self.targets[:first]
        now = time.monotonic()
        yield from sorted(order, key=lambda each: each.rests_until > now)

    async def _reach(self, each: _Target, client: mantou.Socket[Any]) -> mantou.Socket[Any]:
        options: dict[str, Any] = {**each.address.options(), "connect_timeout": _PATIENCE}
        if self.tls_out is not None:
            options |= {"tls": self.tls_out, "handshake_timeout": _PATIENCE}
        if "out" in self.options.proxy_protocol:
            options["proxy_header"] = client
        return await mantou.connect(socket=_Upstream(), **options)

    def _ended(self, pair: _Pair, done: asyncio.Future[mantou.PipedBytes]) -> None:
        del self.pairs[pair.client]
        error = None if done.cancelled() else done.exception()
        if (self.drawn and error is None) or isinstance(error, ConnectionAbortedError):
            return  # it was we who cut it, which is told of all in one line
        client = pair.client
        took = shown_seconds(time.monotonic() - pair.began)
        text = f"{shown_peer(client)} -> {pair.target.address}: {took}"
        text += f", {shown_bytes(client.bytes_read)} up, {shown_bytes(client.bytes_written)} down"
        self.say(text if error is None else f"{text}: {reason(error)}")

    # What is shown

    async def _show(self, listener: Any) -> None:
        with live() as update:
            self.drawn = update is not None
            try:
                while update is not None:
                    update(self._table(listener.stats()))
                    await asyncio.sleep(0.5)
            finally:
                self.drawn = False

    def _table(self, stats: mantou.ListenerStats) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(expand=False)
        for name in ("client", "target"):
            table.add_column(name, overflow="fold")
        for name in ("age", "up", "down"):
            table.add_column(name, justify="right", no_wrap=True)
        now = time.monotonic()
        pairs = list(self.pairs.values())
        for pair in pairs[-_MOST_ROWS:]:
            table.add_row(
                Text(printable(shown_peer(pair.client))),
                Text(str(pair.target.address)),
                f"{now - pair.began:.0f} s",
                shown_bytes(pair.client.bytes_read),
                shown_bytes(pair.client.bytes_written),
            )
        resting = [each for each in self.targets if each.rests_until > now]
        notes = [f"{len(pairs) - _MOST_ROWS} more"] if len(pairs) > _MOST_ROWS else []
        notes += [f"{each.address} is left out" for each in resting]
        title = f"{stats.connections} open, {stats.accepted} so far"
        return Group(title, table, *notes)


class _Upstream(mantou.SocketHandler[Any]):
    """The other half of a pipe, which has nothing to say of its own."""

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
        pass


def _tls_out(options: argparse.Namespace) -> dict[str, Any] | None:
    for given in ("ca", "sni", "insecure"):
        if getattr(options, given) not in (None, False) and not options.tls_out:
            options.fail(f"--{given} needs --tls-out")
    if not options.tls_out:
        return None
    tls: dict[str, Any] = {"reject_unauthorized": not options.insecure}
    if options.ca is not None:
        tls["ca"] = options.ca
    if options.sni:
        tls["server_name"] = options.sni
    return tls

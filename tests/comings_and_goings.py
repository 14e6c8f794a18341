"""What comes and goes in a server's life, many times over, and what stays behind of it.

`make leaks` runs each kind as often as it says, and prints what the process held before and after.
The tests run a few of each: for what stays behind, with a garbage collector that runs all the time,
in many threads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import os
import resource
import socket as kernel
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

import mantou
from tests.tls_support import CLIENT_OPTIONS, SERVER_OPTIONS, context

PAGE = resource.getpagesize()
AT_ONCE = 50
# Seconds until everything is gone: far more than it takes, for what never goes.
PATIENCE = 5.0
LOCAL: Any = {"hostname": "127.0.0.1", "port": 0}

# Of an authority that signed nothing.
_OTHER_CA = trustme.CA().cert_pem.bytes().decode()

Cycle = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """Something that comes and goes, and how often it does in a full run."""

    run: Callable[[int], Awaitable[None]]
    times: int

    @property
    def name(self) -> str:
        return self.run.__name__


@dataclass(frozen=True)
class Held:
    """What the process holds."""

    memory: int
    descriptors: int
    objects: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        return cls(
            int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
            len(os.listdir("/proc/self/fd")),
            len(gc.get_objects()),
        )


KINDS: dict[str, Kind] = {}


def times(count: int) -> Callable[[Callable[[int], Awaitable[None]]], Any]:
    """Puts a kind on the list."""

    def put(run: Callable[[int], Awaitable[None]]) -> Any:
        KINDS[run.__name__] = Kind(run, count)
        return run

    return put


async def measured(kind: Kind, count: int, patience: float = PATIENCE) -> tuple[Held, Held]:
    """What the process holds after half of them, and after all. What is kept is kept by then."""
    others = mantou.stats().connections
    await kind.run(count // 2)
    await settled(others)
    before = Held.now()
    await kind.run(count - count // 2)
    await settled(others)
    after = Held.now()
    # What lingers after its end, or is looked up for nobody, takes a moment more.
    deadline = time.monotonic() + patience
    while not is_flat(before, after) and time.monotonic() < deadline:
        await asyncio.sleep(0)
        after = Held.now()
    return before, after


async def settled(others: int) -> None:
    """All connections are gone but those of others, and those who served them."""
    while mantou.stats().connections > others:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)


async def repeat(cycle: Cycle, count: int) -> None:
    """Some of them at a time."""
    for first in range(0, count, AT_ONCE):
        await asyncio.gather(*(cycle() for _ in range(min(AT_ONCE, count - first))))


class Silent(mantou.SocketHandler[Any]):
    """Takes what comes, and does nothing about it."""

    def data(self, socket: mantou.Socket[Any], data: Any) -> None:
        pass

    def connect_error(self, socket: mantou.Socket[Any], error: BaseException) -> None:
        pass


class Echo(mantou.SocketHandler[Any]):
    def data(self, socket: mantou.Socket[Any], data: Any) -> None:
        socket.write_all(data)


@times(1_000_000)
async def connections(count: int) -> None:
    """Come, and go by a RST: TIME_WAIT would use up the ports."""
    handlers = Silent()
    with mantou.listen(**LOCAL, socket=Silent(), data=[]) as listener:

        async def cycle() -> None:
            socket = await mantou.connect(
                hostname="127.0.0.1", port=listener.port, socket=handlers, data=[count]
            )
            socket.terminate()

        await repeat(cycle, count)


@times(100_000)
async def refused_connections(count: int) -> None:
    with kernel.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

    async def cycle() -> None:
        with contextlib.suppress(ConnectionRefusedError):
            await mantou.connect(hostname="127.0.0.1", port=port, socket=Silent())

    await repeat(cycle, count)


async def _secure(count: int, server_tls: Any, client_tls: Any) -> None:
    handlers = Silent()
    with mantou.listen(**LOCAL, socket=Silent(), tls=server_tls) as listener:

        async def cycle() -> None:
            with contextlib.suppress(ConnectionError, OSError):
                socket = await mantou.connect(
                    hostname="127.0.0.1", port=listener.port, socket=handlers, tls=client_tls
                )
                socket.terminate()

        await repeat(cycle, count)


@times(100_000)
async def handshakes(count: int) -> None:
    await _secure(count, SERVER_OPTIONS, CLIENT_OPTIONS)


@times(100_000)
async def failed_handshakes(count: int) -> None:
    """The client does not know who signed the server's certificate, and tells it so."""
    await _secure(count, SERVER_OPTIONS, {"ca": _OTHER_CA})


@times(20_000)
async def handshakes_of_ssl_contexts(count: int) -> None:
    await _secure(count, context(True), context(False))


@functools.cache
def _others_context() -> ssl.SSLContext:
    """One for all: what the system trusts takes 20 MiB."""
    return ssl.create_default_context()


@times(20_000)
async def failed_handshakes_of_ssl_contexts(count: int) -> None:
    await _secure(count, context(True), _others_context())


@times(100_000)
async def garbage_for_handshakes(count: int) -> None:
    with mantou.listen(**LOCAL, socket=Silent(), tls=SERVER_OPTIONS) as listener:

        async def cycle() -> None:
            socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=Silent())
            socket.write_all(b"GET / HTTP/1.0\r\n\r\n")
            await socket.closed()

        await repeat(cycle, count)


@times(100_000)
async def cancelled_connects(count: int) -> None:
    with mantou.listen(**LOCAL, socket=Silent()) as listener:

        async def cycle() -> None:
            task = asyncio.ensure_future(
                mantou.connect(hostname="localhost", port=listener.port, socket=Silent())
            )
            await asyncio.sleep(0)
            task.cancel()
            for socket in await asyncio.gather(task, return_exceptions=True):
                if isinstance(socket, mantou.Socket):
                    socket.terminate()

        await repeat(cycle, count)


@times(200_000)
async def cancelled_waits(count: int) -> None:
    """For bytes, for room, for the end."""
    with kernel.create_server(("127.0.0.1", 0)) as raw:
        there = {"hostname": "127.0.0.1", "port": raw.getsockname()[1]}
        async with await mantou.connect_stream(**there) as stream:
            with raw.accept()[0]:
                stream.socket.write_all(bytes(4 << 20))
                waits: list[Callable[[], Any]] = [
                    stream.receive,
                    lambda: stream.receive_until(b"\n", 100),
                    lambda: stream.send(b"more"),
                    stream.socket.drained,
                    stream.socket.closed,
                ]
                for number in range(count):
                    task = asyncio.ensure_future(_awaiting(waits[number % len(waits)]))
                    await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                stream.abort()


async def _awaiting(wait: Callable[[], Any]) -> None:
    await wait()


@times(1_000_000)
async def reloads(count: int) -> None:
    with mantou.listen(**LOCAL, socket=Silent()) as listener:
        socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=Silent())
        for number in range(count):
            listener.reload(socket=Silent())
            socket.reload({"data": lambda *_, number=number: number})
        socket.terminate()


@times(20_000)
async def certificate_swaps(count: int) -> None:
    with mantou.listen(**LOCAL, socket=Silent(), tls=SERVER_OPTIONS) as listener:
        for _ in range(count):
            listener.set_tls(SERVER_OPTIONS)


class Circular(asyncio.Protocol):
    """A protocol that knows its transport, which knows it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.myself = self


@times(100_000)
async def protocols_with_cycles(count: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Circular, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def cycle() -> None:
        transport, _ = await loop.create_connection(Circular, *address)
        transport.abort()

    await repeat(cycle, count)
    server.close()
    await server.wait_closed()


@times(50_000)
async def readers_and_writers(count: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def cycle() -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"a line\n")
        await reader.read()
        writer.transport.abort()

    await repeat(cycle, count)
    server.close()
    await server.wait_closed()


@times(50_000)
async def pipes(count: int) -> None:
    class Proxy(mantou.SocketHandler[Any]):
        async def open(self, socket: mantou.Socket[Any]) -> None:
            upstream = await mantou.connect(hostname="127.0.0.1", port=echo.port, socket=Silent())
            with contextlib.suppress(ConnectionError):
                await mantou.pipe(socket, upstream)

    with (
        mantou.listen(**LOCAL, socket=Echo()) as echo,
        mantou.listen(**LOCAL, socket=Proxy()) as proxy,
    ):

        async def cycle() -> None:
            async with await mantou.connect_stream(hostname="127.0.0.1", port=proxy.port) as stream:
                await stream.send(b"to and fro")
                await stream.receive_exactly(10)
                stream.abort()

        await repeat(cycle, count)


@times(100_000)
async def streams(count: int) -> None:
    async def serve(stream: mantou.Stream) -> None:
        with contextlib.suppress(mantou.BrokenResourceError, mantou.EndOfStream):
            await stream.send(await stream.receive_until(b"\n", 100))
            await stream.receive()

    async with mantou.serve_streams(serve, **LOCAL) as server:

        async def cycle() -> None:
            stream = await mantou.connect_stream(hostname="127.0.0.1", port=server.port)
            await stream.send(b"a line\n")
            await stream.receive_exactly(6)
            stream.abort()

        await repeat(cycle, count)


@times(20_000)
async def upgrades(count: int) -> None:
    async def serve(stream: mantou.Stream) -> None:
        with contextlib.suppress(mantou.BrokenResourceError, mantou.EndOfStream):
            await stream.receive_exactly(1)
            await stream.send(b"!")
            secure = await stream.upgrade_tls(tls=SERVER_OPTIONS)
            await secure.receive()

    async with mantou.serve_streams(serve, **LOCAL) as server:

        async def cycle() -> None:
            stream = await mantou.connect_stream(hostname="127.0.0.1", port=server.port)
            await stream.send(b"?")
            await stream.receive_exactly(1)
            secure = await stream.upgrade_tls(tls=CLIENT_OPTIONS)
            secure.abort()

        await repeat(cycle, count)


@times(100_000)
async def files(count: int) -> None:
    with tempfile.TemporaryFile() as file, mantou.listen(**LOCAL, socket=Silent()) as listener:
        file.write(bytes(10_000))
        file.flush()

        async def cycle() -> None:
            socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=Silent())
            await socket.send_file(file, 0)
            socket.terminate()

        await repeat(cycle, count)


@times(100_000)
async def handlers_that_raise(count: int) -> None:
    class Faulty(mantou.SocketHandler[Any]):
        def open(self, socket: mantou.Socket[Any]) -> None:
            raise ValueError(socket)

        def error(self, socket: mantou.Socket[Any], error: BaseException) -> None:
            socket.data = error
            socket.terminate()

    with mantou.listen(**LOCAL, socket=Faulty()) as listener:

        async def cycle() -> None:
            socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket=Silent())
            await socket.closed()

        await repeat(cycle, count)


@times(100_000)
async def packets_and_timeouts(count: int) -> None:
    options: Any = {"packet": 4, "idle_timeout": 60}
    with mantou.listen(**LOCAL, socket=Echo(), **options) as listener:

        async def cycle() -> None:
            answered = asyncio.get_running_loop().create_future()
            socket = await mantou.connect(
                hostname="127.0.0.1",
                port=listener.port,
                socket={"data": lambda _, data: answered.set_result(data)},
                **options,
            )
            socket.write_all(b"a packet")
            await answered
            socket.terminate()

        await repeat(cycle, count)


@times(10_000)
async def loops(count: int) -> None:
    """Whole loops, each in a thread, that end with connections open."""
    # The same for all: how to connect to an address is remembered, of 256 addresses.
    place = f"\0mantou-loops-{os.getpid()}"

    async def main() -> None:
        mantou.listen(unix=place, socket=Silent())
        await mantou.connect(unix=place, socket=Silent())

    for _ in range(count):
        await asyncio.to_thread(mantou.run, main())


def main() -> None:
    """Runs all kinds, or those that are named; prints a table, and says what is not flat."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS])
    parser.add_argument("--divide", type=int, default=1, help="have so many times fewer of each")
    given = parser.parse_args()
    print("| what | times | seconds | MiB | descriptors | objects |\n|---|--:|--:|--:|--:|--:|")
    grown = []
    for name in given.kinds or KINDS:
        kind = KINDS[name]
        count = kind.times // given.divide
        began = time.monotonic()
        before, after = mantou.run(measured(kind, count))
        mib = [held.memory / (1 << 20) for held in (before, after)]
        print(
            f"| {name.replace('_', ' ')} | {count:,} | {time.monotonic() - began:.0f} "
            f"| {mib[0]:.1f} → {mib[1]:.1f} | {before.descriptors} → {after.descriptors} "
            f"| {before.objects:,} → {after.objects:,} |",
            flush=True,
        )
        if not is_flat(before, after):
            grown.append(name)
    if grown:
        sys.exit(f"not flat: {', '.join(grown)}")


def is_flat(before: Held, after: Held) -> bool:
    """An arena of an allocator, or a table that doubles once, is no leak."""
    return (
        after.descriptors <= before.descriptors
        and after.objects - before.objects < 200
        and after.memory - before.memory < 4 << 20
    )


if __name__ == "__main__":
    main()

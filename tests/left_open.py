"""Programs that leave something open as the interpreter ends, in every state of a connection.

    python -m tests.left_open DIRECTORY LOOP WAY STATE...

The directory has the files of a certificate; a way is how the program ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import os
import socket as kernel
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import mantou

kept: list[Any] = []


class Place:
    """What the states are made with: a certificate, and peers that say nothing by themselves."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.raw = kernel.create_server(("127.0.0.1", 0))
        kept.append(self.raw)
        files = directory / "cert.pem", directory / "key.pem"
        self.server_tls: Any = {"cert_file": files[0], "key_file": files[1]}
        self.client_tls: Any = {"ca_file": directory / "ca.pem", "server_name": "localhost"}
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(*files)
        self.client_context = ssl.create_default_context(cafile=directory / "ca.pem")

    @property
    def silent(self) -> dict[str, Any]:
        """Where a peer accepts and never says anything."""
        return {"hostname": "127.0.0.1", "port": self.raw.getsockname()[1]}

    async def pair(
        self, client: Any = None, server: Any = None, **options: Any
    ) -> tuple[mantou.Socket[Any], mantou.Socket[Any]]:
        """Two ends of a connection, both ours."""
        opened = asyncio.get_running_loop().create_future()

        def accepted(socket: mantou.Socket[Any]) -> None:
            opened.set_result(socket)

        tls = options.pop("server_tls", False)
        listener = mantou.listen(
            hostname="127.0.0.1",
            port=0,
            socket={"open": accepted, **(server or {"data": ignore})},
            tls=tls,
            allow_half_open=True,
        )
        socket = await mantou.connect(
            hostname="127.0.0.1",
            port=listener.port,
            socket=client or {"data": ignore},
            allow_half_open=True,
            **options,
        )
        other = await opened
        kept.extend((listener, socket, other))
        return socket, other

    async def silent_peer(self, **options: Any) -> mantou.Socket[Any]:
        """A connection to a peer that does not read."""
        socket = await mantou.connect(**self.silent, socket={"data": ignore}, **options)
        kept.append(self.raw.accept()[0])
        kept.append(socket)
        return socket


def ignore(*_: Any) -> None:
    """A handler."""


def begin(it: Awaitable[Any]) -> None:
    """Leaves somebody waiting for it."""

    async def wait() -> None:
        await it

    kept.append(asyncio.ensure_future(wait()))


async def settle() -> None:
    """What was begun gets as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def listening(place: Place) -> None:
    for tls in (False, place.server_tls, place.server_context):
        kept.append(mantou.listen(hostname="127.0.0.1", port=0, socket={"data": ignore}, tls=tls))
    kept.append(mantou.listen(unix=place.directory / f"{os.getpid()}", socket={"data": ignore}))
    kept.append(mantou.listen(unix=f"\0mantou-{os.getpid()}", socket={"data": ignore}))
    os.unlink(place.directory / f"{os.getpid()}")


async def connecting(place: Place) -> None:
    full = kernel.create_server(("127.0.0.1", 0), backlog=0)
    kept.append(full)
    for _ in range(3):
        filling = kernel.socket()
        filling.setblocking(False)
        filling.connect_ex(full.getsockname())
        kept.append(filling)
    begin(
        mantou.connect(
            hostname="127.0.0.1", port=full.getsockname()[1], socket={"data": ignore}, data=kept
        )
    )
    begin(mantou.connect(hostname="localhost", port=full.getsockname()[1], socket={"data": ignore}))


async def handshaking(place: Place) -> None:
    for tls in (place.client_tls, place.client_context):
        begin(mantou.connect(**place.silent | {"socket": {"data": ignore}, "tls": tls}))
    for tls in (place.server_tls, place.server_context):
        listener = mantou.listen(
            hostname="127.0.0.1", port=0, socket={"data": ignore, "handshake": ignore}, tls=tls
        )
        kept.extend((listener, kernel.create_connection(("127.0.0.1", listener.port))))


async def idle(place: Place) -> None:
    await place.pair()
    await place.pair(server_tls=place.server_tls, tls=place.client_tls)
    await place.pair(server_tls=place.server_context, tls=place.client_context)


async def corked(place: Place) -> None:
    for socket in (
        await place.silent_peer(),
        (await place.pair(server_tls=place.server_tls, tls=place.client_tls))[0],
    ):
        cork = socket.cork()
        kept.append(cork)
        cork.__enter__()
        socket.write(b"gathered")


async def paused(place: Place) -> None:
    for tls in ({}, {"server_tls": place.server_tls, "tls": place.client_tls}):
        socket, other = await place.pair(**tls)
        socket.pause()
        other.write_all(bytes(1 << 20))


async def half_closed(place: Place) -> None:
    for tls in ({}, {"server_tls": place.server_tls, "tls": place.client_tls}):
        socket, _ = await place.pair(**tls)
        socket.shutdown()
        _, other = await place.pair(**tls)
        other.shutdown()
        other, socket = await place.pair(**tls)
        socket.shutdown(True)


async def full(place: Place) -> None:
    socket = await place.silent_peer()
    socket.write_all(bytes(8 << 20))
    begin(socket.drained())
    begin(socket.closed())
    socket = await place.silent_peer()
    socket.write_all(bytes(8 << 20))
    socket.end()


async def lingering(place: Place) -> None:
    socket = await place.silent_peer()
    socket.write_all(b"the last")
    socket.close()


async def upgrading(place: Place) -> None:
    socket = await place.silent_peer()
    kept.extend(socket.upgrade_tls(tls=place.client_tls, socket={"data": ignore}))
    stream = await mantou.connect_stream(**place.silent)
    kept.append(stream)
    begin(stream.upgrade_tls(tls=place.client_tls))


async def piped(place: Place) -> None:
    for tls in ({}, {"server_tls": place.server_tls, "tls": place.client_tls}):
        one, first = await place.pair(**tls)
        two, last = await place.pair()
        kept.append(mantou.pipe(first, two))
        one.write_all(bytes(1 << 20))
        last.pause()


async def sending_a_file(place: Place) -> None:
    with (place.directory / "ca.pem").open("rb") as file:
        socket = await place.silent_peer()
        socket.write_all(bytes(8 << 20))
        begin(socket.send_file(file))
        await settle()


async def between_packets(place: Place) -> None:
    _, other = await place.pair(packet=4)
    other.write_all(b"\0\0\1\0beginning")
    _, other = await place.pair(packet="line")
    other.write_all(b"no end")


async def in_a_coroutine(place: Place) -> None:
    async def forever(*_: Any) -> None:
        await asyncio.Event().wait()

    socket, other = await place.pair({"data": forever, "close": forever, "end": forever})
    other.write_all(b"something")
    socket, other = await place.pair({"data": ignore, "close": forever})
    socket.terminate()


async def with_timeouts(place: Place) -> None:
    socket, _ = await place.pair(idle_timeout=60)
    socket.timeout(50)
    kept.append(asyncio.get_running_loop().call_later(60, ignore, socket))


async def lent(place: Place) -> None:
    """What a handler was lent, kept beyond its call."""

    def keep(_: Any, data: Any) -> None:
        with contextlib.suppress(BufferError):
            kept.append(memoryview(data))

    _, other = await place.pair({"data": keep, "binary_type": "memoryview"})
    other.write_all(b"kept")


async def streams(place: Place) -> None:
    async def serve(stream: mantou.Stream) -> None:
        await stream.receive()

    for server_tls, client_tls in ((False, False), (place.server_tls, place.client_tls)):
        server = mantou.serve_streams(serve, hostname="127.0.0.1", port=0, tls=server_tls)
        stream = await mantou.connect_stream(hostname="127.0.0.1", port=server.port, tls=client_tls)
        kept.extend((server, stream))
        begin(stream.receive_exactly(100))
        begin(server.closed())
    stream = await mantou.connect_stream(**place.silent)
    kept.append(stream)
    begin(stream.send(bytes(8 << 20)))


async def asyncios(place: Place) -> None:
    loop = asyncio.get_running_loop()
    for server_tls, client_tls in ((None, None), (place.server_context, place.client_context)):
        names = {"server_hostname": "localhost"} if client_tls else {}
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_tls)
        address = server.sockets[0].getsockname()
        kept.append(server)
        kept.append(
            await loop.create_connection(asyncio.Protocol, *address, ssl=client_tls, **names)
        )
        reader, writer = await asyncio.open_connection(*address, ssl=client_tls, **names)
        kept.append(writer)
        begin(reader.read(100))
        writer.write(bytes(8 << 20))
        begin(writer.drain())
    transport, protocol = await loop.create_connection(
        asyncio.Protocol, "127.0.0.1", place.silent["port"]
    )
    kept.append(transport)
    begin(loop.start_tls(transport, protocol, place.client_context, server_hostname="localhost"))


async def executor(place: Place) -> None:
    """A thread that comes back when the loop is gone."""
    begin(asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.1))


STATES: dict[str, Callable[[Place], Awaitable[None]]] = {
    state.__name__: state
    for state in (
        listening,
        connecting,
        handshaking,
        idle,
        corked,
        paused,
        half_closed,
        full,
        lingering,
        upgrading,
        piped,
        sending_a_file,
        between_packets,
        in_a_coroutine,
        with_timeouts,
        lent,
        streams,
        asyncios,
        executor,
    )
}


async def enter(place: Place, states: list[str]) -> None:
    for name in states:
        await STATES[name](place)
    await settle()


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "mantou":
        return mantou.new_event_loop()
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    import uvloop

    return uvloop.new_event_loop()


def returns(kind: str, place: Place, states: list[str]) -> None:
    """The loop is closed as it should be, and what was open is known until the last."""
    with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as runner:
        runner.run(enter(place, states))


def exits(kind: str, place: Place, states: list[str]) -> None:
    """sys.exit() in a callback."""

    async def main() -> None:
        await enter(place, states)
        asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as runner:
        runner.run(main())


def stops(kind: str, place: Place, states: list[str]) -> None:
    """The loop is never closed; the interpreter takes the modules apart around it."""
    loop = new_loop(kind)
    kept.append(loop)
    loop.run_until_complete(enter(place, states))


def drops(kind: str, place: Place, states: list[str]) -> None:
    """The loop is never closed, and the garbage collector finds it."""
    new_loop(kind).run_until_complete(enter(place, states))
    kept.clear()
    gc.collect()


def forgets(kind: str, place: Place, states: list[str]) -> None:
    """Nobody collects what refers to itself but the interpreter as it ends."""
    gc.disable()
    new_loop(kind).run_until_complete(enter(place, states))
    kept.clear()


def is_used_at_exit(kind: str, place: Place, states: list[str]) -> None:
    loop = new_loop(kind)
    loop.run_until_complete(enter(place, states))
    atexit.register(use_everything, list(kept))


def is_used_by_finalizers(kind: str, place: Place, states: list[str]) -> None:
    """As the modules go, when hardly anything works any more."""
    loop = new_loop(kind)
    loop.run_until_complete(enter(place, states))
    sys.left_open = Finalizer(kept)  # type: ignore[attr-defined]


def goes_on_in_a_thread(kind: str, place: Place, states: list[str]) -> None:
    """A daemon thread runs the loop, busily, as the main thread ends."""
    ready = threading.Event()

    def run() -> None:
        async def main() -> None:
            await enter(place, states)
            await echo_without_end(ready)

        with contextlib.suppress(asyncio.CancelledError):
            new_loop(kind).run_until_complete(main())

    threading.Thread(target=run, daemon=True).start()
    if not ready.wait(20):
        raise TimeoutError("the thread is not ready")


async def echo_without_end(ready: threading.Event) -> None:
    def bounce(socket: mantou.Socket[Any], data: bytes) -> None:
        ready.set()
        socket.write_all(data)

    listener = mantou.listen(hostname="127.0.0.1", port=0, socket={"data": bounce})
    socket = await mantou.connect(hostname="127.0.0.1", port=listener.port, socket={"data": bounce})
    socket.write_all(b"to and fro")
    await asyncio.Event().wait()


def use_everything(things: list[Any], suppress: Any = contextlib.suppress) -> None:
    for thing in things:
        repr(thing)
        for name in ("write", "pause", "resume", "stop", "close", "terminate", "abort"):
            with suppress(Exception):
                method = getattr(thing, name)
                method(b"the very last") if name == "write" else method()


class Finalizer:
    def __init__(self, things: list[Any]) -> None:
        self.things = things
        self.suppress = contextlib.suppress
        self.use = use_everything

    def __del__(self) -> None:
        self.use(self.things, self.suppress)


WAYS: dict[str, Callable[[str, Place, list[str]], None]] = {
    way.__name__: way
    for way in (
        returns,
        exits,
        stops,
        drops,
        forgets,
        is_used_at_exit,
        is_used_by_finalizers,
        goes_on_in_a_thread,
    )
}

if __name__ == "__main__":
    _, directory, kind, way, *states = sys.argv
    WAYS[way](kind, Place(Path(directory)), states)

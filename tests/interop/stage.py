"""A peer's process, what it says and hears, and the sockets of mantou that talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket as kernel
from collections.abc import AsyncIterator
from typing import Any

import mantou
from tests.interop.peers import Ask, Command, Peer
from tests.support import Recorder

LIMIT = 20.0


def free_port() -> int:
    with kernel.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A peer's program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.heard = bytearray()
        """What it has received, and may have said beside."""
        self._errors = bytearray()
        self._changed = asyncio.Event()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.ensure_future(self._read(process.stdout, self.heard)),
            asyncio.ensure_future(self._read(process.stderr, self._errors)),
        ]

    async def _read(self, stream: asyncio.StreamReader, into: bytearray) -> None:
        while data := await stream.read(65536):
            into += data
            self._changed.set()

    def say(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def hear(self, data: bytes) -> None:
        while data not in self.heard:
            await self._until_changed(f"it did not get {data[:40]!r}...")

    async def _until_changed(self, failure: str) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), LIMIT)
        except TimeoutError:
            said = bytes(self._errors[-300:]), bytes(self.heard[-100:])
            raise AssertionError(f"{failure}; it said {said}") from None

    async def ended(self) -> int:
        return await asyncio.wait_for(self._process.wait(), LIMIT)

    def kill(self) -> None:
        # Not by its own method, which would reap it before asyncio does.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        self.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)
        # Its end of the pipe is closed by its transport.
        self.end_input()

    def words(self) -> str:
        return self._errors[-200:].decode(errors="replace")


@contextlib.asynccontextmanager
async def running(command: Command) -> AsyncIterator[Process]:
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    process = Process(started)
    try:
        yield process
    finally:
        await process.stop()


@contextlib.asynccontextmanager
async def serving(peer: Peer, ask: Ask) -> AsyncIterator[tuple[Process, int]]:
    """A peer's server, once it listens: asked of the kernel, for a connection would count."""
    port = free_port()
    async with running(peer.serves(port, ask)) as process:
        async with asyncio.timeout(LIMIT):
            while not _is_listening(port):
                assert process._process.returncode is None, process.words()
                # Nothing tells when another process listens.
                await asyncio.sleep(0.01)
        yield process, port


def _is_listening(port: int) -> bool:
    wanted, listening = f":{port:04X}", "0A"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            for fields in map(str.split, file):
                if fields[1].endswith(wanted) and fields[3] == listening:
                    return True
    return False


class End(Recorder):
    """mantou's end of a connection."""

    session: object = None
    """What a server has given it to resume with, so far."""

    def data(self, socket: mantou.Socket[Any], data: Any) -> object:
        self.session = socket.get_session()
        return super().data(socket, data)

    async def receive(self, size: int) -> bytes:
        return await asyncio.wait_for(self.until_received(size), LIMIT)

    async def closed(self) -> BaseException | None:
        _, error = await asyncio.wait_for(self.until("close"), LIMIT)
        assert error is None or isinstance(error, BaseException)
        return error


async def call(port: int, tls: Any) -> tuple[mantou.Socket[Any], End]:
    end = End()
    connecting = mantou.connect(hostname="localhost", port=port, socket=end, tls=tls)
    return await asyncio.wait_for(connecting, LIMIT), end

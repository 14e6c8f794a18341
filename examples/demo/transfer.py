"""The large transfer: a sender that respects backpressure, a receiver that lets it build up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mantou

from .endpoint import connect, listen

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from .narrator import Narrator

MIB = 1024 * 1024
CHUNK = 256 * 1024
PAUSE_EVERY = 32 * MIB
PAUSE = 0.01
KERNEL_HOLDS = 16 * MIB  # less than this may fit into the kernel's buffers at once
# A prime: a lost or doubled piece cannot fall on the same bytes again.
PATTERN = memoryview(os.urandom(1_000_003))
DIGEST_SIZE = hashlib.sha256().digest_size


@dataclass
class Flow:
    """One side of the transfer: how far it is, and the sum over what went through."""

    size: int
    position: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    trailer: bytes = b""  # what came beside the payload: the other side's sum
    stops: int = 0  # short writes of the sender, pauses of the receiver
    over: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None

    @property
    def left(self) -> int:
        return self.size - self.position

    @property
    def agrees(self) -> bool:
        """Whether everything went through and both sides have the same sum."""
        return self.error is None and self.left == 0 and self.trailer == self.digest.digest()


class Sender(mantou.SocketHandler[Flow]):
    """Sends the payload, then its SHA-256, then ends; the receiver answers with its own."""

    def open(self, socket: mantou.Socket[Flow]) -> None:
        self.push(socket)

    def drain(self, socket: mantou.Socket[Flow]) -> None:
        self.push(socket)

    def push(self, socket: mantou.Socket[Flow]) -> None:
        """Write until the kernel takes no more: `drain` says when it does again."""
        flow = socket.data
        while flow.left:
            start = flow.position % len(PATTERN)
            chunk = PATTERN[start : start + min(CHUNK, flow.left)]
            accepted = socket.write(chunk)
            if accepted < 0:  # closed: `close` says why
                return
            flow.digest.update(chunk[:accepted])
            flow.position += accepted
            if accepted < len(chunk):
                flow.stops += 1
                return
        socket.end(flow.digest.digest())  # -1, nothing sent, if that was done already

    def data(self, socket: mantou.Socket[Flow], data: bytes) -> None:
        socket.data.trailer += data

    def close(self, socket: mantou.Socket[Flow], error: BaseException | None) -> None:
        socket.data.error = error
        socket.data.over.set()


class Receiver(mantou.SocketHandler[Flow]):
    """Sums up what comes without copying it, and stops reading every now and then."""

    binary_type = "memoryview"

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self.bar = bar
        self.task = task

    def data(self, socket: mantou.Socket[Flow], data: memoryview) -> None:
        flow = socket.data
        payload = data[: flow.left]
        flow.trailer += data[len(payload) :]
        flow.digest.update(payload)
        before, flow.position = flow.position, flow.position + len(payload)
        payload.release()
        self.bar.update(self.task, completed=flow.position)
        if before // PAUSE_EVERY != flow.position // PAUSE_EVERY:
            flow.stops += 1
            socket.pause()
            asyncio.get_running_loop().call_later(PAUSE, socket.resume)

    def end(self, socket: mantou.Socket[Flow]) -> None:
        socket.write_all(socket.data.digest.digest())

    def close(self, socket: mantou.Socket[Flow], error: BaseException | None) -> None:
        socket.data.error = error
        socket.data.over.set()


async def transfer(narrator: Narrator, path: Path | None, size: int) -> float:
    """Send `size` bytes, check both sums and return the bytes per second."""
    sent, received = Flow(size), Flow(size)
    with narrator.progress() as bar:
        receiver = Receiver(bar, bar.add_task("transfer", total=size))
        began = time.perf_counter()
        listener = listen(path, receiver, lambda socket: received)
        with listener:
            socket = await connect(path, listener, Sender(), sent)
            await sent.over.wait()
            await received.over.wait()
        await listener.closed()
        seconds = time.perf_counter() - began
    narrator.event("client", "", f"sent {socket.bytes_written:,} bytes in {seconds:.2f} s")
    narrator.event("client", "drain", f"{sent.stops} times had to wait for the kernel")
    narrator.event("server", "", f"stopped reading {received.stops} times for {PAUSE * 1000:g} ms")
    narrator.event("both", "", f"SHA-256 {sent.digest.hexdigest()[:32]}...")
    narrator.check("the receiver's sum is the one the sender sent along", passed=received.agrees)
    narrator.check("the sender's sum is the one the receiver answered", passed=sent.agrees)
    if size >= KERNEL_HOLDS:
        narrator.check("the sender was slowed down, nothing piled up", passed=sent.stops > 0)
    narrator.check(
        "every byte was counted once",
        passed=socket.bytes_written == size + DIGEST_SIZE and received.position == size,
    )
    return size / seconds

"""Bytes both ways between a stream and something else, each at the pace of the slower side."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

from mantou._stream_errors import BrokenResourceError, EndOfStream
from mantou._streams import Stream

from .stdio import CHUNK

Until = Literal["received", "sent", "both"]


class Source(Protocol):
    """Where comes from what is sent."""

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        ...


class Sink(Protocol):
    """Where goes what is received."""

    async def write(self, data: bytes) -> None:
        """Returns when more may come."""
        ...

    async def finish(self) -> None:
        """No more will come."""
        ...


async def carry(stream: Stream, source: Source, sink: Sink, until: Until) -> None:
    """Sends what `source` has and then FIN; what comes goes to `sink`.

    :param until: what it waits for: the end of what is received, of what is sent, or both.
    :raises Exception: what the source or the sink raises, or why the connection broke; what had
        come before that has been given to the sink.
    """
    sending = asyncio.create_task(_send(stream, source))
    receiving = asyncio.create_task(_receive(stream, sink))
    waited = {"received": {receiving}, "sent": {sending}, "both": {sending, receiving}}[until]
    pending = {sending, receiving}
    try:
        while waited & pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if sending in done and isinstance(sending.exception(), BrokenResourceError):
                await asyncio.wait({receiving})
            for task in done:
                task.result()
    finally:
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _send(stream: Stream, source: Source) -> None:
    while data := await source.read():
        await stream.send(data)
    await stream.send_eof()


async def _receive(stream: Stream, sink: Sink) -> None:
    while True:
        try:
            data = await stream.receive(CHUNK)
        except EndOfStream:
            break
        await sink.write(data)
    await sink.finish()

"""The program under attack: an echo, as handlers, as streams or as an asyncio protocol.

    python -m tests.hostile.server handlers tls '{"cert": ..., "key": ..., "ca": ...}' '{}'

It says on which port it listens. For each line that comes after that, it says what it holds and has
spent, or connects to the port that the line names, so often.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import ssl
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import mantou

Options = dict[str, Any]

# What ended connections, by the class of the error.
ends: Counter[str] = Counter()
# Seconds of the processor that each question took.
asked: list[float] = []


def note(error: BaseException | None) -> None:
    ends[type(error).__name__] += 1


# The three kinds of programs


class Handlers(mantou.SocketHandler[Any]):
    def data(self, socket: mantou.Socket[Any], data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            # Who sent that may be gone already.
            socket.write_all(data)
        if socket.buffered:
            socket.pause()

    def drain(self, socket: mantou.Socket[Any]) -> None:
        socket.resume()

    def close(self, socket: mantou.Socket[Any], error: BaseException | None) -> None:
        note(error)

    def connect_error(self, socket: mantou.Socket[Any], error: BaseException) -> None:
        note(error)


async def stream(each: mantou.Stream) -> None:
    error = None
    try:
        async with each:
            async for data in each:
                await each.send(data)
    except OSError as caught:
        error = caught
    note(error)


class Protocol(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, error: BaseException | None) -> None:
        note(error)


def tls_of(link: str, files: Options, server_side: bool, options: Options) -> Any:
    """What `tls` or `ssl` is to be."""
    cert, key, ca = files["cert"], files["key"], files["ca"]
    asks = options.pop("request_cert", False)
    lenient = options.pop("lenient", False)
    if link == "tcp":
        return None
    if link == "tls":
        if not server_side:
            return {"ca_file": ca}
        judges = {"ca_file": ca, "request_cert": True, "reject_unauthorized": not lenient}
        return {"cert_file": cert, "key_file": key} | (judges if asks else {})
    kind = mantou.SSLContext if link == "faithful" else ssl.SSLContext
    made = kind(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    if server_side:
        made.load_cert_chain(cert, key)
    if asks or not server_side:
        made.load_verify_locations(ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


async def listen(program: str, link: str, files: Options, options: Options) -> int:
    tls = tls_of(link, files, True, options)
    here: Options = {"hostname": "127.0.0.1", "port": 0}
    if program == "asyncio":
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Protocol, "127.0.0.1", 0, ssl=tls, backlog=4096)
        port: int = server.sockets[0].getsockname()[1]
        return port
    here |= options | ({} if tls is None else {"tls": tls})
    if program == "streams":
        streams = mantou.serve_streams(stream, **here)
        await streams.__aenter__()
        return streams.port
    return mantou.listen(socket=Handlers(), **here).port


async def connect(program: str, link: str, files: Options, port: int) -> None:
    tls = tls_of(link, files, False, {})
    there: Options = {"hostname": "localhost", "port": port}
    try:
        if program == "asyncio":
            loop = asyncio.get_running_loop()
            await loop.create_connection(Protocol, *there.values(), ssl=tls)
        elif program == "streams":
            await stream(await mantou.connect_stream(**there, tls=tls or False))
        else:
            await mantou.connect(**there, socket=Handlers(), tls=tls or False)
    except OSError as error:
        note(error)


# What it holds


class Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2


def figures() -> Options:
    begun = time.process_time()
    gc.collect()
    # With PYTHONMALLOC=malloc everything is in there, Python's objects and Rust's.
    info = libc.mallinfo2()
    stats = mantou.stats()
    told = {
        "seconds": begun - sum(asked),
        "held": info.uordblks + info.hblkhd,
        "connections": stats.connections,
        "accepted": stats.accepted,
        "refused": stats.refused,
        "received": stats.bytes_read,
        "ends": ends,
    }
    asked.append(time.process_time() - begun)
    return told


async def main(program: str, link: str, files: Options, options: Options) -> None:
    port = await listen(program, link, files, options)
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    tasks = set()

    def answer() -> None:
        lines = os.read(0, 4096)
        if not lines:
            over.set_result(None)
            return loop.remove_reader(0)
        for line in lines.splitlines():
            for _ in range(int(line.split()[1]) if b" " in line else 0):
                tasks.add(loop.create_task(connect(program, link, files, int(line.split()[0]))))
            say(figures())
        return None

    loop.add_reader(0, answer)
    say({"port": port})
    await over
    os._exit(0)


def say(told: Options) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    assert os.environ["PYTHONMALLOC"] == "malloc"
    arguments = [json.loads(text) for text in sys.argv[3:5]]
    Path("/proc/self/oom_score_adj").write_text("500")
    # Nothing of it is to be seen in the figures.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=mantou.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:3], *arguments))

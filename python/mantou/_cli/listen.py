"""`mantou listen`: a server for a moment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from mantou._stream_errors import BrokenResourceError, EndOfStream
from mantou._stream_server import StreamServer, serve_streams
from mantou._streams import Stream

from .addresses import bound, place, shown_peer, shown_place
from .carrying import Until, carry
from .endings import Code, Failure, connected, listening, reason
from .numbers import seconds
from .running import run
from .stdio import CHUNK, Input, Output
from .tls_flags import declare_server, pem, protocols, server_tls

DESCRIPTION = """\
Serves all who connect: sends back what comes, a file, or what a command says. Without one of these
the first who connects is connected with stdin and stdout, and it ends when both have finished;
with a terminal as stdin, when who connects has.
"""
EXAMPLES = """\
  mantou listen localhost:7000 --echo
  mantou listen :7000 > received
  mantou listen localhost:7000 --tls --send page.html
  mantou listen unix:/tmp/date.sock --exec date
  mantou listen localhost:7000 --exec 'tr a-z A-Z' --once
"""

Serve = Callable[[Stream], Coroutine[Any, Any, None]]


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        type=place,
        help="HOST:PORT, :PORT for every address of this machine, unix:PATH; port 0 picks one",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--echo", action="store_true", help="send back what comes")
    kind.add_argument("--discard", action="store_true", help="read what comes, and drop it")
    kind.add_argument(
        "--exec",
        metavar="COMMAND",
        help="start a command of the shell for each, with the connection as its stdin and stdout; "
        "MANTOU_REMOTE_ADDRESS and MANTOU_REMOTE_PORT say whose it is",
    )
    kind.add_argument("--send", metavar="FILE", type=_readable, help="send a file, then FIN")
    parser.add_argument("--once", action="store_true", help="serve one connection, and end with it")
    parser.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="give up who is silent for so long"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say who comes and goes")
    group = declare_server(parser)
    group.add_argument(
        "--ca", type=pem, metavar="FILE", help="ask for certificates, and take those of these, PEM"
    )
    group.add_argument("--alpn", type=protocols, metavar="LIST", help="protocols: h2,http/1.1")


def start(options: argparse.Namespace) -> Code:
    """Does it; the exit code."""
    return run(_Listening(options).run())


def _readable(path: str) -> str:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {reason(error)}") from None
    return path


class _Listening:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.say = options.say
        self.server: StreamServer
        self.ended: asyncio.Future[Failure | None]
        self.served = False
        self.serve: Serve = self._stdio
        self.once = options.once
        if options.echo:
            self.serve = _echo
        elif options.discard:
            self.serve = _discard
        elif options.exec:
            self.serve = self._command
        elif options.send:
            self.serve = self._file
        else:
            self.once = True

    async def run(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        options = self.options
        more: dict[str, Any] = {"idle_timeout": options.timeout}
        tls = server_tls(options, "--tls", options.address.host)
        if tls is not None:
            more["tls"] = tls
        if options.verbose:
            # Who comes and goes without a handshake is told here.
            logging.getLogger("mantou").setLevel(logging.DEBUG)
        with listening(options.address):
            server = serve_streams(self._handle, **bound(options.address, **more))
        self.server = server
        async with server:
            self.say(f"listening on {shown_place(server.listener)}")
            failure = await self.ended
            await server.closed()
        if failure is not None:
            raise failure

    async def _handle(self, stream: Stream) -> None:
        if self.once and self.served:
            stream.abort()  # it came in the same moment as the one that is served
            return
        self.served = True
        if self.once:
            self.server.stop()
        who = shown_peer(stream.socket)
        if self.options.verbose:
            self.say(f"{who} has come")
        ending: Failure | None = None
        try:
            with connected(who):
                await self.serve(stream)
                await stream.aclose()
        except Failure as failure:
            stream.abort()
            ending = failure
            if not self.once:
                self.say(failure.text)
        if self.options.verbose:
            socket = stream.socket
            self.say(f"{who} has gone: {socket.bytes_read} B in, {socket.bytes_written} B out")
        if self.once and not self.ended.done():
            self.ended.set_result(ending)

    async def _stdio(self, stream: Stream) -> None:
        # Who connects may finish first, and wait for what we say; a person would have to end it.
        until: Until = "received" if os.isatty(0) else "both"
        await carry(stream, Input(0), Output(1), until)

    async def _file(self, stream: Stream) -> None:
        try:
            with open(self.options.send, "rb") as file:
                await stream.send_file(file)
        except BrokenResourceError:
            raise
        except (OSError, ValueError) as error:
            raise Failure(Code.FAILED, f"{self.options.send}: {reason(error)}") from error
        await stream.send_eof()
        await _discard(stream)

    async def _command(self, stream: Stream) -> None:
        socket = stream.socket
        process = await asyncio.create_subprocess_shell(
            self.options.exec,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={
                **os.environ,
                "MANTOU_REMOTE_ADDRESS": socket.remote_address or "",
                "MANTOU_REMOTE_PORT": str(socket.remote_port or ""),
            },
        )
        command = _Command(process)
        try:
            await carry(stream, command, command, "sent")
        finally:
            await command.end()
        if self.options.verbose:
            self.say(f"{shown_peer(socket)}: the command ended with {process.returncode}")


class _Command:
    """A process as source and sink: what it says is sent, what comes it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._stdout = process.stdout

    async def read(self) -> bytes:
        return await self._stdout.read(CHUNK)

    async def write(self, data: bytes) -> None:
        # It may have closed its stdin, and be right: what comes is for nobody then.
        with contextlib.suppress(ConnectionError):
            self._stdin.write(data)
            await self._stdin.drain()

    async def finish(self) -> None:
        self._stdin.close()

    async def end(self) -> None:
        """Has the command end, and all that it started and that still holds its stdout."""
        self._stdin.close()
        ended = False
        try:
            ended = await self._has_ended()
            if not ended:
                self._tell(signal.SIGTERM)
                ended = await self._has_ended()
        finally:
            # Also where a second Ctrl-C leaves no time to wait.
            if not ended:
                self._tell(signal.SIGKILL)
        if not ended:
            await self._has_ended()

    def _tell(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    async def _has_ended(self) -> bool:
        """Waits a second for that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._process.wait()
                while await self._stdout.read(CHUNK):
                    pass
                return True
        return False


async def _echo(stream: Stream) -> None:
    async for data in stream:
        await stream.send(data)


async def _discard(stream: Stream) -> None:
    with contextlib.suppress(EndOfStream):
        while True:
            await stream.receive(CHUNK)

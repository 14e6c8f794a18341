"""One end of scenarios, on mantou: commands come as lines of JSON, and events go out as such.

bun_driver.ts does the same on Bun, function by function.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mantou
from conformance.drivers.mantou_actions import SILENT, Actions, listen
from conformance.drivers.mantou_words import code, data, options_of, told

connect: Callable[..., Any] = mantou.connect


class Driver(Actions):
    """Runs one program after another; of each, the sockets and what they are called."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.quiet = False
        self.forget()
        loop.set_exception_handler(self.uncaught)

    def forget(self) -> None:
        self.session = self.listener = self.raw = self.chunk = self.kept = None
        self.program = {"role": "?"}
        self.connecting: list[asyncio.Task[None]] = []
        self.sockets = []
        self.labels = {}
        self.opened: dict[str, int] = {}
        self.open_now = set()
        self.pumps: dict[Any, tuple[memoryview, list[Any]]] = {}
        self.latest = {}
        self.largest = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.numbers: Iterator[int] = iter(range(sys.maxsize))

    # What is told. A call is told where it began, with what it returned.

    def tell(self, who: str, event: str, value: str = "", at: int | None = None) -> None:
        if not self.quiet:
            say(at=next(self.numbers) if at is None else at, who=who, event=event, value=value)

    def label(self, socket: Any, table: Any, born: bool) -> str:
        if socket not in self.labels:
            if not born:
                return str(table["name"])
            count = self.opened.get(table["name"], 0) + 1
            self.opened[table["name"]] = count
            self.labels[socket] = table["name"] + (str(count) if count > 1 else "")
            self.sockets.append(socket)
        return self.labels[socket]

    def uncaught(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.tell(self.program["role"], "uncaught", code(error) or context["message"])

    # Handlers

    def handlers(self, table: Any) -> dict[str, Any]:
        made: dict[str, Any] = {name: self.handler(table, name) for name in table["on"]}
        if table.get("binary"):
            made["binary_type"] = table["binary"]
        return made

    def handler(self, table: Any, event: str) -> Callable[..., Any]:
        handler = table["on"][event]

        def run(socket: Any, *values: Any) -> None:
            if event == "data":
                self.chunk = values[0]
                self.latest[socket] = bytes(values[0])
                self.largest = max(self.largest, len(values[0]))
            who = self.label(socket, table, event in ("open", "connect_error"))
            if event == "open":
                self.open_now.add(socket)
            if event == "close":
                self.open_now.discard(socket)
            if (event == "drain" and self.pump(socket)) or handler["silent"]:
                return
            self.tell(who, event, told(event, values, table))

        def call(socket: Any, *values: Any) -> Any:
            run(socket, *values)
            for action in handler["do"]:
                self.perform(socket, action)
            match handler["gives"]:
                case "error":
                    return RuntimeError("given")
                case "true":
                    return True
            return None

        async def call_async(socket: Any, *values: Any) -> None:
            run(socket, *values)
            for action in handler["do"]:
                if action[0] == "gate":
                    await self.gate(action[1]).wait()
                else:
                    self.perform(socket, action)

        return call_async if handler["async"] else call

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def perform(self, socket: Any, action: Any) -> None:
        name, *rest = action
        who = self.labels.get(socket, self.program["role"])
        if name == "throw":
            raise RuntimeError(rest[0])
        if name == "pump":
            self.pumps[socket] = (memoryview(data(rest[0])), rest[1])
            self.pump(socket)
            return
        at = next(self.numbers)
        try:
            result = getattr(self, f"do_{name}")(socket, *rest)
        except (TypeError, ValueError, RuntimeError, OSError):
            result = "raises"
        if result != SILENT:
            self.tell(who, name if name == "mark" else f"{name}()", result, at)

    def pump(self, socket: Any) -> bool:
        if socket not in self.pumps:
            return False
        left, then = self.pumps[socket]
        count = socket.write(left)
        left = left[max(count, 0) :]
        self.pumps[socket] = (left, then)
        if not left or count < 0:
            del self.pumps[socket]
            self.tell(self.labels[socket], "pump", "-1" if count < 0 else "all")
            for action in then:
                self.perform(socket, action)
        return True

    # The commands

    async def obey(self, command: dict[str, Any]) -> None:
        if "begin" in command:
            say(**await self.begin(command["begin"]))
        if "act" in command:
            for action in command["act"]:
                number = -1 if command["socket"] is None else command["socket"]
                self.perform(self.sockets[number] if self.sockets else None, action)
            say(acted=True)
        if "turn" in command:
            say(turned=True, open=len(self.open_now))
        if "finish" in command:
            self.finish()
            say(finished=True)

    async def begin(self, program: Any) -> dict[str, Any]:
        self.forget()
        gc.collect()
        self.program = program
        self.quiet = False
        if program["call"] == "listen":
            return self.serve()
        self.connect()
        if program["is_held"]:
            await asyncio.sleep(0)  # connect() has begun
            self.do_hold(None)
        return {"ready": True}

    def serve(self) -> dict[str, Any]:
        try:
            options = options_of(self.program)
            self.listener = listen(**options, socket=self.handlers(self.program["table"]))
        except (TypeError, ValueError, OSError) as error:
            said = code(error) if isinstance(error, OSError) else "refused"
            self.tell(self.program["role"], "listen", said)
            return {"ready": True}
        return {"ready": True, "port": getattr(self.listener, "port", None)}

    def connect(self) -> None:
        self.connecting.append(self.loop.create_task(self.connection()))

    async def connection(self) -> None:
        who, tells = self.program["role"], self.program["tells_promise"]

        def settled(how: str, why: str = "") -> None:
            if tells:
                self.tell(who, how, why)

        table = self.handlers(self.program["table"])
        try:
            socket = await connect(**options_of(self.program), socket=table)
        except (TypeError, ValueError) as error:
            if isinstance(error, OSError):  # an `ssl.SSLCertVerificationError` is a ValueError, too
                settled("failed", code(error))
            else:
                self.tell(who, "connect", "refused")
        except Exception as error:
            settled("failed", code(error))
        else:
            settled("connected")
            for action in self.program["connected"]:
                self.perform(socket, action)

    def finish(self) -> None:
        self.quiet = True
        for task in self.connecting:
            task.cancel()
        if self.listener is not None:
            self.listener.stop(True)
        for socket in self.sockets:
            socket.terminate()


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


async def main() -> None:
    loop = asyncio.get_running_loop()
    driver, reader = Driver(loop), asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await driver.obey(json.loads(line))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        mantou.run(main())

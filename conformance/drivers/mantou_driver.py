"""One end of scenarios, on mantou: commands come as lines of JSON, and events go out as such.

bun_driver.ts does the same on Bun, function by function.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import socket as kernel
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mantou

# What OpenSSL calls the numbers of a failed verification.
VERDICTS = {
    10: "CERT_HAS_EXPIRED",
    18: "DEPTH_ZERO_SELF_SIGNED_CERT",
    20: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    21: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    23: "CERT_REVOKED",
    62: "HOSTNAME_MISMATCH",
    64: "HOSTNAME_MISMATCH",
}
KINDS = {"bytes": "Buffer", "bytearray": "Uint8Array", "memoryview": "ArrayBuffer"}
SILENT = "\0"

# Also with what no type allows: scenarios ask what becomes of it.
listen: Callable[..., Any] = mantou.listen
connect: Callable[..., Any] = mantou.connect


class Driver:
    """Runs one program after another; of each, the sockets and what they are called."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.quiet = False
        self.forget()
        loop.set_exception_handler(self.uncaught)

    def forget(self) -> None:
        self.session: Any = None
        self.program: Any = {"role": "?"}
        self.listener: Any = None
        self.connecting: list[asyncio.Task[None]] = []
        self.sockets: list[Any] = []
        self.labels: dict[Any, str] = {}
        self.opened: dict[str, int] = {}
        self.open_now: set[Any] = set()
        self.pumps: dict[Any, tuple[memoryview, list[Any]]] = {}
        self.latest: dict[Any, bytes] = {}
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
                self.latest[socket] = bytes(values[0])
            who = self.label(socket, table, event in ("open", "connect_error"))
            if event == "open":
                self.open_now.add(socket)
            if event == "close":
                self.open_now.discard(socket)
            if event == "drain" and self.pump(socket):
                return
            self.tell(who, event, told(event, values, table))

        def call(socket: Any, *values: Any) -> Any:
            run(socket, *values)
            for action in handler["do"]:
                self.perform(socket, action)
            match handler.get("gives"):
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

        return call_async if handler.get("async") else call

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    # What is done to a socket, or to the listener

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

    def do_write(self, s: Any, what: Any, offset: int = 0, length: int | None = None) -> str:
        return taken(s.write(data(what), offset, length), what)

    def do_end(self, s: Any, what: Any = None) -> str:
        return str(s.end()) if what is None else taken(s.end(data(what)), what)

    def do_close(self, s: Any) -> str:
        return none(s.close())

    def do_terminate(self, s: Any) -> str:
        return none(s.terminate())

    def do_shutdown(self, s: Any, half: bool = False) -> str:
        return none(s.shutdown(half))

    def do_pause(self, s: Any) -> str:
        return none(s.pause())

    def do_resume(self, s: Any) -> str:
        return none(s.resume())

    def do_flush(self, s: Any) -> str:
        return none(s.flush())

    def do_timeout(self, s: Any, seconds: float) -> str:
        return none(s.timeout(seconds))

    def do_state(self, s: Any) -> str:
        return str(int(s.ready_state))

    def do_mark(self, _: Any, text: str) -> str:
        return text

    def do_bytes_written(self, s: Any) -> str:
        return str(s.bytes_written)

    def do_no_delay(self, s: Any, on: bool) -> str:
        return truth(s.set_no_delay(on))

    def do_keep_alive(self, s: Any, on: bool, seconds: float) -> str:
        return truth(s.set_keep_alive(on, seconds))

    def do_remote_address(self, s: Any) -> str:
        return str(s.remote_address or "none")

    def do_remote_family(self, s: Any) -> str:
        return str(s.remote_family or "none")

    def do_listener_same(self, s: Any) -> str:
        return truth(s.listener is self.listener and self.listener is not None)

    def do_dispose(self, s: Any) -> str:
        return none(s.__exit__(None, None, None))

    def do_data(self, s: Any) -> str:
        return json.dumps(s.data, separators=(",", ":"))

    def do_set_data(self, s: Any, to: Any) -> str:
        s.data = to
        return ""

    def do_data_shared(self, s: Any) -> str:
        return truth(s.data is self.listener.data)

    def do_reload(self, s: Any, table: Any) -> str:
        return none(s.reload(self.handlers(table)))

    def do_connect_again(self, _: Any) -> str:
        self.connect()
        return ""

    def do_upgrade(self, s: Any, tls: Any, table: Any, with_rest: bool = False) -> str:
        rest = self.latest[s].partition(b"\n")[2] if with_rest else b""
        raw, secure = s.upgrade_tls(tls=tls, socket=self.handlers(table), data="new", initial=rest)
        self.labels[raw] = self.labels[s]
        self.open_now.discard(s)
        self.open_now.add(raw)
        if secure not in self.sockets:
            self.sockets.append(secure)
        return truth(raw is not secure)

    def do_authorized(self, s: Any) -> str:
        return truth(s.authorized)

    def do_verdict(self, s: Any) -> str:
        return code(s.get_authorization_error()) or "none"

    def do_alpn(self, s: Any) -> str:
        return str(s.alpn_protocol or "none")

    def do_server_name(self, s: Any) -> str:
        return str(s.get_servername() or "none")

    def do_set_server_name(self, s: Any, name: str) -> str:
        return none(s.set_servername(name))

    def do_tls_version(self, s: Any) -> str:
        return str(s.get_tls_version() or "none")

    def do_cipher_version(self, s: Any) -> str:
        cipher = s.get_cipher()
        return str(cipher["version"]) if cipher else "none"

    def do_peer_name(self, s: Any) -> str:
        names = (s.get_peer_certificate() or {}).get("subject", ())
        return str(dict(pair for [pair] in names).get("commonName", "none"))

    def do_exported(self, s: Any) -> str:
        return str(len(s.export_keying_material(16, "EXPORTER-conformance")))

    def do_max_fragment(self, s: Any, size: int) -> str:
        return truth(s.set_max_send_fragment(size))

    def do_keep_session(self, s: Any) -> str:
        self.session = s.get_session()
        return "some" if self.session else "none"

    def do_set_session(self, s: Any, garbage: str = "") -> str:
        if not garbage and not self.session:
            return "none to set"
        return none(s.set_session(garbage.encode() or self.session))

    def do_resumed(self, s: Any) -> str:
        return truth(s.is_session_reused())

    def do_stop(self, _: Any, close_all: bool) -> str:
        return none(self.listener.stop(close_all))

    def do_dispose_listener(self, _: Any) -> str:
        return none(self.listener.__exit__(None, None, None))

    def do_reload_listener(self, _: Any, table: Any) -> str:
        return none(self.listener.reload(self.handlers(table)))

    def do_listener_data(self, _: Any) -> str:
        return json.dumps(self.listener.data, separators=(",", ":"))

    def do_set_listener_data(self, _: Any, to: Any) -> str:
        self.listener.data = to
        return ""

    def do_listener_port(self, _: Any) -> str:
        return truth(self.listener.port > 0)

    def do_listen_again(self, _: Any, options: Any) -> str:
        answer = ""
        for _ in range(5):  # whoever else has the port there
            try:
                port = self.listener.port
                table = self.handlers(self.program["table"])
                listen(**options, port=port, socket=table).stop(True)
            except OSError as error:
                answer = code(error)
                self.listener.stop()
                self.begin(self.program)
            else:
                return ""
        return answer

    def do_open_gate(self, _: Any, name: str) -> str:
        self.gate(name).set()
        return SILENT

    # The commands

    async def obey(self, command: dict[str, Any]) -> None:
        if "begin" in command:
            say(**self.begin(command["begin"]))
        if "act" in command:
            for action in command["act"]:
                number = -1 if command["socket"] is None else command["socket"]
                self.perform(self.sockets[number] if self.sockets else None, action)
            say(acted=True)
        if "settle" in command:
            await turns()
            say(settled=True, open=len(self.open_now))
        if "finish" in command:
            await self.finish()
            say(finished=True)

    def begin(self, program: Any) -> dict[str, Any]:
        self.program = program
        self.quiet = False
        if program["call"] == "connect":
            self.connect()
            return {"ready": True}
        try:
            self.listener = listen(**program["options"], socket=self.handlers(program["table"]))
        except (TypeError, ValueError, OSError) as error:
            said = code(error) if isinstance(error, OSError) else "refused"
            self.tell(program["role"], "listen", said)
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
            await connect(**self.program["options"], socket=table)
        except (TypeError, ValueError) as error:
            if isinstance(error, OSError):  # an `ssl.SSLCertVerificationError` is a ValueError, too
                settled("failed", code(error))
            else:
                self.tell(who, "connect", "refused")
        except Exception as error:
            settled("failed", code(error))
        else:
            settled("connected")

    async def finish(self) -> None:
        self.quiet = True
        for task in self.connecting:
            task.cancel()
        if self.listener is not None:
            self.listener.stop(True)
        for socket in self.sockets:
            socket.terminate()
        await turns()
        self.forget()
        gc.collect()


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0.002)


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def told(event: str, values: tuple[Any, ...], table: Any) -> str:
    if event == "data":
        kind, chunk = KINDS[type(values[0]).__name__], bytes(values[0])
        kind = kind if table["binary"] else ""
        if chunk[:2] in (b"\x14\x03", b"\x15\x03", b"\x16\x03", b"\x17\x03"):
            return json.dumps({"kind": "", "size": 0, "text": "TLS"})
        text = chunk.decode("latin-1") if len(chunk) <= 64 else ""
        return json.dumps({"kind": kind, "size": len(chunk), "text": text})
    if event == "handshake":
        return f"{truth(values[0])} {code(values[1])}".strip()
    return code(values[0]) if values else ""


def code(error: Any) -> str:
    """What an error is called in the table, whoever raised it."""
    match error:
        case None:
            return ""
        case ssl.SSLCertVerificationError():
            return VERDICTS.get(error.verify_code, error.verify_message.partition(" (")[0])
        case ssl.SSLError():
            return "TLS_EOF" if isinstance(error, ssl.SSLEOFError) else "TLS"
        case kernel.gaierror():
            return "ENOTFOUND"
        case OSError(errno=int(number)):
            return errno.errorcode[number]
        case _:
            return str(error)


def truth(value: bool) -> str:
    return str(bool(value)).lower()


def none(value: Any) -> str:
    return ""


def data(what: Any) -> Any:
    """Bytes that tell their place, or a str as it is."""
    if isinstance(what, str):
        return what
    count = what["fill"]
    return (bytes(range(251)) * (count // 251 + 1))[:count]


def taken(count: int, what: Any) -> str:
    if isinstance(what, str):
        return str(count)
    return "all" if count == what["fill"] else "not all" if count >= 0 else str(count)


async def main() -> None:
    loop = asyncio.get_running_loop()
    driver, reader = Driver(loop), asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await driver.obey(json.loads(line))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        mantou.run(main())

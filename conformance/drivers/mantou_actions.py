"""What scenarios do to a socket, or to the listener: ACTIONS of bun_driver.ts, on mantou."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mantou
from conformance.drivers.mantou_words import code, data, none, taken, truth

SILENT = "\0"

# Also with what no type allows: scenarios ask what becomes of it.
listen: Callable[..., Any] = mantou.listen


class Actions:
    """Each `do_name` is an action; the driver beneath has what it needs."""

    program: Any
    listener: Any
    session: Any
    sockets: list[Any]
    labels: dict[Any, str]
    open_now: set[Any]
    latest: dict[Any, bytes]
    raw: Any
    chunk: Any
    kept: Any
    largest: int
    handlers: Callable[..., Any]
    gate: Callable[..., Any]
    connect: Callable[..., Any]
    serve: Callable[..., Any]

    def do_write(self, s: Any, what: Any, offset: int = 0, length: int | None = None) -> str:
        return taken(s.write(data(what), offset, length), what)

    def do_end(self, s: Any, what: Any = None) -> str:
        return str(s.end()) if what is None else taken(s.end(data(what)), what)

    def do_echo(self, s: Any, at_most: int) -> str:
        if len(self.latest[s]) <= at_most:
            s.write(self.latest[s])
        return SILENT

    def do_close(self, s: Any) -> str:
        return none(s.close())

    def do_terminate(self, s: Any) -> str:
        return none(s.terminate())

    def do_shutdown(self, s: Any, half: Any = False) -> str:
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

    def do_hold(self, _: Any) -> str:
        held_by = Path(self.program["held_by"])
        if held_by.exists():
            held_by.read_bytes()
        return SILENT

    def do_bytes_written(self, s: Any) -> str:
        return str(s.bytes_written)

    def do_chunks_within(self, _: Any, size: int) -> str:
        return truth(self.largest <= size)

    def do_keep_chunk(self, _: Any) -> str:
        self.kept = self.chunk
        return ""

    def do_kept_chunk(self, _: Any) -> str:
        return bytes(self.kept).decode()

    def do_no_delay(self, s: Any, on: bool) -> str:
        return truth(s.set_no_delay(on))

    def do_keep_alive(self, s: Any, on: bool, seconds: float) -> str:
        return truth(s.set_keep_alive(on, seconds))

    def do_local_address(self, s: Any) -> str:
        return str(s.local_address or "none")

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
        self.raw = raw
        self.labels[raw] = self.labels[s]
        self.open_now.discard(s)
        self.open_now.add(raw)
        if secure not in self.sockets:
            self.sockets.append(secure)
        return truth(raw is not secure)

    def do_write_raw(self, _: Any, what: str) -> str:
        return str(self.raw.write(what))

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

    def do_set_session(self, s: Any, other: Any = None) -> str:
        if other is None and not self.session:
            return "none to set"
        other = other.encode() if isinstance(other, str) else other
        return none(s.set_session(self.session if other is None else other))

    def do_resumed(self, s: Any) -> str:
        return truth(s.is_session_reused())

    def do_stop(self, _: Any, close_all: Any) -> str:
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
        return truth(getattr(self.listener, "port", 0) > 0)

    def do_listener_host(self, _: Any) -> str:
        return str(getattr(self.listener, "hostname", "none"))

    def do_listener_path(self, _: Any) -> str:
        return truth(getattr(self.listener, "unix", None) == self.program["options"].get("unix"))

    def do_listen_again(self, _: Any, options: Any) -> str:
        answer = ""
        for _ in range(20):  # whoever else has the port there
            try:
                port = self.listener.port
                table = self.handlers(self.program["table"])
                listen(**options, port=port, socket=table).stop(True)
            except OSError as error:
                answer = code(error)
                self.listener.stop()
                self.serve()
            else:
                return ""
        return answer

    def do_open_gate(self, _: Any, name: str) -> str:
        self.gate(name).set()
        return SILENT

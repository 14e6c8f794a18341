// One end of scenarios, on Bun. Commands come as lines of JSON, and what happens goes out as such;
// mantou_driver.py does the same on mantou, function by function.

import { existsSync, readFileSync } from "node:fs";
import { bytes, camel, code, given, none, options_of, taken, tls, value } from "./bun_words.ts";

type Action = [string, ...any[]];
type Handler = { do: Action[]; async: boolean; gives: string; silent: boolean };
type Table = { name: string; on: Record<string, Handler>; binary: string };
type Program = {
  role: string;
  call: "listen" | "connect";
  options: Record<string, any>;
  table: Table;
  tells_promise: boolean;
  connected: Action[];
  held_by: string;
  is_held: boolean;
};

let program: Program;
let listener: any;
let sockets: any[] = [];
let labels = new Map<any, string>();
let opened = new Map<string, number>();
let open_now = new Set<any>();
let closed = new WeakSet<any>();
let pumps = new Map<any, { rest: Uint8Array; then: Action[] }>();
let latest = new Map<any, Buffer>();
let gates = new Map<string, { promise: Promise<void>; resolve: () => void }>();
let chunk: any;
let kept: any;
let largest = 0;
let upgraded: any;
let session: any;
let number = 0;
let quiet = false;

// What is told. A call is told where it began, with what it returned.

function tell(who: string, event: string, value: string = "", at: number = number++) {
  if (!quiet) console.log(JSON.stringify({ at, who, event, value }));
}

function label(socket: any, table: Table, born: boolean): string {
  if (!labels.has(socket)) {
    if (!born) return table.name;
    const count = (opened.get(table.name) ?? 0) + 1;
    opened.set(table.name, count);
    labels.set(socket, count > 1 ? `${table.name}${count}` : table.name);
    sockets.push(socket);
  }
  return labels.get(socket)!;
}

// Handlers

const NAMES: Record<string, string> = { connect_error: "connectError" };

function handlers(table: Table): any {
  const made: any = {};
  if (table.binary) made.binaryType = { bytes: "buffer", bytearray: "uint8array", memoryview: "arraybuffer" }[table.binary];
  for (const [event, handler] of Object.entries(table.on)) {
    const run = (socket: any, ...values: any[]) => {
      if (event === "data") {
        chunk = values[0];
        latest.set(socket, Buffer.from(chunk));
        largest = Math.max(largest, chunk.byteLength);
      }
      const who = label(socket, table, event === "open" || event === "connect_error");
      if (event === "open") open_now.add(socket);
      if (event === "close") {
        open_now.delete(socket);
        closed.add(socket);
      }
      if ((event === "drain" && pump(socket)) || handler.silent) return;
      tell(who, event, value(event, values, table));
    };
    if (handler.async)
      made[NAMES[event] ?? event] = async (socket: any, ...values: any[]) => {
        run(socket, ...values);
        for (const action of handler.do) {
          if (action[0] === "gate") await gate(action[1]).promise;
          else perform(socket, action);
        }
      };
    else
      made[NAMES[event] ?? event] = (socket: any, ...values: any[]) => {
        run(socket, ...values);
        for (const action of handler.do) perform(socket, action);
        if (handler.gives === "error") return new Error("given");
        if (handler.gives === "true") return true;
      };
  }
  return made;
}

function gate(name: string) {
  if (!gates.has(name)) gates.set(name, Promise.withResolvers<void>());
  return gates.get(name)!;
}

// What is done to a socket, or to the listener

function perform(socket: any, action: Action) {
  const [name, ...rest] = action;
  const who = labels.get(socket) ?? program.role;
  if (name === "throw") throw new Error(rest[0]);
  if (name === "pump") {
    pumps.set(socket, { rest: bytes(rest[0]), then: rest[1] });
    pump(socket);
    return;
  }
  const at = number++;
  let result: any;
  try {
    result = ACTIONS[name](socket, ...rest);
  } catch (error) {
    tell(who, `${name}()`, "raises", at);
    return;
  }
  if (result !== SILENT) tell(who, name === "mark" ? "mark" : `${name}()`, result, at);
}

const SILENT = "\0";

const ACTIONS: Record<string, (socket: any, ...rest: any[]) => string> = {
  write: (s, data, offset, length) => taken(s.write(bytes(data), ...given(offset, length)), data),
  end: (s, data) => (data === undefined ? String(s.end()) : taken(s.end(bytes(data)), data)),
  echo: (s, at_most) => {
    if (latest.get(s)!.length <= at_most) s.write(latest.get(s));
    return SILENT;
  },
  close: (s) => none(s.close()),
  terminate: (s) => none(s.terminate()),
  shutdown: (s, half) => none(s.shutdown(half ?? false)),
  pause: (s) => none(s.pause()),
  resume: (s) => none(s.resume()),
  flush: (s) => none(s.flush()),
  timeout: (s, seconds) => none(s.timeout(seconds)),
  state: (s) => String(s.readyState),
  mark: (_s, text) => text,
  hold: () => {
    if (existsSync(program.held_by)) readFileSync(program.held_by);
    return SILENT;
  },
  bytes_written: (s) => String(s.bytesWritten),
  chunks_within: (_s, size) => String(largest <= size),
  keep_chunk: () => ((kept = chunk), ""),
  kept_chunk: () => Buffer.from(kept).toString(),
  no_delay: (s, on) => String(s.setNoDelay(on)),
  keep_alive: (s, on, seconds) => String(s.setKeepAlive(on, seconds * 1000)),
  local_address: (s) => String(s.localAddress ?? "none"),
  remote_address: (s) => String(s.remoteAddress ?? "none"),
  remote_family: (s) => String(s.remoteFamily ?? "none"),
  listener_same: (s) => String(s.listener === listener && listener !== undefined),
  dispose: (s) => none(s[Symbol.dispose]()),
  data: (s) => JSON.stringify(s.data ?? null),
  set_data: (s, to) => ((s.data = to), ""),
  data_shared: (s) => String(s.data === listener.data),
  reload: (s, table) => none(s.reload({ socket: handlers(table) })),
  connect_again: () => (connect(), ""),
  upgrade: (s, options, table, with_rest) => {
    const rest = latest.get(s);
    const extra: any = with_rest ? { initialData: rest!.subarray(rest!.indexOf("\n") + 1) } : {};
    const [raw, secure] = s.upgradeTLS({ tls: tls(options), socket: handlers(table), data: "new", ...extra });
    upgraded = raw;
    labels.set(raw, labels.get(s)!);
    open_now.delete(s);
    if (!closed.has(raw)) open_now.add(raw); // it may be over already
    if (!sockets.includes(secure)) sockets.push(secure);
    return String(raw !== secure);
  },
  write_raw: (_s, data) => String(upgraded.write(data)),
  authorized: (s) => String(s.authorized),
  verdict: (s) => code(s.getAuthorizationError()) || "none",
  alpn: (s) => String(s.alpnProtocol || "none"),
  server_name: (s) => String(s.getServername() ?? "none"),
  set_server_name: (s, name) => none(s.setServername(name)),
  tls_version: (s) => String(s.getTLSVersion() ?? "none"),
  cipher_version: (s) => String(s.getCipher()?.version ?? "none"),
  peer_name: (s) => String(s.getPeerCertificate()?.subject?.CN ?? "none"),
  exported: (s) => String(s.exportKeyingMaterial(16, "EXPORTER-conformance")?.length),
  max_fragment: (s, size) => String(s.setMaxSendFragment(size)),
  keep_session: (s) => ((session = s.getSession()), session ? "some" : "none"),
  set_session: (s, other) => {
    if (other === undefined && !session) return "none to set";
    return none(s.setSession(typeof other === "string" ? Buffer.from(other) : (other ?? session)));
  },
  resumed: (s) => String(s.isSessionReused()),
  stop: (_s, all) => none(listener.stop(all)),
  dispose_listener: () => none(listener[Symbol.dispose]()),
  reload_listener: (_s, table) => none(listener.reload({ socket: handlers(table) })),
  listener_data: () => JSON.stringify(listener.data ?? null),
  set_listener_data: (_s, to) => ((listener.data = to), ""),
  listener_port: () => String(listener.port > 0),
  listener_host: () => String(listener.hostname ?? "none"),
  listener_path: () => String(listener.unix === program.options.unix),
  listen_again: (_s, options) => {
    let answer = "";
    for (let i = 0; i < 20; i++) // whoever else has the port there
      try {
        const where: any = { ...camel(options), port: listener.port };
        Bun.listen({ ...where, socket: handlers(program.table) }).stop(true);
        return "";
      } catch (error) {
        answer = code(error);
        listener.stop();
        serve();
      }
    return answer;
  },
  open_gate: (_s, name) => (gate(name).resolve(), SILENT),
};

function pump(socket: any): boolean {
  const left = pumps.get(socket);
  if (!left) return false;
  const count = socket.write(left.rest);
  if (count > 0) left.rest = left.rest.subarray(count);
  if (left.rest.length === 0 || count < 0) {
    pumps.delete(socket);
    tell(labels.get(socket)!, "pump", count < 0 ? "-1" : "all");
    for (const action of left.then) perform(socket, action);
  }
  return true;
}

// The commands

function connect() {
  const who = program.role;
  const told = program.tells_promise;
  const then = program.connected;
  try {
    Bun.connect({ ...options_of(program), socket: handlers(program.table) }).then(
      (socket) => {
        if (told) tell(who, "connected");
        for (const action of then) perform(socket, action);
      },
      (error) => told && tell(who, "failed", code(error)),
    );
  } catch (error) {
    tell(who, "connect", "refused");
  }
}

function serve() {
  try {
    listener = Bun.listen({ ...options_of(program), socket: handlers(program.table) });
  } catch (error) {
    const refused = error instanceof TypeError || error instanceof RangeError;
    tell(program.role, "listen", refused ? "refused" : code(error));
    return { ready: true };
  }
  return { ready: true, port: listener.port };
}

function begin(one: Program) {
  forget();
  program = one;
  quiet = false;
  if (one.call === "listen") return serve();
  connect();
  if (one.is_held) ACTIONS.hold(undefined);
  return { ready: true };
}

function forget() {
  listener = upgraded = session = chunk = kept = undefined;
  sockets = [];
  for (const one of [labels, opened, open_now, pumps, latest, gates]) one.clear();
  number = largest = 0;
  Bun.gc(true);
}

function finish() {
  quiet = true;
  listener?.stop(true);
  for (const socket of [...open_now, ...sockets]) socket.terminate();
}

process.on("uncaughtException", (error) => tell(program.role, "uncaught", code(error)));
process.on("unhandledRejection", (error) => tell(program.role, "uncaught", code(error)));

function say(message: any) {
  console.log(JSON.stringify(message));
}

for await (const line of console) {
  const command = JSON.parse(line);
  if (command.begin) say(begin(command.begin));
  if (command.act) {
    for (const action of command.act) {
      const socket = command.socket === null ? sockets.at(-1) : sockets[command.socket];
      perform(socket, action);
    }
    say({ acted: true });
  }
  if (command.turn) say({ turned: true, open: open_now.size });
  if (command.finish) {
    finish();
    say({ finished: true });
  }
}
process.exit(0);

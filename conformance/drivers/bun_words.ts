// What the table calls what happened on Bun, and what scenarios call data and options;
// mantou_words.py does the same on mantou.

import { openSync } from "node:fs";
import { dlopen } from "bun:ffi";

export function code(error: any): string {
  if (error === null || error === undefined) return "";
  if (!(error instanceof Error)) return String(error);
  const code = (error as any).code;
  if (code === undefined) return error.message;
  if (code === "EPROTO") return "TLS";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "HOSTNAME_MISMATCH";
  if (/^ERR_(INVALID_ARG|OUT_OF_RANGE|OSSL|BORINGSSL|CRYPTO|MISSING)/.test(code)) return "refused";
  return code;
}

export function value(event: string, values: any[], table: any): string {
  if (event === "data") {
    const kind = table.binary ? values[0].constructor.name : "";
    const bytes = new Uint8Array(values[0]);
    if (bytes[0] >= 0x14 && bytes[0] <= 0x17 && bytes[1] === 3)
      return JSON.stringify({ kind: "", size: 0, text: "TLS" });
    const text = bytes.length > 64 ? "" : Buffer.from(bytes).toString("latin1");
    return JSON.stringify({ kind, size: bytes.length, text });
  }
  if (event === "handshake") return [values[0], code(values[1])].filter((one) => one !== "").join(" ");
  return code(values[0]);
}

export function none(_value: any): string {
  return "";
}

export function given(...values: any[]): any[] {
  return values.filter((one) => one !== undefined && one !== null);
}

export function taken(count: number, data: any): string {
  if (typeof data === "string") return String(count);
  return count === data.fill ? "all" : count >= 0 ? "not all" : String(count);
}

export function bytes(data: any): any {
  if (typeof data === "string") return data;
  const made = new Uint8Array(data.fill);
  for (let i = 0; i < made.length; i++) made[i] = i % 251;
  return made;
}

// Options, as Bun spells them

const SPELLING: Record<string, string> = { ipv6_only: "ipv6Only", alpn_protocols: "ALPNProtocols" };

export function camel(options: Record<string, any>): Record<string, any> {
  const made: Record<string, any> = {};
  for (const [name, value] of Object.entries(options))
    made[SPELLING[name] ?? name.replace(/_(.)/g, (_all, letter) => letter.toUpperCase())] = value;
  return made;
}

export function tls(options: any): any {
  if (typeof options !== "object" || options === null) return options;
  const made = camel(options);
  for (const name of ["minVersion", "maxVersion"])
    if (name in made) made[name] = { "TLSv1.2": 0x0303, "TLSv1.3": 0x0304 }[made[name] as string];
  if (Array.isArray(made.ALPNProtocols))
    made.ALPNProtocols = Buffer.concat(
      made.ALPNProtocols.map((one: string) => Buffer.from([one.length, ...Buffer.from(one)])),
    );
  return made;
}

export function options_of(one: any): any {
  const made: any = camel(one.options);
  if (made.fd === "a file") made.fd = openSync(import.meta.path, "r");
  else if (made.fd?.connected) made.fd = connected(made.fd.connected);
  if ("tls" in made) made.tls = tls(one.options.tls);
  return made;
}

// A descriptor that nobody of Bun's has opened.
function connected(port: number): number {
  const { symbols: libc } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  });
  const address = Buffer.from([2, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  const fd = libc.socket(2, 1, 0);
  if (libc.connect(fd, address, address.length) !== 0) throw new Error("nobody listens");
  return fd;
}

// node_client.mjs PORT CONNECTIONS [CERTIFICATE]: net.connect, an echo, the end, again and again.
// With a certificate over TLS, which it verifies.
import { readFileSync } from "node:fs";
import net from "node:net";
import tls from "node:tls";
import { MESSAGE, rounds } from "./rounds.mjs";

const [port, connections] = process.argv.slice(2, 4).map(Number);
const certificate = process.argv[4];
const to = { host: "127.0.0.1", port, noDelay: true };
const secureContext = certificate && tls.createSecureContext({ ca: readFileSync(certificate) });

const connect = certificate
  ? () => tls.connect({ ...to, secureContext, servername: "localhost" })
  : () => net.connect(to);
const ready = certificate ? "secureConnect" : "connect";

function visit() {
  return new Promise((resolve, reject) => {
    const parts = [];
    const socket = connect();
    socket.on(ready, () => socket.write(MESSAGE));
    socket.on("data", (data) => parts.push(data));
    socket.on("error", reject);
    socket.on("close", () => {
      if (Buffer.concat(parts).equals(MESSAGE)) resolve();
      else reject(new Error("the echo differs"));
    });
  });
}

await rounds(connections, visit);

// A TLS peer of Node's: `serve` echoes, `connect` copies its standard input and output.
import fs from "node:fs";
import tls from "node:tls";
import { parseArgs } from "node:util";

const text = { type: "string" };
const flag = { type: "boolean" };
const { values, positionals } = parseArgs({
  options: { version: text, group: text, ca: text, cert: text, key: text, verify: flag, resume: flag },
  allowPositionals: true,
});
const [role, address] = positionals;
const [host, port] = address.split(":");
const options = {
  ca: fs.readFileSync(values.ca),
  minVersion: values.version,
  maxVersion: values.version,
  servername: "localhost",
  host,
  port: Number(port),
};
if (values.group) options.ecdhCurve = values.group;
if (values.cert) {
  options.cert = fs.readFileSync(values.cert);
  options.key = fs.readFileSync(values.key);
}

if (role === "serve") {
  options.requestCert = options.rejectUnauthorized = Boolean(values.verify);
  tls
    .createServer(options, (socket) => {
      socket.on("error", () => {});
      socket.pipe(socket);
    })
    .listen(options.port, host);
} else if (values.resume) {
  const first = tls.connect(options, () => first.write("first"));
  let session;
  first.on("session", (one) => (session = one));
  first.on("data", () => first.end());
  first.on("close", () => talk({ ...options, session }));
} else {
  talk(options);
}

function talk(options) {
  const socket = tls.connect(options);
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
  socket.on("close", () => process.exit(0));
}

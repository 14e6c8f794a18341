// bun_client.mjs PORT CONNECTIONS [CERTIFICATE]: Bun.connect, an echo, the end, again and again.
// With a certificate over TLS, which it verifies.
import { MESSAGE, rounds } from "./rounds.mjs";

const [port, connections] = process.argv.slice(2, 4).map(Number);
const certificate = process.argv[4];
const tls = certificate && { ca: await Bun.file(certificate).text(), serverName: "localhost" };

const handlers = {
  open: (socket) => void socket.write(MESSAGE),
  data(socket, data) {
    socket.data.received = Buffer.concat([socket.data.received, data]);
  },
  close(socket) {
    const { received, resolve, reject } = socket.data;
    if (received.equals(MESSAGE)) resolve();
    else reject(new Error("the echo differs"));
  },
  error: (socket, error) => socket.data.reject(error),
};

function visit() {
  return new Promise((resolve, reject) => {
    const data = { received: Buffer.alloc(0), resolve, reject };
    Bun.connect({ hostname: "127.0.0.1", port, tls, data, socket: handlers }).catch(reject);
  });
}

await rounds(connections, visit);

// node_server.mjs ROLE [CERTIFICATE KEY]: prints its port and serves. Roles as in floor.c, and
// timeouts: an echo whose connections all have an idle timeout.
import { readFileSync } from "node:fs";
import net from "node:net";
import tls from "node:tls";

const [role, certificate, key] = process.argv.slice(2);
const PIECE = 4;
const BLOCK = Buffer.allocUnsafe(1 << 20);
for (let i = 0; i < BLOCK.length; i++) BLOCK[i] = i % 251;
const ZERO = Buffer.alloc(1);
const everybody = new Set();

function pieces(socket, data) {
  for (let i = 0; i < data.length; i += PIECE) socket.write(data.subarray(i, i + PIECE));
}

const roles = {
  echo: (socket) => socket.on("data", (data) => socket.write(data)),
  timeouts: (socket) => {
    socket.setTimeout(600_000, () => socket.destroy());
    roles.echo(socket);
  },
  sink: (socket) => {
    let received = 0;
    socket.on("data", (data) => {
      for (received += data.length; received >= BLOCK.length; received -= BLOCK.length)
        socket.write(ZERO);
    });
  },
  source: (socket) => {
    let due = 0;
    let waiting = false;
    const fill = () => {
      while (due && !waiting) {
        due--;
        waiting = !socket.write(BLOCK);
      }
    };
    socket.on("data", (data) => {
      due += data.length;
      fill();
    });
    socket.on("drain", () => {
      waiting = false;
      fill();
    });
  },
  fanout: (socket) => {
    everybody.add(socket);
    socket.on("close", () => everybody.delete(socket));
    socket.on("data", (data) => {
      for (const each of everybody) each.write(data);
    });
  },
  pieces: (socket) => socket.on("data", (data) => pieces(socket, data)),
  corked: (socket) =>
    socket.on("data", (data) => {
      socket.cork();
      pieces(socket, data);
      socket.uncork();
    }),
};

function accept(socket) {
  socket.on("error", () => {});
  roles[role](socket);
}

const options = { noDelay: true };
const server = certificate
  ? tls.createServer(
      {
        ...options,
        cert: readFileSync(certificate),
        key: readFileSync(key),
        minVersion: "TLSv1.3",
        ciphers: "TLS_AES_256_GCM_SHA384",
      },
      accept,
    )
  : net.createServer(options, accept);
server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(server.address().port));

// bun_server.mjs ROLE [CERTIFICATE KEY]: Bun.listen. Prints its port and serves. Roles as in
// floor.c, and timeouts: an echo whose connections all have an idle timeout.
const [role, certificate, key] = process.argv.slice(2);
const PIECE = 4;
const BLOCK = Buffer.allocUnsafe(1 << 20);
for (let i = 0; i < BLOCK.length; i++) BLOCK[i] = i % 251;
const ZERO = new Uint8Array(1);
const everybody = new Set();
const GATHERED = new Bun.ArrayBufferSink();
GATHERED.start({ stream: true, asUint8Array: true });

// write() takes what the kernel takes: the rest is kept until `drain`.
function send(socket, data) {
  if (socket.data.rest) {
    socket.data.rest = Buffer.concat([socket.data.rest, data]);
    return;
  }
  const sent = socket.write(data);
  if (sent < data.length) socket.data.rest = Buffer.from(data.subarray(sent < 0 ? 0 : sent));
}

function flush(socket) {
  const rest = socket.data.rest;
  if (!rest) return;
  const sent = socket.write(rest);
  socket.data.rest = sent < rest.length ? rest.subarray(sent < 0 ? 0 : sent) : undefined;
}

function fill(socket) {
  while (socket.data.due) {
    const start = BLOCK.length - (socket.data.due % BLOCK.length || BLOCK.length);
    const sent = socket.write(BLOCK, start, BLOCK.length - start);
    if (sent > 0) socket.data.due -= sent;
    if (sent < BLOCK.length - start) return;
  }
}

const roles = {
  echo: { data: send },
  timeouts: {
    open(socket) {
      socket.data = {};
      socket.timeout(600);
    },
    data: send,
    timeout: (socket) => socket.terminate(),
  },
  sink: {
    open(socket) {
      socket.data = { received: 0 };
    },
    data(socket, data) {
      let received = socket.data.received + data.length;
      for (; received >= BLOCK.length; received -= BLOCK.length) send(socket, ZERO);
      socket.data.received = received;
    },
  },
  source: {
    open(socket) {
      socket.data = { due: 0 };
    },
    data(socket, data) {
      const waiting = socket.data.due;
      socket.data.due += data.length * BLOCK.length;
      if (!waiting) fill(socket);
    },
    drain: fill,
  },
  fanout: {
    open(socket) {
      socket.data = {};
      everybody.add(socket);
    },
    close: (socket) => everybody.delete(socket),
    data(socket, data) {
      for (const each of everybody) send(each, data);
    },
  },
  pieces: {
    data(socket, data) {
      for (let i = 0; i < data.length; i += PIECE) send(socket, data.subarray(i, i + PIECE));
    },
  },
  // Its sockets have no cork: Bun's manual says to gather in an ArrayBufferSink.
  corked: {
    data(socket, data) {
      for (let i = 0; i < data.length; i += PIECE) GATHERED.write(data.subarray(i, i + PIECE));
      send(socket, GATHERED.flush());
    },
  },
};

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  ...(certificate && {
    tls: { cert: Bun.file(certificate), key: Bun.file(key), minVersion: 0x0304 },
  }),
  socket: {
    open(socket) {
      socket.data = {};
    },
    drain: flush,
    error(socket, error) {
      console.error(error); // a handler of ours is wrong: not to be hidden
      process.exit(1);
    },
    ...roles[role],
  },
});
console.log(server.port);

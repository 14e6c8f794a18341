// node_client.mjs PORT CONNECTIONS: net.connect, an echo, the end, again and again.
import net from "node:net";
import { MESSAGE, rounds } from "./rounds.mjs";

const [port, connections] = process.argv.slice(2).map(Number);

function visit() {
  return new Promise((resolve, reject) => {
    const parts = [];
    const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
    socket.on("connect", () => socket.write(MESSAGE));
    socket.on("data", (data) => parts.push(data));
    socket.on("error", reject);
    socket.on("close", () => {
      if (Buffer.concat(parts).equals(MESSAGE)) resolve();
      else reject(new Error("the echo differs"));
    });
  });
}

await rounds(connections, visit);

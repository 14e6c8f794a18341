// What the clients in JavaScript share: rounds, and the figures of one. See rounds.py.
import { createInterface } from "node:readline";

export const MESSAGE = Buffer.from(Array.from({ length: 64 }, (_, i) => i));

export async function rounds(connections, visit) {
  console.log("ready");
  for await (const line of createInterface({ input: process.stdin })) {
    const latencies = [];
    const begin = performance.now();
    const deadline = begin + Number.parseFloat(line) * 1000;
    const work = async () => {
      for (;;) {
        const since = performance.now();
        if (since >= deadline) return;
        await visit();
        latencies.push(performance.now() - since);
      }
    };
    await Promise.all(Array.from({ length: connections }, work));
    const seconds = (performance.now() - begin) / 1000;
    latencies.sort((a, b) => a - b);
    const at = (share) =>
      1000 * latencies[Math.min(Math.floor(latencies.length * share), latencies.length - 1)];
    const figures = { messages: latencies.length, seconds, load_cpu: 0, resumed: 0 };
    Object.assign(figures, { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) });
    console.log(JSON.stringify(figures));
  }
  process.exit(0);
}

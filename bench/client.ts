/**
 * A client process of the benchmark under Deno: asks memstore or Redis, one call after another or many at
 * once, and prints what it measured.
 *
 * ```text
 * client.ts memstore|node-redis|ioredis ADDRESS one SECONDS      microseconds a get
 * client.ts memstore|node-redis|ioredis ADDRESS median SECONDS   the median get, in microseconds
 * client.ts memstore|node-redis|ioredis ADDRESS many SECONDS N   gets a second, N at once
 * client.ts memstore|node-redis ADDRESS slowest SECONDS          the slowest get, in milliseconds
 * client.ts memstore ADDRESS large SECONDS                       sets of 1 MiB a second
 * ```
 *
 * The address of a host with keys is followed by a comma, the file of the client's key, a comma, the host's.
 *
 * Printed behind it are the seconds of processor time that were used.
 *
 * @module
 */

import process from "node:process";

/** What each peer can do: set the one entry, and get it. */
interface Peer {
  set(value?: string): Promise<unknown>;
  get(): Promise<unknown>;
  close(): unknown;
}

const VALUE = "v".repeat(32);

const peers: Record<string, (address: string) => Promise<Peer>> = {
  async memstore(address) {
    const { MemStoreClient } = await import("@memstore/memstore");
    const [endpoint, key, serverKey] = address.split(",");
    const client = new MemStoreClient(endpoint, { timeout: 60_000, key, serverKey });
    return {
      set: (value = VALUE) => client.set("t", "key of bench", value),
      get: () => client.get("t", "key of bench"),
      close: () => client.close(),
    };
  },
  async "node-redis"(path) {
    const { createClient } = await import("redis");
    const client = createClient({ socket: { path, tls: false } });
    await client.connect();
    return {
      set: () => client.hSet("t", "key of bench", VALUE),
      get: () => client.hGet("t", "key of bench"),
      close: () => client.destroy(),
    };
  },
  async ioredis(path) {
    const { Redis } = await import("ioredis");
    const client = new Redis(path);
    return {
      set: () => client.hset("t", "key of bench", VALUE),
      get: () => client.hget("t", "key of bench"),
      close: () => client.disconnect(),
    };
  },
};

const [name, address, what, seconds, many] = Deno.args;
const peer = await peers[name](address);
await peer.set();

/** Repeats it for so many seconds; how often, and how long it took in milliseconds. */
async function repeat(seconds: number, it: () => Promise<unknown>): Promise<{ count: number; took: number }> {
  const start = performance.now(), end = start + seconds * 1000;
  let count = 0;
  for (; performance.now() < end; count++) await it();
  return { count, took: performance.now() - start };
}

async function measure(): Promise<number> {
  const duration = Number(seconds);
  if (what === "one") {
    await repeat(duration / 4, peer.get);
    const { count, took } = await repeat(duration, peer.get);
    return took / count * 1000;
  }
  if (what === "many") {
    const n = Number(many);
    const all = () => Promise.all(Array.from({ length: n }, () => peer.get()));
    await repeat(duration / 4, all);
    const { count, took } = await repeat(duration, all);
    return count * n / took * 1000;
  }
  if (what === "large") {
    const value = "v".repeat(2 ** 20);
    const { count, took } = await repeat(duration, () => peer.set(value));
    return count / took * 1000;
  }
  const times: number[] = [];
  await repeat(duration, async () => {
    const start = performance.now();
    await peer.get();
    times.push(performance.now() - start);
  });
  times.sort((a, b) => a - b);
  return what === "slowest" ? times.at(-1)! : times[times.length >> 1] * 1000;
}

// (What the first calls cost is V8's, not the server's.)
if (what === "slowest" || what === "median") await repeat(1, peer.get);
console.log("ready");
const before = process.cpuUsage();
const result = await measure();
const { user, system } = process.cpuUsage(before);
console.log(result, (user + system) / 1e6);
await peer.close();
Deno.exit();

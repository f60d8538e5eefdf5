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
 * After the figure it prints the seconds of processor time that it used.
 *
 * @module
 */

import process from "node:process";

/** A client of memstore or of a peer: it sets the one entry, and gets it. */
interface BenchClient {
  set(value?: string): Promise<unknown>;
  get(): Promise<unknown>;
  close(): unknown;
}

const VALUE = "v".repeat(32);

const clients: Record<string, (address: string) => Promise<BenchClient>> = {
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
const client = await clients[name](address);
await client.set();

/** Repeats a call for a number of seconds: how often, and how long it took in milliseconds. */
async function repeat(seconds: number, it: () => Promise<unknown>): Promise<{ count: number; took: number }> {
  const start = performance.now(), end = start + seconds * 1000;
  let count = 0;
  for (; performance.now() < end; count++) await it();
  return { count, took: performance.now() - start };
}

async function measure(): Promise<number> {
  const duration = Number(seconds);
  if (what === "one") {
    await repeat(duration / 4, client.get);
    const { count, took } = await repeat(duration, client.get);
    return took / count * 1000;
  }
  if (what === "many") {
    const n = Number(many);
    const all = () => Promise.all(Array.from({ length: n }, () => client.get()));
    await repeat(duration / 4, all);
    const { count, took } = await repeat(duration, all);
    return count * n / took * 1000;
  }
  if (what === "large") {
    const value = "v".repeat(2 ** 20);
    const { count, took } = await repeat(duration, () => client.set(value));
    return count / took * 1000;
  }
  const times: number[] = [];
  await repeat(duration, async () => {
    const start = performance.now();
    await client.get();
    times.push(performance.now() - start);
  });
  times.sort((a, b) => a - b);
  return what === "slowest" ? times.at(-1)! : times[times.length >> 1] * 1000;
}

// (The first calls measure V8's compiler, not the server.)
if (what === "slowest" || what === "median") await repeat(1, client.get);
console.log("ready");
const before = process.cpuUsage();
const result = await measure();
const { user, system } = process.cpuUsage(before);
console.log(result, (user + system) / 1e6);
await client.close();
Deno.exit();

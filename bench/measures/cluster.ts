/**
 * A front of a Redis cluster of three nodes: its calls beside those of node-redis' client for clusters, used directly by
 * the same process; and how evenly, and in how much memory, the cluster holds a table.
 *
 * @module
 */

import { MemStoreClient } from "../../client.ts";
import { RedisCluster, RedisServer } from "../../tests/redis.ts";
import { clientOf, measureClient } from "../load.ts";
import { list, type Measure, type Size } from "../measure.ts";
import { run, type Running, startHost } from "../processes.ts";

/** How many entries are set at once. */
const AT_ONCE = 10_000;
const PEER = "node-redis 5, cluster";

/** Measures a front, where Redis is installed. */
export async function* cluster(
  directory: string,
  { entries }: Size,
  stack: AsyncDisposableStack,
): AsyncGenerator<Measure> {
  const redis = stack.use(await RedisCluster.start());
  const front = stack.use(await startHost(directory, "front", "--engine", redis.url));
  const nodes = redis.nodes.map(({ port }) => `127.0.0.1:${port}`).join();
  for (
    const [name, what, unit, better, comparison] of [
      ["256 gets and sets at once", "both", "calls/s", "more", { atLeast: 0.8 }],
      ["one get after another", "get", "µs", "less", { atLeast: 0.7 }],
    ] as const
  ) {
    yield {
      name: `${name}, through a front of a Redis cluster`,
      unit,
      better,
      comparisons: [comparison],
      contestants: [
        clientOf("memstore", front, what),
        { name: PEER, once: async (seconds) => ({ value: await measureClient(PEER, nodes, what, seconds) }) },
      ],
    };
  }
  let filled: Promise<number> | undefined;
  const grown = () => filled ??= fill(front, redis, entries);
  yield {
    name: `entries on the fullest node of a Redis cluster of three, in a third of ${
      entries.toLocaleString("en")
    }`,
    unit: "times",
    better: "less",
    value: 1.05,
    rounds: 1,
    contestants: [{
      name: "memstore",
      async once() {
        await grown();
        const counts = await redis.entries("memstore:*:t:even");
        return { value: Math.max(...counts) / (entries / 3) };
      },
    }],
  };
  yield {
    name: `memory of ${entries.toLocaleString("en")} entries in a Redis cluster, by used_memory`,
    unit: "bytes an entry",
    better: "less",
    comparisons: [{ atMost: 1.15 }],
    rounds: 1,
    contestants: list(
      { name: "memstore", once: async () => ({ value: await grown() / entries }) },
      { name: "one hash of Redis", once: async () => ({ value: await hashOf(entries) / entries }) },
    ),
  };
}

/** Sets entries of 12-byte keys and 32-byte values. Returns by how many bytes the nodes grew. */
async function fill(front: Running, redis: RedisCluster, entries: number): Promise<number> {
  await using client = new MemStoreClient(front.address, { timeout: 60_000 });
  const used = async () => (await Promise.all(redis.nodes.map(usedMemory))).reduce((a, b) => a + b);
  const before = await used();
  for (let at = 0; at < entries; at += AT_ONCE) {
    const some = Array.from(
      { length: Math.min(AT_ONCE, entries - at) },
      (_, i) => `${at + i}`.padStart(12, "0"),
    );
    await client.setMany("even", new Map(some.map((key) => [key, "v".repeat(32)])));
  }
  return await used() - before;
}

/** The bytes of a hash with the same entries, in a server of its own. */
async function hashOf(entries: number): Promise<number> {
  await using server = await RedisServer.start();
  const before = await usedMemory(server);
  const script = `for i = 0, ARGV[1] - 1 do
    redis.call("HSET", "t", string.format("%012d", i), string.rep("v", 32))
  end`;
  await run("redis-cli", ["-p", `${server.port}`, "eval", script, "0", `${entries}`]);
  return await usedMemory(server) - before;
}

async function usedMemory(server: RedisServer): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await server.cli("INFO", "memory"))![1]);
}

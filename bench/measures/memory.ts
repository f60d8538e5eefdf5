/**
 * The memory of the entries, by what each program says that it uses, and by what the system gave it.
 *
 * @module
 */

import { fill, statsOf } from "../load.ts";
import { list, type Measure, type Size } from "../measure.ts";
import { memoryOf, run, type Running } from "../processes.ts";

/** Bytes an entry: by what the program says, and by the growth of its process. */
type Bytes = [told: number, grown: number];

/** Sets the same entries in ours and in Redis, once and when they are first needed. Resolves with how they grew. */
export interface Entries {
  ours(): Promise<Bytes>;
  theirs(): Promise<Bytes>;
}

/** The entries of a host and a Redis. */
export function entriesOf(
  host: Running,
  redis: Running | undefined,
  load: string,
  { entries }: Size,
): Entries {
  const growing = (set: () => Promise<void>, memory: () => Promise<Bytes>) => {
    const grow = async (): Promise<Bytes> => {
      const before = await memory();
      await set();
      const after = await memory();
      return [(after[0] - before[0]) / entries, (after[1] - before[1]) / entries];
    };
    let grown: Promise<Bytes> | undefined;
    return () => grown ??= grow();
  };
  return {
    ours: growing(
      () => fill(load, host, entries),
      async () => [(await statsOf(host)).heap, await memoryOf(host.pid)],
    ),
    theirs: growing(() => fillRedis(redis!, entries), async () => {
      const info = await run("redis-cli", ["-s", redis!.address, "info", "memory"]);
      return [Number(/used_memory:(\d+)/.exec(info)![1]), await memoryOf(redis!.pid)];
    }),
  };
}

/** Measures how ours and Redis grow with the same entries. */
export function* memory(filled: Entries, redis: boolean, { entries }: Size): Generator<Measure> {
  const measure = (name: string, which: 0 | 1, atMost?: number): Measure => ({
    name: `memory of ${entries.toLocaleString("en")} entries, ${name}`,
    unit: "bytes an entry",
    better: "less",
    comparisons: [{ atMost }],
    rounds: 1,
    contestants: list(
      { name: "memstore", once: async () => ({ value: (await filled.ours())[which] }) },
      redis && { name: "Redis", once: async () => ({ value: (await filled.theirs())[which] }) },
    ),
  });
  yield measure("by stats (heap) and used_memory", 0, 0.75);
  yield measure("by the growth of the processes", 1);
}

/** The same entries in one hash of Redis. */
async function fillRedis(redis: Running, entries: number): Promise<void> {
  const script = `for i = 0, ARGV[1] - 1 do
    redis.call("HSET", "t", string.format("%012d", i), string.rep("v", 32))
  end`;
  await run("redis-cli", ["-s", redis.address, "eval", script, "0", `${entries}`]);
}

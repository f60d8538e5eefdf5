/**
 * The memory of the entries, by what each program says that it uses, and by what the system gave it.
 *
 * @module
 */

import { fill, statsOf } from "../load.ts";
import { list, type Measure, type Size } from "../measure.ts";
import { memoryOf, run, type Running } from "../processes.ts";

/** Fills ours and Redis with the same entries, and measures how they grow. */
export function* memory(
  host: Running,
  redis: Running | undefined,
  load: string,
  { entries }: Size,
): Generator<Measure> {
  const measured = (before: number[], after: number[]) =>
    after.map((bytes, i) => (bytes - before[i]) / entries);
  const ours = async () => {
    return [(await statsOf(host)).heap, await memoryOf(host.pid)];
  };
  const theirs = async () => {
    const info = await run("redis-cli", ["-s", redis!.address, "info", "memory"]);
    return [Number(/used_memory:(\d+)/.exec(info)![1]), await memoryOf(redis!.pid)];
  };
  const filled = new Map<string, number[]>();
  const measure = (name: string, which: number, goal: Measure["goal"]): Measure => ({
    name: `memory of ${entries.toLocaleString("en")} entries, ${name}`,
    unit: "bytes an entry",
    better: "less",
    goal,
    rounds: 1,
    contestants: list(
      {
        name: "memstore",
        async once() {
          if (!filled.has("ours")) {
            const before = await ours();
            await fill(load, host, entries);
            filled.set("ours", measured(before, await ours()));
          }
          return { value: filled.get("ours")![which] };
        },
      },
      redis && {
        name: "Redis",
        async once() {
          if (!filled.has("theirs")) {
            const before = await theirs();
            await fillRedis(redis, entries);
            filled.set("theirs", measured(before, await theirs()));
          }
          return { value: filled.get("theirs")![which] };
        },
      },
    ),
  });
  yield measure("by stats (heap) and used_memory", 0, { ratio: 0.75 });
  yield measure("by the growth of the processes", 1, undefined);
}

/** The same entries in one hash of Redis. */
async function fillRedis(redis: Running, entries: number): Promise<void> {
  const script = `for i = 0, ARGV[1] - 1 do
    redis.call("HSET", "t", string.format("%012d", i), string.rep("v", 32))
  end`;
  await run("redis-cli", ["-s", redis.address, "eval", script, "0", `${entries}`]);
}

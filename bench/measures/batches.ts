/**
 * Gets or sets of random keys, 64 commands a message, from native loads.
 *
 * @module
 */

import { loaded, nativeLoad } from "../load.ts";
import { type Contestant, list, type Measure, type Size } from "../measure.ts";
import { run, type Running, type Tools } from "../processes.ts";
import type { Entries } from "./memory.ts";

const OVER_LANE = "memstore through a lane (native load)";
const OVER_ZEROMQ = "memstore over ZeroMQ (native load)";
const REDIS = "redis-benchmark -P 64";

/** Measures the throughput of one command. */
export function batches(
  what: "get" | "set",
  host: Running,
  redis: Running | undefined,
  filled: Entries,
  { load, lane }: Tools,
  { seconds, entries }: Size,
): Measure {
  const messages = Math.ceil(seconds * 20_000);
  const native = (name: string, transport: "zeromq" | "lane"): Contestant => ({
    name,
    async once() {
      await filled.ours();
      return await loaded(host, () => nativeLoad(load!, transport, host, what, entries, messages));
    },
  });
  return {
    name: `${what}, 64 commands a message, ${entries.toLocaleString("en")} keys`,
    unit: "commands/s",
    better: "more",
    comparisons: [
      { ours: OVER_LANE, against: [REDIS], atLeast: 2.5 },
      { ours: OVER_ZEROMQ, against: [REDIS], atLeast: what === "get" ? 1.5 : 2.5 },
    ],
    contestants: list(
      lane && native(OVER_LANE, "lane"),
      native(OVER_ZEROMQ, "zeromq"),
      redis && {
        name: REDIS,
        async once() {
          await filled.theirs();
          return await loaded(redis, async () => {
            const command = ["hget", "t", "__rand_int__", "v".repeat(32)].with(0, `h${what}`)
              .slice(0, what === "get" ? 3 : 4);
            const options = [
              "-s",
              redis.address,
              "-P",
              "64",
              "-r",
              `${entries}`,
              "-n",
              `${messages * 64}`,
              "--csv",
            ];
            const csv = await run("redis-benchmark", [...options, ...command]);
            // The columns: "test","rps",…; the load does not tell what it used.
            return [Number(csv.split("\n").at(-1)!.split('","')[1]), NaN];
          });
        },
      },
    ),
  };
}

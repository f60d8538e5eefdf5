/**
 * Gets or sets of random keys, 64 commands a message, from native loads.
 *
 * @module
 */

import { loaded, numbers } from "../load.ts";
import { list, type Measure, type Size } from "../measure.ts";
import { run, type Running } from "../processes.ts";

/** Measures the throughput of one command. */
export function batches(
  what: "get" | "set",
  host: Running,
  redis: Running | undefined,
  load: string,
  { seconds, entries }: Size,
): Measure {
  const messages = Math.ceil(seconds * 20_000);
  return {
    name: `${what}, 64 commands a message, ${entries.toLocaleString("en")} keys`,
    unit: "commands/s",
    better: "more",
    goal: { ratio: what === "get" ? 1.5 : 2.5 },
    contestants: list(
      {
        name: "memstore (native load)",
        once: () =>
          loaded(host, async () => {
            const [value, used, wrong] = numbers(
              await run(load, [
                "batch",
                `ipc://${host.address}`,
                what,
                `${entries}`,
                "64",
                `${messages}`,
                "16",
              ]),
            );
            if (wrong > 0) throw new Error(`${wrong} replies of ${messages} were wrong`);
            return [value, used];
          }),
      },
      redis && {
        name: `redis-benchmark -P 64 h${what}`,
        once: () =>
          loaded(redis, async () => {
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
          }),
      },
    ),
  };
}

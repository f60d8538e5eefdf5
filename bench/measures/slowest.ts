/**
 * The slowest get while many entries are inserted.
 *
 * @module
 */

import { fill, result, startClient } from "../load.ts";
import { list, type Measure, type Sample, type Size } from "../measure.ts";
import { run, type Running, startHost, startRedis } from "../processes.ts";

const LANE = "memstore through the lane";

/** Measures how long inserts hold up another client. */
export function slowest(directory: string, load: string, redis: boolean, { entries }: Size): Measure {
  let round = 0;
  const during = async (server: Running, name: string, insert: () => Promise<unknown>): Promise<Sample> => {
    // (The load is there for as long as the inserts take, and a little longer.)
    await using client = await startClient(name, server.address, "slowest", 3);
    const [[value]] = await Promise.all([result(client), insert()]);
    return { value };
  };
  return {
    name: `slowest get while ${entries.toLocaleString("en")} entries are inserted`,
    unit: "ms",
    better: "less",
    value: 10,
    rounds: 5,
    contestants: list(
      {
        name: LANE,
        async once() {
          await using host = await startHost(directory, `slowest${round++}`);
          return await during(host, LANE, () => fill(load, host, entries));
        },
      },
      redis && {
        name: "Redis (redis-benchmark -P 64 hset)",
        async once() {
          await using server = await startRedis(directory, `slowest${round++}`);
          const options = ["-s", server.address, "-P", "64", "-r", `${entries}`, "-n", `${entries}`, "--csv"];
          const command = ["hset", "inserted", "__rand_int__", "v".repeat(32)];
          return await during(server, "node-redis 5", () => run("redis-benchmark", [...options, ...command]));
        },
      },
    ),
  };
}

/**
 * 256 gets at once from one Deno process, beside the clients of Redis.
 *
 * @module
 */

import { clientOf } from "../load.ts";
import { list, type Measure } from "../measure.ts";
import type { Running } from "../processes.ts";

/** Measures the throughput of calls made at once. */
export function atOnce(host: Running, redis: Running | undefined): Measure {
  const peers = ["node-redis 5", "node-redis 6", "ioredis", "ioredis, pipelining"];
  return {
    name: "256 gets at once, from one Deno process",
    unit: "gets/s",
    better: "more",
    comparisons: [{ atLeast: 3 }],
    contestants: list(
      clientOf("memstore through the lane", host, "many"),
      ...peers.map((name) => redis && clientOf(name, redis, "many")),
    ),
  };
}

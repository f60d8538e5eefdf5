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
  return {
    name: "256 gets at once, from one Deno process",
    unit: "gets/s",
    better: "more",
    goal: { ratio: 2.5 },
    contestants: list(
      clientOf("memstore", host, "many", "256"),
      redis && clientOf("node-redis", redis, "many", "256"),
      redis && clientOf("ioredis", redis, "many", "256"),
    ),
  };
}

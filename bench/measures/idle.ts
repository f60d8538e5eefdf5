/**
 * The first call to an idle host: through the lane, which must not make it slower, and over ZeroMQ.
 *
 * @module
 */

import { clientOf } from "../load.ts";
import type { Measure } from "../measure.ts";
import type { Running } from "../processes.ts";

/** How much longer one is measured: a call is made every 50 ms. */
const LONGER = 4;

/** Measures the median get after 50 ms in which neither end had anything to do. */
export function idle(host: Running): Measure {
  return {
    name: "first get to an idle host",
    unit: "µs",
    better: "less",
    comparisons: [{ atLeast: 0.9 }],
    contestants: ["memstore through the lane", "memstore over ZeroMQ"].map((name) => {
      const client = clientOf(name, host, "idle");
      return { name, once: (seconds) => client.once(seconds * LONGER) };
    }),
  };
}

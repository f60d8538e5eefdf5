/**
 * Sixteen legacy clients at once, beside pymemstore's own loop.
 *
 * @module
 */

import { loaded, numbers } from "../load.ts";
import type { Contestant, Measure } from "../measure.ts";
import { run, type Running } from "../processes.ts";

/** Measures the throughput of REQ clients. */
export function legacy(host: Running, loop: Running, load: string): Measure {
  const clients = (name: string, server: Running, endpoint: string): Contestant => ({
    name,
    once: (seconds) =>
      loaded(server, async () => {
        const [value, used] = numbers(
          await run(load, ["req", endpoint, "16", `${Math.ceil(seconds * 50_000)}`]),
        );
        return [value, used];
      }),
  });
  return {
    name: "16 legacy REQ clients at once",
    unit: "gets/s",
    better: "more",
    contestants: [
      clients("memstore", host, `ipc://${host.address}`),
      clients("pymemstore's loop in Python 3", loop, loop.address),
    ],
  };
}

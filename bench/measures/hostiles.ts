/**
 * What a hundred hostile clients cost a well-behaved one.
 *
 * @module
 */

import { ask, measureClient, statsOf } from "../load.ts";
import type { Measure } from "../measure.ts";
import { deno, Running, startHost } from "../processes.ts";

const LANE = "memstore through the lane";

/** Measures the median get over ipc beside hostile clients, in that without them. */
export function* besideHostiles(directory: string): Generator<Measure> {
  const HOSTILE = ["deaf", "noise", "babble", "silent", "huge"].map((kind) => `${kind}=20`);
  let round = 0;
  for (const [i, where] of ["ipc", "tcp"].entries()) {
    yield {
      name: `median get beside 100 hostile clients over ${where}, in that without them`,
      unit: "times",
      better: "less",
      value: 2,
      contestants: [{
        name: LANE,
        async once(seconds) {
          await using host = await startHost(directory, `hostile${round++}`, "tcp://127.0.0.1:*");
          const table = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [i, "v".repeat(1000)]));
          await ask("cli.ts", "-e", host.address, "set_many", "t", JSON.stringify(table));
          const { endpoints } = await statsOf(host);
          const median = () => measureClient(LANE, host.address, "median", seconds * 4);
          const before = await median();
          const args = deno("tests/hostiles.ts", endpoints[i], ...HOSTILE);
          await using _hostiles = await Running.start(Deno.execPath(), args, "", directory);
          return { value: await median() / before };
        },
      }],
    };
  }
}

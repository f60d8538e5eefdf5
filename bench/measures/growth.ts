/**
 * What a get costs in a very large table, in that in a small one.
 *
 * @module
 */

import { fill, nativeLoad } from "../load.ts";
import type { Measure, Size } from "../measure.ts";
import { startHost } from "../processes.ts";

/** Measures the throughput of gets in two tables. */
export function growth(directory: string, load: string, { seconds, many }: Size): Measure {
  const rate = async (entries: number) => {
    await using host = await startHost(directory, `growth${entries}`);
    await fill(load, host, entries);
    const messages = Math.ceil(seconds * 20_000);
    const rates: number[] = [];
    for (let i = 0; i < 3; i++) {
      const [value] = await nativeLoad(load, "zeromq", host, "get", entries, messages);
      rates.push(value);
    }
    return rates.sort((a, b) => a - b)[1];
  };
  return {
    name: `cost of a get at ${many.toLocaleString("en")} entries, in that at 10,000`,
    unit: "times",
    better: "less",
    value: 2,
    rounds: 1,
    contestants: [{
      name: "memstore (native load)",
      async once() {
        return { value: await rate(10_000) / await rate(many) };
      },
    }],
  };
}

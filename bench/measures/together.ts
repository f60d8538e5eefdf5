/**
 * Eight client processes at once, each with one get after another: how many gets they make together, and whether each
 * has its share.
 *
 * @module
 */

import { result, startClient } from "../load.ts";
import { type Contestant, list, type Measure } from "../measure.ts";
import type { Running } from "../processes.ts";

const PROCESSES = 8;

/** Gets a second of each process, from the slowest to the fastest. */
async function rates(name: string, server: Running, seconds: number): Promise<number[]> {
  await using stack = new AsyncDisposableStack();
  // All are started and warmed up before the first is measured.
  const start = async () => stack.use(await startClient(name, server.address, "together", seconds));
  const clients = await Promise.all(Array.from({ length: PROCESSES }, start));
  const results = await Promise.all(clients.map(result));
  return results.map(([rate]) => rate).sort((a, b) => a - b);
}

/** Measures the sum, and the slowest in the fastest. */
export function* together(host: Running, redis: Running | undefined): Generator<Measure> {
  // What was measured for the first figure is there for the second.
  const kept: Record<string, number[][]> = {};
  const measure = (figure: (rates: number[]) => number, keep: boolean): Contestant[] => {
    const contestant = (name: string, server: Running): Contestant => ({
      name,
      async once(seconds) {
        const own = kept[name] ??= [];
        const found = !keep && own.shift() || await rates(name, server, seconds);
        if (keep) own.push(found);
        return { value: figure(found) };
      },
    });
    return list(
      contestant("memstore through the lane", host),
      ...["node-redis 5", "node-redis 6"].map((name) => redis && contestant(name, redis)),
    );
  };
  yield {
    name: `${PROCESSES} processes at once, one get after another each, together`,
    unit: "gets/s",
    better: "more",
    comparisons: [{ atLeast: 3 }],
    contestants: measure((rates) => rates.reduce((sum, rate) => sum + rate), true),
  };
  yield {
    name: `${PROCESSES} processes at once, the slowest in the fastest`,
    unit: "times",
    better: "more",
    comparisons: [],
    value: 0.5,
    contestants: measure((rates) => rates[0] / rates.at(-1)!, false),
  };
}

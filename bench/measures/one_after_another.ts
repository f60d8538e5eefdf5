/**
 * One call after another, awaited, beside other ways to reach a server or a shared dictionary.
 *
 * @module
 */

import { clientOf, loaded, numbers } from "../load.ts";
import { type Comparison, list, type Measure } from "../measure.ts";
import { run, Running, type Tools } from "../processes.ts";

const DIRECT = "memstore, direct reads";
const LANE = "memstore through the lane";
const OVER_ZEROMQ = "memstore over ZeroMQ";
const REDIS = ["node-redis 5", "node-redis 6", "ioredis"];
const MANAGER = "multiprocessing.Manager";
const ZEROMQ_JS = "zeromq.js REQ/REP under Node";

/** Measures the time of a get, and of a set. */
export async function* oneAfterAnother(
  host: Running,
  redis: Running | undefined,
  directory: string,
  { zeromq, python, files, direct }: Tools,
  stack: AsyncDisposableStack,
): AsyncGenerator<Measure> {
  const address = `ipc://${directory}/node.sock`;
  const echo = zeromq !== undefined &&
    stack.use(await Running.start("node", ["zeromq.mjs", "serve", address], address, zeromq));
  for (const what of ["get", "set"] as const) {
    const comparisons: Comparison[] = [
      { ours: LANE, against: REDIS, atLeast: 10 },
      { ours: LANE, against: [MANAGER], atLeast: 6 },
      { ours: LANE, against: ["Deno KV"] },
    ];
    if (what === "get") comparisons.push({ ours: DIRECT, against: REDIS, atLeast: 50 });
    // The reply to a set is shorter than what zeromq.js echoes.
    const echoes = what === "get" && echo;
    if (echoes) comparisons.push({ ours: OVER_ZEROMQ, against: [ZEROMQ_JS], atLeast: 1 });
    yield {
      name: `one ${what} after another`,
      unit: "µs",
      better: "less",
      comparisons,
      contestants: list(
        what === "get" && direct && clientOf(DIRECT, host, what),
        clientOf(LANE, host, what),
        clientOf(OVER_ZEROMQ, host, what),
        ...REDIS.map((name) => redis && clientOf(name, redis, what)),
        clientOf("Deno KV", `${files}/kv.sqlite`, what),
        python !== undefined && {
          name: MANAGER,
          async once(seconds) {
            const script = new URL("../peers/manager.py", import.meta.url).pathname;
            return { value: Number(await run("/usr/bin/python3", [script, what, `${seconds}`])) };
          },
        },
        echoes && {
          name: ZEROMQ_JS,
          once: (seconds) =>
            loaded(echoes, async () => {
              const ask = ["zeromq.mjs", "ask", address, `${seconds}`];
              return [numbers(await run("node", ask, zeromq))[0], NaN];
            }),
        },
      ),
    };
  }
}

/**
 * One get after another, beside other ways to reach a server or a shared dictionary.
 *
 * @module
 */

import { clientOf, loaded, numbers } from "../load.ts";
import type { Contestant, Measure } from "../measure.ts";
import { run, Running, type Tools } from "../processes.ts";

/** Measures the time of a call, against each kind of peer. */
export async function* oneAfterAnother(
  host: Running,
  redis: Running | undefined,
  directory: string,
  { zeromq, python }: Tools,
  stack: AsyncDisposableStack,
): AsyncGenerator<Measure> {
  const measure = (name: string, goal: Measure["goal"], ...peers: Contestant[]): Measure => ({
    name: `one get after another, against ${name}`,
    unit: "µs",
    better: "less",
    goal,
    contestants: [clientOf("memstore", host, "one"), ...peers],
  });
  if (zeromq !== undefined) {
    const address = `ipc://${directory}/node.sock`;
    const server = stack.use(await Running.start("node", ["zeromq.mjs", "serve", address], address, zeromq));
    yield measure("zeromq.js under Node", { ratio: 1 }, {
      name: "zeromq.js REQ/REP under Node",
      once: (seconds) =>
        loaded(server, async () => {
          const ask = ["zeromq.mjs", "ask", address, `${seconds}`];
          return [numbers(await run("node", ask, zeromq))[0], NaN];
        }),
    });
  }
  if (redis) {
    yield measure(
      "Redis' clients",
      { ratio: 1 },
      clientOf("node-redis", redis, "one"),
      clientOf("ioredis", redis, "one"),
    );
  }
  if (python !== undefined) {
    yield measure("a Manager", undefined, {
      name: "multiprocessing.Manager",
      async once(seconds) {
        const script = new URL("../peers/manager.py", import.meta.url).pathname;
        return { value: Number(await run("/usr/bin/python3", [script, `${seconds}`])) };
      },
    });
  }
}

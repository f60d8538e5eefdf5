/**
 * What it costs to share the heap: memory, and the time of writes, beside a host whose memory is its own.
 *
 * @module
 */

import { clientOf, fill, nativeLoad, statsOf } from "../load.ts";
import { list, type Measure, type Size } from "../measure.ts";
import { memoryOf, type Running, startHost } from "../processes.ts";

const SHARED = "memstore, shared heap";
const PRIVATE = "memstore, --private-memory";
/** The goal for memory: as much, but for what two hosts with the same flags differ by. */
const SAME = 1.02;
/** The flags of both. */
const FLAGS: Record<string, string[]> = { [SHARED]: [], [PRIVATE]: ["--private-memory"] };

/** Measures both hosts. */
export async function* sharedHeap(
  directory: string,
  load: string,
  { seconds, entries }: Size,
): AsyncGenerator<Measure> {
  let started = 0;
  const start = (name: string) => startHost(directory, `heap${started++}`, ...FLAGS[name]);
  const count = entries.toLocaleString("en");

  for (
    const [how, memory] of [
      ["stats (heap)", async (host: Running) => (await statsOf(host)).heap],
      ["the growth of the process", (host: Running) => memoryOf(host.pid)],
    ] as const
  ) {
    yield {
      name: `memory of ${count} entries in a shared heap, by ${how}`,
      unit: "bytes an entry",
      better: "less",
      comparisons: [{ atMost: SAME }],
      contestants: Object.keys(FLAGS).map((name) => ({
        name,
        async once() {
          await using host = await start(name);
          const before = await memory(host);
          await fill(load, host, entries);
          return { value: (await memory(host) - before) / entries };
        },
      })),
    };
  }

  await using stack = new AsyncDisposableStack();
  const hosts: [string, Running][] = [];
  for (const name of Object.keys(FLAGS)) hosts.push([name, stack.use(await start(name))]);
  yield {
    name: "one synchronous set after another, to a shared heap",
    unit: "µs",
    better: "less",
    comparisons: [{ atLeast: 0.95 }],
    contestants: hosts.map(([name, host]) => ({
      ...clientOf("memstore attach() through the lane", host, "set"),
      name,
    })),
  };
  const filled = new Set<Running>();
  yield {
    name: `set, 64 commands a message, ${count} keys, to a shared heap`,
    unit: "commands/s",
    better: "more",
    comparisons: [{ atLeast: 0.95 }],
    contestants: list(...hosts.map(([name, host]) => ({
      name,
      async once() {
        if (!filled.has(host)) await fill(load, host, entries);
        filled.add(host);
        const [value] = await nativeLoad(load, "lane", host, "set", entries, Math.ceil(seconds * 20_000));
        return { value };
      },
    }))),
  };
}

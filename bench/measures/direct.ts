/**
 * Reads in the host's memory: whether readers hold up each other or the host, and whether a writer holds up readers.
 *
 * @module
 */

import { clientOf, result, startClient, startWriter } from "../load.ts";
import type { Contestant, Measure, Sample } from "../measure.ts";
import { processTime, type Running, startHost } from "../processes.ts";

const READER = "memstore attach(), direct reads";
/** How many keys are read: more than a client keeps the values of, so that each get looks one up in the host's memory. */
const KEYS = 100_000;
/** How long the readers read before the host's time is taken, in seconds; and how often as long as other measures take. */
const BEFORE = 0.2, LONGER = 4;

/** Measures direct reads. Without a native load, nobody writes beside them. */
export async function* direct(directory: string, host: Running, load?: string): AsyncGenerator<Measure> {
  yield {
    name: "direct reads of two processes, in those of one",
    unit: "gets/s",
    better: "more",
    comparisons: [{ atLeast: 1.8 }],
    contestants: [
      { name: "two processes", once: (seconds) => together(2, host, seconds) },
      { name: "one process", once: (seconds) => together(1, host, seconds) },
    ],
  };
  yield {
    name: "processor time of a host while others read directly",
    unit: "ms/s",
    better: "less",
    comparisons: [],
    value: 1,
    contestants: [
      { name: "two processes read", once: (seconds) => used(2, host, seconds * LONGER) },
      { name: "nobody does anything", once: (seconds) => used(0, host, seconds * LONGER) },
    ],
  };
  if (load !== undefined) yield* besideWriter(directory, load);
}

/** Gets a second of so many readers together. */
async function together(readers: number, host: Running, seconds: number): Promise<Sample> {
  await using stack = new AsyncDisposableStack();
  const start = async () => stack.use(await startClient(READER, host.address, "together", seconds, KEYS));
  const clients = await Promise.all(Array.from({ length: readers }, start));
  const results = await Promise.all(clients.map(result));
  return { value: results.reduce((sum, [rate]) => sum + rate, 0) };
}

/** The processor time of a host, in milliseconds a second, while so many readers read. */
async function used(readers: number, host: Running, seconds: number): Promise<Sample> {
  await using stack = new AsyncDisposableStack();
  // (They read a little longer, so that neither their beginning nor their end is measured.)
  const start = async () =>
    stack.use(await startClient(READER, host.address, "together", seconds + 5 * BEFORE, KEYS));
  const clients = await Promise.all(Array.from({ length: readers }, start));
  const results = Promise.all(clients.map(result));
  const value = async () => {
    await delay(BEFORE);
    const before = await processTime(host.pid), start = performance.now();
    await delay(seconds);
    const used = await processTime(host.pid) - before;
    return used / (performance.now() - start) * 1e6;
  };
  const [figure] = await Promise.all([value(), results]);
  return { value: figure };
}

function delay(seconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, seconds * 1000));
}

/** Measures the gets of a reader beside a process that writes to the same table, 64 commands a message. */
async function* besideWriter(directory: string, load: string): AsyncGenerator<Measure> {
  await using host = await startHost(directory, "beside");
  for (const [does, what] of [["overwrites", "set"], ["inserts and deletes", "churn"]] as const) {
    const contestants = (figure: "median" | "slowest"): Contestant[] => [
      {
        name: "beside the writer",
        async once(seconds) {
          await using _writer = await startWriter(load, host, what, KEYS);
          return await clientOf(READER, host, figure, KEYS).once(seconds);
        },
      },
      { name: "without", once: (seconds) => clientOf(READER, host, figure, KEYS).once(seconds) },
    ];
    const besides = `direct get beside a writer that ${does} at full speed`;
    yield {
      name: `median ${besides}`,
      unit: "µs",
      better: "less",
      comparisons: [{ atMost: 3 }],
      contestants: contestants("median"),
    };
    yield {
      name: `slowest ${besides}`,
      unit: "ms",
      better: "less",
      comparisons: [],
      value: 5,
      contestants: contestants("slowest"),
    };
  }
}

/**
 * `memstore bench`: measures how fast a running host answers this machine, in some seconds.
 *
 * @module
 */

import type { MemStoreClient } from "../client.ts";
import { print } from "./output.ts";
import { connect, type RemoteOptions, send } from "./remote.ts";

/** How long each figure is measured, in milliseconds. */
const DURATION_MS = 1000;
const KEYS = 10_000;

/** One way to make calls. */
interface Way {
  name: string;
  /** How many calls each round makes. */
  calls: number;
  round(): Promise<unknown>;
}

/**
 * Measures a host, with a table of its own that it drops at the end: what it replies, and what is read in its memory
 * where that can be.
 */
export async function bench(options: RemoteOptions): Promise<void> {
  await using client = connect({ ...options, directReads: false });
  await using reader = connect(options);
  const table = `memstore-bench-${crypto.randomUUID()}`;
  const value = "v".repeat(32);
  const key = () => Math.floor(Math.random() * KEYS);
  const many = (calls: number, call: () => unknown) => Array.from({ length: calls }, call);
  const ways: Way[] = [
    { name: "set, one after another", calls: 1, round: () => client.set(table, key(), value) },
    { name: "get, one after another", calls: 1, round: () => client.get(table, key()) },
    {
      name: "set, 256 at once",
      calls: 256,
      round: () => Promise.all(many(256, () => client.set(table, key(), value))),
    },
    {
      name: "get, 256 at once",
      calls: 256,
      round: () => Promise.all(many(256, () => client.get(table, key()))),
    },
    {
      name: "get, batches of 64",
      calls: 64,
      round: () => client.batch((batch) => many(64, () => batch.get(table, key()))),
    },
  ];
  // (Nothing is printed where no host answers.)
  const path = await usesLane(client, options) ? "over shared memory" : "over the socket";
  print(row(path, "calls/s", "median", "99 %", "slowest"));
  try {
    if (await readsDirectly(reader, table)) {
      ways.push({ name: "get, read directly", calls: 1, round: () => reader.get(table, key()) });
    }
    for (const way of ways) print(await measure(way));
  } finally {
    await client.drop(table);
  }
}

/** Whether the calls of a client go through a lane: if so, the host counts one more. */
async function usesLane(client: MemStoreClient, options: RemoteOptions): Promise<boolean> {
  await using other = connect({ ...options, lane: false });
  await send(other, ["ping"], options);
  const { lanes } = await other.stats();
  await client.ping();
  return (await other.stats()).lanes > lanes;
}

/** Whether a client reads the host's memory: if so, the host counts that. */
async function readsDirectly(client: MemStoreClient, table: string): Promise<boolean> {
  const before = (await client.stats()).direct_reads;
  // (The first read asks the host where its memory is.)
  for (let i = 0; i < 2; i++) {
    await client.get(table, 0);
    await client.ping();
  }
  return (await client.stats()).direct_reads > before;
}

async function measure({ name, calls, round }: Way): Promise<string> {
  const times: number[] = [];
  const start = performance.now();
  for (let now = start; now < start + DURATION_MS;) {
    await round();
    const end = performance.now();
    times.push(end - now);
    now = end;
  }
  const rate = times.length * calls / (performance.now() - start) * 1000;
  times.sort((a, b) => a - b);
  const at = (part: number) => inUnits(times[Math.floor((times.length - 1) * part)]);
  return row(name, Math.round(rate).toLocaleString("en"), at(0.5), at(0.99), at(1));
}

/** `7.3 µs`, `1.25 ms`. */
function inUnits(ms: number): string {
  return ms < 1 ? `${(ms * 1000).toFixed(1)} µs` : `${ms.toFixed(2)} ms`;
}

function row(name: string, ...figures: string[]): string {
  return name.padEnd(24) + figures.map((figure) => figure.padStart(14)).join("");
}

/**
 * What the measures share: questions to a host, and loads against a process.
 *
 * @module
 */

import type { Stats } from "../mod.ts";
import type { Contestant, Sample } from "./measure.ts";
import { deno, processorTime, run, type Running } from "./processes.ts";

/** Runs a file of ours to its end. Returns what it printed. */
export function ask(file: string, ...args: string[]): Promise<string> {
  return run(Deno.execPath(), deno(file, ...args));
}

/** The `stats` of a memstore host. */
export async function statsOf(host: Running): Promise<Stats> {
  return JSON.parse(await ask("cli.ts", "--raw", "-e", host.address, "stats"));
}

/** Fills a host with entries of 12-byte keys and 32-byte values. */
export async function fill(load: string, host: Running, entries: number): Promise<void> {
  await run(load, [
    "batch",
    `ipc://${host.address}`,
    "set",
    `${entries}`,
    "64",
    `${Math.ceil(entries / 64)}`,
    "16",
    "fill",
  ]);
}

/** Runs a load against a process, and measures how many processors each of the two used. */
export async function loaded(
  server: Running,
  load: () => Promise<[value: number, processorTime: number]>,
): Promise<Sample> {
  const before = await processorTime(server.pid), start = performance.now();
  const [value, used] = await load();
  const seconds = (performance.now() - start) / 1000;
  const after = await processorTime(server.pid);
  const share = (of: (thread: string) => boolean) => {
    let sum = 0;
    for (const [thread, time] of after) {
      if (of(thread)) sum += time - (before.get(thread) ?? 0);
    }
    return sum / seconds;
  };
  const zeromq = (thread: string) => thread.startsWith("ZMQ");
  return {
    value,
    processors: {
      server: share((thread) => !zeromq(thread)),
      "its ZeroMQ": share(zeromq),
      load: used / seconds,
    },
  };
}

/** The numbers that a load prints in its last line. */
export function numbers(text: string): number[] {
  return text.split("\n").at(-1)!.split(" ").map(Number);
}

/**
 * A client process of Deno as a contestant: see {@link ./client.ts}.
 *
 * @param name memstore, or a peer.
 * @param what What it does, and for how many at once.
 */
export function clientOf(name: string, server: Running, ...what: string[]): Contestant {
  return {
    name,
    once: (seconds) =>
      loaded(server, async () => {
        const [kind, ...rest] = what;
        const args = deno("bench/client.ts", name.split(" ")[0], server.address, kind, `${seconds}`, ...rest);
        const [value, used] = numbers(await run(Deno.execPath(), args));
        return [value, used];
      }),
  };
}

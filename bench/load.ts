/**
 * What the measures share: questions to a host, and loads against a process.
 *
 * @module
 */

import type { Stats } from "../mod.ts";
import { TABLE } from "./maps.ts";
import type { Contestant, Sample } from "./measure.ts";
import { deno, processorTime, run, Running } from "./processes.ts";

/** Runs a file of ours to its end. Returns what it printed. */
export function ask(file: string, ...args: string[]): Promise<string> {
  return run(Deno.execPath(), deno(file, ...args));
}

/** The `stats` of a memstore host. */
export async function statsOf(host: Running): Promise<Stats> {
  return JSON.parse(await ask("cli.ts", "--raw", "-e", host.address, "stats"));
}

/** Commands a message of the native load, and how many messages it has in flight. */
const COMMANDS = 64, WINDOW = 16;

/** How many keys a client uses, unless it is told otherwise. */
export const KEYS = 10_000;

/** What the native load does: see {@link ./load.c}. */
type Load = "get" | "set" | "fill" | "churn";

/** The arguments of the native load. */
function loadOf(
  transport: "zeromq" | "lane",
  host: Running,
  what: Load,
  keys: number,
  messages: number,
): string[] {
  return [transport, `ipc://${host.address}`, what, ...[keys, COMMANDS, messages, WINDOW].map(String)];
}

/**
 * Has the native load ({@link ./load.c}) send commands on random keys.
 *
 * @returns Commands a second, and the seconds of processor time that the load used.
 */
export async function nativeLoad(
  load: string,
  transport: "zeromq" | "lane",
  host: Running,
  what: Load,
  keys: number,
  messages: number,
): Promise<[value: number, processorTime: number]> {
  const printed = await run(load, loadOf(transport, host, what, keys, messages));
  const [value, used, wrong] = numbers(printed);
  if (wrong > 0) throw new Error(`${wrong} replies of ${messages} were wrong`);
  return [value, used];
}

/** Fills a host with entries of 12-byte keys and 32-byte values. */
export async function fill(load: string, host: Running, entries: number): Promise<void> {
  await nativeLoad(load, "zeromq", host, "fill", entries, Math.ceil(entries / COMMANDS));
}

/** Starts a native load that changes the clients' table without pause, through a lane, until the end of the block. */
export function startWriter(
  load: string,
  host: Running,
  what: "set" | "churn",
  keys: number,
): Promise<Running> {
  const args = [...loadOf("lane", host, what, keys, Number.MAX_SAFE_INTEGER), TABLE];
  return Running.start(load, args, host.address, ".");
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
 * @param name The name of the map there.
 * @param server What it calls, or the path of the file that it reads and writes itself.
 * @param what What it measures.
 * @param keys How many keys it uses.
 */
export function clientOf(name: string, server: Running | string, what: string, keys?: number): Contestant {
  return {
    name,
    async once(seconds) {
      if (typeof server === "string") {
        return { value: await measureClient(name, server, what, seconds, keys) };
      }
      await using client = await startClient(name, server.address, what, seconds, keys);
      return await loaded(server, () => result(client));
    },
  };
}

/** Starts a client process, which is ready when it has warmed up: see {@linkcode result}. */
export function startClient(
  name: string,
  address: string,
  what: string,
  seconds: number,
  keys = KEYS,
): Promise<Running> {
  const args = deno("bench/client.ts", name, address, what, `${seconds}`, `${keys}`);
  return Running.start(Deno.execPath(), args, address, ".", "piped");
}

/** Has a client process measure. */
export async function result(client: Running): Promise<[value: number, processorTime: number]> {
  await client.go();
  const [value, used] = numbers(await client.output);
  if (!Number.isFinite(value)) throw new Error(`it ended before it had measured: ${client.errors}`);
  return [value, used];
}

/** Starts a client process, and has it measure. */
export async function measureClient(
  name: string,
  address: string,
  what: string,
  seconds: number,
  keys?: number,
): Promise<number> {
  await using client = await startClient(name, address, what, seconds, keys);
  return (await result(client))[0];
}

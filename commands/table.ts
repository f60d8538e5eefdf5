/**
 * The commands: what each takes, answers and does. This is the one place where they are listed; the
 * dispatcher, the client's types, the `commands` command, the command line's help and the README's reference
 * come from here. What those on tables and sets do is in {@link ./tables.ts} and {@link ./sets.ts}, what the
 * others do is here.
 *
 * To add one: a line in {@linkcode Commands} (its types), an entry in `table` or in one of the two (its
 * arguments, its help, what it does), and the method that the compiler then asks for in `methods.ts`.
 *
 * @module
 */

import type { Store } from "../engine/store.ts";
import type { Persistence, Transfer } from "../state/persistence.ts";
import type { Place } from "../state/place.ts";
import { encode } from "../wire/codec.ts";
import type { Writer } from "../wire/msgpack.ts";
import { bool, type CommandEntry, optional, string } from "./args.ts";
import type { Call } from "./call.ts";
import type { Command } from "./dispatch.ts";
import { setCommands } from "./sets.ts";
import { tableCommands } from "./tables.ts";

/** A command as `commands` tells of it. */
export interface CommandInfo {
  /** Its name. */
  name: string;
  /** The names of its arguments. */
  args: string[];
  /** How many of them, the last ones, may be left out; not there if none may. */
  optional?: number;
  /** One line that says what it does. */
  help: string;
}

/** What `stats` tells. */
export interface Stats {
  /** The version of memstore. */
  version: string;
  /** The host's process. */
  pid: number;
  /** Seconds since the host started. */
  uptime: number;
  /** The addresses that it serves. */
  endpoints: string[];
  /** How many tables there are. */
  tables: number;
  /** How many entries they have together. */
  entries: number;
  /** How many sets there are. */
  sets: number;
  /** How many members they have together. */
  members: number;
  /** How many connections there are. */
  clients: number;
  /** Messages that were answered since the start. */
  messages: number;
  /** How many entries expire some day. */
  expiring: number;
  /** Bytes of memory that the host's process uses. */
  memory: number;
  /** Bytes that tables and sets have taken, … */
  heap: number;
  /** … and how many of those are in use. */
  heap_live: number;
  /** How many they may take, or nil where nobody has set a limit. */
  max_memory: number | null;
}

/** Every command with its arguments and its reply, as JavaScript values. */
export interface Commands {
  /** The value of a key, or nil. */
  get(table: unknown, key: unknown): unknown;
  /** Sets the value of a key. */
  set(table: unknown, key: unknown, value: unknown): 1;
  /** Deletes a key: 1, or 0 if it was not there. */
  del(table: unknown, key: unknown): 0 | 1;
  /** Whether a table has a key. */
  exists(table: unknown, key: unknown): boolean;
  /** Sets the value of a key if it is not there: 1, or 0 if it is. */
  set_new(table: unknown, key: unknown, value: unknown): 0 | 1;
  /** Sets the value of a key if the bytes of the old one are those expected: 1, or 0 if not. */
  cas(table: unknown, key: unknown, expected: unknown, value: unknown): 0 | 1;
  /** Adds to a number. */
  incr(table: unknown, key: unknown, by?: number | bigint): number | bigint;
  /** Deletes a key: its value, or nil. */
  pop(table: unknown, key: unknown): unknown;
  /** The values of several keys. */
  get_many(table: unknown, keys: readonly unknown[]): unknown[];
  /** Sets the values of several keys: how many of them are new. */
  set_many(
    table: unknown,
    entries: ReadonlyMap<unknown, unknown> | Readonly<Record<string, unknown>>,
  ): number;
  /** Has a key be gone after so many seconds: 1, or 0 if it is not there. */
  expire(table: unknown, key: unknown, seconds: number): 0 | 1;
  /** Has a key stay that would be gone some day: 1, or 0 if there is none. */
  persist(table: unknown, key: unknown): 0 | 1;
  /** The seconds that a key has left: Infinity if it stays, nil if it is not there. */
  ttl(table: unknown, key: unknown): number | null;
  /** The keys of a table. */
  keys(table: unknown): unknown[];
  /** How many entries a table has. */
  size(table: unknown): number;
  /** A table as a map. */
  all(table: unknown): Map<unknown, unknown>;
  /** Some entries of a table, and where to go on. */
  scan(table: unknown, cursor: number, count?: number): [cursor: number, entries: Map<unknown, unknown>];
  /** Drops a table: 1, or 0 if there was none. */
  drop(table: unknown): 0 | 1;
  /** The names of the tables. */
  tables(): unknown[];
  /** Adds a value to a set. */
  push(set: unknown, value: unknown): 1;
  /** Adds several values to a set: how many of them are new. */
  push_many(set: unknown, values: readonly unknown[]): number;
  /** Removes a value from a set: 1, or 0 if it was not a member. */
  pull(set: unknown, value: unknown): 0 | 1;
  /** Whether a value is a member of a set. */
  in_set(set: unknown, value: unknown): boolean;
  /** The members of a set. */
  list_set(set: unknown): unknown[];
  /** Some members of a set, and where to go on. */
  scan_set(set: unknown, cursor: number, count?: number): [cursor: number, members: unknown[]];
  /** What is in any of several sets. */
  union(sets: readonly unknown[]): unknown[];
  /** What is in all of several sets. */
  inter(sets: readonly unknown[]): unknown[];
  /** What is in the first of several sets and in none of the others. */
  diff(sets: readonly unknown[]): unknown[];
  /** How many members a set has. */
  set_size(set: unknown): number;
  /** Empties a set. */
  clear_set(set: unknown): 1;
  /** Drops a set: 1, or 0 if there was none. */
  drop_set(set: unknown): 0 | 1;
  /** The names of the sets. */
  sets(): unknown[];
  /** Stores the state to a file, and the seconds it took. */
  store(path: string, compress?: boolean): ["stored", number];
  /** Replaces the state by that of a file, and the seconds it took. */
  restore(path: string): ["restored", number];
  /** Stores the state to an object in S3, and the seconds it took. */
  s3store(bucket: string, key: string): ["stored", number];
  /** Replaces the state by an object in S3, and the seconds it took. */
  s3restore(bucket: string, key: string): ["restored", number];
  /** The stores and restores that are under way. */
  transfers(): Transfer[];
  /** Answers pong. */
  ping(): "pong";
  /** The megabytes of memory that the host uses. */
  info(): [megabytes: number, unit: "mb"];
  /** Figures of the host: uptime, tables, entries, memory. */
  stats(): Stats;
  /** The commands, with their arguments and this text. */
  commands(): CommandInfo[];
  /** Stops the host. */
  done(): ["ok"];
}

const table: { [name in keyof Commands]: CommandEntry } = {
  ...tableCommands,
  ...setCommands,
  store: {
    needs: "admin",
    args: [
      string("path"),
      optional(bool("compress", "compress it with gzip, as is done anyway if the path ends with .gz")),
    ],
    help: "Stores the state to a file, and the seconds it took.",
    slow: true,
    run(call) {
      const { persistence } = call.host;
      const compress = call.count > 1 && call.decode(1) === true;
      return stored(persistence.store(persistence.file(call.decode(0) as string), compress));
    },
  },
  restore: {
    needs: "admin",
    args: [string("path")],
    help: "Replaces the state by that of a file, and the seconds it took.",
    slow: true,
    prepare(call) {
      const { persistence } = call.host;
      return loaded(persistence, persistence.file(call.decode(0) as string));
    },
    run: restored,
  },
  s3store: {
    needs: "admin",
    args: [string("bucket"), string("key")],
    help: "Stores the state to an object in S3, and the seconds it took.",
    slow: true,
    run(call) {
      const { persistence } = call.host;
      return stored(
        persistence.store(persistence.object(call.decode(0) as string, call.decode(1) as string)),
      );
    },
  },
  s3restore: {
    needs: "admin",
    args: [string("bucket"), string("key")],
    help: "Replaces the state by an object in S3, and the seconds it took.",
    slow: true,
    prepare(call) {
      const { persistence } = call.host;
      return loaded(persistence, persistence.object(call.decode(0) as string, call.decode(1) as string));
    },
    run: restored,
  },
  transfers: {
    needs: "read",
    args: [],
    help: "The stores and restores that are under way.",
    run(call) {
      encode(call.host.persistence.transfers, call.reply);
    },
  },
  ping: {
    needs: "read",
    args: [],
    help: "Answers pong.",
    run(call) {
      call.reply.str("pong");
    },
  },
  info: {
    needs: "read",
    args: [],
    help: "The megabytes of memory that the host uses.",
    run(call) {
      call.reply.arrayHead(2);
      call.reply.float(Deno.memoryUsage().rss / 2 ** 20);
      call.reply.str("mb");
    },
  },
  stats: {
    needs: "read",
    args: [],
    help: "Figures of the host: uptime, tables, entries, memory.",
    run(call) {
      encode(call.host.stats(), call.reply);
    },
  },
  commands: {
    needs: "read",
    args: [],
    help: "The commands, with their arguments and this text.",
    run(call) {
      encode(Array.from(call.commands.values(), commandInfo), call.reply);
    },
  },
  done: {
    needs: "admin",
    args: [],
    help: "Stops the host.",
    run(call) {
      call.host.stop();
      call.reply.arrayHead(1);
      call.reply.str("ok");
    },
  },
};

/** The commands of every host, in the order in which they are listed. */
export const commands: Command[] = Object.entries(table).map(([name, rest]) => ({ name, ...rest }));

/** A command as `commands` tells of it. */
export function commandInfo({ name, args, help }: Command): CommandInfo {
  const optional = args.filter((arg) => arg.optional).length;
  return { name, args: args.map((arg) => arg.name), ...(optional > 0 && { optional }), help };
}

/** What answers once a store is done. */
async function stored(store: Promise<void>): Promise<(reply: Writer) => void> {
  const start = performance.now();
  await store;
  return seconds("stored", start);
}

/** What `restore` needs before it can run. */
async function loaded(persistence: Persistence, place: Place): Promise<{ state: Store; start: number }> {
  const start = performance.now();
  return { state: await persistence.load(place), start };
}

function restored(call: Call): void {
  const { state, start } = call.prepared as { state: Store; start: number };
  call.store.replaceBy(state);
  seconds("restored", start)(call.reply);
}

/** `[word, seconds since start]`, the seconds always as a float, as pymemstore's were. */
function seconds(word: string, start: number): (reply: Writer) => void {
  return (reply) => {
    reply.arrayHead(2);
    reply.str(word);
    reply.float((performance.now() - start) / 1000);
  };
}

/**
 * The commands: what each takes, answers and does. This is the one place where they are listed; the
 * dispatcher, the client's types, the `commands` command, the command line's help and the README's reference
 * come from here.
 *
 * To add one: a line in {@linkcode Commands} (its types), an entry in `table` (its arguments, its help, what
 * it does), and the method that the compiler then asks for in `methods.ts`.
 *
 * @module
 */

import type { Names, Store } from "../engine/store.ts";
import type { Table } from "../engine/table.ts";
import type { Persistence, Transfer } from "../state/persistence.ts";
import type { Place } from "../state/place.ts";
import { encode } from "../wire/codec.ts";
import type { Writer } from "../wire/msgpack.ts";
import type { Call } from "./call.ts";
import type { Arg, Command } from "./dispatch.ts";

/** A command as `commands` tells of it. */
export interface CommandInfo {
  /** Its name. */
  name: string;
  /** The names of its arguments. */
  args: string[];
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
  /** Messages that were answered since the start. */
  messages: number;
  /** Bytes of memory that the host's process uses. */
  memory: number;
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
  /** The keys of a table. */
  keys(table: unknown): unknown[];
  /** How many entries a table has. */
  size(table: unknown): number;
  /** A table as a map. */
  all(table: unknown): Map<unknown, unknown>;
  /** Drops a table: 1, or 0 if there was none. */
  drop(table: unknown): 0 | 1;
  /** The names of the tables. */
  tables(): unknown[];
  /** Adds a value to a set. */
  push(set: unknown, value: unknown): 1;
  /** Removes a value from a set: 1, or 0 if it was not a member. */
  pull(set: unknown, value: unknown): 0 | 1;
  /** Whether a value is a member of a set. */
  in_set(set: unknown, value: unknown): boolean;
  /** The members of a set. */
  list_set(set: unknown): unknown[];
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

const key = (name: string): Arg => ({ name, type: "key" });
const any = (name: string): Arg => ({ name });
const string = (name: string): Arg => ({ name, type: "string" });
const bool = (name: string, help: string): Arg => ({ name, type: "bool", help });
const optional = (arg: Arg): Arg => ({ ...arg, optional: true });

const table: { [name in keyof Commands]: Omit<Command, "name"> } = {
  get: {
    args: [key("table"), key("key")],
    help: "The value of a key, or nil.",
    finds: "tables",
    run(call) {
      const entry = tableToRead(call)?.find(call.key(1)) ?? 0;
      if (entry === 0) call.reply.nil();
      else writeValue(entry, call);
    },
  },
  set: {
    args: [key("table"), key("key"), any("value")],
    help: "Sets the value of a key.",
    finds: "tables",
    run(call) {
      call.store.tables.make(call.key(0)).set(call.key(1), call.payload, call.from(2), call.to(2));
      call.reply.int(1);
    },
  },
  del: {
    args: [key("table"), key("key")],
    help: "Deletes a key: 1, or 0 if it was not there.",
    finds: "tables",
    run(call) {
      call.reply.int(call.store.tables.get(call.key(0))?.delete(call.key(1)) ? 1 : 0);
    },
  },
  exists: {
    args: [key("table"), key("key")],
    help: "Whether a table has a key.",
    finds: "tables",
    run(call) {
      call.reply.bool(has(call.store.tables, call));
    },
  },
  keys: {
    args: [key("table")],
    help: "The keys of a table.",
    run(call) {
      writeKeys(call.store.tables.get(call.key(0)), call);
    },
  },
  size: {
    args: [key("table")],
    help: "How many entries a table has.",
    run(call) {
      call.reply.int(call.store.tables.get(call.key(0))?.size ?? 0);
    },
  },
  all: {
    args: [key("table")],
    help: "A table as a map.",
    run(call) {
      const table = call.store.tables.get(call.key(0));
      if (!table && call.legacy) return call.reply.int(-1);
      call.reply.mapHead(table?.size ?? 0);
      table?.forEach((entry) => {
        writeKey(entry, call);
        writeValue(entry, call);
      });
    },
  },
  drop: {
    args: [key("table")],
    help: "Drops a table: 1, or 0 if there was none.",
    run(call) {
      call.reply.int(call.store.tables.drop(call.key(0)) ? 1 : 0);
    },
  },
  tables: {
    args: [],
    help: "The names of the tables.",
    run(call) {
      writeNames(call.store.tables, call.reply);
    },
  },
  push: {
    args: [key("set"), key("value")],
    help: "Adds a value to a set.",
    finds: "sets",
    run(call) {
      call.store.sets.make(call.key(0)).set(call.key(1), call.payload, 0, 0);
      call.reply.int(1);
    },
  },
  pull: {
    args: [key("set"), key("value")],
    help: "Removes a value from a set: 1, or 0 if it was not a member.",
    finds: "sets",
    run(call) {
      call.reply.int(call.store.sets.get(call.key(0))?.delete(call.key(1)) ? 1 : 0);
    },
  },
  in_set: {
    args: [key("set"), key("value")],
    help: "Whether a value is a member of a set.",
    finds: "sets",
    run(call) {
      call.reply.bool(has(call.store.sets, call));
    },
  },
  list_set: {
    args: [key("set")],
    help: "The members of a set.",
    run(call) {
      writeKeys(call.store.sets.get(call.key(0)), call);
    },
  },
  set_size: {
    args: [key("set")],
    help: "How many members a set has.",
    run(call) {
      call.reply.int(call.store.sets.get(call.key(0))?.size ?? 0);
    },
  },
  clear_set: {
    args: [key("set")],
    help: "Empties a set.",
    run(call) {
      call.store.sets.clear(call.key(0));
      call.reply.int(1);
    },
  },
  drop_set: {
    args: [key("set")],
    help: "Drops a set: 1, or 0 if there was none.",
    run(call) {
      call.reply.int(call.store.sets.drop(call.key(0)) ? 1 : 0);
    },
  },
  sets: {
    args: [],
    help: "The names of the sets.",
    run(call) {
      writeNames(call.store.sets, call.reply);
    },
  },
  store: {
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
    args: [],
    help: "The stores and restores that are under way.",
    run(call) {
      encode(call.host.persistence.transfers, call.reply);
    },
  },
  ping: {
    args: [],
    help: "Answers pong.",
    run(call) {
      call.reply.str("pong");
    },
  },
  info: {
    args: [],
    help: "The megabytes of memory that the host uses.",
    run(call) {
      call.reply.arrayHead(2);
      call.reply.float(Deno.memoryUsage().rss / 2 ** 20);
      call.reply.str("mb");
    },
  },
  stats: {
    args: [],
    help: "Figures of the host: uptime, tables, entries, memory.",
    run(call) {
      encode(call.host.stats(), call.reply);
    },
  },
  commands: {
    args: [],
    help: "The commands, with their arguments and this text.",
    run(call) {
      encode(Array.from(call.commands.values(), commandInfo), call.reply);
    },
  },
  done: {
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
  return { name, args: args.map((arg) => arg.name), help };
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

/** The table that a command reads. In pymemstore asking a table for a key made it, which `all` then shows. */
function tableToRead(call: Call): Table | undefined {
  return call.legacy ? call.store.tables.make(call.key(0)) : call.store.tables.get(call.key(0));
}

function has(names: Names, call: Call): boolean {
  return (names.get(call.key(0))?.find(call.key(1)) ?? 0) !== 0;
}

function writeValue(address: number, { store, reply }: Call): void {
  const { bytes, keyTo, valueTo } = store.entry.look(address);
  reply.copy(bytes, keyTo, valueTo);
}

function writeKey(address: number, { store, reply }: Call): void {
  const { bytes, keyFrom, keyTo } = store.entry.look(address);
  reply.copy(bytes, keyFrom, keyTo);
}

/** The keys of a table, or the members of a set, as an array. */
function writeKeys(of: Table | undefined, call: Call): void {
  call.reply.arrayHead(of?.size ?? 0);
  of?.forEach((address) => writeKey(address, call));
}

function writeNames(names: Names, reply: Writer): void {
  reply.arrayHead(names.size);
  for (const { name } of names.values()) reply.raw(name);
}

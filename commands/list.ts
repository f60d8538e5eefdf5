/**
 * The list of commands: the arguments, the reply and a line of help of each. The dispatcher, the client's methods, the
 * command `commands`, the command line and the reference in the docs all use this list.
 *
 * To add a command: its types in {@linkcode Commands}, its description in `descriptions`, its handler in
 * `engine/memory/commands/` (or `host/commands.ts`, if it is about the host), and the method that the compiler then
 * asks for in `client/methods.ts`.
 *
 * @module
 */

import type { Right } from "../auth/clients.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import type { ReplyShape } from "../transport/message.ts";
import {
  any,
  bool,
  type Command,
  describe,
  type Description,
  entries,
  key,
  keys,
  number,
  optional,
  seconds,
  string,
  uint32,
} from "./describe.ts";

/** A command as the command `commands` returns it. */
export interface CommandInfo {
  /** Its name. */
  name: string;
  /** The names of its arguments. */
  args: string[];
  /** How many arguments at the end are optional; missing if none is. */
  optional?: number;
  /** One line that says what it does. */
  help: string;
}

/** The reply to `hello`: the host, and what it allows this client. */
export interface Hello {
  /** The version of memstore. */
  version: string;
  /** The version of the protocol. */
  protocol: number;
  /** The client's right. */
  right: Right;
  /** The host's limits. */
  limits: {
    /** Bytes of a message, and of the replies to it. */
    message: number;
    /** Commands in a message. */
    commands: number;
    /** Levels of nesting in a command. Its own array is one. */
    depth: number;
    /** Messages in flight. */
    requests: number;
    /** Commands in a batch. */
    batch: number;
  };
  /** Whether clients of this machine may ask for a lane. */
  lane: boolean;
}

/** A store or restore that is running. */
export interface Transfer {
  /** Which of the two. */
  what: "store" | "restore";
  /** The path, or `s3://bucket/key`. */
  where: string;
  /** Entries and members that were written or read. */
  entries: number;
  /** Bytes of the state that were written or read. */
  bytes: number;
  /** The progress, from 0 to 1. */
  done: number;
  /** Seconds since it began. */
  seconds: number;
}

/** Where a host keeps its state, and whether it is up to date. */
export interface StateStatus {
  /** The path, or `s3://bucket/key`. */
  path: string;
  /** When the state was last stored, in seconds since 1970; nil if never. */
  stored: number | null;
  /** Whether the data has changed since. */
  changed: boolean;
}

/** A node of Redis, in the reply to `stats`. */
export interface NodeStats {
  /** `host:port`. */
  address: string;
  /** The number of entries of tables that it has. */
  entries: number;
  /** The number of members of sets that it has. */
  members: number;
  /** Its memory for data, in bytes, whoever's data it is. */
  memory: number;
}

/** The reply to `stats`. */
export interface Stats {
  /** The version of memstore. */
  version: string;
  /** What holds the data: the memory of the host, or Redis. */
  engine: "memory" | "redis";
  /** The nodes of Redis that have the data; nil if it is in the memory of the host. */
  nodes: NodeStats[] | null;
  /** The host's process. */
  pid: number;
  /** Seconds since the host started. */
  uptime: number;
  /** The addresses that it serves. */
  endpoints: string[];
  /** The number of tables. */
  tables: number;
  /** The number of entries in all tables. */
  entries: number;
  /** The number of sets. */
  sets: number;
  /** The number of members in all sets. */
  members: number;
  /** The number of connections. */
  clients: number;
  /** How many of them send through a lane, in shared memory. */
  lanes: number;
  /** How many reads of clients found what they looked for in the host's memory, without asking, as far as they have told, … */
  direct_reads: number;
  /** … how often one was tried again, since the data changed meanwhile, … */
  direct_retries: number;
  /** … and how many were left to the host. */
  direct_fallbacks: number;
  /** The number of messages that have been replied to since the start. */
  messages: number;
  /** The number of entries that have an expiry. */
  expiring: number;
  /** Memory of the host's process, in bytes. */
  memory: number;
  /** Memory that is allocated for the data, in bytes, … */
  heap: number;
  /** … and how much of it is in use. */
  heap_live: number;
  /** The limit of the memory for the data (`maxMemory`), in bytes; nil if none is set. */
  max_memory: number | null;
  /** Where the state is kept, and whether it is up to date; nil if it is not kept. */
  state: StateStatus | null;
}

/** The arguments and the reply of every command, as JavaScript values. */
export interface Commands {
  /** Returns the value of a key, or nil. */
  get(table: unknown, key: unknown): unknown;
  /** Sets the value of a key. With `seconds`, it expires after them. */
  set(table: unknown, key: unknown, value: unknown, seconds?: number): 1;
  /** Deletes a key: 1, or 0 if it was not there. */
  del(table: unknown, key: unknown): 0 | 1;
  /** Returns whether a table has a key. */
  exists(table: unknown, key: unknown): boolean;
  /** Deletes a key if it has the expected value: 1, or 0 if not. */
  del_if(table: unknown, key: unknown, expected: unknown): 0 | 1;
  /** Sets the value of a key that is not there: 1, or 0 if it is. */
  set_new(table: unknown, key: unknown, value: unknown, seconds?: number): 0 | 1;
  /** Sets the value of a key if it has the expected one: 1, or 0 if not. */
  cas(table: unknown, key: unknown, expected: unknown, value: unknown): 0 | 1;
  /** Adds to a number and returns the sum. With `seconds`, an entry that is created expires after them. */
  incr(table: unknown, key: unknown, by?: number | bigint, seconds?: number): number | bigint;
  /** Deletes a key and returns its value, or nil. */
  pop(table: unknown, key: unknown): unknown;
  /** Returns the values of several keys; for one that does not exist `missing`, or nil. */
  get_many(table: unknown, keys: readonly unknown[], missing?: unknown): unknown[];
  /** Sets the values of several keys. Returns how many keys are new. */
  set_many(
    table: unknown,
    entries: ReadonlyMap<unknown, unknown> | Readonly<Record<string, unknown>>,
  ): number;
  /** Expires a key after a number of seconds: 1, or 0 if it is not there. */
  expire(table: unknown, key: unknown, seconds: number): 0 | 1;
  /** Removes the expiry of a key: 1, or 0 if it had none. */
  persist(table: unknown, key: unknown): 0 | 1;
  /** Returns the seconds until a key expires: Infinity if never, nil if it does not exist. */
  ttl(table: unknown, key: unknown): number | null;
  /** Returns the keys of a table. */
  keys(table: unknown): unknown[];
  /** Returns the number of entries in a table. */
  size(table: unknown): number;
  /** Returns a table as a map. */
  all(table: unknown): Map<unknown, unknown>;
  /** Returns a page of entries and the cursor of the next, or 0. */
  scan(table: unknown, cursor: number, count?: number): [cursor: number, entries: Map<unknown, unknown>];
  /** Drops a table: 1, or 0 if there was none. */
  drop(table: unknown): 0 | 1;
  /** Returns the names of the tables. */
  tables(): unknown[];
  /** Adds a value to a set. */
  push(set: unknown, value: unknown): 1;
  /** Adds several values to a set. Returns how many are new. */
  push_many(set: unknown, values: readonly unknown[]): number;
  /** Removes a value from a set: 1, or 0 if it was not a member. */
  pull(set: unknown, value: unknown): 0 | 1;
  /** Returns whether a value is a member of a set. */
  in_set(set: unknown, value: unknown): boolean;
  /** Returns the members of a set. */
  list_set(set: unknown): unknown[];
  /** Returns a page of members and the cursor of the next, or 0. */
  scan_set(set: unknown, cursor: number, count?: number): [cursor: number, members: unknown[]];
  /** Returns the values that are in any of several sets. */
  union(sets: readonly unknown[]): unknown[];
  /** Returns the values that are in all of several sets. */
  inter(sets: readonly unknown[]): unknown[];
  /** Returns the values that are in the first of several sets and in none of the others. */
  diff(sets: readonly unknown[]): unknown[];
  /** Returns the number of members of a set. */
  set_size(set: unknown): number;
  /** Empties a set. */
  clear_set(set: unknown): 1;
  /** Drops a set: 1, or 0 if there was none. */
  drop_set(set: unknown): 0 | 1;
  /** Returns the names of the sets. */
  sets(): unknown[];
  /** Stores the state in a file. Returns the seconds it took. */
  store(path: string, compress?: boolean): ["stored", number];
  /** Replaces the state by that of a file. Returns the seconds it took. */
  restore(path: string): ["restored", number];
  /** Stores the state in an object in S3. Returns the seconds it took. */
  s3store(bucket: string, key: string): ["stored", number];
  /** Replaces the state by an object in S3. Returns the seconds it took. */
  s3restore(bucket: string, key: string): ["restored", number];
  /** Returns the stores and restores that are running. */
  transfers(): Transfer[];
  /** Returns the host's version, the client's right, and the limits. */
  hello(): Hello;
  /** Makes a lane through shared memory for the client that asks. Returns where it is, or nil if there can be none. */
  lane(): MemoryOffer | null;
  /** Returns where the memory of the data is, for a client that maps it to read it, or nil if it may not. */
  memory(): MemoryOffer | null;
  /** Returns pong. */
  ping(): "pong";
  /** Returns the megabytes of memory that the host uses. */
  info(): [megabytes: number, unit: "mb"];
  /** Returns figures of the host: uptime, tables, entries, memory. */
  stats(): Stats;
  /** Returns the commands, with their arguments and help. */
  commands(): CommandInfo[];
  /** Stores the state, if it is kept, and stops the host. */
  done(): ["ok"];
}

const at = [key("table"), key("key")];
const inSet = [key("set"), key("value")];
/** (Bounded, because all of the sets are looked up in one slice.) */
/** A command that changes many entries does not pause, so its keys that take long are bounded. */
const MOST_NESTED = 2 ** 20;
const SETS = { ...keys("sets"), most: 2 ** 13, mostBytes: 2 ** 18 };
const inTable = { finds: "tables" } as const;
const asMember = { finds: "sets" } as const;

const descriptions: { [name in keyof Commands]: Description } = {
  get: describe("read", at, "Returns the value of a key, or nil.", inTable),
  set: describe(
    "write",
    [...at, any("value"), optional({ ...seconds("seconds"), native: true })],
    "Sets the value of a key.",
    inTable,
  ),
  set_new: describe(
    "write",
    [...at, any("value"), optional(seconds("seconds"))],
    "Sets a key that does not exist: 1, or 0 if it does.",
    inTable,
  ),
  cas: describe(
    "write",
    [...at, any("expected"), any("value")],
    "Sets a key if it has the expected value: 1, or 0 if not.",
    inTable,
  ),
  incr: describe(
    "write",
    [...at, optional(number("by")), optional(seconds("seconds"))],
    "Adds to a number, 1 by default, and returns the sum.",
    inTable,
  ),
  pop: describe("write", at, "Deletes a key and returns its value, or nil.", inTable),
  del: describe("write", at, "Deletes a key: 1, or 0 if it does not exist.", inTable),
  del_if: describe(
    "write",
    [...at, any("expected")],
    "Deletes a key if it has the expected value: 1, or 0 if not.",
    inTable,
  ),
  exists: describe("read", at, "Returns whether a table has a key.", inTable),
  get_many: describe(
    "read",
    [key("table"), keys("keys"), optional(any("missing"))],
    "Returns the values of several keys, nil or missing for others.",
  ),
  set_many: describe(
    "write",
    [key("table"), { ...entries("entries"), mostNested: MOST_NESTED }],
    "Sets several keys, all or none; returns how many are new.",
  ),
  expire: describe(
    "write",
    [...at, seconds("seconds")],
    "Expires a key after seconds: 1, or 0 if it does not exist.",
    inTable,
  ),
  persist: describe("write", at, "Removes the expiry of a key: 1, or 0 if it has none.", inTable),
  ttl: describe("read", at, "Returns the seconds until a key expires, or Infinity.", inTable),
  keys: describe("read", [key("table")], "Returns the keys of a table."),
  size: describe("read", [key("table")], "Returns the number of entries in a table."),
  all: describe("read", [key("table")], "Returns a whole table as a map.", { reply: "map" }),
  scan: describe(
    "read",
    [key("table"), uint32("cursor"), optional(uint32("count"))],
    "Returns a page of entries and the cursor of the next, or 0.",
    { reply: "page" },
  ),
  drop: describe("write", [key("table")], "Drops a table: 1, or 0 if it does not exist."),
  tables: describe("read", [], "Returns the names of the tables."),
  push: describe("write", inSet, "Adds a value to a set.", asMember),
  push_many: describe(
    "write",
    [key("set"), { ...keys("values"), mostNested: MOST_NESTED }],
    "Adds several values, all or none; returns how many are new.",
  ),
  pull: describe("write", inSet, "Removes a value from a set: 1, or 0 if it is no member.", asMember),
  in_set: describe("read", inSet, "Returns whether a value is a member of a set.", asMember),
  list_set: describe("read", [key("set")], "Returns the members of a set."),
  scan_set: describe(
    "read",
    [key("set"), uint32("cursor"), optional(uint32("count"))],
    "Returns a page of members and the cursor of the next, or 0.",
  ),
  union: describe("read", [SETS], "Returns the values that are in any of several sets."),
  inter: describe("read", [SETS], "Returns the values that are in all of several sets."),
  diff: describe("read", [SETS], "Returns the values of the first set that no other has."),
  set_size: describe("read", [key("set")], "Returns the number of members of a set."),
  clear_set: describe("write", [key("set")], "Empties a set."),
  drop_set: describe("write", [key("set")], "Drops a set: 1, or 0 if it does not exist."),
  sets: describe("read", [], "Returns the names of the sets."),
  store: describe(
    "admin",
    [
      string("path"),
      optional(bool("compress", "compress it with gzip; always on if the path ends with .gz")),
    ],
    "Stores the state in a file; returns the seconds it took.",
    { slow: true, batch: false },
  ),
  restore: describe(
    "admin",
    [string("path")],
    "Replaces the state by that of a file; returns the seconds.",
    { slow: true, batch: false },
  ),
  s3store: describe(
    "admin",
    [string("bucket"), string("key")],
    "Stores the state in S3; returns the seconds it took.",
    { slow: true, batch: false },
  ),
  s3restore: describe(
    "admin",
    [string("bucket"), string("key")],
    "Replaces the state by an object in S3; returns the seconds.",
    { slow: true, batch: false },
  ),
  transfers: describe("read", [], "Returns the stores and restores that are running."),
  hello: describe("read", [], "Returns the host's version, your right, and its limits."),
  memory: describe("read", [], "Tells where the memory of the data is, to map and read it, or nil.", {
    batch: false,
  }),
  lane: describe("read", [], "Shares memory with the client: where it is, or nil.", { batch: false }),
  ping: describe("read", [], "Returns pong."),
  info: describe("read", [], "Returns the megabytes of memory that the host uses."),
  stats: describe("read", [], "Returns figures of the host: uptime, tables, memory."),
  commands: describe("read", [], "Returns the commands, with their arguments and help."),
  done: describe("admin", [], "Stores the state, if it is kept, and stops the host.", {
    slow: true,
    batch: false,
  }),
};

/** The commands of every host, in the order in which they are listed. */
export const commands: (Command & { name: keyof Commands })[] = Object.entries(descriptions)
  .map(([name, description]) => ({ name: name as keyof Commands, ...description }));

/** Converts a command to what the command `commands` returns. */
export function commandInfo({ name, args, help }: Command): CommandInfo {
  const optional = args.filter((arg) => arg.optional).length;
  return { name, args: args.map((arg) => arg.name), ...(optional > 0 && { optional }), help };
}

const shapes: ReadonlyMap<string, ReplyShape> = new Map(commands.map(({ name, reply }) => [name, reply]));

/** The shape of a command's reply; for a command that is not listed, a value. */
export function replyShape(name: string): ReplyShape {
  return shapes.get(name) ?? "value";
}

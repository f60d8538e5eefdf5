/**
 * The commands as synchronous methods: of the process that serves ({@link ../host/local.ts | store.local}), and of any
 * process that is attached to it. The compiler compares this class with the list of commands: if a method is missing, or
 * its arguments or reply differ, the program does not compile.
 *
 * The file is long and holds one idea: a method for each command.
 *
 * @module
 */

import type { CommandInfo, Commands, Hello, Stats, Transfer } from "./list.ts";
import {
  type CamelCase,
  type Converted,
  eachOrUndefined,
  isOne,
  orUndefined,
  withSeconds,
} from "./methods.ts";
import { SharedMap } from "./shared_map.ts";
import { SharedSet } from "./shared_set.ts";

/** The options of calls that take none. */
export interface NoOptions {
  /** A call that takes no options has no timeout. */
  timeout?: never;
}

/** Options of a call that may create an entry. */
export type SyncEntryOptions<Options extends object = NoOptions> = Options & {
  /**
   * The seconds until the entry expires, if this call creates it. Default: it does not expire. (`set` always creates the
   * entry; `setNew` and `incr` do not change the expiry of an existing one.)
   */
  seconds?: number;
};

/** Commands that take long. What their methods return differs: a promise in the process that serves. */
export type SlowCommand = "store" | "restore" | "s3store" | "s3restore" | "done";
/** Commands whose optional arguments are options of their methods. */
type WithOptions = "get_many" | "set" | "set_new" | "incr";

/** The methods that the list of commands requires. */
type Methods<Options> = {
  [Name in Exclude<keyof Commands, WithOptions | SlowCommand | "lane" | "memory"> as CamelCase<Name>]: (
    ...args: [...Parameters<Commands[Name]>, options?: Options]
  ) => Converted<ReturnType<Commands[Name]>>;
};

/**
 * A synchronous method for every command. Names of tables and sets, keys and members may be of any type that MessagePack
 * has, and are compared by value. Values are copies, and are returned as they were set.
 *
 * Every method throws a {@linkcode MemStoreError} if the host refuses the command, and a `TypeError` if an argument
 * cannot be encoded.
 *
 * @typeParam Options The options that each call takes as its last argument.
 */
export abstract class SyncCommands<Options extends object = NoOptions> {
  /** How many commands that may write were run through this object. Iterators look at it. */
  protected writes = 0;

  /** Runs a command and returns the raw reply. */
  protected abstract call<Reply>(name: string, args: readonly unknown[], options?: Options): Reply;

  /** {@linkcode SyncCommands.call}, for a command that may write. */
  protected write<Reply>(name: string, args: readonly unknown[], options?: Options): Reply {
    this.writes++;
    return this.call(name, args, options);
  }

  /** Runs a command by its name, such as a custom command of the host. Returns the raw reply. */
  send<Reply = unknown>(command: readonly [name: string, ...args: unknown[]], options?: Options): Reply {
    const [name, ...args] = command;
    if (typeof name !== "string") {
      throw new TypeError(`Cannot send a command: the first item must be its name: received ${name}`);
    }
    return this.write(name, args, options);
  }

  /**
   * Replaces the value of a key by what a function returns for it. The function gets `undefined` if the key does not
   * exist; if it returns `undefined`, the entry is deleted. The entry does not expire any more.
   *
   * @returns The new value.
   * @throws {TypeError} if the function returns a promise.
   */
  abstract update<Value = unknown>(
    table: unknown,
    key: unknown,
    fn: (value: Value | undefined) => Value | undefined,
    options?: Options,
  ): Value | undefined;

  /** Returns one table, as a `Map`. */
  map<Key = unknown, Value = unknown>(name: unknown): SharedMap<Key, Value> {
    return new SharedMap(this, name);
  }

  /** Returns one set, as a `Set`. */
  set<Value = unknown>(name: unknown): SharedSet<Value>;
  /** Sets the value of a key. */
  set(table: unknown, key: unknown, value: unknown, options?: SyncEntryOptions<Options>): 1;
  set<Value>(
    name: unknown,
    key?: unknown,
    value?: unknown,
    options?: SyncEntryOptions<Options>,
  ): 1 | SharedSet<Value> {
    if (arguments.length === 1) return new SharedSet(this, name);
    return this.write("set", withSeconds([name, key, value], options), options);
  }

  /**
   * Returns the value of a key, or `undefined` if it does not exist. A value of `null` is also returned as `undefined`;
   * {@linkcode SyncCommands.exists} tells them apart.
   */
  get<Value = unknown>(table: unknown, key: unknown, options?: Options): Value | undefined {
    return orUndefined(this.call("get", [table, key], options));
  }

  /** Sets the value of a key that does not exist. Returns whether it did so. */
  setNew(table: unknown, key: unknown, value: unknown, options?: SyncEntryOptions<Options>): boolean {
    return isOne(this.write("set_new", withSeconds([table, key, value], options), options));
  }

  /**
   * Compares and sets: sets the value of a key if its current value is the expected one. Returns whether it did so.
   * Values are compared as keys are, so what {@linkcode SyncCommands.get} returned is always equal. `undefined` expects
   * that the key does not exist. An expiry of the key is removed.
   */
  cas(table: unknown, key: unknown, expected: unknown, value: unknown, options?: Options): boolean {
    return isOne(this.write("cas", [table, key, expected ?? null, value], options));
  }

  /** Deletes a key if its value is the expected one. Returns whether it did so. */
  delIf(table: unknown, key: unknown, expected: unknown, options?: Options): boolean {
    return isOne(this.write("del_if", [table, key, expected ?? null], options));
  }

  /**
   * Adds to a number and returns the sum. A key that does not exist counts as 0. Integers are exact within 64 bits; a
   * sum that does not fit is refused. A sum with a float is a float. An existing expiry is kept; `seconds` applies
   * only if this call creates the entry.
   */
  incr(
    table: unknown,
    key: unknown,
    by: number | bigint = 1,
    options?: SyncEntryOptions<Options>,
  ): number | bigint {
    return this.write("incr", withSeconds([table, key, by], options), options);
  }

  /** Deletes a key and returns its value, or `undefined` if it did not exist. */
  pop<Value = unknown>(table: unknown, key: unknown, options?: Options): Value | undefined {
    return orUndefined(this.write("pop", [table, key], options));
  }

  /** Deletes a key. Returns whether it existed. */
  del(table: unknown, key: unknown, options?: Options): boolean {
    return isOne(this.write("del", [table, key], options));
  }

  /** Returns whether a table has a key. */
  exists(table: unknown, key: unknown, options?: Options): boolean {
    return this.call("exists", [table, key], options);
  }

  /** Returns the values of several keys, in the order of the keys; `undefined` for a key that does not exist. */
  getMany<Value = unknown>(
    table: unknown,
    keys: readonly unknown[],
    options?: Options,
  ): (Value | undefined)[] {
    return eachOrUndefined(this.call("get_many", [table, keys], options));
  }

  /** Sets the values of several keys, all or none. Returns how many keys are new. */
  setMany(
    table: unknown,
    entries: ReadonlyMap<unknown, unknown> | Readonly<Record<string, unknown>>,
    options?: Options,
  ): number {
    return this.write(
      "set_many",
      [table, entries instanceof SharedMap ? new Map(entries) : entries],
      options,
    );
  }

  /**
   * Expires a key after a number of seconds, or at once if that is 0 or less. Returns whether the key exists. Setting the
   * key again removes the expiry.
   */
  expire(table: unknown, key: unknown, seconds: number, options?: Options): boolean {
    return isOne(this.write("expire", [table, key, seconds], options));
  }

  /** Removes the expiry of a key. Returns whether it had one. */
  persist(table: unknown, key: unknown, options?: Options): boolean {
    return isOne(this.write("persist", [table, key], options));
  }

  /** Returns the seconds until a key expires: `Infinity` if never, `undefined` if the key does not exist. */
  ttl(table: unknown, key: unknown, options?: Options): number | undefined {
    return orUndefined(this.call("ttl", [table, key], options));
  }

  /** Returns the keys of a table, in no particular order. */
  keys<Key = unknown>(table: unknown, options?: Options): Key[] {
    return this.call("keys", [table], options);
  }

  /** Returns the number of entries in a table. */
  size(table: unknown, options?: Options): number {
    return this.call("size", [table], options);
  }

  /** Returns a whole table; an empty `Map` if it does not exist. Iterate over {@linkcode SyncCommands.map} if it is large. */
  all<Key = unknown, Value = unknown>(table: unknown, options?: Options): Map<Key, Value> {
    return this.call("all", [table], options);
  }

  /**
   * Returns a page of about `count` entries and the cursor of the next page. The first cursor is 0; the last page
   * returns 0. A page may have fewer entries, or none, though others follow: it ends after about 1 MiB.
   *
   * An entry that exists during the whole scan is returned exactly once. One that is added or removed meanwhile may or
   * may not be. A cursor is valid until the host stops.
   */
  scan<Key = unknown, Value = unknown>(
    table: unknown,
    cursor: number,
    count?: number,
    options?: Options,
  ): [cursor: number, entries: Map<Key, Value>] {
    return this.call("scan", count === undefined ? [table, cursor] : [table, cursor, count], options);
  }

  /** Drops a table. Returns whether it existed. */
  drop(table: unknown, options?: Options): boolean {
    return isOne(this.write("drop", [table], options));
  }

  /** Returns the names of the tables. */
  tables<Name = unknown>(options?: Options): Name[] {
    return this.call("tables", [], options);
  }

  /** Adds a value to a set. */
  push(set: unknown, value: unknown, options?: Options): 1 {
    return this.write("push", [set, value], options);
  }

  /** Adds several values to a set, all or none. Returns how many are new. */
  pushMany(set: unknown, values: readonly unknown[], options?: Options): number {
    return this.write("push_many", [set, values], options);
  }

  /** Removes a value from a set. Returns whether it was a member. */
  pull(set: unknown, value: unknown, options?: Options): boolean {
    return isOne(this.write("pull", [set, value], options));
  }

  /** Returns whether a value is a member of a set. */
  inSet(set: unknown, value: unknown, options?: Options): boolean {
    return this.call("in_set", [set, value], options);
  }

  /** Returns the members of a set, in no particular order. */
  listSet<Value = unknown>(set: unknown, options?: Options): Value[] {
    return this.call("list_set", [set], options);
  }

  /** Returns a page of members and the cursor of the next page, as {@linkcode SyncCommands.scan} does. */
  scanSet<Value = unknown>(
    set: unknown,
    cursor: number,
    count?: number,
    options?: Options,
  ): [cursor: number, members: Value[]] {
    return this.call("scan_set", count === undefined ? [set, cursor] : [set, cursor, count], options);
  }

  /** Returns the values that are in any of several sets. */
  union<Value = unknown>(sets: readonly unknown[], options?: Options): Value[] {
    return this.call("union", [sets], options);
  }

  /** Returns the values that are in all of several sets. */
  inter<Value = unknown>(sets: readonly unknown[], options?: Options): Value[] {
    return this.call("inter", [sets], options);
  }

  /** Returns the values that are in the first of several sets and in none of the others. */
  diff<Value = unknown>(sets: readonly unknown[], options?: Options): Value[] {
    return this.call("diff", [sets], options);
  }

  /** Returns the number of members of a set. */
  setSize(set: unknown, options?: Options): number {
    return this.call("set_size", [set], options);
  }

  /** Empties a set. */
  clearSet(set: unknown, options?: Options): 1 {
    return this.write("clear_set", [set], options);
  }

  /** Drops a set. Returns whether it existed. */
  dropSet(set: unknown, options?: Options): boolean {
    return isOne(this.write("drop_set", [set], options));
  }

  /** Returns the names of the sets. */
  sets<Name = unknown>(options?: Options): Name[] {
    return this.call("sets", [], options);
  }

  /** Returns the stores and restores that are running. */
  transfers(options?: Options): Transfer[] {
    return this.call("transfers", [], options);
  }

  /** Returns the host's version, this client's right, and the host's limits. */
  hello(options?: Options): Hello {
    return this.call("hello", [], options);
  }

  /** Returns `"pong"`. */
  ping(options?: Options): "pong" {
    return this.call("ping", [], options);
  }

  /** Returns the megabytes (2²⁰ bytes) of memory that the host uses. */
  info(options?: Options): [megabytes: number, unit: "mb"] {
    return this.call("info", [], options);
  }

  /** Returns figures of the host: uptime, tables, entries, memory. */
  stats(options?: Options): Stats {
    return this.call("stats", [], options);
  }

  /** Returns the commands that the host has, with their arguments and help. */
  commands(options?: Options): CommandInfo[] {
    return this.call("commands", [], options);
  }
}

/** Does not compile unless every command has a method with its arguments and its reply. */
type Complete<Class extends Methods<{ timeout?: number }>> = Class;
type _Checked = Complete<SyncCommands<{ timeout?: number }>>;

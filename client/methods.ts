/**
 * The commands as methods, for the client and its batches. The compiler compares this class with the list of commands:
 * if a method is missing, or its arguments or reply differ, the program does not compile.
 *
 * The file is long and holds one idea: a method for each command.
 *
 * @module
 */

import type { Transfer } from "../commands/list.ts";
import type { CommandInfo, Commands, Hello, Stats } from "../commands/list.ts";
import {
  type CamelCase,
  type Converted,
  eachOrUndefined,
  isOne,
  orUndefined,
  withSeconds,
} from "../commands/methods.ts";

/** Options of one call. */
export interface CallOptions {
  /**
   * How long to wait for the reply, in milliseconds.
   * @default {5000}
   */
  timeout?: number;
  /** Rejects the call when it is aborted. The command may still be run. */
  signal?: AbortSignal;
}

/** Options of a call of `store`. */
export interface StoreOptions extends CallOptions {
  /**
   * Compresses the file with gzip. A file whose name ends with `.gz` is always compressed.
   * @default {false}
   */
  compress?: boolean;
}

/** Options of a call that may create an entry. */
export interface EntryOptions extends CallOptions {
  /**
   * The seconds until the entry expires, if this call creates it. Default: it does not expire. (`set` always creates the
   * entry; `setNew` and `incr` do not change the expiry of an existing one.)
   */
  seconds?: number;
}

/** Commands whose optional arguments are options of their methods. */
type WithOptions = "store" | "get_many" | "set" | "set_new" | "incr";

/** The methods that the list of commands requires. */
type Methods = {
  [Name in Exclude<keyof Commands, WithOptions | "lane" | "memory"> as CamelCase<Name>]: (
    ...args: [...Parameters<Commands[Name]>, options?: CallOptions]
  ) => Promise<Converted<ReturnType<Commands[Name]>>>;
};

/**
 * A typed method for every command. Names of tables and sets, keys and members may be of any type that MessagePack has,
 * and are compared by value. Values are returned as they were set.
 *
 * Every method rejects with a {@linkcode MemStoreError} if the host refuses the command or does not reply in time, with
 * the signal's reason if that aborts, and with a `TypeError` if an argument cannot be encoded.
 */
export abstract class CommandMethods {
  /**
   * Sends a command by its name.
   *
   * @param convert Converts the raw reply to what the method resolves to.
   */
  protected abstract call<Reply>(
    name: string,
    args: readonly unknown[],
    options: CallOptions | undefined,
    convert?: (reply: unknown) => Reply,
  ): Promise<Reply>;

  /**
   * Sends a command by its name, such as a custom command of the host. Resolves to the raw reply.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * await using client = new MemStoreClient(endpoint);
   *
   * console.assert((await client.send(["set", "users", "alice", 31])) === 1);
   * ```
   */
  send<Reply = unknown>(
    command: readonly [name: string, ...args: unknown[]],
    options?: CallOptions,
  ): Promise<Reply> {
    const [name, ...args] = command;
    if (typeof name !== "string") {
      throw new TypeError(`Cannot send a command: the first item must be its name: received ${name}`);
    }
    return this.call(name, args, options);
  }

  /**
   * Returns the value of a key, or `undefined` if it does not exist. A value of `null` is also returned as `undefined`;
   * {@linkcode CommandMethods.exists} tells them apart.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * await using client = new MemStoreClient(endpoint);
   *
   * await client.set("users", "alice", { age: 31 });
   * const alice = await client.get<{ age: number }>("users", "alice");
   * console.assert(alice?.age === 31);
   * console.assert((await client.get("users", "bob")) === undefined);
   * ```
   */
  get<Value = unknown>(table: unknown, key: unknown, options?: CallOptions): Promise<Value | undefined> {
    return this.call("get", [table, key], options, orUndefined<Value>);
  }

  /** Sets the value of a key. */
  set(table: unknown, key: unknown, value: unknown, options?: EntryOptions): Promise<1> {
    return this.call("set", withSeconds([table, key, value], options), options);
  }

  /** Sets the value of a key that does not exist. Returns whether it did so. */
  setNew(table: unknown, key: unknown, value: unknown, options?: EntryOptions): Promise<boolean> {
    return this.call("set_new", withSeconds([table, key, value], options), options, isOne);
  }

  /**
   * Compares and sets: sets the value of a key if its current value is the expected one. Returns whether it did so.
   * Values are compared as keys are, so what {@linkcode CommandMethods.get} returned is always equal. `undefined` expects
   * that the key does not exist. An expiry of the key is removed.
   */
  cas(
    table: unknown,
    key: unknown,
    expected: unknown,
    value: unknown,
    options?: CallOptions,
  ): Promise<boolean> {
    return this.call("cas", [table, key, expected ?? null, value], options, isOne);
  }

  /** Deletes a key if its value is the expected one. Returns whether it did so. */
  delIf(table: unknown, key: unknown, expected: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("del_if", [table, key, expected ?? null], options, isOne);
  }

  /**
   * Adds to a number and returns the sum. A key that does not exist counts as 0. Integers are exact within 64 bits; a
   * sum that does not fit is refused. A sum with a float is a float. An existing expiry is kept; `seconds` applies
   * only if this call creates the entry.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * await using client = new MemStoreClient(endpoint);
   *
   * console.assert((await client.incr("visits", "home")) === 1);
   * console.assert((await client.incr("visits", "home", 10)) === 11);
   * ```
   */
  incr(
    table: unknown,
    key: unknown,
    by: number | bigint = 1,
    options?: EntryOptions,
  ): Promise<number | bigint> {
    return this.call("incr", withSeconds([table, key, by], options), options);
  }

  /** Deletes a key and returns its value, or `undefined` if it did not exist. */
  pop<Value = unknown>(table: unknown, key: unknown, options?: CallOptions): Promise<Value | undefined> {
    return this.call("pop", [table, key], options, orUndefined<Value>);
  }

  /** Deletes a key. Returns whether it existed. */
  del(table: unknown, key: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("del", [table, key], options, isOne);
  }

  /** Returns whether a table has a key. */
  exists(table: unknown, key: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("exists", [table, key], options);
  }

  /** Returns the values of several keys, in the order of the keys; `undefined` for a key that does not exist. */
  getMany<Value = unknown>(
    table: unknown,
    keys: readonly unknown[],
    options?: CallOptions,
  ): Promise<(Value | undefined)[]> {
    return this.call("get_many", [table, keys], options, eachOrUndefined<Value>);
  }

  /** Sets the values of several keys, all or none. Returns how many keys are new. */
  setMany(
    table: unknown,
    entries: ReadonlyMap<unknown, unknown> | Readonly<Record<string, unknown>>,
    options?: CallOptions,
  ): Promise<number> {
    return this.call("set_many", [table, entries], options);
  }

  /**
   * Expires a key after a number of seconds, or at once if that is 0 or less. Returns whether the key exists. Setting the
   * key again removes the expiry.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * await using client = new MemStoreClient(endpoint);
   *
   * await client.batch((batch) => [
   *   batch.set("sessions", "4711", { user: "alice" }),
   *   batch.expire("sessions", "4711", 3600),
   * ]);
   * const left = await client.ttl("sessions", "4711");
   * console.assert(left !== undefined && left > 3500 && left <= 3600);
   * ```
   */
  expire(table: unknown, key: unknown, seconds: number, options?: CallOptions): Promise<boolean> {
    return this.call("expire", [table, key, seconds], options, isOne);
  }

  /** Removes the expiry of a key. Returns whether it had one. */
  persist(table: unknown, key: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("persist", [table, key], options, isOne);
  }

  /** Returns the seconds until a key expires: `Infinity` if never, `undefined` if the key does not exist. */
  ttl(table: unknown, key: unknown, options?: CallOptions): Promise<number | undefined> {
    return this.call("ttl", [table, key], options, orUndefined<number>);
  }

  /** Returns the keys of a table, in no particular order. */
  keys<Key = unknown>(table: unknown, options?: CallOptions): Promise<Key[]> {
    return this.call("keys", [table], options);
  }

  /** Returns the number of entries in a table. */
  size(table: unknown, options?: CallOptions): Promise<number> {
    return this.call("size", [table], options);
  }

  /** Returns a whole table in one message; an empty `Map` if it does not exist. Use `scan` for a large one. */
  all<Key = unknown, Value = unknown>(table: unknown, options?: CallOptions): Promise<Map<Key, Value>> {
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
    options?: CallOptions,
  ): Promise<[cursor: number, entries: Map<Key, Value>]> {
    return this.call("scan", count === undefined ? [table, cursor] : [table, cursor, count], options);
  }

  /** Drops a table. Returns whether it existed. */
  drop(table: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("drop", [table], options, isOne);
  }

  /** Returns the names of the tables. */
  tables<Name = unknown>(options?: CallOptions): Promise<Name[]> {
    return this.call("tables", [], options);
  }

  /** Adds a value to a set. */
  push(set: unknown, value: unknown, options?: CallOptions): Promise<1> {
    return this.call("push", [set, value], options);
  }

  /** Adds several values to a set, all or none. Returns how many are new. */
  pushMany(set: unknown, values: readonly unknown[], options?: CallOptions): Promise<number> {
    return this.call("push_many", [set, values], options);
  }

  /** Removes a value from a set. Returns whether it was a member. */
  pull(set: unknown, value: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("pull", [set, value], options, isOne);
  }

  /** Returns whether a value is a member of a set. */
  inSet(set: unknown, value: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("in_set", [set, value], options);
  }

  /** Returns the members of a set, in no particular order. */
  listSet<Value = unknown>(set: unknown, options?: CallOptions): Promise<Value[]> {
    return this.call("list_set", [set], options);
  }

  /** Returns a page of members and the cursor of the next page, as {@linkcode CommandMethods.scan} does. */
  scanSet<Value = unknown>(
    set: unknown,
    cursor: number,
    count?: number,
    options?: CallOptions,
  ): Promise<[cursor: number, members: Value[]]> {
    return this.call("scan_set", count === undefined ? [set, cursor] : [set, cursor, count], options);
  }

  /** Returns the values that are in any of several sets. */
  union<Value = unknown>(sets: readonly unknown[], options?: CallOptions): Promise<Value[]> {
    return this.call("union", [sets], options);
  }

  /** Returns the values that are in all of several sets. */
  inter<Value = unknown>(sets: readonly unknown[], options?: CallOptions): Promise<Value[]> {
    return this.call("inter", [sets], options);
  }

  /** Returns the values that are in the first of several sets and in none of the others. */
  diff<Value = unknown>(sets: readonly unknown[], options?: CallOptions): Promise<Value[]> {
    return this.call("diff", [sets], options);
  }

  /** Returns the number of members of a set. */
  setSize(set: unknown, options?: CallOptions): Promise<number> {
    return this.call("set_size", [set], options);
  }

  /** Empties a set. */
  clearSet(set: unknown, options?: CallOptions): Promise<1> {
    return this.call("clear_set", [set], options);
  }

  /** Drops a set. Returns whether it existed. */
  dropSet(set: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("drop_set", [set], options, isOne);
  }

  /** Returns the names of the sets. */
  sets<Name = unknown>(options?: CallOptions): Promise<Name[]> {
    return this.call("sets", [], options);
  }

  /**
   * Stores a snapshot of the data in a file of the host. Returns the seconds it took. A large state needs a longer
   * timeout: `{ timeout: 60_000 }`.
   */
  store(path: string, options?: StoreOptions): Promise<["stored", number]> {
    return this.call("store", options?.compress ? [path, true] : [path], options);
  }

  /** Replaces the data by that of a file of the host. Returns the seconds it took. */
  restore(path: string, options?: CallOptions): Promise<["restored", number]> {
    return this.call("restore", [path], options);
  }

  /** Stores a snapshot of the data in an object in S3. Returns the seconds it took. */
  s3store(bucket: string, key: string, options?: CallOptions): Promise<["stored", number]> {
    return this.call("s3store", [bucket, key], options);
  }

  /** Replaces the data by that of an object in S3. Returns the seconds it took. */
  s3restore(bucket: string, key: string, options?: CallOptions): Promise<["restored", number]> {
    return this.call("s3restore", [bucket, key], options);
  }

  /** Returns the stores and restores that are running. */
  transfers(options?: CallOptions): Promise<Transfer[]> {
    return this.call("transfers", [], options);
  }

  /** Returns the host's version, this client's right, and the host's limits. */
  hello(options?: CallOptions): Promise<Hello> {
    return this.call("hello", [], options);
  }

  /** Returns `"pong"`. */
  ping(options?: CallOptions): Promise<"pong"> {
    return this.call("ping", [], options);
  }

  /** Returns the megabytes (2²⁰ bytes) of memory that the host uses. */
  info(options?: CallOptions): Promise<[megabytes: number, unit: "mb"]> {
    return this.call("info", [], options);
  }

  /** Returns figures of the host: uptime, tables, entries, memory. */
  stats(options?: CallOptions): Promise<Stats> {
    return this.call("stats", [], options);
  }

  /** Returns the commands that the host has, with their arguments and help. */
  commands(options?: CallOptions): Promise<CommandInfo[]> {
    return this.call("commands", [], options);
  }

  /** Stops the host. Resolves when its state is stored, if it keeps one; rejects if it cannot be stored. */
  done(options?: CallOptions): Promise<["ok"]> {
    return this.call("done", [], options);
  }
}

/** Does not compile unless every command has a method with its arguments and its reply. */
type Complete<Class extends Methods> = Class;
type _Checked = Complete<CommandMethods>;

/**
 * The commands as methods, for the client and its batches. The compiler holds this class to the command
 * table: a command without a method, or one whose arguments or reply differ, does not compile.
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
  /** Gives up waiting when it is aborted; the command may still be done. */
  signal?: AbortSignal;
}

/** Options of a call of `store`. */
export interface StoreOptions extends CallOptions {
  /**
   * Whether to compress the file with gzip, as is done anyway if its name ends with `.gz`.
   * @default {false}
   */
  compress?: boolean;
}

/** Options of a call that may make an entry. */
export interface EntryOptions extends CallOptions {
  /**
   * Seconds after which an entry that this call makes expires; left out: it stays. (`set` makes the entry anew, and
   * `setNew` and `incr` leave the expiry of one that is there alone.)
   */
  seconds?: number;
}

/** Commands whose optional arguments are options of their methods. */
type WithOptions = "store" | "set" | "set_new" | "incr";

/** The methods that the command table asks for. */
type Methods = {
  [Name in Exclude<keyof Commands, WithOptions> as CamelCase<Name>]: (
    ...args: [...Parameters<Commands[Name]>, options?: CallOptions]
  ) => Promise<Converted<ReturnType<Commands[Name]>>>;
};

/**
 * A typed method for every command. Tables, sets, keys and members may be of any type that MessagePack has,
 * and are compared by value; values come back as they were set.
 *
 * Every method rejects with a {@linkcode MemStoreError} if the host refuses the command or does not answer
 * in time, with the signal's reason if that aborts, and with a `TypeError` for what cannot be encoded.
 */
export abstract class CommandMethods {
  /**
   * Sends a command by its name.
   *
   * @param convert Makes of the raw reply what is promised.
   */
  protected abstract call<Reply>(
    name: string,
    args: readonly unknown[],
    options: CallOptions | undefined,
    convert?: (reply: unknown) => Reply,
  ): Promise<Reply>;

  /**
   * Sends a command in its raw form: one of the host's own, for example.
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
      throw new TypeError(`Cannot send a command: it begins with its name: received ${name}`);
    }
    return this.call(name, args, options);
  }

  /**
   * The value of a key, or `undefined` if it is not there. A value that was set to `null` reads as
   * `undefined` too; {@linkcode CommandMethods.exists} tells them apart.
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

  /** Sets the value of a key if it is not there: whether it was not. */
  setNew(table: unknown, key: unknown, value: unknown, options?: EntryOptions): Promise<boolean> {
    return this.call("set_new", withSeconds([table, key, value], options), options, isOne);
  }

  /**
   * Compares and sets: sets the value of a key if the value that it has is the expected one; whether it was. The
   * expected value is what {@linkcode CommandMethods.get} gave: values are compared as keys are, and `undefined`
   * expects that the key is not there. The entry does not expire any more.
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

  /** Deletes a key if its value is the expected one; whether it was. */
  delIf(table: unknown, key: unknown, expected: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("del_if", [table, key, expected ?? null], options, isOne);
  }

  /**
   * Adds to a number, which is 0 if the key is not there: the sum. Integers are exact within 64 bits, and a
   * sum beyond that is refused; a sum with a float is a float. An entry that expires still does; `seconds` is for one
   * that this call makes.
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

  /** Deletes a key: its value, or `undefined` if it was not there. */
  pop<Value = unknown>(table: unknown, key: unknown, options?: CallOptions): Promise<Value | undefined> {
    return this.call("pop", [table, key], options, orUndefined<Value>);
  }

  /** Deletes a key; whether it was there. */
  del(table: unknown, key: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("del", [table, key], options, isOne);
  }

  /** Whether a table has a key. */
  exists(table: unknown, key: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("exists", [table, key], options);
  }

  /** The values of several keys, in the keys' order; `undefined` for each that is not there. */
  getMany<Value = unknown>(
    table: unknown,
    keys: readonly unknown[],
    options?: CallOptions,
  ): Promise<(Value | undefined)[]> {
    return this.call("get_many", [table, keys], options, eachOrUndefined<Value>);
  }

  /** Sets the values of several keys, all or none: how many of them are new. */
  setMany(
    table: unknown,
    entries: ReadonlyMap<unknown, unknown> | Readonly<Record<string, unknown>>,
    options?: CallOptions,
  ): Promise<number> {
    return this.call("set_many", [table, entries], options);
  }

  /**
   * Expires a key after a number of seconds, at once if that is 0 or less; whether the key is there. A value that is
   * set anew does not expire.
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

  /** Removes the expiry of a key; whether it had one. */
  persist(table: unknown, key: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("persist", [table, key], options, isOne);
  }

  /** The seconds until a key expires: `Infinity` if it does not, `undefined` if it is not there. */
  ttl(table: unknown, key: unknown, options?: CallOptions): Promise<number | undefined> {
    return this.call("ttl", [table, key], options, orUndefined<number>);
  }

  /** The keys of a table, in no particular order. */
  keys<Key = unknown>(table: unknown, options?: CallOptions): Promise<Key[]> {
    return this.call("keys", [table], options);
  }

  /** How many entries a table has. */
  size(table: unknown, options?: CallOptions): Promise<number> {
    return this.call("size", [table], options);
  }

  /** A whole table; empty if there is none. Meant for small ones: it is one message. */
  all<Key = unknown, Value = unknown>(table: unknown, options?: CallOptions): Promise<Map<Key, Value>> {
    return this.call("all", [table], options);
  }

  /**
   * Some entries of a table, about `count` of them, and the cursor with which to ask for those that follow.
   * The first cursor is 0, and 0 is the answer after the last; a cursor is good as long as the host lives.
   * Whatever changes meanwhile, an entry that is there throughout is seen once. Few entries, or none, do not
   * mean that no more follow: a reply has a mebibyte or a little more.
   */
  scan<Key = unknown, Value = unknown>(
    table: unknown,
    cursor: number,
    count?: number,
    options?: CallOptions,
  ): Promise<[cursor: number, entries: Map<Key, Value>]> {
    return this.call("scan", count === undefined ? [table, cursor] : [table, cursor, count], options);
  }

  /** Drops a table; whether there was one. */
  drop(table: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("drop", [table], options, isOne);
  }

  /** The names of the tables. */
  tables<Name = unknown>(options?: CallOptions): Promise<Name[]> {
    return this.call("tables", [], options);
  }

  /** Adds a value to a set. */
  push(set: unknown, value: unknown, options?: CallOptions): Promise<1> {
    return this.call("push", [set, value], options);
  }

  /** Adds several values to a set, all or none: how many of them are new. */
  pushMany(set: unknown, values: readonly unknown[], options?: CallOptions): Promise<number> {
    return this.call("push_many", [set, values], options);
  }

  /** Removes a value from a set; whether it was a member. */
  pull(set: unknown, value: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("pull", [set, value], options, isOne);
  }

  /** Whether a value is a member of a set. */
  inSet(set: unknown, value: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("in_set", [set, value], options);
  }

  /** The members of a set, in no particular order. */
  listSet<Value = unknown>(set: unknown, options?: CallOptions): Promise<Value[]> {
    return this.call("list_set", [set], options);
  }

  /** Some members of a set, and where to go on: as {@linkcode CommandMethods.scan}. */
  scanSet<Value = unknown>(
    set: unknown,
    cursor: number,
    count?: number,
    options?: CallOptions,
  ): Promise<[cursor: number, members: Value[]]> {
    return this.call("scan_set", count === undefined ? [set, cursor] : [set, cursor, count], options);
  }

  /** What is in any of several sets. */
  union<Value = unknown>(sets: readonly unknown[], options?: CallOptions): Promise<Value[]> {
    return this.call("union", [sets], options);
  }

  /** What is in all of several sets. */
  inter<Value = unknown>(sets: readonly unknown[], options?: CallOptions): Promise<Value[]> {
    return this.call("inter", [sets], options);
  }

  /** What is in the first of several sets and in none of the others. */
  diff<Value = unknown>(sets: readonly unknown[], options?: CallOptions): Promise<Value[]> {
    return this.call("diff", [sets], options);
  }

  /** How many members a set has. */
  setSize(set: unknown, options?: CallOptions): Promise<number> {
    return this.call("set_size", [set], options);
  }

  /** Empties a set. */
  clearSet(set: unknown, options?: CallOptions): Promise<1> {
    return this.call("clear_set", [set], options);
  }

  /** Drops a set; whether there was one. */
  dropSet(set: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("drop_set", [set], options, isOne);
  }

  /** The names of the sets. */
  sets<Name = unknown>(options?: CallOptions): Promise<Name[]> {
    return this.call("sets", [], options);
  }

  /**
   * Stores the state of this moment to a file of the host, and answers how many seconds it took. Give it
   * the time that it takes: `{ timeout: 60_000 }`.
   */
  store(path: string, options?: StoreOptions): Promise<["stored", number]> {
    return this.call("store", options?.compress ? [path, true] : [path], options);
  }

  /** Replaces the state by that of a file of the host, and answers how many seconds it took. */
  restore(path: string, options?: CallOptions): Promise<["restored", number]> {
    return this.call("restore", [path], options);
  }

  /** Stores the state of this moment to an object in S3, as {@linkcode CommandMethods.store} does to a file. */
  s3store(bucket: string, key: string, options?: CallOptions): Promise<["stored", number]> {
    return this.call("s3store", [bucket, key], options);
  }

  /** Replaces the state by that of an object in S3, and answers how many seconds it took. */
  s3restore(bucket: string, key: string, options?: CallOptions): Promise<["restored", number]> {
    return this.call("s3restore", [bucket, key], options);
  }

  /** The stores and restores that are under way. */
  transfers(options?: CallOptions): Promise<Transfer[]> {
    return this.call("transfers", [], options);
  }

  /** What the host is: its version, this client's right, and its limits. */
  hello(options?: CallOptions): Promise<Hello> {
    return this.call("hello", [], options);
  }

  /** Answers `"pong"`. */
  ping(options?: CallOptions): Promise<"pong"> {
    return this.call("ping", [], options);
  }

  /** The megabytes (2²⁰ bytes) of memory that the host uses. */
  info(options?: CallOptions): Promise<[megabytes: number, unit: "mb"]> {
    return this.call("info", [], options);
  }

  /** Figures of the host: its uptime, tables, entries, memory. */
  stats(options?: CallOptions): Promise<Stats> {
    return this.call("stats", [], options);
  }

  /** The commands that the host knows. */
  commands(options?: CallOptions): Promise<CommandInfo[]> {
    return this.call("commands", [], options);
  }

  /** Stops the host. */
  done(options?: CallOptions): Promise<["ok"]> {
    return this.call("done", [], options);
  }
}

/** Does not compile unless every command of the table has its method, with its arguments and its reply. */
type Complete<Class extends Methods> = Class;
type _Checked = Complete<CommandMethods>;

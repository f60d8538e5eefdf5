/**
 * The commands as methods, for the client and its batches. The compiler holds this class to the command
 * table: a command without a method, or one whose arguments or reply differ, does not compile.
 *
 * @module
 */

import type { Transfer } from "../state/persistence.ts";
import type { CommandInfo, Commands, Hello, Stats } from "./table.ts";

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

/** `in_set` → `inSet`. */
type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

/** Options of a call of `store`. */
export interface StoreOptions extends CallOptions {
  /**
   * Whether to compress the file with gzip, as is done anyway if its name ends with `.gz`.
   * @default {false}
   */
  compress?: boolean;
}

/** The methods that the command table asks for. (That of `store` has options of its own.) */
type Methods = {
  [Name in Exclude<keyof Commands, "store" | "set" | "set_new" | "incr"> as CamelCase<Name>]: (
    ...args: [...Parameters<Commands[Name]>, options?: CallOptions]
  ) => Promise<ReturnType<Commands[Name]>>;
};

/**
 * A typed method for every command. Tables, sets, keys and members may be of any type that MessagePack has,
 * and are compared by value; values come back as they were set.
 *
 * Every method rejects with a {@linkcode MemStoreError} if the host refuses the command or does not answer
 * in time, with the signal's reason if that aborts, and with a `TypeError` for what cannot be encoded.
 */
export abstract class CommandMethods {
  /** Sends a command by its name. */
  protected abstract call<Reply>(
    name: string,
    args: readonly unknown[],
    options: CallOptions | undefined,
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
  async get<Value = unknown>(
    table: unknown,
    key: unknown,
    options?: CallOptions,
  ): Promise<Value | undefined> {
    return await this.call<Value | null>("get", [table, key], options) ?? undefined;
  }

  /** Sets the value of a key. */
  set(table: unknown, key: unknown, value: unknown, options?: CallOptions): Promise<1> {
    return this.call("set", [table, key, value], options);
  }

  /** Sets the value of a key if it is not there: 1, or 0 if it is. */
  setNew(table: unknown, key: unknown, value: unknown, options?: CallOptions): Promise<0 | 1> {
    return this.call("set_new", [table, key, value], options);
  }

  /**
   * Compares and sets: sets the value of a key if that it has is the expected one: 1, or 0 if not. Their bytes
   * are compared: objects fit if they have the same keys in the same order. A key that is not there has the
   * value `null`. As with `set`, the entry then stays.
   */
  cas(
    table: unknown,
    key: unknown,
    expected: unknown,
    value: unknown,
    options?: CallOptions,
  ): Promise<0 | 1> {
    return this.call("cas", [table, key, expected, value], options);
  }

  /** Deletes a key if it has the expected value: 1, or 0 if not. */
  delIf(table: unknown, key: unknown, expected: unknown, options?: CallOptions): Promise<0 | 1> {
    return this.call("del_if", [table, key, expected], options);
  }

  /** What the host is, and what it allows this client. */
  hello(options?: CallOptions): Promise<Hello> {
    return this.call("hello", [], options);
  }

  /**
   * Adds to a number, which is 0 if the key is not there: the sum. Integers are exact within 64 bits, and a
   * sum beyond that is refused; a sum with a float is a float. An entry that expires still does.
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
    by?: number | bigint,
    options?: CallOptions,
  ): Promise<number | bigint> {
    return this.call("incr", by === undefined ? [table, key] : [table, key, by], options);
  }

  /** Deletes a key: its value, or `undefined` if it was not there. */
  async pop<Value = unknown>(
    table: unknown,
    key: unknown,
    options?: CallOptions,
  ): Promise<Value | undefined> {
    return await this.call<Value | null>("pop", [table, key], options) ?? undefined;
  }

  /** Deletes a key: 1, or 0 if it was not there. */
  del(table: unknown, key: unknown, options?: CallOptions): Promise<0 | 1> {
    return this.call("del", [table, key], options);
  }

  /** Whether a table has a key. */
  exists(table: unknown, key: unknown, options?: CallOptions): Promise<boolean> {
    return this.call("exists", [table, key], options);
  }

  /** The values of several keys, in the keys' order; `null` for each that is not there. */
  getMany<Value = unknown>(
    table: unknown,
    keys: readonly unknown[],
    options?: CallOptions,
  ): Promise<(Value | null)[]> {
    return this.call("get_many", [table, keys], options);
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
   * Has a key be gone after so many seconds, at once if they are not above 0: 1, or 0 if it is not there. A
   * value that is set anew stays.
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
   * console.assert(left !== null && left > 3500 && left <= 3600);
   * ```
   */
  expire(table: unknown, key: unknown, seconds: number, options?: CallOptions): Promise<0 | 1> {
    return this.call("expire", [table, key, seconds], options);
  }

  /** Has a key stay that would be gone some day: 1, or 0 if there is none. */
  persist(table: unknown, key: unknown, options?: CallOptions): Promise<0 | 1> {
    return this.call("persist", [table, key], options);
  }

  /** The seconds that a key has left: `Infinity` if it stays, `null` if it is not there. */
  ttl(table: unknown, key: unknown, options?: CallOptions): Promise<number | null> {
    return this.call("ttl", [table, key], options);
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
  all<Value = unknown, Key = unknown>(table: unknown, options?: CallOptions): Promise<Map<Key, Value>> {
    return this.call("all", [table], options);
  }

  /**
   * Some entries of a table, about `count` of them, and the cursor with which to ask for those that follow.
   * The first cursor is 0, and 0 is the answer after the last; a cursor is good as long as the host lives.
   * Whatever changes meanwhile, an entry that is there throughout is seen once. Few entries, or none, do not
   * mean that no more follow: a reply has a mebibyte or a little more.
   */
  scan<Value = unknown, Key = unknown>(
    table: unknown,
    cursor: number,
    count?: number,
    options?: CallOptions,
  ): Promise<[cursor: number, entries: Map<Key, Value>]> {
    return this.call("scan", count === undefined ? [table, cursor] : [table, cursor, count], options);
  }

  /** Drops a table: 1, or 0 if there was none. */
  drop(table: unknown, options?: CallOptions): Promise<0 | 1> {
    return this.call("drop", [table], options);
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

  /** Removes a value from a set: 1, or 0 if it was not a member. */
  pull(set: unknown, value: unknown, options?: CallOptions): Promise<0 | 1> {
    return this.call("pull", [set, value], options);
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

  /** Drops a set: 1, or 0 if there was none. */
  dropSet(set: unknown, options?: CallOptions): Promise<0 | 1> {
    return this.call("drop_set", [set], options);
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

/**
 * The data of a host, for the process that it is in: every command as a synchronous method.
 *
 * A call goes through the same door as a client's message ({@link ./custom.ts | send}), so the same limits, checks and
 * replies hold. Nothing is sent: it runs at once, and no client is served in between.
 *
 * The file is long and holds one idea: a method for each command.
 *
 * @module
 */

import type { CommandInfo, Commands, Hello, Stats, Transfer } from "../commands/list.ts";
import {
  type CamelCase,
  type Converted,
  eachOrUndefined,
  isOne,
  orUndefined,
  withSeconds,
} from "../commands/methods.ts";
import { LocalSet, LocalTable } from "./local_views.ts";
import { isThenable } from "./custom.ts";

/** Options of a call that may make an entry. */
export interface LocalEntryOptions {
  /**
   * Seconds after which an entry that this call makes expires; left out: it stays. (`set` makes the entry anew, and
   * `setNew` and `incr` leave the expiry of one that is there alone.)
   */
  seconds?: number;
}

/** Runs a command at once. */
export type RunCommand = (name: string, args: readonly unknown[]) => unknown;

/** Commands whose optional arguments are options of their methods. */
type WithOptions = "store" | "set" | "set_new" | "incr";
/** Commands that take their time, and cannot be part of a batch. */
type Slow = "store" | "restore" | "s3store" | "s3restore" | "done";

/** The methods that the command table asks for. */
type Methods = {
  [Name in Exclude<keyof Commands, WithOptions | "lane"> as CamelCase<Name>]: (
    ...args: Parameters<Commands[Name]>
  ) => Name extends Slow ? Promise<ReturnType<Commands[Name]>> : Converted<ReturnType<Commands[Name]>>;
};

/**
 * The commands that are done at once, as methods. They are those of {@linkcode CommandMethods}, without the promises:
 * what a command replies is returned, and a command that is refused or fails throws a {@linkcode MemStoreError}. Values
 * are copied in and out, as for every client.
 */
export class LocalCommands {
  readonly #run: RunCommand;

  /** Use {@linkcode MemStore.local}. */
  constructor(run: RunCommand) {
    this.#run = run;
  }

  /** Runs a command at once. */
  protected call<Reply>(name: string, args: readonly unknown[]): Reply {
    return this.#run(name, args) as Reply;
  }

  /** Runs a command in its raw form: one of the host's own, for example. Returns a promise if that is asynchronous. */
  send<Reply = unknown>(command: readonly [name: string, ...args: unknown[]]): Reply {
    const [name, ...args] = command;
    return this.call(name, args);
  }

  /** The value of a key, or `undefined` if it is not there (or is `null`). */
  get<Value = unknown>(table: unknown, key: unknown): Value | undefined {
    return orUndefined(this.call("get", [table, key]));
  }

  /** Sets the value of a key. */
  set(table: unknown, key: unknown, value: unknown, options?: LocalEntryOptions): 1 {
    return this.call("set", withSeconds([table, key, value], options));
  }

  /** Sets the value of a key if it is not there; whether it was not. */
  setNew(table: unknown, key: unknown, value: unknown, options?: LocalEntryOptions): boolean {
    return isOne(this.call("set_new", withSeconds([table, key, value], options)));
  }

  /** Sets the value of a key if it has the expected one (`undefined`: it is not there); whether it had. */
  cas(table: unknown, key: unknown, expected: unknown, value: unknown): boolean {
    return isOne(this.call("cas", [table, key, expected ?? null, value]));
  }

  /** Deletes a key if its value is the expected one; whether it was. */
  delIf(table: unknown, key: unknown, expected: unknown): boolean {
    return isOne(this.call("del_if", [table, key, expected ?? null]));
  }

  /**
   * Sets a key to what a function makes of its value, which is `undefined` if it is not there. If the function returns
   * `undefined`, the entry is deleted. The entry does not expire any more.
   *
   * @returns The value that the key has now.
   * @throws {TypeError} if the function returns a promise.
   */
  update<Value = unknown>(
    table: unknown,
    key: unknown,
    fn: (value: Value | undefined) => Value | undefined,
  ): Value | undefined {
    const value = fn(this.get<Value>(table, key));
    refusePromise(value, "update the key");
    if (value === undefined) this.del(table, key);
    else this.set(table, key, value);
    return value;
  }

  /** Adds to a number, which is 0 if the key is not there: the sum. `seconds` is for an entry that this call makes. */
  incr(table: unknown, key: unknown, by: number | bigint = 1, options?: LocalEntryOptions): number | bigint {
    return this.call("incr", withSeconds([table, key, by], options));
  }

  /** Deletes a key: its value, or `undefined` if it was not there. */
  pop<Value = unknown>(table: unknown, key: unknown): Value | undefined {
    return orUndefined(this.call("pop", [table, key]));
  }

  /** Deletes a key; whether it was there. */
  del(table: unknown, key: unknown): boolean {
    return isOne(this.call("del", [table, key]));
  }

  /** Whether a table has a key. */
  exists(table: unknown, key: unknown): boolean {
    return this.call("exists", [table, key]);
  }

  /** The values of several keys, in the keys' order; `undefined` for each that is not there. */
  getMany<Value = unknown>(table: unknown, keys: readonly unknown[]): (Value | undefined)[] {
    return eachOrUndefined(this.call("get_many", [table, keys]));
  }

  /** Sets the values of several keys, all or none: how many of them are new. */
  setMany(
    table: unknown,
    entries: ReadonlyMap<unknown, unknown> | Readonly<Record<string, unknown>>,
  ): number {
    return this.call("set_many", [table, entries]);
  }

  /** Expires a key after a number of seconds, at once if that is 0 or less; whether the key is there. */
  expire(table: unknown, key: unknown, seconds: number): boolean {
    return isOne(this.call("expire", [table, key, seconds]));
  }

  /** Removes the expiry of a key; whether it had one. */
  persist(table: unknown, key: unknown): boolean {
    return isOne(this.call("persist", [table, key]));
  }

  /** The seconds until a key expires: `Infinity` if it does not, `undefined` if it is not there. */
  ttl(table: unknown, key: unknown): number | undefined {
    return orUndefined(this.call("ttl", [table, key]));
  }

  /** The keys of a table, in no particular order. */
  keys<Key = unknown>(table: unknown): Key[] {
    return this.call("keys", [table]);
  }

  /** How many entries a table has. */
  size(table: unknown): number {
    return this.call("size", [table]);
  }

  /** A whole table; empty if there is none. Iterate over {@linkcode LocalCommands.table} if it may be large. */
  all<Key = unknown, Value = unknown>(table: unknown): Map<Key, Value> {
    return this.call("all", [table]);
  }

  /** Some entries of a table, about `count`, and the cursor of those that follow: as {@linkcode CommandMethods.scan}. */
  scan<Key = unknown, Value = unknown>(
    table: unknown,
    cursor: number,
    count?: number,
  ): [cursor: number, entries: Map<Key, Value>] {
    return this.call("scan", count === undefined ? [table, cursor] : [table, cursor, count]);
  }

  /** Drops a table; whether there was one. */
  drop(table: unknown): boolean {
    return isOne(this.call("drop", [table]));
  }

  /** The names of the tables. */
  tables<Name = unknown>(): Name[] {
    return this.call("tables", []);
  }

  /** Adds a value to a set. */
  push(set: unknown, value: unknown): 1 {
    return this.call("push", [set, value]);
  }

  /** Adds several values to a set, all or none: how many of them are new. */
  pushMany(set: unknown, values: readonly unknown[]): number {
    return this.call("push_many", [set, values]);
  }

  /** Removes a value from a set; whether it was a member. */
  pull(set: unknown, value: unknown): boolean {
    return isOne(this.call("pull", [set, value]));
  }

  /** Whether a value is a member of a set. */
  inSet(set: unknown, value: unknown): boolean {
    return this.call("in_set", [set, value]);
  }

  /** The members of a set, in no particular order. */
  listSet<Value = unknown>(set: unknown): Value[] {
    return this.call("list_set", [set]);
  }

  /** Some members of a set, and where to go on: as {@linkcode LocalCommands.scan}. */
  scanSet<Value = unknown>(
    set: unknown,
    cursor: number,
    count?: number,
  ): [cursor: number, members: Value[]] {
    return this.call("scan_set", count === undefined ? [set, cursor] : [set, cursor, count]);
  }

  /** What is in any of several sets. */
  union<Value = unknown>(sets: readonly unknown[]): Value[] {
    return this.call("union", [sets]);
  }

  /** What is in all of several sets. */
  inter<Value = unknown>(sets: readonly unknown[]): Value[] {
    return this.call("inter", [sets]);
  }

  /** What is in the first of several sets and in none of the others. */
  diff<Value = unknown>(sets: readonly unknown[]): Value[] {
    return this.call("diff", [sets]);
  }

  /** How many members a set has. */
  setSize(set: unknown): number {
    return this.call("set_size", [set]);
  }

  /** Empties a set. */
  clearSet(set: unknown): 1 {
    return this.call("clear_set", [set]);
  }

  /** Drops a set; whether there was one. */
  dropSet(set: unknown): boolean {
    return isOne(this.call("drop_set", [set]));
  }

  /** The names of the sets. */
  sets<Name = unknown>(): Name[] {
    return this.call("sets", []);
  }

  /** The stores and restores that are under way. */
  transfers(): Transfer[] {
    return this.call("transfers", []);
  }

  /** What the host is, and its limits. */
  hello(): Hello {
    return this.call("hello", []);
  }

  /** Answers `"pong"`. */
  ping(): "pong" {
    return this.call("ping", []);
  }

  /** The megabytes of memory that the process uses. */
  info(): [megabytes: number, unit: "mb"] {
    return this.call("info", []);
  }

  /** Figures of the host: its uptime, tables, entries, memory. */
  stats(): Stats {
    return this.call("stats", []);
  }

  /** The commands that the host knows. */
  commands(): CommandInfo[] {
    return this.call("commands", []);
  }

  /** One table, with the methods of a `Map`. */
  table<Key = unknown, Value = unknown>(name: unknown): LocalTable<Key, Value> {
    return new LocalTable(this, name);
  }

  /** One named set, with the methods of a `Set`. */
  namedSet<Value = unknown>(name: unknown): LocalSet<Value> {
    return new LocalSet(this, name);
  }
}

/** Runs a function as a transaction. */
export type Transaction = <Result>(run: () => Result) => Result;

/**
 * The data of a host, for the process that it is in. Made by {@linkcode MemStore.local}.
 *
 * @example
 * ```ts
 * import { MemStore } from "@memstore/memstore";
 *
 * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
 * await store.start();
 *
 * store.local.set("users", "alice", { age: 31 });
 * console.assert(store.local.get<{ age: number }>("users", "alice")?.age === 31);
 * console.assert(store.local.get("users", "bob") === undefined);
 * console.assert(store.local.del("users", "bob") === false);
 * console.assert(store.local.incr("visits", "home") === 1);
 * ```
 */
export class LocalStore extends LocalCommands {
  readonly #transaction: Transaction;

  /** Use {@linkcode MemStore.local}. */
  constructor(run: RunCommand, transaction: Transaction) {
    super(run);
    this.#transaction = transaction;
  }

  /**
   * Runs a function as a transaction: if it throws, all that it changed is rolled back. Each command replies at once, so
   * what follows can depend on it.
   *
   * @example
   * ```ts
   * import { MemStore } from "@memstore/memstore";
   *
   * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
   * await store.start();
   * store.local.setMany("accounts", { alice: 10, bob: 0 });
   *
   * const pay = (amount: number) =>
   *   store.local.batch((batch) => {
   *     batch.incr("accounts", "bob", amount);
   *     if (batch.incr("accounts", "alice", -amount) < 0) throw new Error("not enough");
   *   });
   * pay(7);
   * try {
   *   pay(7);
   * } catch {
   *   console.assert(store.local.get("accounts", "bob") === 7);
   * }
   * ```
   *
   * @returns What the function returns.
   * @throws What the function throws.
   * @throws {TypeError} if the function returns a promise, or within another batch.
   */
  batch<Result>(fn: (batch: LocalCommands) => Result): Result {
    let open = true;
    const batch = new LocalCommands((name, args) => {
      if (open) return this.call(name, args);
      throw new TypeError(`Cannot ${name}: the function of its batch has returned, and the batch has ended`);
    });
    try {
      return this.#transaction(() => {
        const result = fn(batch);
        refusePromise(result, "run a batch");
        return result;
      });
    } finally {
      open = false;
    }
  }

  /** Stores the state of this moment to a file: resolves to the seconds it took. */
  async store(path: string, options?: { compress?: boolean }): Promise<["stored", number]> {
    return await this.call("store", options?.compress ? [path, true] : [path]);
  }

  /** Replaces the state by that of a file: resolves to the seconds it took. */
  async restore(path: string): Promise<["restored", number]> {
    return await this.call("restore", [path]);
  }

  /** Stores the state of this moment to an object in S3. */
  async s3store(bucket: string, key: string): Promise<["stored", number]> {
    return await this.call("s3store", [bucket, key]);
  }

  /** Replaces the state by that of an object in S3. */
  async s3restore(bucket: string, key: string): Promise<["restored", number]> {
    return await this.call("s3restore", [bucket, key]);
  }

  /** Stops the host: resolves when that is certain. {@linkcode MemStore.stop} resolves when it has stopped. */
  async done(): Promise<["ok"]> {
    return await this.call("done", []);
  }
}

/** @throws {TypeError} if a function returned a promise: what it still does is outside of what it was called for. */
function refusePromise(result: unknown, what: string): void {
  if (!isThenable(result)) return;
  // (How that ends is told to nobody.)
  result.then(undefined, () => {});
  throw new TypeError(`Cannot ${what}: its function must not be asynchronous: received a promise`);
}

/** Does not compile unless every command of the table has its method, with its arguments and its reply. */
type Complete<Class extends Methods> = Class;
type _Checked = Complete<LocalStore>;

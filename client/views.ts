/**
 * A table as an asynchronous `Map`, a named set as an asynchronous `Set`. Both are views: they hold a name
 * and a client, and no data.
 *
 * @module
 */

import type { CallOptions, CommandMethods, EntryOptions } from "./methods.ts";
import type { Update } from "./update.ts";

/** How many entries or members one message of an iteration asks for. */
const COUNT = 1000;

/** What a view needs of its client. */
export interface ViewClient extends CommandMethods {
  /** See {@linkcode MemStoreClient.update}. */
  update<Value>(
    table: unknown,
    key: unknown,
    fn: Update<Value>,
    options?: CallOptions,
  ): Promise<Value | undefined>;
}

/**
 * One table: the methods of a `Map` as promises, and the other commands on tables. Made by
 * {@linkcode MemStoreClient.table}.
 *
 * Iterating reads a part of the table at a time. An entry that is there from beginning to end is seen once, whatever
 * changes meanwhile; one that is added or removed meanwhile is seen or not.
 */
export class RemoteTable<Key = unknown, Value = unknown> implements AsyncIterable<[Key, Value]> {
  readonly #client: ViewClient;
  readonly #options: CallOptions;
  /** The table's name. */
  readonly name: unknown;

  /** Use {@linkcode MemStoreClient.table}. */
  constructor(client: ViewClient, name: unknown, options: CallOptions = {}) {
    this.#client = client;
    this.#options = options;
    this.name = name;
  }

  /** The value of a key, or `undefined`. */
  get(key: Key): Promise<Value | undefined> {
    return this.#client.get(this.name, key, this.#options);
  }

  /** The values of several keys, in the keys' order; `undefined` for each that is not there. */
  getMany(keys: readonly Key[]): Promise<(Value | undefined)[]> {
    return this.#client.getMany(this.name, keys, this.#options);
  }

  /** Sets the value of a key, for a number of seconds if `seconds` is given. */
  async set(key: Key, value: Value, options?: Pick<EntryOptions, "seconds">): Promise<this> {
    await this.#client.set(this.name, key, value, { ...this.#options, ...options });
    return this;
  }

  /** Sets the value of a key if it is not there; whether it was not. */
  setNew(key: Key, value: Value, options?: Pick<EntryOptions, "seconds">): Promise<boolean> {
    return this.#client.setNew(this.name, key, value, { ...this.#options, ...options });
  }

  /** Sets the values of several keys, all or none: how many of them are new. */
  setMany(
    entries: ReadonlyMap<Key, Value> | (Key extends string ? Readonly<Record<Key, Value>> : never),
  ): Promise<
    number
  > {
    return this.#client.setMany(this.name, entries, this.#options);
  }

  /** Sets the value of a key if the value that it has is the expected one (`undefined`: it is not there); whether it was. */
  cas(key: Key, expected: Value | undefined, value: Value): Promise<boolean> {
    return this.#client.cas(this.name, key, expected, value, this.#options);
  }

  /** Sets a key to what a function makes of its value, as {@linkcode MemStoreClient.update} does. */
  update(key: Key, fn: Update<Value>): Promise<Value | undefined> {
    return this.#client.update(this.name, key, fn, this.#options);
  }

  /** Adds to a number, which is 0 if the key is not there: the sum. `seconds` is for an entry that this call makes. */
  incr(key: Key, by?: number | bigint, options?: Pick<EntryOptions, "seconds">): Promise<number | bigint> {
    return this.#client.incr(this.name, key, by, { ...this.#options, ...options });
  }

  /** Whether the key is there. */
  has(key: Key): Promise<boolean> {
    return this.#client.exists(this.name, key, this.#options);
  }

  /** Deletes a key; whether it was there. */
  delete(key: Key): Promise<boolean> {
    return this.#client.del(this.name, key, this.#options);
  }

  /** Deletes a key if its value is the expected one; whether it was. */
  deleteIf(key: Key, expected: Value): Promise<boolean> {
    return this.#client.delIf(this.name, key, expected, this.#options);
  }

  /** Deletes a key: its value, or `undefined` if it was not there. */
  pop(key: Key): Promise<Value | undefined> {
    return this.#client.pop(this.name, key, this.#options);
  }

  /** Expires a key after a number of seconds, at once if that is 0 or less; whether the key is there. */
  expire(key: Key, seconds: number): Promise<boolean> {
    return this.#client.expire(this.name, key, seconds, this.#options);
  }

  /** Removes the expiry of a key; whether it had one. */
  persist(key: Key): Promise<boolean> {
    return this.#client.persist(this.name, key, this.#options);
  }

  /** The seconds until a key expires: `Infinity` if it does not, `undefined` if it is not there. */
  ttl(key: Key): Promise<number | undefined> {
    return this.#client.ttl(this.name, key, this.#options);
  }

  /** Drops the table. */
  async clear(): Promise<void> {
    await this.drop();
  }

  /** Drops the table; whether there was one. */
  drop(): Promise<boolean> {
    return this.#client.drop(this.name, this.#options);
  }

  /** How many entries there are. */
  size(): Promise<number> {
    return this.#client.size(this.name, this.#options);
  }

  /** The whole table as a `Map`, in one message. Iterate over one that may be large. */
  all(): Promise<Map<Key, Value>> {
    return this.#client.all(this.name, this.#options);
  }

  /** Some entries, and the cursor of those that follow, as {@linkcode CommandMethods.scan}. */
  scan(cursor: number, count?: number): Promise<[cursor: number, entries: Map<Key, Value>]> {
    return this.#client.scan(this.name, cursor, count, this.#options);
  }

  /** Key and value of every entry. */
  async *entries(): AsyncIterableIterator<[Key, Value]> {
    let cursor = 0;
    do {
      const [next, entries] = await this.scan(cursor, COUNT);
      yield* entries;
      cursor = next;
    } while (cursor !== 0);
  }

  /** Every key. */
  async *keys(): AsyncIterableIterator<Key> {
    for await (const [key] of this.entries()) yield key;
  }

  /** Every value. */
  async *values(): AsyncIterableIterator<Value> {
    for await (const [, value] of this.entries()) yield value;
  }

  /** {@linkcode RemoteTable.entries}, for `for await`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<[Key, Value]> {
    return this.entries();
  }
}

/**
 * One named set: the methods of a `Set` as promises, and the other commands on sets. Made by
 * {@linkcode MemStoreClient.namedSet}.
 *
 * Iterating reads a part of the set at a time. A member that is there from beginning to end is seen once, whatever
 * changes meanwhile; one that is added or removed meanwhile is seen or not.
 */
export class RemoteSet<Value = unknown> implements AsyncIterable<Value> {
  readonly #client: CommandMethods;
  readonly #options: CallOptions;
  /** The set's name. */
  readonly name: unknown;

  /** Use {@linkcode MemStoreClient.namedSet}. */
  constructor(client: CommandMethods, name: unknown, options: CallOptions = {}) {
    this.#client = client;
    this.#options = options;
    this.name = name;
  }

  /** Adds a value. */
  async add(value: Value): Promise<this> {
    await this.#client.push(this.name, value, this.#options);
    return this;
  }

  /** Adds several values, all or none: how many of them are new. */
  addMany(values: readonly Value[]): Promise<number> {
    return this.#client.pushMany(this.name, values, this.#options);
  }

  /** Whether a value is a member. */
  has(value: Value): Promise<boolean> {
    return this.#client.inSet(this.name, value, this.#options);
  }

  /** Removes a value; whether it was a member. */
  delete(value: Value): Promise<boolean> {
    return this.#client.pull(this.name, value, this.#options);
  }

  /** Empties the set. */
  async clear(): Promise<void> {
    await this.#client.clearSet(this.name, this.#options);
  }

  /** Drops the set; whether there was one. */
  drop(): Promise<boolean> {
    return this.#client.dropSet(this.name, this.#options);
  }

  /** How many members there are. */
  size(): Promise<number> {
    return this.#client.setSize(this.name, this.#options);
  }

  /** All members, in one message. Iterate over a set that may be large. */
  all(): Promise<Value[]> {
    return this.#client.listSet(this.name, this.#options);
  }

  /** The values that are in this set or in one of the others, which are given as views or by their names. */
  union(...others: unknown[]): Promise<Value[]> {
    return this.#client.union(this.#with(others), this.#options);
  }

  /** The values that are in this set and in all of the others. */
  intersection(...others: unknown[]): Promise<Value[]> {
    return this.#client.inter(this.#with(others), this.#options);
  }

  /** The values that are in this set and in none of the others. */
  difference(...others: unknown[]): Promise<Value[]> {
    return this.#client.diff(this.#with(others), this.#options);
  }

  /** Some members, and the cursor of those that follow, as {@linkcode CommandMethods.scan}. */
  scan(cursor: number, count?: number): Promise<[cursor: number, members: Value[]]> {
    return this.#client.scanSet(this.name, cursor, count, this.#options);
  }

  /** Every member. */
  async *values(): AsyncIterableIterator<Value> {
    let cursor = 0;
    do {
      const [next, members] = await this.scan(cursor, COUNT);
      yield* members;
      cursor = next;
    } while (cursor !== 0);
  }

  /** {@linkcode RemoteSet.values}, for `for await`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Value> {
    return this.values();
  }

  /** The names of this set and of others. */
  #with(others: readonly unknown[]): unknown[] {
    return [this.name, ...others.map((other) => other instanceof RemoteSet ? other.name : other)];
  }
}

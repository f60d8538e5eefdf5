/**
 * A table as an asynchronous `Map`, and a named set as an asynchronous `Set`. Both are views: they have a name and a
 * client, and no data of their own.
 *
 * @module
 */

import type { CallOptions, CommandMethods, EntryOptions } from "./methods.ts";
import type { Update } from "./update.ts";

/** How many entries or members an iteration asks for in one message. */
const COUNT = 1000;

/** The methods of the client that a view uses. */
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
 * An iteration reads one page of the table at a time. An entry that exists during the whole iteration is returned
 * exactly once. One that is added or removed meanwhile may or may not be.
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

  /** Returns the value of a key, or `undefined`. */
  get(key: Key): Promise<Value | undefined> {
    return this.#client.get(this.name, key, this.#options);
  }

  /** Returns the values of several keys, in the order of the keys; `undefined` for a key that does not exist. */
  getMany(keys: readonly Key[]): Promise<(Value | undefined)[]> {
    return this.#client.getMany(this.name, keys, this.#options);
  }

  /** Sets the value of a key. With `seconds`, it expires after them. */
  async set(key: Key, value: Value, options?: Pick<EntryOptions, "seconds">): Promise<this> {
    await this.#client.set(this.name, key, value, { ...this.#options, ...options });
    return this;
  }

  /** Sets the value of a key that does not exist. Returns whether it did so. */
  setNew(key: Key, value: Value, options?: Pick<EntryOptions, "seconds">): Promise<boolean> {
    return this.#client.setNew(this.name, key, value, { ...this.#options, ...options });
  }

  /** Sets the values of several keys, all or none. Returns how many keys are new. */
  setMany(
    entries: ReadonlyMap<Key, Value> | (Key extends string ? Readonly<Record<Key, Value>> : never),
  ): Promise<
    number
  > {
    return this.#client.setMany(this.name, entries, this.#options);
  }

  /** Sets the value of a key if its current value is the expected one, as {@linkcode CommandMethods.cas} does. */
  cas(key: Key, expected: Value | undefined, value: Value): Promise<boolean> {
    return this.#client.cas(this.name, key, expected, value, this.#options);
  }

  /** Replaces a value by what a function returns for it, as {@linkcode MemStoreClient.update} does. */
  update(key: Key, fn: Update<Value>): Promise<Value | undefined> {
    return this.#client.update(this.name, key, fn, this.#options);
  }

  /** Adds to a number and returns the sum, as {@linkcode CommandMethods.incr} does. */
  incr(key: Key, by?: number | bigint, options?: Pick<EntryOptions, "seconds">): Promise<number | bigint> {
    return this.#client.incr(this.name, key, by, { ...this.#options, ...options });
  }

  /** Returns whether a key exists. */
  has(key: Key): Promise<boolean> {
    return this.#client.exists(this.name, key, this.#options);
  }

  /** Deletes a key. Returns whether it existed. */
  delete(key: Key): Promise<boolean> {
    return this.#client.del(this.name, key, this.#options);
  }

  /** Deletes a key if its value is the expected one. Returns whether it did so. */
  deleteIf(key: Key, expected: Value): Promise<boolean> {
    return this.#client.delIf(this.name, key, expected, this.#options);
  }

  /** Deletes a key and returns its value, or `undefined` if it did not exist. */
  pop(key: Key): Promise<Value | undefined> {
    return this.#client.pop(this.name, key, this.#options);
  }

  /** Expires a key after a number of seconds, or at once if that is 0 or less. Returns whether the key exists. */
  expire(key: Key, seconds: number): Promise<boolean> {
    return this.#client.expire(this.name, key, seconds, this.#options);
  }

  /** Removes the expiry of a key. Returns whether it had one. */
  persist(key: Key): Promise<boolean> {
    return this.#client.persist(this.name, key, this.#options);
  }

  /** Returns the seconds until a key expires: `Infinity` if never, `undefined` if the key does not exist. */
  ttl(key: Key): Promise<number | undefined> {
    return this.#client.ttl(this.name, key, this.#options);
  }

  /** Drops the table. */
  async clear(): Promise<void> {
    await this.drop();
  }

  /** Drops the table. Returns whether it existed. */
  drop(): Promise<boolean> {
    return this.#client.drop(this.name, this.#options);
  }

  /** Returns the number of entries. */
  size(): Promise<number> {
    return this.#client.size(this.name, this.#options);
  }

  /** Returns the whole table as a `Map`, in one message. Iterate over a table that may be large. */
  all(): Promise<Map<Key, Value>> {
    return this.#client.all(this.name, this.#options);
  }

  /** Returns a page of entries and the cursor of the next page, as {@linkcode CommandMethods.scan} does. */
  scan(cursor: number, count?: number): Promise<[cursor: number, entries: Map<Key, Value>]> {
    return this.#client.scan(this.name, cursor, count, this.#options);
  }

  /** Iterates over the keys and values. */
  async *entries(): AsyncIterableIterator<[Key, Value]> {
    let cursor = 0;
    do {
      const [next, entries] = await this.scan(cursor, COUNT);
      yield* entries;
      cursor = next;
    } while (cursor !== 0);
  }

  /** Iterates over the keys. */
  async *keys(): AsyncIterableIterator<Key> {
    for await (const [key] of this.entries()) yield key;
  }

  /** Iterates over the values. */
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
 * An iteration reads one page of the set at a time. A value that is a member during the whole iteration is returned
 * exactly once. One that is added or removed meanwhile may or may not be.
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

  /** Adds several values, all or none. Returns how many are new. */
  addMany(values: readonly Value[]): Promise<number> {
    return this.#client.pushMany(this.name, values, this.#options);
  }

  /** Returns whether a value is a member. */
  has(value: Value): Promise<boolean> {
    return this.#client.inSet(this.name, value, this.#options);
  }

  /** Removes a value. Returns whether it was a member. */
  delete(value: Value): Promise<boolean> {
    return this.#client.pull(this.name, value, this.#options);
  }

  /** Empties the set. */
  async clear(): Promise<void> {
    await this.#client.clearSet(this.name, this.#options);
  }

  /** Drops the set. Returns whether it existed. */
  drop(): Promise<boolean> {
    return this.#client.dropSet(this.name, this.#options);
  }

  /** Returns the number of members. */
  size(): Promise<number> {
    return this.#client.setSize(this.name, this.#options);
  }

  /** Returns all members in one message. Iterate over a set that may be large. */
  all(): Promise<Value[]> {
    return this.#client.listSet(this.name, this.#options);
  }

  /** Returns the values that are in this set or in one of the others, which are views or names. */
  union(...others: unknown[]): Promise<Value[]> {
    return this.#client.union(this.#with(others), this.#options);
  }

  /** Returns the values that are in this set and in all of the others. */
  intersection(...others: unknown[]): Promise<Value[]> {
    return this.#client.inter(this.#with(others), this.#options);
  }

  /** Returns the values that are in this set and in none of the others. */
  difference(...others: unknown[]): Promise<Value[]> {
    return this.#client.diff(this.#with(others), this.#options);
  }

  /** Returns a page of members and the cursor of the next page, as {@linkcode CommandMethods.scan} does. */
  scan(cursor: number, count?: number): Promise<[cursor: number, members: Value[]]> {
    return this.#client.scanSet(this.name, cursor, count, this.#options);
  }

  /** Iterates over the members. */
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

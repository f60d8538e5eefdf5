/**
 * A table as an asynchronous `Map`, a named set as an asynchronous `Set`. Both are views: they hold a name
 * and a client, and no data.
 *
 * @module
 */

import type { CallOptions, CommandMethods } from "./commands/methods.ts";

/** How many entries or members one message of an iteration asks for. */
const COUNT = 1000;

/**
 * One table, with the methods of a `Map` as promises. Made by {@linkcode MemStoreClient.table}.
 *
 * Iterating reads a part of the table at a time. An entry that is there throughout is seen once, whatever
 * changes meanwhile; one that comes or goes is seen or not.
 */
export class RemoteTable<Value = unknown, Key = unknown> implements AsyncIterable<[Key, Value]> {
  readonly #client: CommandMethods;
  readonly #options: CallOptions;
  /** The table's name. */
  readonly name: unknown;

  /** Use {@linkcode MemStoreClient.table}. */
  constructor(client: CommandMethods, name: unknown, options: CallOptions = {}) {
    this.#client = client;
    this.#options = options;
    this.name = name;
  }

  /** The value of a key, or `undefined`. */
  get(key: Key): Promise<Value | undefined> {
    return this.#client.get(this.name, key, this.#options);
  }

  /** Sets the value of a key. */
  async set(key: Key, value: Value): Promise<this> {
    await this.#client.set(this.name, key, value, this.#options);
    return this;
  }

  /** Whether the key is there. */
  has(key: Key): Promise<boolean> {
    return this.#client.exists(this.name, key, this.#options);
  }

  /** Deletes a key; whether it was there. */
  async delete(key: Key): Promise<boolean> {
    return await this.#client.del(this.name, key, this.#options) === 1;
  }

  /** Drops the table. */
  async clear(): Promise<void> {
    await this.#client.drop(this.name, this.#options);
  }

  /** How many entries there are. */
  size(): Promise<number> {
    return this.#client.size(this.name, this.#options);
  }

  /** Key and value of every entry. */
  async *entries(): AsyncIterableIterator<[Key, Value]> {
    let cursor = 0;
    do {
      const [next, entries] = await this.#client.scan<Value, Key>(this.name, cursor, COUNT, this.#options);
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
 * One named set, with the methods of a `Set` as promises. Made by {@linkcode MemStoreClient.namedSet}.
 *
 * Iterating reads a part of the set at a time. A member that is there throughout is seen once, whatever
 * changes meanwhile; one that comes or goes is seen or not.
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

  /** Whether a value is a member. */
  has(value: Value): Promise<boolean> {
    return this.#client.inSet(this.name, value, this.#options);
  }

  /** Removes a value; whether it was a member. */
  async delete(value: Value): Promise<boolean> {
    return await this.#client.pull(this.name, value, this.#options) === 1;
  }

  /** Empties the set. */
  async clear(): Promise<void> {
    await this.#client.clearSet(this.name, this.#options);
  }

  /** How many members there are. */
  size(): Promise<number> {
    return this.#client.setSize(this.name, this.#options);
  }

  /** Every member. */
  async *values(): AsyncIterableIterator<Value> {
    let cursor = 0;
    do {
      const [next, members] = await this.#client.scanSet<Value>(this.name, cursor, COUNT, this.#options);
      yield* members;
      cursor = next;
    } while (cursor !== 0);
  }

  /** {@linkcode RemoteSet.values}, for `for await`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Value> {
    return this.values();
  }
}

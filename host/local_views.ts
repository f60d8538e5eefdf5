/**
 * A table as a `Map`, a named set as a `Set`, for the process that the host is in. Both are views: they hold a name,
 * and no data.
 *
 * @module
 */

import type { LocalCommands, LocalEntryOptions } from "./local.ts";

/** How many entries or members an iteration reads at a time. */
const COUNT = 1000;

/**
 * One table: the methods of a `Map`, and the other commands on tables. Made by {@linkcode LocalCommands.table}.
 *
 * Entries have no order. One that is there from beginning to end of an iteration is seen once, whatever changes
 * meanwhile; one that is added or removed meanwhile is seen or not.
 *
 * @example
 * ```ts
 * import { MemStore } from "@memstore/memstore";
 *
 * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
 * await store.start();
 *
 * const ages = store.local.table<string, number>("ages");
 * ages.set("alice", 31).set("bob", 27);
 * console.assert(ages.size === 2 && ages.get("bob") === 27);
 * for (const [name, age] of ages) console.assert(age === (name === "alice" ? 31 : 27));
 * ```
 */
export class LocalTable<Key = unknown, Value = unknown> implements Iterable<[Key, Value]> {
  readonly #commands: LocalCommands;
  /** The table's name. */
  readonly name: unknown;

  /** Use {@linkcode LocalCommands.table}. */
  constructor(commands: LocalCommands, name: unknown) {
    this.#commands = commands;
    this.name = name;
  }

  /** How many entries there are. */
  get size(): number {
    return this.#commands.size(this.name);
  }

  /** The value of a key, or `undefined`. */
  get(key: Key): Value | undefined {
    return this.#commands.get(this.name, key);
  }

  /** The values of several keys, in the keys' order; `undefined` for each that is not there. */
  getMany(keys: readonly Key[]): (Value | undefined)[] {
    return this.#commands.getMany(this.name, keys);
  }

  /** Sets the value of a key, for a number of seconds if `seconds` is given. */
  set(key: Key, value: Value, options?: LocalEntryOptions): this {
    this.#commands.set(this.name, key, value, options);
    return this;
  }

  /** Sets the value of a key if it is not there; whether it was not. */
  setNew(key: Key, value: Value, options?: LocalEntryOptions): boolean {
    return this.#commands.setNew(this.name, key, value, options);
  }

  /** Sets the values of several keys, all or none: how many of them are new. */
  setMany(
    entries: ReadonlyMap<Key, Value> | (Key extends string ? Readonly<Record<Key, Value>> : never),
  ): number {
    return this.#commands.setMany(this.name, entries);
  }

  /** Sets the value of a key if it has the expected one (`undefined`: it is not there); whether it had. */
  cas(key: Key, expected: Value | undefined, value: Value): boolean {
    return this.#commands.cas(this.name, key, expected, value);
  }

  /** Sets a key to what a function makes of its value, as {@linkcode LocalCommands.update} does. */
  update(key: Key, fn: (value: Value | undefined) => Value | undefined): Value | undefined {
    return this.#commands.update(this.name, key, fn);
  }

  /** Adds to a number, which is 0 if the key is not there: the sum. */
  incr(key: Key, by?: number | bigint, options?: LocalEntryOptions): number | bigint {
    return this.#commands.incr(this.name, key, by, options);
  }

  /** Whether the key is there. */
  has(key: Key): boolean {
    return this.#commands.exists(this.name, key);
  }

  /** Deletes a key; whether it was there. */
  delete(key: Key): boolean {
    return this.#commands.del(this.name, key);
  }

  /** Deletes a key if its value is the expected one; whether it was. */
  deleteIf(key: Key, expected: Value): boolean {
    return this.#commands.delIf(this.name, key, expected);
  }

  /** Deletes a key: its value, or `undefined` if it was not there. */
  pop(key: Key): Value | undefined {
    return this.#commands.pop(this.name, key);
  }

  /** Expires a key after a number of seconds, at once if that is 0 or less; whether the key is there. */
  expire(key: Key, seconds: number): boolean {
    return this.#commands.expire(this.name, key, seconds);
  }

  /** Removes the expiry of a key; whether it had one. */
  persist(key: Key): boolean {
    return this.#commands.persist(this.name, key);
  }

  /** The seconds until a key expires: `Infinity` if it does not, `undefined` if it is not there. */
  ttl(key: Key): number | undefined {
    return this.#commands.ttl(this.name, key);
  }

  /** Drops the table. */
  clear(): void {
    this.drop();
  }

  /** Drops the table; whether there was one. */
  drop(): boolean {
    return this.#commands.drop(this.name);
  }

  /** The whole table as a `Map`. */
  all(): Map<Key, Value> {
    return this.#commands.all(this.name);
  }

  /** Key and value of every entry. */
  *entries(): IterableIterator<[Key, Value]> {
    let cursor = 0;
    do {
      const [next, entries] = this.#commands.scan<Key, Value>(this.name, cursor, COUNT);
      yield* entries;
      cursor = next;
    } while (cursor !== 0);
  }

  /** Every key. */
  *keys(): IterableIterator<Key> {
    for (const [key] of this.entries()) yield key;
  }

  /** Every value. */
  *values(): IterableIterator<Value> {
    for (const [, value] of this.entries()) yield value;
  }

  /** Calls a function for every entry. */
  forEach(fn: (value: Value, key: Key, table: this) => void): void {
    for (const [key, value] of this.entries()) fn(value, key, this);
  }

  /** {@linkcode LocalTable.entries}, for `for … of`. */
  [Symbol.iterator](): IterableIterator<[Key, Value]> {
    return this.entries();
  }
}

/**
 * One named set: the methods of a `Set`, and the other commands on sets. Made by {@linkcode LocalCommands.namedSet}.
 *
 * Members have no order. One that is there from beginning to end of an iteration is seen once, whatever changes
 * meanwhile; one that is added or removed meanwhile is seen or not.
 *
 * @example
 * ```ts
 * import { MemStore } from "@memstore/memstore";
 *
 * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
 * await store.start();
 *
 * const online = store.local.namedSet<string>("online");
 * online.add("alice");
 * console.assert(online.has("alice") && !online.has("bob"));
 * console.assert([...online].join() === "alice");
 * ```
 */
export class LocalSet<Value = unknown> implements Iterable<Value> {
  readonly #commands: LocalCommands;
  /** The set's name. */
  readonly name: unknown;

  /** Use {@linkcode LocalCommands.namedSet}. */
  constructor(commands: LocalCommands, name: unknown) {
    this.#commands = commands;
    this.name = name;
  }

  /** How many members there are. */
  get size(): number {
    return this.#commands.setSize(this.name);
  }

  /** Adds a value. */
  add(value: Value): this {
    this.#commands.push(this.name, value);
    return this;
  }

  /** Adds several values, all or none: how many of them are new. */
  addMany(values: readonly Value[]): number {
    return this.#commands.pushMany(this.name, values);
  }

  /** Whether a value is a member. */
  has(value: Value): boolean {
    return this.#commands.inSet(this.name, value);
  }

  /** Removes a value; whether it was a member. */
  delete(value: Value): boolean {
    return this.#commands.pull(this.name, value);
  }

  /** Empties the set. */
  clear(): void {
    this.#commands.clearSet(this.name);
  }

  /** Drops the set; whether there was one. */
  drop(): boolean {
    return this.#commands.dropSet(this.name);
  }

  /** All members. */
  all(): Value[] {
    return this.#commands.listSet(this.name);
  }

  /** The values that are in this set or in one of the others, which are given as views or by their names. */
  union(...others: unknown[]): Value[] {
    return this.#commands.union(this.#with(others));
  }

  /** The values that are in this set and in all of the others. */
  intersection(...others: unknown[]): Value[] {
    return this.#commands.inter(this.#with(others));
  }

  /** The values that are in this set and in none of the others. */
  difference(...others: unknown[]): Value[] {
    return this.#commands.diff(this.#with(others));
  }

  /** Every member. */
  *values(): IterableIterator<Value> {
    let cursor = 0;
    do {
      const [next, members] = this.#commands.scanSet<Value>(this.name, cursor, COUNT);
      yield* members;
      cursor = next;
    } while (cursor !== 0);
  }

  /** Calls a function for every member. */
  forEach(fn: (value: Value, again: Value, set: this) => void): void {
    for (const value of this.values()) fn(value, value, this);
  }

  /** {@linkcode LocalSet.values}, for `for … of`. */
  [Symbol.iterator](): IterableIterator<Value> {
    return this.values();
  }

  /** The names of this set and of others. */
  #with(others: readonly unknown[]): unknown[] {
    return [this.name, ...others.map((other) => other instanceof LocalSet ? other.name : other)];
  }
}

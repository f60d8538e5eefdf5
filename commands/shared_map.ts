/**
 * A table as a `Map`. It is a view: it holds a name, and no data.
 *
 * @module
 */

import { checkCallable, fromStored, isUndefined, MISSING, PAGE, toStored } from "./shared_values.ts";
import type { SyncCommands, SyncEntryOptions } from "./sync.ts";

/**
 * One table as a standard `Map`, and the other commands on tables. Made by {@linkcode SyncCommands.map}. A change is done
 * when the method returns. Reading creates no table.
 *
 * It differs from a `Map` of this process alone where it must:
 *
 * - **Keys are compared by value**: `[1]` is `[1]`, and `1n` is `1`. (As in every `Map`, `-0` is `0`, and `NaN` is equal
 *   to itself.)
 * - **Values are copies, of the types of MessagePack.** To change what a value contains, set it again. In a value, a `Map`
 *   whose keys are all strings comes back as a plain object, a `Set` as an array, an object of a class as a plain one, and
 *   a typed array as a `Uint8Array` of its bytes. What MessagePack does not have (functions, symbols, …) is refused with a
 *   `TypeError`, also where it is only looked up. `undefined` by itself, as a key or as a value, is stored as an extension.
 * - **Entries have no order.**
 * - **Iteration reads a page at a time.** An entry that exists during the whole iteration is returned exactly once. An
 *   entry that was deleted or set through the same {@linkcode SyncCommands} before its turn is not returned, or is returned
 *   with its new value. What others delete or set meanwhile, and what anyone adds, may or may not be returned.
 *
 * @example
 * ```ts
 * import { MemStore } from "@memstore/memstore";
 *
 * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
 * await store.start();
 *
 * const ages: Map<string, number> = store.local.map("ages");
 * ages.set("alice", 31).set("bob", 27);
 * console.assert(ages.size === 2 && ages.get("bob") === 27);
 * for (const [name, age] of ages) console.assert(age === (name === "alice" ? 31 : 27));
 * ```
 */
export class SharedMap<Key = unknown, Value = unknown> implements Map<Key, Value> {
  // (A view uses the protected members of its commands as well, in brackets.)
  readonly #commands: SyncCommands<object>;
  /** The table's name. */
  readonly name: unknown;

  static {
    // (In the standard, these are one function.)
    this.prototype[Symbol.iterator] = this.prototype.entries;
  }

  /** Use {@linkcode SyncCommands.map}. */
  constructor(commands: SyncCommands<object>, name: unknown) {
    this.#commands = commands;
    this.name = name;
  }

  /** The number of entries. */
  get size(): number {
    return this.#commands.size(this.name);
  }

  /** Returns the value of a key, or `undefined` if it does not exist. */
  get(key: Key): Value | undefined {
    const found = this.#find(toStored(key));
    return found === MISSING ? undefined : fromStored(found);
  }

  /** Returns the values of several keys, in the order of the keys; `undefined` for a key that does not exist. */
  getMany(keys: readonly Key[]): (Value | undefined)[] {
    const found = this.#commands["call"]<unknown[]>("get_many", [this.name, keys.map(toStored), MISSING]);
    return found.map((stored) => stored === MISSING ? undefined : fromStored(stored));
  }

  /** Sets the value of a key. With `seconds`, it expires after them. */
  set(key: Key, value: Value, options?: SyncEntryOptions): this {
    this.#commands.set(this.name, toStored(key), toStored(value), options);
    return this;
  }

  /** Sets the value of a key that does not exist. Returns whether it did so. */
  setNew(key: Key, value: Value, options?: SyncEntryOptions): boolean {
    return this.#commands.setNew(this.name, toStored(key), toStored(value), options);
  }

  /** Sets the values of several keys, all or none. Returns how many keys are new. (A value of `undefined` becomes `null`.) */
  setMany(
    entries: ReadonlyMap<Key, Value> | (Key extends string ? Readonly<Record<Key, Value>> : never),
  ): number {
    return this.#commands.setMany(this.name, entries);
  }

  /** Returns the value of a key. If it does not exist, sets it first. */
  getOrInsert(key: Key, value: Value): Value {
    for (;;) {
      const found = this.#find(toStored(key));
      if (found !== MISSING) return fromStored(found);
      if (this.setNew(key, value)) return value;
    }
  }

  /**
   * Returns the value of a key. If it does not exist, sets it first to what a function returns for the key. If it is set
   * while the function runs, it is replaced, as the standard has it: {@linkcode SharedMap.getOrInsert} replaces nothing.
   */
  getOrInsertComputed(key: Key, fn: (key: Key) => Value): Value {
    checkCallable(fn, "getOrInsertComputed");
    const found = this.#find(toStored(key));
    if (found !== MISSING) return fromStored(found);
    const value = fn(Object.is(key, -0) ? 0 as Key : key);
    this.set(key, value);
    return value;
  }

  /** Sets the value of a key if its current value is the expected one, as {@linkcode SyncCommands.cas} does. */
  cas(key: Key, expected: Value | undefined, value: Value): boolean {
    return this.#commands.cas(this.name, toStored(key), expected, toStored(value));
  }

  /** Replaces a value by what a function returns for it, as {@linkcode SyncCommands.update} does. */
  update(key: Key, fn: (value: Value | undefined) => Value | undefined): Value | undefined {
    return this.#commands.update<Value>(this.name, toStored(key), (value) => fn(fromStored(value)));
  }

  /** Adds to a number and returns the sum, as {@linkcode SyncCommands.incr} does. */
  incr(key: Key, by?: number | bigint, options?: SyncEntryOptions): number | bigint {
    return this.#commands.incr(this.name, toStored(key), by, options);
  }

  /** Returns whether a key exists. */
  has(key: Key): boolean {
    return this.#commands.exists(this.name, toStored(key));
  }

  /** Deletes a key. Returns whether it existed. */
  delete(key: Key): boolean {
    return this.#commands.del(this.name, toStored(key));
  }

  /** Deletes a key if its value is the expected one. Returns whether it did so. */
  deleteIf(key: Key, expected: Value): boolean {
    return this.#commands.delIf(this.name, toStored(key), toStored(expected));
  }

  /** Deletes a key and returns its value, or `undefined` if it did not exist. */
  pop(key: Key): Value | undefined {
    return fromStored(this.#commands.pop(this.name, toStored(key)));
  }

  /** Expires a key after a number of seconds, or at once if that is 0 or less. Returns whether the key exists. */
  expire(key: Key, seconds: number): boolean {
    return this.#commands.expire(this.name, toStored(key), seconds);
  }

  /** Removes the expiry of a key. Returns whether it had one. */
  persist(key: Key): boolean {
    return this.#commands.persist(this.name, toStored(key));
  }

  /** Returns the seconds until a key expires: `Infinity` if never, `undefined` if the key does not exist. */
  ttl(key: Key): number | undefined {
    return this.#commands.ttl(this.name, toStored(key));
  }

  /** Drops the table. */
  clear(): void {
    this.#commands.drop(this.name);
  }

  /** Drops the table. Returns whether it existed. */
  drop(): boolean {
    return this.#commands.drop(this.name);
  }

  /** Returns a copy of the whole table, in one reply. */
  all(): Map<Key, Value> {
    const all = this.#commands.all(this.name);
    for (const [key, value] of all) {
      if (isUndefined(value)) all.set(key, undefined);
      if (isUndefined(key)) all.set(undefined, all.get(key)), all.delete(key);
    }
    return all as Map<Key, Value>;
  }

  /** Calls a function for every entry, with `thisArg` as its `this`. */
  forEach(fn: (value: Value, key: Key, map: Map<Key, Value>) => void, thisArg?: unknown): void {
    const entries = this.#entries();
    checkCallable(fn, "forEach");
    for (const [key, value] of entries) fn.call(thisArg, value, key, this);
  }

  /** Iterates over the keys and values. */
  entries(): MapIterator<[Key, Value]> {
    return this.#entries();
  }

  /** Iterates over the keys. */
  keys(): MapIterator<Key> {
    return this.#items(0);
  }

  /** Iterates over the values. */
  values(): MapIterator<Value> {
    return this.#items(1);
  }

  /** {@linkcode SharedMap.entries}, for `for … of`. */
  [Symbol.iterator](): MapIterator<[Key, Value]> {
    return this.#entries();
  }

  /** `"Map"`. */
  get [Symbol.toStringTag](): string {
    return "Map";
  }

  *#entries(): Generator<[Key, Value], undefined> {
    const commands = this.#commands;
    let cursor = 0;
    do {
      const writes = commands["writes"];
      const [next, page] = commands.scan(this.name, cursor, PAGE);
      for (const [key, value] of page) {
        // What this process may have changed since the page was read is read again.
        const now = commands["writes"] === writes ? value : this.#find(key);
        if (now !== MISSING) yield [fromStored(key), fromStored(now)];
      }
      cursor = next;
    } while (cursor !== 0);
  }

  *#items<Item>(index: 0 | 1): Generator<Item, undefined> {
    for (const entry of this.#entries()) yield entry[index] as Item;
  }

  /** What is stored for a key, or {@linkcode MISSING}. */
  #find(key: unknown): unknown {
    const commands = this.#commands;
    const found = commands["call"]("get", [this.name, key]);
    if (found !== null) return found;
    // It is a stored nil, or there is none. The last of these commands tells for sure, but it takes longer.
    if (!commands.exists(this.name, key)) return MISSING;
    return commands["call"]<unknown[]>("get_many", [this.name, [key], MISSING])[0];
  }
}

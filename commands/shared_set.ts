/**
 * A named set as a `Set`. It is a view: it holds a name, and no data.
 *
 * @module
 */

import { MemStoreError } from "../transport/message.ts";
import { checkCallable, fromStored, PAGE, toStored } from "./shared_values.ts";
import type { SyncCommands } from "./sync.ts";

/**
 * One named set as a standard `Set`, and the other commands on sets. Made by {@linkcode SyncCommands.set}. A change is
 * done when the method returns.
 *
 * It differs from a `Set` of this process alone as {@linkcode SharedMap} does from a `Map`: members are compared by value
 * and are copies, they have no order, and an iteration reads a page at a time.
 *
 * {@linkcode SharedSet.union} and its like return a `Set` of this process. With another set of the same store they run
 * on the host. With any other argument they use its `has` and `keys`, as the standard has it, so it is that argument
 * which compares: a plain `Set` does not find a member that is an object.
 *
 * @example
 * ```ts
 * import { MemStore } from "@memstore/memstore";
 *
 * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
 * await store.start();
 *
 * const online: Set<string> = store.local.set("online");
 * online.add("alice");
 * console.assert(online.has("alice") && !online.has("bob"));
 * console.assert([...online.union(new Set(["bob"]))].sort().join() === "alice,bob");
 * ```
 */
export class SharedSet<Value = unknown> implements Set<Value> {
  // (A view uses the protected members of its commands as well, in brackets.)
  readonly #commands: SyncCommands<object>;
  /** The set's name. */
  readonly name: unknown;

  static {
    // (In the standard, these are one function.)
    this.prototype.keys = this.prototype[Symbol.iterator] = this.prototype.values;
  }

  /** Use {@linkcode SyncCommands.set}. */
  constructor(commands: SyncCommands<object>, name: unknown) {
    this.#commands = commands;
    this.name = name;
  }

  /** The number of members. */
  get size(): number {
    return this.#commands.setSize(this.name);
  }

  /** Adds a value. */
  add(value: Value): this {
    this.#commands.push(this.name, toStored(value));
    return this;
  }

  /** Adds several values, all or none. Returns how many are new. */
  addMany(values: readonly Value[]): number {
    return this.#commands.pushMany(this.name, values.map(toStored));
  }

  /** Returns whether a value is a member. */
  has(value: Value): boolean {
    return this.#has(value);
  }

  /** Removes a value. Returns whether it was a member. */
  delete(value: Value): boolean {
    return this.#commands.pull(this.name, toStored(value));
  }

  /** Empties the set. */
  clear(): void {
    this.#commands.clearSet(this.name);
  }

  /** Drops the set. Returns whether it existed. */
  drop(): boolean {
    return this.#commands.dropSet(this.name);
  }

  /** Returns a copy of all members, in one reply. */
  all(): Value[] {
    return this.#commands.listSet(this.name).map(fromStored<Value>);
  }

  /** Calls a function for every member, with `thisArg` as its `this`. */
  forEach(fn: (value: Value, again: Value, set: Set<Value>) => void, thisArg?: unknown): void {
    const values = this.#values();
    checkCallable(fn, "forEach");
    for (const value of values) fn.call(thisArg, value, value, this);
  }

  /** Iterates over the members, each twice. */
  entries(): SetIterator<[Value, Value]> {
    return this.#entries();
  }

  /** Iterates over the members. */
  keys(): SetIterator<Value> {
    return this.#values();
  }

  /** Iterates over the members. */
  values(): SetIterator<Value> {
    return this.#values();
  }

  /** {@linkcode SharedSet.values}, for `for … of`. */
  [Symbol.iterator](): SetIterator<Value> {
    return this.#values();
  }

  /** `"Set"`. */
  get [Symbol.toStringTag](): string {
    return "Set";
  }

  /** Returns what is in this set or in another. */
  union<Other>(other: ReadonlySetLike<Other>): Set<Value | Other> {
    const found = this.#onHost("union", this, other);
    if (found) return found as Set<Value | Other>;
    const keys = setLike(other, "union").keys();
    const result = new Set<Value | Other>(this.#values());
    for (const key of keys) result.add(key as Other);
    return result;
  }

  /** Returns what is in this set and in another. */
  intersection<Other>(other: ReadonlySetLike<Other>): Set<Value & Other> {
    const found = this.#onHost("inter", this, other);
    if (found) return found as Set<Value & Other>;
    const { size, has, keys } = setLike(other, "intersection");
    const result = new Set<Value & Other>();
    if (this.#size() <= size) {
      for (const value of this.#values()) if (has(value)) result.add(value as Value & Other);
    } else {
      for (const key of keys()) if (this.#has(key)) result.add(key as Value & Other);
    }
    return result;
  }

  /** Returns what is in this set and not in another. */
  difference<Other>(other: ReadonlySetLike<Other>): Set<Value> {
    const found = this.#onHost("diff", this, other);
    if (found) return found;
    const { size, has, keys } = setLike(other, "difference");
    const result = new Set<Value>();
    if (this.#size() <= size) {
      for (const value of this.#values()) if (!has(value)) result.add(value);
    } else {
      for (const value of this.#values()) result.add(value);
      for (const key of keys()) result.delete(key as Value);
    }
    return result;
  }

  /** Returns what is in one of this set and another, and not in both. */
  symmetricDifference<Other>(other: ReadonlySetLike<Other>): Set<Value | Other> {
    const mine = this.#onHost("diff", this, other), others = this.#onHost("diff", other, this);
    if (mine && others) return mine.union(others) as Set<Value | Other>;
    const keys = setLike(other, "symmetricDifference").keys();
    const result = new Set<Value | Other>(this.#values());
    for (const key of keys) {
      if (this.#has(key)) result.delete(key as Value);
      else result.add(key as Other);
    }
    return result;
  }

  /** Returns whether all members are in another set. */
  isSubsetOf(other: ReadonlySetLike<unknown>): boolean {
    const found = this.#onHost("diff", this, other);
    if (found) return found.size === 0;
    const { size, has } = setLike(other, "isSubsetOf");
    if (this.#size() > size) return false;
    for (const value of this.#values()) if (!has(value)) return false;
    return true;
  }

  /** Returns whether all members of another set are in this one. */
  isSupersetOf(other: ReadonlySetLike<unknown>): boolean {
    const found = this.#onHost("diff", other, this);
    if (found) return found.size === 0;
    const { size, keys } = setLike(other, "isSupersetOf");
    if (this.#size() < size) return false;
    for (const key of keys()) if (!this.#has(key)) return false;
    return true;
  }

  /** Returns whether this set and another have no member in common. */
  isDisjointFrom(other: ReadonlySetLike<unknown>): boolean {
    const found = this.#onHost("inter", this, other);
    if (found) return found.size === 0;
    const { size, has, keys } = setLike(other, "isDisjointFrom");
    if (this.#size() <= size) {
      for (const value of this.#values()) if (has(value)) return false;
    } else {
      for (const key of keys()) if (this.#has(key)) return false;
    }
    return true;
  }

  *#values(): Generator<Value, undefined> {
    const commands = this.#commands;
    let cursor = 0;
    do {
      const writes = commands["writes"];
      const [next, page] = commands.scanSet(this.name, cursor, PAGE);
      for (const member of page) {
        const value = fromStored<Value>(member);
        // What this process may have changed since the page was read is looked up again.
        if (commands["writes"] === writes || this.#has(value)) yield value;
      }
      cursor = next;
    } while (cursor !== 0);
  }

  *#entries(): Generator<[Value, Value], undefined> {
    for (const value of this.#values()) yield [value, value];
  }

  #has(value: unknown): boolean {
    return this.#commands.inSet(this.name, toStored(value));
  }

  #size(): number {
    return this.#commands.setSize(this.name);
  }

  /** Runs a command on two sets of the same store. Returns `undefined` if they are not, or have too much in their reply. */
  #onHost(command: "union" | "inter" | "diff", a: unknown, b: unknown): Set<Value> | undefined {
    if (!(a instanceof SharedSet && b instanceof SharedSet && a.#commands === b.#commands)) return;
    try {
      return new Set(this.#commands[command]([a.name, b.name]).map(fromStored<Value>));
    } catch (error) {
      if (!(error instanceof MemStoreError && error.code === "TOO_LARGE")) throw error;
    }
  }
}

/** What the methods of a set use of their argument. */
interface SetLike {
  readonly size: number;
  readonly has: (value: unknown) => boolean;
  readonly keys: () => Iterable<unknown>;
}

/**
 * Checks the argument of a method, as the standard's GetSetRecord does and in its order.
 *
 * @throws {TypeError} if it is not like a set.
 * @throws {RangeError} if its size is negative.
 */
function setLike(other: unknown, method: string): SetLike {
  const fail = (why: string) => `Cannot call ${method}: the argument must be like a Set: ${why}`;
  if (!isObject(other)) throw new TypeError(fail(`received ${String(other)}`));
  // (Not `Number()`, which takes a bigint.)
  const size = Math.trunc(+(other.size as number));
  if (Number.isNaN(size)) throw new TypeError(fail("its size is not a number"));
  if (size < 0) throw new RangeError(fail(`its size is ${size}`));
  const { has } = other;
  if (typeof has !== "function") throw new TypeError(fail("it has no method has"));
  const { keys } = other;
  if (typeof keys !== "function") throw new TypeError(fail("it has no method keys"));
  return {
    size,
    has: (value) => Boolean(has.call(other, value)),
    keys() {
      const iterator: Iterator<unknown> = keys.call(other);
      return { [Symbol.iterator]: () => iterator };
    },
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null || typeof value === "function";
}

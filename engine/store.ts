/**
 * What the host holds: tables and sets, two name spaces, in one {@linkcode Heap}.
 *
 * Names, keys and members are canonical ({@link ./key.ts}); a value is the bytes that a client sent. A set is
 * a table whose values have no bytes. A table or set is there from the first write to it until it is dropped,
 * also when it is empty.
 *
 * @module
 */

import type { Effects } from "./effects.ts";
import { Expiries } from "./expiry.ts";
import { Heap } from "./heap.ts";
import { hash } from "./hash.ts";
import { Entry, type Span, Table, type TableView } from "./table.ts";
import { Transaction } from "./transaction.ts";
import { latin1 } from "../wire/msgpack.ts";

/** Tables by their names, in the order in which they were made. */
export class Names {
  readonly #heap: Heap;
  readonly #effects: Effects;
  readonly #tables = new Map<string, Table>();
  /** The table that was asked for last: mostly the one that is asked for next. */
  #last: Table | undefined;
  readonly #discard: (table: Table) => void;

  /** @param discard Frees, little by little, a table that nobody uses any more. */
  constructor(heap: Heap, effects: Effects, discard: (table: Table) => void) {
    this.#heap = heap;
    this.#effects = effects;
    this.#discard = discard;
  }

  get size(): number {
    return this.#tables.size;
  }

  /** The table of a name. */
  get(name: Span): Table | undefined {
    const last = this.#last;
    if (last && same(last.name, name)) return last;
    const found = this.#tables.get(latin1(name.bytes, name.from, name.to));
    if (found) this.#last = found;
    return found;
  }

  /** The table of a name, made if it is not there. */
  make(name: Span): Table {
    return this.get(name) ?? this.#add(name);
  }

  /** {@linkcode Table.set} in the table of a name. One that was made for it goes if there is no room. */
  set(name: Span, key: Span, bytes: Uint8Array, from: number, to: number): void {
    const table = this.get(name);
    if (table) table.set(key, bytes, from, to);
    else this.change(name, (table) => table.set(key, bytes, from, to));
  }

  /** Changes a table, made if it is not there. If the change throws, one that was made is dropped again. */
  change<Result>(name: Span, change: (table: Table) => Result): Result {
    const there = this.get(name);
    const table = there ?? this.#add(name);
    try {
      return change(table);
    } catch (error) {
      if (!there) this.drop(name);
      throw error;
    }
  }

  #add(name: Span): Table {
    const table = new Table(this.#heap, name.bytes.slice(name.from, name.to), this.#effects);
    this.replace(undefined, table);
    this.#effects.sink?.made(this, table);
    return table;
  }

  /** Drops a table; whether it was there. */
  drop(name: Span): boolean {
    const found = this.get(name);
    if (!found) return false;
    this.replace(found, undefined);
    if (this.#effects.sink) this.#effects.sink.dropped(this, found);
    else this.#discard(found);
    return true;
  }

  /** Empties a table if it is there. */
  clear(name: Span): void {
    const found = this.get(name);
    if (!found || found.size === 0) return;
    const empty = new Table(this.#heap, found.name, this.#effects);
    this.replace(found, empty);
    if (this.#effects.sink) this.#effects.sink.cleared(this, found, empty);
    else this.#discard(found);
  }

  /** Has one table be there in place of another one of its name; either may be none. */
  replace(old: Table | undefined, table: Table | undefined): void {
    const name = (table ?? old)!.name;
    if (old) old.dropped = true;
    if (table) table.dropped = false, this.#tables.set(latin1(name, 0, name.length), table);
    else this.#tables.delete(latin1(name, 0, name.length));
    this.#last = table;
    this.#heap.changes++;
  }

  values(): Iterable<Table> {
    return this.#tables.values();
  }

  /** The number of entries in all tables. */
  get entries(): number {
    let sum = 0;
    for (const { size } of this.#tables.values()) sum += size;
    return sum;
  }

  /** How many of them expire some day. */
  get expiring(): number {
    let sum = 0;
    for (const { expiring } of this.#tables.values()) sum += expiring;
    return sum;
  }
}

/** All tables and sets as they were at one moment. Whoever took it releases it. */
export interface Snapshot extends Disposable {
  readonly tables: readonly TableView[];
  readonly sets: readonly TableView[];
  /** Looks at entries of the snapshot. */
  readonly entry: Entry;
}

/** Tables and sets, by their canonical names. */
export class Store {
  heap: Heap;
  tables: Names;
  sets: Names;
  expiries: Expiries;
  /** Looks at entries: one command at a time. */
  entry: Entry;
  /** Called when the next moment at which something expires may be another one. */
  onExpiry: (() => void) | undefined;
  /** Tables that were dropped and still have blocks. */
  #dropped: Table[] = [];
  #transaction: Transaction;

  constructor(heap: Heap = new Heap()) {
    const effects: Effects = { sink: undefined };
    const dropped = this.#dropped;
    const discard = (table: Table) => void dropped.push(table);
    this.heap = heap;
    heap.relieve = () => this.#dismantle();
    this.tables = new Names(heap, effects, discard);
    this.sets = new Names(heap, effects, discard);
    this.expiries = new Expiries(heap, effects);
    this.entry = new Entry(heap);
    this.#transaction = new Transaction(heap, effects, discard);
  }

  /** How often what is here was changed. */
  get changes(): number {
    return this.heap.changes;
  }

  /** An empty store of the same memory. */
  sibling(): Store {
    return new Store(this.heap.sibling());
  }

  /** Gives back the memory of a store that nobody uses any more. */
  close(): void {
    this.heap.close();
  }

  /**
   * Begins a transaction: {@linkcode Store.commit} keeps what is changed from now on, {@linkcode Store.rollback}
   * takes it back. Either must follow before anybody else uses the store. They nest.
   */
  begin(): void {
    this.#transaction.begin();
  }

  /** Keeps what was changed since the last {@linkcode Store.begin}. */
  commit(): void {
    this.#transaction.commit();
  }

  /** Takes back what was changed since the last {@linkcode Store.begin}. Never fails for lack of memory. */
  rollback(): void {
    this.#transaction.rollback();
  }

  /** Runs what changes the store all or not at all: if it throws, nothing was changed. */
  transaction<Result>(run: () => Result): Result {
    this.begin();
    let result;
    try {
      result = run();
    } catch (error) {
      this.rollback();
      throw error;
    }
    this.commit();
    return result;
  }

  /** Has an entry be gone at a time, in milliseconds since 1970; 0 for never. False if it is not there. */
  expire(table: Table, key: Span, time: number): boolean {
    const address = table.find(key);
    if (address === 0) return false;
    const { bytes, keyTo, valueTo, expiry } = this.entry.look(address);
    if (expiry === time) return true;
    if (time === 0 || !table.postpone(address, time)) {
      // (A copy: to write it may move what is there.)
      table.set(key, bytes.slice(keyTo, valueTo), 0, valueTo - keyTo, time);
    }
    if (time > 0) {
      this.expiries.add(time, table, hash(key.bytes, key.from, key.to));
      this.onExpiry?.();
    }
    return true;
  }

  /** Takes over all that another store holds, which nobody uses any more, in place of what was here. */
  replaceBy(other: Store): void {
    if (this.#transaction.open) throw new Error("Cannot replace a store within a transaction");
    const old = this.heap;
    other.heap.changes = Math.max(old.changes, other.heap.changes) + 1;
    this.heap = other.heap;
    this.tables = other.tables;
    this.sets = other.sets;
    this.expiries = other.expiries;
    this.entry = other.entry;
    this.#dropped = other.#dropped;
    this.#transaction = other.#transaction;
    this.onExpiry?.();
    // A snapshot of what was here may still be read; then the garbage collector ends it.
    if (!old.frozen) old.close();
  }

  /** The store as it is now: later changes do not show in it. */
  snapshot(): Snapshot {
    const heap = this.heap;
    heap.freeze();
    let released = false;
    return {
      tables: Array.from(this.tables.values(), (table) => table.view()),
      sets: Array.from(this.sets.values(), (set) => set.view()),
      entry: new Entry(heap),
      [Symbol.dispose]() {
        if (!released) heap.thaw();
        released = true;
      },
    };
  }

  /** Does a little of what waits for a quiet moment; whether there is more. */
  tend(): boolean {
    return this.#dismantle() || this.heap.tidy();
  }

  /** Frees a page of a table that was dropped; false if there is none. */
  #dismantle(): boolean {
    const dropped = this.#dropped.at(-1);
    if (!dropped) return false;
    if (dropped.dismantle()) this.#dropped.pop();
    return true;
  }
}

function same(name: Uint8Array, { bytes, from, to }: Span): boolean {
  if (name.length !== to - from) return false;
  for (let i = 0; i < name.length; i++) if (name[i] !== bytes[from + i]) return false;
  return true;
}

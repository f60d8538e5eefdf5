/**
 * What the host holds: tables and sets, two name spaces, in one {@linkcode Heap}.
 *
 * Names, keys and members are canonical ({@link ../key.ts}); a value is the bytes that a client sent. A set is
 * a table whose values have no bytes. A table or set is there from the first write to it until it is dropped,
 * also when it is empty.
 *
 * @module
 */

import { Expiries } from "./expiry.ts";
import { hash } from "./hash.ts";
import { Heap } from "./heap.ts";
import { Space, type Totals } from "./space.ts";
import { Entry, FrozenTable, type Span, type Table, type TableView } from "./table.ts";
import { Transaction } from "./transaction.ts";

/** Tables by their names. They are themselves a table: its entries are the tables' descriptors. */
export class Names {
  readonly #space: Space;
  readonly #catalog: Table;
  readonly #kind: number;
  /** The table that was asked for last: mostly the one that is asked for next. */
  #last: Table | undefined;
  /** Its name, if that is short. */
  readonly #lastName = new Uint8Array(64);
  #lastLength = -1;

  constructor(space: Space) {
    this.#space = space;
    const { kind, catalog } = space.makeCatalog();
    this.#kind = kind;
    this.#catalog = catalog;
  }

  get size(): number {
    return this.#catalog.size;
  }

  /** The names, as the keys of a table. */
  get catalog(): Table {
    return this.#catalog;
  }

  /** What all tables have together. */
  get totals(): Readonly<Totals> {
    return this.#space.totals[this.#kind];
  }

  /** The number of entries in all tables. */
  get entries(): number {
    return this.totals.entries;
  }

  /** How many of them expire some day. */
  get expiring(): number {
    return this.totals.expiring;
  }

  /** The table of a name. */
  get(name: Span): Table | undefined {
    const { bytes, from, to } = name;
    if (to - from === this.#lastLength) {
      const last = this.#lastName;
      let i = from;
      while (i < to && last[i - from] === bytes[i]) i++;
      if (i === to) return this.#last;
    }
    const address = this.#catalog.find(name);
    return address === 0 ? undefined : this.#remember(this.#space.at(address), name);
  }

  #remember(table: Table, { bytes, from, to }: Span): Table {
    this.#last = table;
    const length = to - from;
    this.#lastLength = length <= this.#lastName.length ? length : -1;
    for (let i = 0; i < this.#lastLength; i++) this.#lastName[i] = bytes[from + i];
    return table;
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
    const { sink } = this.#space.effects;
    sink?.prepare(0);
    const table = this.#space.make(this.#kind, name);
    try {
      this.#catalog.linkTable(hash(name.bytes, name.from, name.to), table.id);
    } catch (error) {
      this.#space.release(table.id);
      throw error;
    }
    sink?.made(this, table);
    return this.#remember(table, name);
  }

  /** Drops a table; whether it was there. */
  drop(name: Span): boolean {
    const found = this.get(name);
    if (!found) return false;
    this.replace(found, undefined);
    const { sink } = this.#space.effects;
    if (sink) sink.dropped(this, found);
    else this.#space.discard(found);
    return true;
  }

  /** Empties a table if it is there. */
  clear(name: Span): void {
    const found = this.get(name);
    if (!found || found.size === 0) return;
    // (That there is no room for another one is no reason to keep all that is in this one.)
    const empty = this.#space.heap.beyondLimit(() => this.#space.make(this.#kind, name));
    this.replace(found, empty);
    const { sink } = this.#space.effects;
    if (sink) sink.cleared(this, found, empty);
    else this.#space.discard(found);
  }

  /** Has one table be there in place of another one of its name; either may be none. */
  replace(old: Table | undefined, table: Table | undefined): void {
    const bytes = (table ?? old)!.name, name = { bytes, from: 0, to: bytes.length };
    const h = hash(bytes, 0, bytes.length);
    if (old) {
      this.#catalog.unlinkTable(h, name);
      old.dropped = true;
      this.#count(old, -1);
    }
    if (table) {
      table.dropped = false;
      this.#space.heap.beyondLimit(() => this.#catalog.linkTable(h, table.id));
      this.#count(table, 1);
    }
    if (table) this.#remember(table, name);
    else this.#lastLength = -1;
  }

  #count({ size, bytes, expiring }: Table, sign: 1 | -1): void {
    const totals = this.#space.totals[this.#kind];
    totals.entries += sign * size;
    totals.bytes += sign * bytes;
    totals.expiring += sign * expiring;
    totals.expiringTables += expiring > 0 ? sign : 0;
  }

  /** All tables, in no order. */
  *values(): Generator<Table, void> {
    const addresses: number[] = [];
    let cursor = 0;
    do {
      addresses.length = 0;
      cursor = this.#catalog.scan(cursor, (address) => void addresses.push(this.#space.at(address).id));
      for (const id of addresses) yield this.#space.table(id);
    } while (cursor !== 0);
  }

  /** The tables as they are now: good until the snapshot that it is taken for is released. */
  view(): CatalogView {
    return new FrozenCatalog(this.#space.heap, this.#catalog.view(), { ...this.totals });
  }
}

/** Tables as they were at one moment, in no order. */
export interface CatalogView extends Iterable<TableView> {
  readonly size: number;
  /** What all tables have together. */
  readonly totals: Readonly<Totals>;
  /** The table of a name. */
  get(name: Span): TableView | undefined;
}

/** A catalog that a snapshot reads: nothing is made for a table before it is asked for. */
class FrozenCatalog implements CatalogView {
  readonly #heap: Heap;
  readonly #catalog: TableView;
  readonly totals: Readonly<Totals>;

  constructor(heap: Heap, catalog: TableView, totals: Totals) {
    this.#heap = heap;
    this.#catalog = catalog;
    this.totals = totals;
  }

  get size(): number {
    return this.#catalog.size;
  }

  get(name: Span): TableView | undefined {
    const address = this.#catalog.find(name);
    return address === 0 ? undefined : new FrozenTable(this.#heap, address);
  }

  *[Symbol.iterator](): Generator<TableView, void> {
    const addresses: number[] = [];
    let cursor = 0;
    do {
      addresses.length = 0;
      cursor = this.#catalog.scan(cursor, (address) => void addresses.push(address));
      for (const address of addresses) yield new FrozenTable(this.#heap, address);
    } while (cursor !== 0);
  }
}

/** All tables and sets as they were at one moment. Whoever took it releases it. */
export interface Snapshot extends Disposable {
  readonly tables: CatalogView;
  readonly sets: CatalogView;
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
  #space: Space;
  #transaction: Transaction;

  constructor(heap: Heap = new Heap()) {
    const space = Space.of(heap);
    heap.relieve = () => space.dismantle();
    this.heap = heap;
    this.tables = new Names(space);
    this.sets = new Names(space);
    this.expiries = new Expiries(space);
    this.entry = new Entry(heap);
    this.#space = space;
    this.#transaction = new Transaction(space);
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
    this.#space = other.#space;
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
      tables: this.tables.view(),
      sets: this.sets.view(),
      entry: new Entry(heap),
      [Symbol.dispose]() {
        if (!released) heap.thaw();
        released = true;
      },
    };
  }

  /** Does a little of what waits for a quiet moment; whether there is more. */
  tend(): boolean {
    return this.#space.dismantle() || this.heap.tidy();
  }
}

/**
 * Catalogs: tables by their names. The tables of a store are one catalog, its sets another.
 *
 * The names are themselves a table, whose entries are the descriptors of the tables: a descriptor has its name where
 * an entry has its key. So a catalog of a million names takes no more than its blocks, and is in a snapshot like any
 * other table.
 *
 * @module
 */

import type { Segments } from "../../blocks/block.ts";
import { hashOf } from "../../blocks/entry.ts";
import type { Span } from "../../msgpack/key.ts";
import type { TableRegistry, Totals } from "./registry.ts";
import type { Table } from "./table.ts";
import { FrozenTable, type TableView } from "./view.ts";

/** Tables of one kind, by their names. */
export class Catalog {
  /** The names, as the keys of a table. */
  readonly names: Table;
  readonly #registry: TableRegistry;
  readonly #kind: number;
  /** The table that was asked for last: mostly the one that is asked for next. */
  #last: Table | undefined;
  /** Its name, if that is short. */
  readonly #lastName = new Uint8Array(64);
  #lastLength = -1;

  constructor(registry: TableRegistry) {
    this.#registry = registry;
    const { kind, names } = registry.makeKind();
    this.#kind = kind;
    this.names = names;
  }

  /** How many tables there are. */
  get size(): number {
    return this.names.size;
  }

  /** Sums over all tables. */
  get totals(): Readonly<Totals> {
    return this.#registry.totals[this.#kind];
  }

  /** The number of entries in all tables. */
  get entries(): number {
    return this.totals.entries;
  }

  /** How many of them expire. */
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
    const descriptor = this.names.find(name);
    return descriptor === 0 ? undefined : this.#remember(this.#registry.at(descriptor), name);
  }

  #remember(table: Table, { bytes, from, to }: Span): Table {
    this.#last = table;
    const length = to - from;
    this.#lastLength = length <= this.#lastName.length ? length : -1;
    for (let i = 0; i < this.#lastLength; i++) this.#lastName[i] = bytes[from + i];
    return table;
  }

  /** The table of a name. It is made if there is none. */
  make(name: Span): Table {
    return this.get(name) ?? this.#add(name);
  }

  /** {@linkcode Table.set} in the table of a name. If that throws, a table that was made for it is dropped again. */
  set(name: Span, key: Span, bytes: Uint8Array, from: number, to: number, expiry = 0): void {
    const table = this.get(name);
    if (table) table.set(key, bytes, from, to, expiry);
    else this.change(name, (table) => table.set(key, bytes, from, to, expiry));
  }

  /** Changes the table of a name. If the change throws, a table that was made for it is dropped again. */
  change<Result>(name: Span, change: (table: Table) => Result): Result {
    const existing = this.get(name);
    if (existing) return change(existing);
    // (Readers must not find the table before what it is made for.)
    return this.#registry.heap.changes.all(() => {
      const table = this.#add(name);
      try {
        return change(table);
      } catch (error) {
        this.drop(name);
        throw error;
      }
    });
  }

  #add(name: Span): Table {
    const { sink } = this.#registry.effects;
    sink?.prepare(0);
    const table = this.#registry.make(this.#kind, name);
    try {
      this.names.linkTable(hashOf(name), table.id);
    } catch (error) {
      this.#registry.release(table.id);
      throw error;
    }
    sink?.made(this, table);
    return this.#remember(table, name);
  }

  /** Drops a table. Returns whether there was one. */
  drop(name: Span): boolean {
    const found = this.get(name);
    if (!found) return false;
    this.replace(found, undefined);
    const { sink } = this.#registry.effects;
    if (sink) sink.dropped(this, found);
    else this.#registry.discard(found);
    return true;
  }

  /** Deletes all entries of a table, if there is one. */
  clear(name: Span): void {
    const found = this.get(name);
    if (!found || found.size === 0) return;
    // (Also where there is no room for another one: what this one takes is given back.)
    const empty = this.#registry.heap.beyondLimit(() => this.#registry.make(this.#kind, name));
    this.replace(found, empty);
    const { sink } = this.#registry.effects;
    if (sink) sink.cleared(this, found, empty);
    else this.#registry.discard(found);
  }

  /** Puts one table in place of another one of its name; either may be none. */
  replace(old: Table | undefined, table: Table | undefined): void {
    const bytes = (table ?? old)!.name, name: Span = { bytes, from: 0, to: bytes.length };
    const h = name.hash = hashOf(name), { heap } = this.#registry;
    heap.changes.all(() => {
      if (old) {
        this.names.unlinkTable(h, name);
        old.dropped = true;
        this.#count(old, -1);
      }
      if (table) {
        table.dropped = false;
        heap.beyondLimit(() => this.names.linkTable(h, table.id));
        this.#count(table, 1);
      }
    });
    if (table) this.#remember(table, name);
    else this.#lastLength = -1;
  }

  #count({ size, bytes, expiring }: Table, sign: 1 | -1): void {
    const totals = this.#registry.totals[this.#kind];
    totals.entries += sign * size;
    totals.bytes += sign * bytes;
    totals.expiring += sign * expiring;
    totals.expiringTables += expiring > 0 ? sign : 0;
  }

  /** All tables, in no order. */
  *values(): Generator<Table, void> {
    const ids: number[] = [];
    let cursor = 0;
    do {
      ids.length = 0;
      cursor = this.names.scan(cursor, (descriptor) => void ids.push(this.#registry.at(descriptor).id));
      for (const id of ids) yield this.#registry.table(id);
    } while (cursor !== 0);
  }

  /** The tables as they are now. Good until the snapshot that it is taken for is released. */
  view(): CatalogView {
    return new FrozenCatalog(this.#registry.heap, this.names.view(), { ...this.totals });
  }
}

/** Tables as they were at one moment, in no order. */
export interface CatalogView extends Iterable<TableView> {
  /** How many tables there are. */
  readonly size: number;
  /** Sums over all tables. */
  readonly totals: Readonly<Totals>;
  /** The table of a name. */
  get(name: Span): TableView | undefined;
}

/** A catalog in a snapshot. Views of tables are made when they are asked for. */
class FrozenCatalog implements CatalogView {
  readonly #segments: Segments;
  readonly #names: TableView;
  readonly totals: Readonly<Totals>;

  constructor(segments: Segments, names: TableView, totals: Totals) {
    this.#segments = segments;
    this.#names = names;
    this.totals = totals;
  }

  get size(): number {
    return this.#names.size;
  }

  get(name: Span): TableView | undefined {
    const descriptor = this.#names.find(name);
    return descriptor === 0 ? undefined : new FrozenTable(this.#segments, descriptor);
  }

  *[Symbol.iterator](): Generator<TableView, void> {
    const descriptors: number[] = [];
    let cursor = 0;
    do {
      descriptors.length = 0;
      cursor = this.#names.scan(cursor, (descriptor) => void descriptors.push(descriptor));
      for (const descriptor of descriptors) yield new FrozenTable(this.#segments, descriptor);
    } while (cursor !== 0);
  }
}

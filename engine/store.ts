/**
 * What the host holds: tables and sets, two name spaces.
 *
 * Names, keys and members are canonical ({@link ./key.ts}); a value is the bytes that a client sent, and
 * belongs to the store once it is there: it is replaced, never changed, so that whoever holds one holds the
 * value of that moment.
 *
 * A table or set is there from the first write to it until it is dropped, also when it is empty.
 *
 * @module
 */

import type { Key } from "./key.ts";

/** A named map. */
export type Table = Map<Key, Uint8Array>;

/** Tables and sets, by their canonical names. */
export class Store {
  tables: Map<Key, Table> = new Map();
  sets: Map<Key, Set<Key>> = new Map();

  /** The table of a name, made if it is not there. */
  table(name: Key): Table {
    let table = this.tables.get(name);
    if (!table) this.tables.set(name, table = new Map());
    return table;
  }

  /** The set of a name, made if it is not there. */
  set(name: Key): Set<Key> {
    let set = this.sets.get(name);
    if (!set) this.sets.set(name, set = new Set());
    return set;
  }

  /** Takes over all that another store holds, in place of what was here. */
  replaceBy(other: Store): void {
    this.tables = other.tables;
    this.sets = other.sets;
  }

  /** The store as it is now: later changes do not show in it. Values are shared. */
  snapshot(): Store {
    const copy = new Store();
    for (const [name, table] of this.tables) copy.tables.set(name, new Map(table));
    for (const [name, set] of this.sets) copy.sets.set(name, new Set(set));
    return copy;
  }

  /** The number of entries in all tables. */
  get entries(): number {
    return this.tables.values().reduce((sum, table) => sum + table.size, 0);
  }

  /** The number of members in all sets. */
  get members(): number {
    return this.sets.values().reduce((sum, set) => sum + set.size, 0);
  }
}

/**
 * The one door through which every change of the data is announced.
 *
 * An **effect** is one change of one entry, or of the catalog, as it happened: an entry set (with its expiry, as
 * an absolute time; a changed expiry is one too), an entry deleted (also because it expired), a table made,
 * dropped or cleared. A consumer of effects is a {@linkcode Sink}. An effect names the table and the addresses
 * of entries; key, value and expiry are read there with {@linkcode Entry}, so that nothing is copied for a
 * consumer that does not need it.
 *
 * While there is no sink, an effect costs one comparison, and an entry may be overwritten in place. While there is
 * one, it is not, and the entry that was replaced or deleted belongs to the sink: it stays readable until the sink
 * frees it.
 *
 * The first consumer is {@link ./memory/transaction.ts}, which rolls back. A journal, followers and watchers are to
 * consume what a transaction commits, under one revision.
 *
 * @module
 */

import type { Catalog } from "./memory/catalog.ts";
import type { Table } from "./memory/table.ts";

/** Consumes effects, in the order in which they happen, and must not change the data. Only `prepare` may throw. */
export interface Sink {
  /**
   * An entry will be set whose key has so many bytes. May move blocks.
   *
   * @throws {OutOfMemory} if there is no room to consume that.
   */
  prepare(keyLength: number): void;
  /** There is an entry at `address`, in place of the one at `old` (0 if there was none), which is the sink's. */
  set(table: Table, hash: number, address: number, old: number): void;
  /** The entry at `old` was deleted, and is the sink's. */
  delete(table: Table, hash: number, old: number): void;
  /** A table was made. */
  made(catalog: Catalog, table: Table): void;
  /** A table was dropped, and is the sink's. */
  dropped(catalog: Catalog, table: Table): void;
  /** A table took the place of another one of its name, which is the sink's. */
  cleared(catalog: Catalog, old: Table, table: Table): void;
  /** Moves an entry that is the sink's, if it is: see `Owner` in {@link ./memory/heap.ts}. */
  move(address: number): void;
}

/** Where the tables of one store announce effects. */
export interface Effects {
  /** Who consumes them, if anybody does. */
  sink: Sink | undefined;
}

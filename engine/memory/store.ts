/**
 * What the host holds: tables and sets, two catalogs in one {@linkcode Heap}.
 *
 * Names, keys and members are canonical ({@link ../../msgpack/key.ts}); a value is the bytes that a client sent. A set is a table
 * whose values have no bytes. A table or set exists from the first write to it until it is dropped, also while it is
 * empty.
 *
 * @module
 */

import { turn } from "../../system/turn.ts";
import { Catalog, type CatalogView } from "./catalog.ts";
import { Entry, hashOf } from "../../blocks/entry.ts";
import type { Span } from "../../msgpack/key.ts";
import { ExpiryQueue } from "./expiry_queue.ts";
import { Heap } from "./heap.ts";
import { TableRegistry } from "./registry.ts";
import type { Table } from "./table.ts";
import { Transaction } from "./transaction.ts";

/** All tables and sets as they were at one moment, until it is disposed of. */
export interface Snapshot extends Disposable {
  readonly tables: CatalogView;
  readonly sets: CatalogView;
  /** Reads entries of the snapshot. */
  readonly entry: Entry;
}

/** Tables and sets, by their canonical names. */
export class Store {
  heap: Heap;
  tables: Catalog;
  sets: Catalog;
  expiryQueue: ExpiryQueue;
  /** Reads entries, for one command at a time. */
  entry: Entry;
  /** Called when the time at which the next entry expires may have changed. */
  onExpiry: (() => void) | undefined;
  #registry: TableRegistry;
  #transaction: Transaction;

  constructor(heap: Heap = new Heap()) {
    const registry = TableRegistry.of(heap);
    heap.onMemoryPressure = () => registry.freeNextPage();
    this.heap = heap;
    this.tables = new Catalog(registry);
    this.sets = new Catalog(registry);
    this.expiryQueue = new ExpiryQueue(registry);
    this.entry = new Entry(heap);
    this.#registry = registry;
    this.#transaction = new Transaction(registry);
  }

  /** How often the data was changed. */
  get changeCount(): number {
    return this.heap.changeCount;
  }

  /** An empty store of the same memory. It may take as much as this one, beside it. */
  sibling(): Store {
    return new Store(this.heap.sibling());
  }

  /**
   * Gives back the memory of a store that nobody uses any more, in steps: other work of the process goes on meanwhile.
   * What a snapshot still reads is given back when it has been read. Other processes read nothing from now on.
   */
  async close(): Promise<void> {
    const { heap } = this;
    heap.retire();
    if (heap.frozen) return void (heap.onThaw = () => void this.close());
    heap.onThaw = undefined;
    while (heap.closeNext()) await turn();
  }

  /** {@linkcode Store.close} at once, or when the last snapshot has been read. */
  closeNow(): void {
    const { heap } = this;
    heap.retire();
    if (heap.frozen) heap.onThaw = () => heap.close();
    else heap.close();
  }

  /**
   * Begins a transaction: {@linkcode Store.commit} keeps what is changed from now on, {@linkcode Store.rollback} takes
   * it back. One of them must follow before anybody else uses the store. Transactions nest.
   */
  begin(): void {
    this.heap.changes.beginAll();
    this.#transaction.begin();
  }

  /** Keeps what was changed since the last {@linkcode Store.begin}. */
  commit(): void {
    this.#end(() => this.#transaction.commit());
  }

  /** Takes back what was changed since the last {@linkcode Store.begin}. Never fails for lack of memory. */
  rollback(): void {
    this.#end(() => this.#transaction.rollback());
  }

  /** Ends a transaction, and the change that it is, whatever is thrown. */
  #end(run: () => void): void {
    const { open } = this.#transaction;
    try {
      run();
    } finally {
      if (open) this.heap.changes.endAll();
    }
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

  /** Sets when an entry expires, in milliseconds since 1970; 0 for never. Returns false if there is none. */
  expire(table: Table, key: Span, time: number): boolean {
    const address = table.find(key);
    if (address === 0) return false;
    const { bytes, keyTo, valueTo, expiry } = this.entry.read(address);
    if (expiry === time) return true;
    if (time === 0 || !table.postpone(address, time)) {
      // (A copy: to write it may move the entry.)
      table.set(key, bytes.slice(keyTo, valueTo), 0, valueTo - keyTo, time);
    }
    if (time > 0) this.#expect(time, table, key);
    return true;
  }

  /**
   * Sets the value of a key in the table of a name, as {@linkcode Catalog.set} does.
   *
   * @param expiry When the entry expires, in milliseconds since 1970; 0 for never.
   */
  set(name: Span, key: Span, bytes: Uint8Array, from: number, to: number, expiry: number): void {
    this.tables.set(name, key, bytes, from, to, expiry);
    if (expiry > 0) this.#expect(expiry, this.tables.get(name)!, key);
  }

  /** Notes when an entry expires. */
  #expect(time: number, table: Table, key: Span): void {
    this.expiryQueue.add(time, table, hashOf(key));
    this.onExpiry?.();
  }

  /**
   * Exchanges all data with another store. The other one then holds what was here, and is closed
   * ({@linkcode Store.close}): that takes 100 ms per GiB, so it is done in steps.
   */
  swap(other: Store): void {
    if (this.#transaction.open) throw new Error("Cannot replace a store within a transaction");
    this.heap.retire();
    other.heap.changeCount = Math.max(this.heap.changeCount, other.heap.changeCount) + 1;
    const { heap, tables, sets, expiryQueue, entry } = this, registry = this.#registry;
    const transaction = this.#transaction;
    this.heap = other.heap;
    this.tables = other.tables;
    this.sets = other.sets;
    this.expiryQueue = other.expiryQueue;
    this.entry = other.entry;
    this.#registry = other.#registry;
    this.#transaction = other.#transaction;
    other.heap = heap;
    other.tables = tables;
    other.sets = sets;
    other.expiryQueue = expiryQueue;
    other.entry = entry;
    other.#registry = registry;
    other.#transaction = transaction;
    this.onExpiry?.();
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

  /** Does a step of the work that is left for when the host is idle. Returns whether there is more. */
  cleanWhenIdle(): boolean {
    return this.#registry.freeNextPage() || this.heap.cleanWhenIdle();
  }
}

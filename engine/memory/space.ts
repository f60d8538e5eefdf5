/**
 * The tables of one heap, by their numbers.
 *
 * Every block of the heap bears the number of its table, by which the cleaner finds who moves it. The number leads to
 * the table's descriptor, which leads to all else (see {@link ./table.ts}). Numbers are used again. What they cost is
 * charged to the heap.
 *
 * @module
 */

import type { Effects } from "../effects.ts";
import { hash } from "./hash.ts";
import { type Heap, OutOfMemory, OWNER, type Owner, TABLE, UNIT_BITS, UNIT_MASK } from "./heap.ts";
import { descriptorSize, idOf, kindOf, nameOf, type Span, Table, writeDescriptor } from "./table.ts";

/** What the tables of a catalog have together. */
export interface Totals {
  entries: number;
  /** Bytes of their keys and values. */
  bytes: number;
  /** Entries that expire some day. */
  expiring: number;
  /** Tables that have such entries. */
  expiringTables: number;
}

const noTotals = (): Totals => ({ entries: 0, bytes: 0, expiring: 0, expiringTables: 0 });

/** Bytes that a number costs: where its descriptor is, and a place among those that are free. */
const ID_BYTES = 12;
/** Objects of tables that were used last are kept, so that not each command makes one. */
const CACHED = 1024;

/** The tables of a heap. */
export class Space implements Owner {
  readonly heap: Heap;
  readonly effects: Effects = { sink: undefined };
  /** Of each table the address of its descriptor; 0 if there is none of this number. */
  descriptors = new Int32Array(16);
  /** By kind. Kind 0 are tables in no catalog, such as catalogs. */
  readonly totals: Totals[] = [noTotals()];
  readonly #catalogs: (Table | undefined)[] = [undefined];
  readonly #tables: (Table | undefined)[] = new Array(CACHED).fill(undefined);
  #next = 1;
  readonly #free: number[] = [];
  /** The table that was discarded last. */
  #discarded = 0;

  private constructor(heap: Heap) {
    this.heap = heap;
    heap.owner = this;
  }

  /** The space of a heap. */
  static of(heap: Heap): Space {
    return heap.owner instanceof Space ? heap.owner : new Space(heap);
  }

  /** The table of a number. */
  table(id: number): Table {
    const cached = this.#tables[id & (CACHED - 1)];
    return cached?.id === id ? cached : this.#tables[id & (CACHED - 1)] = new Table(this, id);
  }

  /** The table of a number, if it is there and was not dropped. */
  find(id: number): Table | undefined {
    if (this.descriptors[id] === 0) return undefined;
    const table = this.table(id);
    return table.dropped ? undefined : table;
  }

  /** Makes a catalog, a table of tables, and a kind of table for it. Answers the kind. */
  makeCatalog(): { kind: number; catalog: Table } {
    const kind = this.#catalogs.length;
    const catalog = this.heap.beyondLimit(() => this.make(0, NAMELESS));
    this.#catalogs.push(catalog);
    this.totals.push(noTotals());
    return { kind, catalog };
  }

  /**
   * Makes a table of a kind, which is in no catalog yet.
   *
   * @throws {OutOfMemory} if there is no room for it.
   */
  make(kind: number, name: Span): Table {
    const id = this.#takeId();
    try {
      const address = this.heap.allocate(descriptorSize(name.to - name.from));
      writeDescriptor(this.heap, address, id, kind, name);
      this.descriptors[id] = address;
    } catch (error) {
      this.#free.push(id);
      throw error;
    }
    this.heap.changes++;
    return this.table(id);
  }

  /** Frees a table's descriptor and its number. Its other blocks are freed. */
  release(id: number): void {
    const address = this.descriptors[id];
    this.descriptors[id] = 0;
    this.heap.free(address, this.heap.blockSize(address));
    this.#free.push(id);
  }

  /** Takes over a table that nobody uses any more: {@linkcode Space.dismantle} frees it. */
  discard(table: Table): void {
    table.discardBefore(this.#discarded);
    this.#discarded = table.id;
  }

  /** Frees a page of a table that was discarded; false if there is none. */
  dismantle(): boolean {
    if (this.#discarded === 0) return false;
    const table = this.table(this.#discarded), { next } = table;
    if (table.dismantle()) this.#discarded = next;
    return true;
  }

  /** Moves a block, if it is in use. */
  move(address: number): void {
    const word = this.heap.words[address >>> UNIT_BITS][(address & UNIT_MASK) << 1], id = word & OWNER;
    const descriptor = this.descriptors[id];
    if (descriptor === 0) return;
    if (!(word & TABLE)) return this.table(id).move(address);
    if (descriptor === address) {
      this.moved(id, address, this.heap.copy(address, this.heap.blockSize(address)));
    }
  }

  /** A table's descriptor was copied to another address. */
  moved(id: number, from: number, to: number): void {
    this.descriptors[id] = to;
    const catalog = this.#catalogs[kindOf(this.heap, to)];
    if (!catalog || this.table(id).dropped) return;
    const name = nameOf(this.heap, to);
    catalog.relinkTable(hash(name, 0, name.length), from, to);
  }

  /** The table whose descriptor is at an address. */
  at(address: number): Table {
    return this.table(idOf(this.heap, address));
  }

  #takeId(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#next > OWNER) throw new OutOfMemory("there are too many tables and sets");
    if (this.#next === this.descriptors.length) {
      this.heap.charge(this.descriptors.length * ID_BYTES);
      const larger = new Int32Array(this.descriptors.length * 2);
      larger.set(this.descriptors);
      this.descriptors = larger;
    }
    return this.#next++;
  }
}

const NAMELESS: Span = { bytes: new Uint8Array(0), from: 0, to: 0 };

/**
 * The tables of one heap, by their numbers.
 *
 * Every block bears the number of its table, so that the cleaner finds who moves it. The number leads to the table's
 * descriptor ({@link ../../blocks/descriptor.ts}), which leads to all else. Numbers are used again. What they cost is charged to
 * the heap.
 *
 * @module
 */

import type { Effects } from "../effects.ts";
import { OWNER, TABLE, UNIT_BITS, wordAt } from "../../blocks/block.ts";
import { descriptorSize, idOf, kindOf, writeDescriptor } from "../../blocks/descriptor.ts";
import { hashOf, keySpan } from "../../blocks/entry.ts";
import type { Span } from "../../msgpack/key.ts";
import { NAMES } from "../../blocks/head.ts";
import { OutOfMemory } from "./extents.ts";
import type { Heap, Owner } from "./heap.ts";
import { Table } from "./table.ts";

/** Sums over the tables of a kind. */
export interface Totals {
  entries: number;
  /** The bytes of their keys and values. */
  bytes: number;
  /** Entries that expire. */
  expiring: number;
  /** Tables that have such entries. */
  expiringTables: number;
}

const noTotals = (): Totals => ({ entries: 0, bytes: 0, expiring: 0, expiringTables: 0 });

/** The bytes that a number costs: the address of its descriptor, and a place in the list of free numbers. */
const ID_BYTES = 12;
/** Objects of the tables that were used last are kept, so that not each command makes one: at most so many. */
const CACHED_TABLES = 1024;

/** The tables of a heap. */
export class TableRegistry implements Owner {
  readonly heap: Heap;
  readonly effects: Effects = { sink: undefined };
  /** Of each number the address of its descriptor, or 0 if it is free. */
  descriptors: Int32Array = new Int32Array(16);
  /** Sums by kind. Tables of kind 0 are in no catalog: those of names, for example. */
  readonly totals: Totals[] = [noTotals()];
  /** By kind, the table of the names. */
  readonly #names: (Table | undefined)[] = [undefined];
  readonly #tables: (Table | undefined)[] = new Array(CACHED_TABLES).fill(undefined);
  #next = 1;
  readonly #free: number[] = [];
  /** The table that was discarded last and is not freed yet, or 0. It leads to the one before it. */
  #discarded = 0;

  private constructor(heap: Heap) {
    this.heap = heap;
    heap.owner = this;
  }

  /** The registry of a heap. */
  static of(heap: Heap): TableRegistry {
    return heap.owner instanceof TableRegistry ? heap.owner : new TableRegistry(heap);
  }

  /** The table of a number. */
  table(id: number): Table {
    const cached = this.#tables[id & (CACHED_TABLES - 1)];
    return cached?.id === id ? cached : this.#tables[id & (CACHED_TABLES - 1)] = new Table(this, id);
  }

  /** The table of a number, if there is one that was not dropped. */
  find(id: number): Table | undefined {
    if (this.descriptors[id] === 0) return undefined;
    const table = this.table(id);
    return table.dropped ? undefined : table;
  }

  /** Makes a new kind of tables, and a table for their names. */
  makeKind(): { kind: number; names: Table } {
    const kind = this.#names.length;
    const names = this.heap.beyondLimit(() => this.make(0, NAMELESS));
    this.#names.push(names);
    this.#tellNames();
    this.totals.push(noTotals());
    return { kind, names };
  }

  /**
   * Makes a table of a kind, which is in no catalog yet.
   *
   * @throws {OutOfMemory} if there is no room for it.
   */
  make(kind: number, name: Span = NAMELESS): Table {
    const id = this.#takeId();
    try {
      const address = this.heap.allocate(descriptorSize(name.to - name.from));
      writeDescriptor(this.heap, address, id, kind, name, this.heap.epoch);
      this.descriptors[id] = address;
    } catch (error) {
      this.#free.push(id);
      throw error;
    }
    this.heap.changeCount++;
    return this.table(id);
  }

  /** Frees the descriptor and the number of a table whose other blocks are freed. */
  release(id: number): void {
    const address = this.descriptors[id];
    this.descriptors[id] = 0;
    this.heap.free(address, this.heap.blockSize(address));
    this.#free.push(id);
  }

  /** Takes over a table that nobody uses any more: {@linkcode TableRegistry.freeNextPage} frees it. */
  discard(table: Table): void {
    table.startFreeing(this.#discarded);
    this.#discarded = table.id;
  }

  /** Frees a page of a table that was discarded. Returns false if there is none. */
  freeNextPage(): boolean {
    if (this.#discarded === 0) return false;
    const table = this.table(this.#discarded), { next } = table;
    if (table.freeNextPage()) this.#discarded = next;
    return true;
  }

  /** Moves a block, if it is in use. */
  move(address: number): void {
    const word = this.heap.words[address >>> UNIT_BITS][wordAt(address)], id = word & OWNER;
    const descriptor = this.descriptors[id];
    if (descriptor === 0) return;
    if (!(word & TABLE)) return this.table(id).move(address);
    if (descriptor === address) {
      const { heap } = this;
      heap.changes.all(() => {
        this.descriptorMoved(id, address, heap.copy(address, heap.blockSize(address)));
      });
    }
  }

  /** Tells other processes that read the heap where the tables of names are. */
  #tellNames(): void {
    const { head } = this.heap;
    for (let kind = 1; head && kind < this.#names.length; kind++) {
      head[NAMES + kind - 1] = this.descriptors[this.#names[kind]!.id];
    }
  }

  /** Changes the address of a table's descriptor, which was copied. Readers must not look meanwhile. */
  descriptorMoved(id: number, from: number, to: number): void {
    this.descriptors[id] = to;
    const names = this.#names[kindOf(this.heap, to)];
    if (!names) return this.#tellNames();
    if (this.table(id).dropped) return;
    names.relinkTable(hashOf(keySpan(this.heap, to)), from, to);
  }

  /** The table whose descriptor is at an address. */
  at(descriptor: number): Table {
    return this.table(idOf(this.heap, descriptor));
  }

  #takeId(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#next > OWNER) throw new OutOfMemory("Cannot make a table: there are too many tables and sets");
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

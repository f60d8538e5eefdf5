/**
 * When entries expire: a priority queue of deadlines, the earliest first (a binary heap, in typed arrays).
 *
 * A deadline names a table and a hash. The entries themselves say when they expire, so a deadline whose entry was
 * deleted, or expires at another time now, is **stale**: there is nothing to do. Stale deadlines could become many,
 * and lie far in the future. So with each deadline that is added two others are checked, in turn, and dropped if they
 * are stale: no more than about half of all are.
 *
 * @module
 */

import type { TableRegistry } from "./registry.ts";
import type { Table } from "./table.ts";

/** Among so few deadlines none is checked, and the arrays do not shrink. */
const MIN_CHECKED = 64;
/** The most entries that a step of {@linkcode ExpiryQueue.sweep} deletes. */
const SWEPT_AT_ONCE = 256;
/** The bytes of a deadline: its time, the number of its table, and the hash. */
const DEADLINE_BYTES = 16;

/** The deadlines of the entries of one heap. */
export class ExpiryQueue {
  readonly #registry: TableRegistry;
  #times = new Float64Array(16);
  #tables = new Int32Array(16);
  #hashes = new Int32Array(16);
  #count = 0;
  /** The deadline that is checked next. */
  #checked = 0;

  constructor(registry: TableRegistry) {
    this.#registry = registry;
  }

  /** The earliest deadline, in milliseconds since 1970; Infinity if there is none. */
  get next(): number {
    return this.#count === 0 ? Infinity : this.#times[0];
  }

  /** How many deadlines there are. */
  get size(): number {
    return this.#count;
  }

  /** Adds a deadline: an entry of this hash expires at a time. */
  add(time: number, table: Table, hash: number): void {
    // (In a transaction a deadline that is stale may not be so after the rollback.)
    if (this.#count >= MIN_CHECKED && !this.#registry.effects.sink) this.#dropIfStale(), this.#dropIfStale();
    if (this.#count === this.#times.length) this.#resize(this.#count * 2);
    this.#siftUp(this.#count++, time, table.id, hash);
  }

  /** Deletes entries whose time has come, a few hundred at most. Returns whether there are more. */
  sweep(now: number): boolean {
    for (let i = 0; i < SWEPT_AT_ONCE; i++) {
      if (this.next > now) return false;
      this.#registry.find(this.#tables[0])?.sweep(this.#hashes[0], now);
      this.#remove(0);
    }
    return this.next <= now;
  }

  /** Checks one deadline, the next in turn, and drops it if nothing expires then. */
  #dropIfStale(): void {
    if (this.#checked >= this.#count) this.#checked = 0;
    const i = this.#checked;
    const table = this.#registry.find(this.#tables[i]);
    if (table?.expiresAt(this.#hashes[i], this.#times[i])) this.#checked++;
    else this.#remove(i);
  }

  /** Removes a deadline: the last takes its place. */
  #remove(i: number): void {
    const last = --this.#count;
    const time = this.#times[last], table = this.#tables[last], hash = this.#hashes[last];
    if (i < last) this.#siftDown(i, time, table, hash);
    if (last > MIN_CHECKED && last < this.#times.length / 4) this.#resize(this.#times.length / 2);
  }

  /** Puts a deadline at `i`, or at one of its parents. */
  #siftUp(i: number, time: number, table: number, hash: number): void {
    for (let parent; i > 0 && this.#times[parent = (i - 1) >> 1] > time; i = parent) this.#move(parent, i);
    this.#put(i, time, table, hash);
  }

  /** Puts a deadline in place of that at `i`, at one of its children, or at one of its parents. */
  #siftDown(i: number, time: number, table: number, hash: number): void {
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.#count) break;
      if (child + 1 < this.#count && this.#times[child + 1] < this.#times[child]) child++;
      if (this.#times[child] >= time) break;
      this.#move(child, i);
      i = child;
    }
    this.#siftUp(i, time, table, hash);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#times[from], this.#tables[from], this.#hashes[from]);
  }

  #put(i: number, time: number, table: number, hash: number): void {
    this.#times[i] = time;
    this.#tables[i] = table;
    this.#hashes[i] = hash;
  }

  #resize(length: number): void {
    const { heap } = this.#registry, bytes = (length - this.#times.length) * DEADLINE_BYTES;
    // (The entry has been set, so its deadline is not refused; the next entry may be.)
    if (bytes > 0) heap.beyondLimit(() => heap.charge(bytes));
    else heap.discharge(-bytes);
    const count = this.#count, [times, tables, hashes] = [this.#times, this.#tables, this.#hashes];
    (this.#times = new Float64Array(length)).set(times.subarray(0, count));
    (this.#tables = new Int32Array(length)).set(tables.subarray(0, count));
    (this.#hashes = new Int32Array(length)).set(hashes.subarray(0, count));
  }
}

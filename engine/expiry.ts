/**
 * When entries expire: a queue of moments, the next one first (a binary heap, in typed arrays).
 *
 * Each moment names a table and a hash; the entries themselves know when they expire, so a moment whose entry
 * was deleted, or given another time, finds nothing to do.
 *
 * @module
 */

import type { Heap } from "./heap.ts";
import type { Table } from "./table.ts";

/** The moments at which entries of one heap expire. */
export class Expiries {
  readonly #heap: Heap;
  #times = new Float64Array(16);
  #owners = new Int32Array(16);
  #hashes = new Int32Array(16);
  #count = 0;

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** The next moment, in milliseconds since 1970; Infinity if there is none. */
  get next(): number {
    return this.#count === 0 ? Infinity : this.#times[0];
  }

  /** Notes that an entry of this hash expires at a time. */
  add(time: number, table: Table, hash: number): void {
    if (this.#count === this.#times.length) this.#enlarge();
    let i = this.#count++;
    for (let parent; i > 0 && this.#times[parent = (i - 1) >> 1] > time; i = parent) this.#move(parent, i);
    this.#put(i, time, table.id, hash);
  }

  /** Deletes entries whose time has come, a few hundred at most; whether there are more. */
  sweep(now: number): boolean {
    for (let i = 0; i < 256; i++) {
      if (this.next > now) return false;
      (this.#heap.owner(this.#owners[0]) as Table | undefined)?.sweep(this.#hashes[0], now);
      this.#pop();
    }
    return this.next <= now;
  }

  #pop(): void {
    const last = --this.#count;
    const time = this.#times[last];
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= last) break;
      if (child + 1 < last && this.#times[child + 1] < this.#times[child]) child++;
      if (this.#times[child] >= time) break;
      this.#move(child, i);
      i = child;
    }
    this.#move(last, i);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#times[from], this.#owners[from], this.#hashes[from]);
  }

  #put(i: number, time: number, owner: number, hash: number): void {
    this.#times[i] = time;
    this.#owners[i] = owner;
    this.#hashes[i] = hash;
  }

  #enlarge(): void {
    const [times, owners, hashes] = [this.#times, this.#owners, this.#hashes];
    (this.#times = new Float64Array(times.length * 2)).set(times);
    (this.#owners = new Int32Array(times.length * 2)).set(owners);
    (this.#hashes = new Int32Array(times.length * 2)).set(hashes);
  }
}

/**
 * When entries expire: a queue of moments, the next one first (a binary heap, in typed arrays).
 *
 * Each moment names a table and a hash; the entries themselves know when they expire, so a moment whose entry
 * was deleted, or given another time, finds nothing to do. Such moments may be many, and their time far away:
 * with each that is added two are looked at, in turn, and taken out if nothing expires then. So no more than
 * about half of them are of no use.
 *
 * @module
 */

import type { Space } from "./space.ts";
import type { Table } from "./table.ts";

/** Below so many moments none is looked at. */
const FEW = 64;

/** Bytes of a moment: its time, the number of its table, and the hash. */
const MOMENT_BYTES = 16;

/** The moments at which entries of one heap expire. */
export class Expiries {
  readonly #space: Space;
  #times = new Float64Array(16);
  #owners = new Int32Array(16);
  #hashes = new Int32Array(16);
  #count = 0;
  /** The moment that is looked at next. */
  #looked = 0;

  constructor(space: Space) {
    this.#space = space;
  }

  /** The next moment, in milliseconds since 1970; Infinity if there is none. */
  get next(): number {
    return this.#count === 0 ? Infinity : this.#times[0];
  }

  /** How many moments there are. */
  get size(): number {
    return this.#count;
  }

  /** Notes that an entry of this hash expires at a time. */
  add(time: number, table: Table, hash: number): void {
    // (What is gone now may be back after a rollback.)
    if (this.#count >= FEW && !this.#space.effects.sink) this.#look(), this.#look();
    if (this.#count === this.#times.length) this.#resize(this.#count * 2);
    this.#rise(this.#count++, time, table.id, hash);
  }

  /** Deletes entries whose time has come, a few hundred at most; whether there are more. */
  sweep(now: number): boolean {
    for (let i = 0; i < 256; i++) {
      if (this.next > now) return false;
      this.#space.find(this.#owners[0])?.sweep(this.#hashes[0], now);
      this.#remove(0);
    }
    return this.next <= now;
  }

  /** Looks at one moment, and takes it out if nothing expires then. */
  #look(): void {
    if (this.#looked >= this.#count) this.#looked = 0;
    const i = this.#looked;
    const table = this.#space.find(this.#owners[i]);
    if (table?.expiresAt(this.#hashes[i], this.#times[i])) this.#looked++;
    else this.#remove(i);
  }

  /** Takes a moment out: the last takes its place. */
  #remove(i: number): void {
    const last = --this.#count;
    const time = this.#times[last], owner = this.#owners[last], hash = this.#hashes[last];
    if (i < last) this.#sink(i, time, owner, hash);
    if (last > FEW && last < this.#times.length / 4) this.#resize(this.#times.length / 2);
  }

  /** Puts a moment at `i`, or at one of the places above it. */
  #rise(i: number, time: number, owner: number, hash: number): void {
    for (let parent; i > 0 && this.#times[parent = (i - 1) >> 1] > time; i = parent) this.#move(parent, i);
    this.#put(i, time, owner, hash);
  }

  /** Puts a moment at `i`, where there was another one, or below or above it. */
  #sink(i: number, time: number, owner: number, hash: number): void {
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.#count) break;
      if (child + 1 < this.#count && this.#times[child + 1] < this.#times[child]) child++;
      if (this.#times[child] >= time) break;
      this.#move(child, i);
      i = child;
    }
    this.#rise(i, time, owner, hash);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#times[from], this.#owners[from], this.#hashes[from]);
  }

  #put(i: number, time: number, owner: number, hash: number): void {
    this.#times[i] = time;
    this.#owners[i] = owner;
    this.#hashes[i] = hash;
  }

  #resize(length: number): void {
    const count = this.#count, { heap } = this.#space, more = (length - this.#times.length) * MOMENT_BYTES;
    // (The entry is there already, so it is not refused; the next one may be.)
    if (more > 0) heap.beyondLimit(() => heap.charge(more));
    else heap.discharge(-more);
    const [times, owners, hashes] = [this.#times, this.#owners, this.#hashes];
    (this.#times = new Float64Array(length)).set(times.subarray(0, count));
    (this.#owners = new Int32Array(length)).set(owners.subarray(0, count));
    (this.#hashes = new Int32Array(length)).set(hashes.subarray(0, count));
  }
}

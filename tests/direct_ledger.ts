/**
 * What the processes of the torture of direct reads know of each other without the host: a ledger in shared memory, in
 * which writers note each write before they make it and after it was acknowledged.
 *
 * ```text
 * slot      something that changes as a whole: a key, a group of keys, a set
 * version   a number of its writer, and a kind: what the slot holds after the write
 *
 * before a write   prev = acked, began = version        after it   acked = version
 * ```
 *
 * A reader takes `acked` before it reads and `began` afterwards: it must have seen a version in between. A restore of
 * the state takes all slots back to the versions of `saved`: meanwhile the epoch is odd, and nobody writes.
 */

import { SharedMemory } from "../transport/shared/memory.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";

/** Kinds of versions: the slot is empty, it has a value, it has one that expires soon; and what nobody may ever see. */
export const ABSENT = 0, PRESENT = 1, EXPIRING = 2, POISON = 15;
export const kindOf = (version: number): number => version & 15;

export const WRITERS = 2;
/** Slots of each writer: keys of a table that is dropped, keys of one that only grows, groups of keys, and sets. */
export const SINGLES = 300, STEADY = 200, GROUPS = 40, SETS = 20;
export const SLOTS: number = SINGLES + STEADY + GROUPS + SETS;
const ALL = WRITERS * SLOTS;

/** The keys of a group. */
export const MEMBERS: readonly number[] = Array.from({ length: 12 }, (_, i) => i);

/** One of so many, and one of the first three most of the time: there readers and writers meet. */
export function pick(count: number): number {
  return Math.floor(Math.random() * (Math.random() < 0.7 ? Math.min(3, count) : count));
}

/** Words of the ledger. */
export const PAUSE = 0, EPOCH = 1, READY = 2, PAUSED = 8, READS = 64;
const ARRAYS = 256;
const BYTES = 1 << 16;
if ((ARRAYS + 4 * ALL) * 4 > BYTES) throw new Error("The ledger is too short");

/** The ledger, as every process maps it. */
export class Ledger implements Disposable {
  readonly words: Int32Array;
  readonly began: Int32Array;
  readonly prev: Int32Array;
  readonly acked: Int32Array;
  readonly saved: Int32Array;
  readonly #memory: SharedMemory;

  private constructor(memory: SharedMemory) {
    this.#memory = memory;
    const words = this.words = new Int32Array(memory.buffer);
    const array = (i: number) => words.subarray(ARRAYS + i * ALL, ARRAYS + (i + 1) * ALL);
    [this.began, this.prev, this.acked, this.saved] = [0, 1, 2, 3].map(array);
  }

  static create(): Ledger {
    loadSharedMemory();
    return new Ledger(SharedMemory.create("ledger", BYTES, [{ at: 0, bytes: BYTES }]));
  }

  /** Opens that of another process: see {@linkcode Ledger.place}. */
  static open(place: string): Ledger {
    loadSharedMemory();
    const [pid, fd] = place.split(":").map(Number);
    return new Ledger(SharedMemory.open(pid, fd, BYTES, [{ at: 0, bytes: BYTES }]));
  }

  get place(): string {
    return `${Deno.pid}:${this.#memory.fd}`;
  }

  load(word: number): number {
    return Atomics.load(this.words, word);
  }

  store(word: number, value: number): void {
    Atomics.store(this.words, word, value);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** Bytes of which the values are parts. */
const POOL = new Uint8Array(400_000);
for (let i = 0, x = 1; i < POOL.length; i++) POOL[i] = (x = Math.imul(x, 1664525) + 1013904223) >>> 24;

/** Where the bytes of a value are in the pool. */
function fillerOf(slot: number, version: number): Uint8Array {
  let x = Math.imul(version ^ slot << 20, 0x9e3779b1);
  x = Math.imul(x ^ x >>> 15, 0x85ebca6b);
  x = (x ^ x >>> 13) >>> 0;
  const from = x % 1000, own = slot % SLOTS;
  let length = x % 300;
  // (Every other steady key is overwritten in place: its values have one length.)
  if (own >= SINGLES && own < SINGLES + STEADY) {
    length = own % 2 ? x % 900 : own === SINGLES ? 20_000 : 40 + own % 100;
  } else if (x % 512 === 2) length = 100_000 + x % 200_000;
  else if (x % 64 === 3) length = 5000 + x % 60_000;
  else if (x % 16 === 5) length = 500 + x % 3000;
  return POOL.subarray(from, from + length);
}

/** The value of a slot's key that has a version. It says by itself whether it is whole. */
export function valueOf(slot: number, key: unknown, version: number): unknown {
  return [slot, key, version, fillerOf(slot, version)];
}

/** The version of a value; throws if it is not whole, or not that of the key. */
export function versionOf(value: unknown, slot: number, key: unknown): number {
  if (value === undefined || value === null) return ABSENT;
  const [ofSlot, ofKey, version, filler] = value as [number, unknown, number, Uint8Array];
  if (ofSlot !== slot || ofKey !== key) throw new Error(`it is that of ${ofSlot} ${ofKey}`);
  if (kindOf(version) === POISON) throw new Error("it is of a batch that failed");
  const expected = fillerOf(slot, version);
  if (filler.length !== expected.length) {
    throw new Error(`it has ${filler.length} bytes instead of ${expected.length}`);
  }
  for (let i = 0; i < expected.length; i++) {
    if (filler[i] !== expected[i]) throw new Error(`byte ${i} of ${expected.length} is ${filler[i]}`);
  }
  return version;
}

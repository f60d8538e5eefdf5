/**
 * A table: keys and values in a {@linkcode Heap}, found by hash. (A set is a table of empty values.)
 *
 * All that a table is stands in the heap: its entries, its pages, its directory, and its **descriptor**, a block
 * that leads to them. A {@linkcode Table} is a number and nothing else, so that idle tables cost no more than their
 * blocks, and so that another process could read them.
 *
 * ```text
 * descriptor   0 root (0, a page, or a directory)   2 entries              4 5 bytes of keys and values
 *              1 depth 0-7, kind 8-15, DROPPED      3 those that expire    6 epoch   7 next that was dropped
 * ```
 *
 * The index is extendible hashing: a directory of pages, of which each holds the entries whose hashes begin
 * with its prefix. A page that is full is split by one more bit of the hash, and where the directory has too
 * few bits for that it doubles; so a table grows a page at a time, and no request waits for more than that.
 *
 * ```text
 *  hash  1 0 1 1 0 … … 0 1 1          directory (depth 2)       page (depth 2, prefix 10)
 *        └─┴ directory      └── slot    00 ─► ┌ page 0 ┐           ┌──────┬─────────┐
 *                                       01 ─► └ depth 1┘           │ hash │ address │─► entry: key, value
 *                                       10 ─────────────────────►  │ 0    │ 0       │   (free)
 *                                       11 ─► …                    └──────┴─────────┘
 * ```
 *
 * Within its page an entry is at the slot that the low bits of its hash say, or the next free one (linear
 * probing); a deletion moves those behind it up, so there are no tombstones. A page begins with 2 slots,
 * grows to 256, and is split when 208 are taken; two that are nearly empty become one. The bytes of pages and
 * entries are laid out in {@link ./heap.ts}; the directory holds addresses alone. A table with one page has none.
 *
 * While the heap is frozen, a descriptor, a directory and a page are copied before they are changed, once for each
 * snapshot, and a value is written to a new place. A snapshot of a table is the address of its descriptor.
 *
 * @see Fagin, Nievergelt, Pippenger, Strong: Extendible Hashing, ACM TODS 4 (3), 1979
 * @module
 */

import { copyBytes, type Writer } from "../../msgpack/msgpack.ts";
import { hash } from "./hash.ts";
import {
  EXPIRES,
  type Heap,
  LONG,
  OWNER,
  PAGE,
  PAGE_HEAD,
  TABLE,
  TABLE_BYTES,
  UNIT_BITS,
  UNIT_MASK,
} from "./heap.ts";
import { Space } from "./space.ts";

/** Bytes of a canonical key, wherever they are. */
export interface Span {
  bytes: Uint8Array;
  from: number;
  to: number;
  /** Their hash, if it is known. */
  hash?: number;
}

/** Bits of the smallest page, and of the largest. */
const MIN_BITS = 1;
const MAX_BITS = 8;
/** How many entries a page takes before it grows or is split. */
const most = (bits: number) => (13 << bits) >> 4;
/** Two neighbours that have together so few entries become one page. */
const FEW = most(MAX_BITS) >> 1;

/** Entries that are being brought into the caches. */
const touched = new Int32Array(256);
/** Of which nothing is copied. */
const NOTHING = new Uint8Array(0);

/** Slots of the page that is being written anew. */
const scratch = new Int32Array(2 << MAX_BITS);
/** What is in the page that is walked through, in its order. */
const ordered = new Float64Array(1 << MAX_BITS);

/** Words of a descriptor. */
const ROOT = 0;
const STATE = 1;
const SIZE = 2;
const EXPIRING = 3;
const BYTES = 4;
const EPOCH = 6;
const NEXT = 7;
/** Bits of {@linkcode STATE}. */
const DEPTH = 255;
const DROPPED = 1 << 16;

/** Where {@linkcode locate} found an entry: its slot, as an index of its page's segment. */
let slot = 0;

/** A table as it was at one moment; good until its snapshot is released. */
export interface TableView {
  /** A copy of the canonical bytes of its name. */
  readonly name: Uint8Array;
  readonly size: number;
  /** How many of its entries expire some day. */
  readonly expiring: number;
  /** Bytes of its keys and values. */
  readonly bytes: number;
  /** Calls `visit` with the address of every entry of the page at `cursor`; answers the next cursor, or 0. */
  scan(cursor: number, visit: (address: number) => void): number;
  /** The address of the entry of a key, or 0. */
  find(key: Span): number;
}

/**
 * A table that a snapshot reads, by the address of its descriptor. Whether an entry has expired is for the reader to
 * say, who knows of which moment the snapshot is.
 */
export class FrozenTable implements TableView {
  readonly #heap: Heap;
  readonly #address: number;

  constructor(heap: Heap, address: number) {
    this.#heap = heap;
    this.#address = address;
  }

  get name(): Uint8Array {
    return nameOf(this.#heap, this.#address);
  }

  get size(): number {
    return stateOf(this.#heap, this.#address, SIZE);
  }

  get expiring(): number {
    return stateOf(this.#heap, this.#address, EXPIRING);
  }

  get bytes(): number {
    return bytesOf(this.#heap, this.#address);
  }

  scan(cursor: number, visit: (address: number) => void): number {
    return scanPage(this.#heap, this.#address, cursor, visit);
  }

  find(key: Span): number {
    return locate(this.#heap, this.#address, hashOf(key), key);
  }
}

/** A table of a heap, by its number. Several of these may be the same table. */
export class Table implements TableView {
  readonly id: number;
  readonly #space: Space;
  readonly #heap: Heap;

  constructor(space: Space, id: number) {
    this.#space = space;
    this.#heap = space.heap;
    this.id = id;
  }

  /** A new table that is in no catalog. */
  static alone(heap: Heap, name: Uint8Array = NOTHING): Table {
    return Space.of(heap).make(0, { bytes: name, from: 0, to: name.length });
  }

  get #address(): number {
    return this.#space.descriptors[this.id];
  }

  /** A copy of the canonical bytes of its name. */
  get name(): Uint8Array {
    return nameOf(this.#heap, this.#address);
  }

  /** Whether this is its name. */
  isNamed({ bytes, from, to }: Span): boolean {
    const address = this.#address, words = this.#wordsOf(address), w = at(address);
    if (keyLengthOf(words, w) !== to - from) return false;
    const there = this.#heap.bytes[address >>> UNIT_BITS], offset = keyFrom(words, w) - from;
    let i = from;
    while (i < to && there[i + offset] === bytes[i]) i++;
    return i === to;
  }

  /** How many entries there are. */
  get size(): number {
    return stateOf(this.#heap, this.#address, SIZE);
  }

  /** How many of them expire some day. */
  get expiring(): number {
    return stateOf(this.#heap, this.#address, EXPIRING);
  }

  /** Bytes of its keys and values. */
  get bytes(): number {
    return bytesOf(this.#heap, this.#address);
  }

  /** Nobody uses the table any more, or only a transaction that may bring it back. */
  get dropped(): boolean {
    return (stateOf(this.#heap, this.#address, STATE) & DROPPED) !== 0;
  }

  set dropped(dropped: boolean) {
    const address = this.#own(),
      words = this.#wordsOf(address),
      state = descriptorAt(words, at(address)) + STATE;
    words[state] = dropped ? words[state] | DROPPED : words[state] & ~DROPPED;
  }

  /** The number of the table that was dropped before this one, or 0: see {@linkcode Space.discard}. */
  get next(): number {
    return stateOf(this.#heap, this.#address, NEXT);
  }

  /** Makes it ready for {@linkcode Table.dismantle}, before another one. */
  discardBefore(next: number): void {
    const address = this.#own(), words = this.#wordsOf(address), d = descriptorAt(words, at(address));
    words[d + NEXT] = next;
    // From now on how much of the directory is gone.
    words[d + EXPIRING] = 0;
  }

  /** The address of the entry of a key, or 0. */
  find(key: Span): number {
    return find(this.#heap, this.#address, key);
  }

  #expires(entry: number): boolean {
    return (this.#wordsOf(entry)[at(entry)] & EXPIRES) !== 0;
  }

  /** Whether an entry of this hash expires at just this time. */
  expiresAt(h: number, time: number): boolean {
    const page = this.dropped ? 0 : this.#page(h);
    if (page === 0) return false;
    const slots = this.#wordsOf(page), first = at(page) + PAGE_HEAD;
    const mask = (1 << bitsOf(slots[at(page) + 1])) - 1;
    for (let i = h & mask; slots[first + 2 * i + 1] !== 0; i = (i + 1) & mask) {
      const entry = slots[first + 2 * i + 1];
      if (slots[first + 2 * i] !== h || !this.#expires(entry)) continue;
      if (expiryOf(this.#wordsOf(entry), at(entry)) === time) return true;
    }
    return false;
  }

  /** Has an entry that expires do so at another time; false if it has no expiry, or may not be changed. */
  postpone(entry: number, time: number): boolean {
    const heap = this.#heap;
    if (heap.frozen || this.#space.effects.sink || !this.#expires(entry)) return false;
    heap.changes++;
    writeExpiry(this.#wordsOf(entry), at(entry) + (this.#wordsOf(entry)[at(entry)] & LONG ? 4 : 2), time);
    return true;
  }

  /** Deletes the entries of a hash whose time has come. */
  sweep(h: number, now: number): void {
    if (this.dropped) return;
    const page = this.#page(h);
    if (page === 0) return;
    const slots = this.#wordsOf(page), first = at(page) + PAGE_HEAD;
    const mask = (1 << bitsOf(slots[at(page) + 1])) - 1;
    for (let i = h & mask; slots[first + 2 * i + 1] !== 0; i = (i + 1) & mask) {
      const entry = slots[first + 2 * i + 1];
      const words = this.#wordsOf(entry), w = at(entry);
      if (slots[first + 2 * i] !== h || !(words[w] & EXPIRES) || expiryOf(words, w) > now) continue;
      const from = keyFrom(words, w);
      const bytes = this.#heap.bytes[entry >>> UNIT_BITS].slice(from, from + keyLengthOf(words, w));
      this.#delete(h, { bytes, from: 0, to: bytes.length });
      return this.sweep(h, now);
    }
  }

  /**
   * Sets the value of a key to `bytes[from..to)`. If `expiry` is above 0, the entry is gone at that time, in
   * milliseconds since 1970; else it stays.
   *
   * @throws {OutOfMemory} if there is no room; the table is as it was.
   */
  set(key: Span, bytes: Uint8Array, from: number, to: number, expiry = 0): void {
    const heap = this.#heap, { sink } = this.#space.effects;
    heap.changes++;
    const h = hashOf(key);
    const keyLength = key.to - key.from, length = to - from;
    const size = entrySize(keyLength, length, expiry);
    if (sink !== undefined) sink.prepare(keyLength);
    let old = locate(heap, this.#address, h, key);
    if (old !== 0 && !heap.frozen && sink === undefined) {
      const oldSize = heap.blockSize(old);
      if ((oldSize + 7) >>> 3 === (size + 7) >>> 3) {
        const words = this.#wordsOf(old), w = at(old);
        const change = (expiry > 0 ? 1 : 0) - (words[w] & EXPIRES ? 1 : 0);
        const grown = length - valueLengthOf(words, w);
        this.#write(old, key, bytes, from, length, expiry);
        if (change !== 0 || grown !== 0) this.#count(0, change, grown);
        return;
      }
    }
    const entry = heap.allocate(size);
    this.#write(entry, key, bytes, from, length, expiry);
    try {
      if (old === 0) {
        const page = this.#makePlace(h);
        this.#count(1, expiry > 0 ? 1 : 0, keyLength + length);
        this.#place(page, h, entry);
      } else {
        const page = this.#ownPage(h);
        // The page may be another one now, and the old entry elsewhere.
        old = locate(heap, this.#address, h, key);
        this.#wordsOf(page)[slot + 1] = entry;
        const words = this.#wordsOf(old), w = at(old);
        this.#count(0, (expiry > 0 ? 1 : 0) - (words[w] & EXPIRES ? 1 : 0), length - valueLengthOf(words, w));
        if (sink === undefined) heap.free(old, heap.blockSize(old));
      }
    } catch (error) {
      heap.free(entry, size);
      throw error;
    }
    if (sink !== undefined) sink.set(this, h, entry, old);
    heap.tend(size);
  }

  /**
   * Makes room for a value of so many bytes that the caller writes before anything else is done to the heap:
   * where. Until then it is rubbish.
   *
   * @throws {OutOfMemory} if there is no room; the table is as it was.
   */
  reserve(key: Span, length: number): Span {
    this.set(key, NOTHING, 0, length);
    const entry = locate(this.#heap, this.#address, hashOf(key), key);
    const to = at(entry) * 4 + this.#heap.blockSize(entry);
    return { bytes: this.#heap.bytes[entry >>> UNIT_BITS], from: to - length, to };
  }

  /** Deletes a key; whether it was there. */
  delete(key: Span): boolean {
    const h = hashOf(key);
    const entry = locate(this.#heap, this.#address, h, key);
    if (entry === 0) return false;
    const there = !hasExpired(this.#heap, entry);
    this.#delete(h, key);
    return there;
  }

  #delete(h: number, key: Span): void {
    const heap = this.#heap, { sink } = this.#space.effects;
    const entry = this.#unlink(h, key);
    const size = heap.blockSize(entry);
    if (sink !== undefined) sink.delete(this, h, entry);
    else heap.free(entry, size);
    heap.tend(size);
  }

  /** Takes the entry of a key, which is there, out of the table: its address. */
  #unlink(h: number, key: Span): number {
    this.#heap.changes++;
    const page = this.#ownPage(h);
    const entry = locate(this.#heap, this.#address, h, key);
    this.#count(-1, this.#expires(entry) ? -1 : 0, -bytesAt(this.#wordsOf(entry), at(entry)));
    this.#remove(page, h);
    return entry;
  }

  /** Undoes that an entry was set: deletes that of a key, as if it had never been there. */
  takeBack(key: Span): void {
    const entry = this.#unlink(hashOf(key), key);
    this.#heap.free(entry, this.#heap.blockSize(entry));
  }

  /** Undoes that an entry was replaced or deleted: puts it back in place of what there is under its key now. */
  putBack(h: number, old: number): void {
    const heap = this.#heap;
    heap.changes++;
    const words = this.#wordsOf(old), w = at(old), from = keyFrom(words, w);
    const key = { bytes: heap.bytes[old >>> UNIT_BITS], from, to: from + keyLengthOf(words, w) };
    const page = this.#ownPage(h);
    const entry = locate(heap, this.#address, h, key), there = slot;
    this.#count(1, this.#expires(old) ? 1 : 0, bytesAt(words, w));
    if (entry === 0) return this.#place(this.#makePlace(h), h, old);
    this.#count(-1, this.#expires(entry) ? -1 : 0, -bytesAt(this.#wordsOf(entry), at(entry)));
    this.#wordsOf(page)[there + 1] = old;
    heap.free(entry, heap.blockSize(entry));
  }

  /** Writes the key of an entry, and answers how many bytes it has. */
  copyKey(entry: number, to: Writer): number {
    const words = this.#wordsOf(entry),
      from = keyFrom(words, at(entry)),
      length = keyLengthOf(words, at(entry));
    to.copy(this.#heap.bytes[entry >>> UNIT_BITS], from, from + length);
    return length;
  }

  /**
   * Adds a table to this one, which is a catalog.
   *
   * @throws {OutOfMemory} if there is no room; the catalog is as it was.
   */
  linkTable(h: number, id: number): void {
    const page = this.#makePlace(h);
    // (Making room may have moved it.)
    const address = this.#space.descriptors[id];
    this.#count(1, 0, keyLengthOf(this.#wordsOf(address), at(address)));
    this.#place(page, h, address);
  }

  /** Takes a table out of this one, which is a catalog. */
  unlinkTable(h: number, name: Span): void {
    this.#unlink(h, name);
  }

  /** Has a table's descriptor be at another address in this one, which is a catalog; or not, if it is not in it. */
  relinkTable(h: number, from: number, to: number): void {
    let page = this.#page(h);
    if (page === 0) return;
    if (this.#heap.frozen) page = this.#ownPage(h);
    const slots = this.#wordsOf(page), first = at(page) + PAGE_HEAD;
    const mask = (1 << bitsOf(slots[at(page) + 1])) - 1;
    for (let i = h & mask; slots[first + 2 * i + 1] !== 0; i = (i + 1) & mask) {
      if (slots[first + 2 * i + 1] === from) return void (slots[first + 2 * i + 1] = to);
    }
  }

  /** The directory is at one moment all there is to know: later changes go to copies. */
  view(): TableView {
    return new FrozenTable(this.#heap, this.#address);
  }

  /**
   * Visits the entries of one page: those whose hashes begin as the cursor does. The cursor of the first page
   * is 0; the answer is that of the next, or 0 after the last. Whoever goes through all pages has seen every
   * entry that was there throughout, whatever changed meanwhile, some of them perhaps twice.
   */
  scan(cursor: number, visit: (address: number) => void): number {
    return scanPage(this.#heap, this.#address, cursor, visit);
  }

  /**
   * Visits entries in the order of their hashes, those of one page: from the hash `cursor` on, while `visit`
   * answers true, and then those of the same hash as the last. Answers where to go on, or 0 after the last
   * entry. Hashes do not change: whoever goes on until 0 has seen every entry that was there throughout, and
   * none twice, whatever changed meanwhile.
   */
  walk(cursor: number, visit: (address: number) => boolean): number {
    const page = this.#page(cursor);
    if (page === 0) return 0;
    const slots = this.#wordsOf(page), head = at(page), first = head + PAGE_HEAD;
    // A hash and its slot, as one number.
    let count = 0;
    for (let i = 0; i < 1 << bitsOf(slots[head + 1]); i++) {
      const h = slots[first + 2 * i] >>> 0;
      if (slots[first + 2 * i + 1] !== 0 && h >= cursor) ordered[count++] = h * 256 + i;
    }
    const order = ordered.subarray(0, count).sort();
    let last = -1;
    for (const each of order) {
      const h = Math.floor(each / 256);
      if (last >= 0 && h !== last) return h;
      if (!visit(slots[first + 2 * (each % 256) + 1])) last = h;
    }
    return nextPrefix(slots, head);
  }

  /** Visits every entry. */
  forEach(visit: (address: number) => void): void {
    let cursor = 0;
    do cursor = this.scan(cursor, visit); while (cursor !== 0);
  }

  /**
   * Frees the blocks of a table that nobody will use again, those of one page at a call. True when all are
   * freed, its descriptor too.
   */
  dismantle(): boolean {
    const heap = this.#heap;
    const address = this.#own(), words = this.#wordsOf(address), d = descriptorAt(words, at(address));
    const depth = words[d + STATE] & DEPTH, index = words[d + EXPIRING];
    const page = this.#page(prefixOf(index, depth));
    if (page !== 0) {
      const free = (entry: number) => heap.free(entry, heap.blockSize(entry));
      scanPage(heap, address, prefixOf(index, depth), free);
      const end = index + (1 << (depth - depthOf(this.#wordsOf(page)[at(page) + 1])));
      this.#direct(prefixOf(index, depth), depthOf(this.#wordsOf(page)[at(page) + 1]), 0);
      free(page);
      words[d + EXPIRING] = end;
      if (end < 1 << depth) return false;
      if (depth > 0) free(words[d + ROOT]);
    }
    this.#space.release(this.id);
    return true;
  }

  /** Moves a block of this table, if it is in use: see `Owner` in {@link ./heap.ts}. */
  move(address: number): void {
    const heap = this.#heap;
    const words = this.#wordsOf(address), w = at(address);
    if (words[w] & PAGE) {
      const table = this.#address, state = this.#wordsOf(table), d = descriptorAt(state, at(table));
      if (words[w] & LONG) {
        if (state[d + ROOT] === address) state[d + ROOT] = heap.copy(address, heap.blockSize(address));
        return;
      }
      const prefix = words[w + 2], depth = depthOf(words[w + 1]);
      if (depth > (state[d + STATE] & DEPTH) || this.#page(prefix) !== address) return;
      this.#direct(prefix, depth, heap.copy(address, heap.blockSize(address)));
      return;
    }
    const bytes = heap.bytes[address >>> UNIT_BITS];
    const from = keyFrom(words, w);
    const h = hash(bytes, from, from + keyLengthOf(words, w));
    const page = this.#page(h);
    if (page !== 0) {
      const slots = this.#wordsOf(page), first = at(page) + PAGE_HEAD;
      const mask = (1 << bitsOf(slots[at(page) + 1])) - 1;
      for (let i = h & mask; slots[first + 2 * i + 1] !== 0; i = (i + 1) & mask) {
        if (slots[first + 2 * i + 1] !== address) continue;
        slots[first + 2 * i + 1] = heap.copy(address, heap.blockSize(address));
        return;
      }
    }
    this.#space.effects.sink?.move(address);
  }

  #wordsOf(address: number): Int32Array {
    return this.#heap.words[address >>> UNIT_BITS];
  }

  /**
   * Reads what will be read to find entries of these hashes. Their places in memory are far apart and seldom
   * in the processor's caches: it waits for one after another if they are found one after another, and for
   * many at once if nothing in between depends on them.
   *
   * @returns A number that means nothing; that it is used keeps the reads from being left out.
   */
  touch(hashes: Int32Array, count: number): number {
    const { words } = this.#heap, table = this.#address;
    const state = words[table >>> UNIT_BITS], d = descriptorAt(state, at(table));
    const depth = state[d + STATE] & DEPTH, shift = 32 - depth;
    if (depth === 0) return 0;
    const root = state[d + ROOT], directory = words[root >>> UNIT_BITS], pages = at(root) + PAGE_HEAD;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const h = hashes[i];
      const page = directory[pages + (h >>> shift)];
      const slots = words[page >>> UNIT_BITS], head = at(page);
      sum ^= slots[head + PAGE_HEAD + 2 * (h & ((1 << bitsOf(slots[head + 1])) - 1))];
    }
    for (let i = 0; i < count; i++) {
      const h = hashes[i];
      const page = directory[pages + (h >>> shift)];
      const slots = words[page >>> UNIT_BITS], first = at(page) + PAGE_HEAD;
      const mask = (1 << bitsOf(slots[first - PAGE_HEAD + 1])) - 1;
      let slot = h & mask;
      while (slots[first + 2 * slot + 1] !== 0 && slots[first + 2 * slot] !== h) slot = (slot + 1) & mask;
      touched[i] = slots[first + 2 * slot + 1];
    }
    for (let i = 0; i < count; i++) {
      const entry = touched[i];
      const ws = words[entry >>> UNIT_BITS], w = at(entry);
      sum ^= ws[w];
      if (w + 13 < ws.length) sum ^= ws[w + 13];
    }
    return sum;
  }

  /** The page of a hash, or 0. */
  #page(h: number): number {
    return pageOf(this.#heap, this.#address, h);
  }

  #write(entry: number, key: Span, bytes: Uint8Array, from: number, length: number, expiry: number): void {
    const heap = this.#heap;
    const words = heap.words[entry >>> UNIT_BITS], there = heap.bytes[entry >>> UNIT_BITS];
    const keyLength = key.to - key.from;
    const long = isLong(keyLength, length);
    let w = at(entry);
    words[w] = this.id | (long ? LONG : 0) | (expiry > 0 ? EXPIRES : 0);
    if (long) {
      words[w + 1] = keyLength;
      words[w + 2] = length;
      words[w + 3] = 0;
      w += 4;
    } else {
      words[w + 1] = keyLength | length << 8;
      w += 2;
    }
    if (expiry > 0) {
      writeExpiry(words, w, expiry);
      w += 2;
    }
    const at8 = w << 2;
    copyBytes(key.bytes, key.from, there, at8, keyLength);
    if (bytes !== NOTHING) copyBytes(bytes, from, there, at8 + keyLength, length);
  }

  /** Makes sure that the page of a hash is ours and has room for another entry: its address. */
  #makePlace(h: number): number {
    let page = this.#ownPage(h);
    for (;;) {
      const word = this.#wordsOf(page)[at(page) + 1];
      if (word >>> 16 < most(bitsOf(word))) return page;
      if (bitsOf(word) < MAX_BITS) this.#grow(h);
      else this.#split(h);
      page = this.#page(h);
    }
  }

  /** Puts an entry into the page of its hash, which has room. */
  #place(page: number, h: number, entry: number): void {
    const words = this.#wordsOf(page), head = at(page);
    place(words, head, h, entry);
    words[head + 1] += 1 << 16;
  }

  /** Counts entries, entries that expire, and bytes that came or went. */
  #count(entries: number, expiring: number, bytes: number): void {
    const address = this.#own(), words = this.#wordsOf(address), d = descriptorAt(words, at(address));
    words[d + SIZE] += entries;
    const sum = words[d + BYTES + 1] * 2 ** 32 + (words[d + BYTES] >>> 0) + bytes;
    words[d + BYTES] = sum;
    words[d + BYTES + 1] = sum / 2 ** 32;
    const totals = this.#space.totals[words[d + STATE] >>> 8 & 255];
    totals.entries += entries;
    totals.bytes += bytes;
    if (expiring === 0) return;
    const before = words[d + EXPIRING], after = words[d + EXPIRING] += expiring;
    totals.expiring += expiring;
    totals.expiringTables += (after > 0 ? 1 : 0) - (before > 0 ? 1 : 0);
  }

  /** The address of the descriptor, which no snapshot reads: a copy, if need be. */
  #own(): number {
    const heap = this.#heap, address = this.#address;
    if (!heap.frozen) return address;
    const words = this.#wordsOf(address);
    if (words[descriptorAt(words, at(address)) + EPOCH] === heap.epoch) return address;
    const copy = heap.copy(address, heap.blockSize(address));
    this.#wordsOf(copy)[descriptorAt(this.#wordsOf(copy), at(copy)) + EPOCH] = heap.epoch;
    this.#space.moved(this.id, address, copy);
    return copy;
  }

  /** Takes the entry at {@linkcode slot} out of its page, which is ours. It is not counted any more. */
  #remove(page: number, h: number): void {
    const words = this.#wordsOf(page), head = at(page), first = head + PAGE_HEAD;
    const mask = (1 << bitsOf(words[head + 1])) - 1;
    let hole = (slot - first) >> 1;
    for (let i = (hole + 1) & mask; words[first + 2 * i + 1] !== 0; i = (i + 1) & mask) {
      const home = words[first + 2 * i] & mask;
      // It may not come before its own slot.
      if (((i - home) & mask) < ((i - hole) & mask)) continue;
      words[first + 2 * hole] = words[first + 2 * i];
      words[first + 2 * hole + 1] = words[first + 2 * i + 1];
      hole = i;
    }
    words[first + 2 * hole + 1] = 0;
    words[head + 1] -= 1 << 16;
    if (this.size === 0) this.#empty();
    else if (words[head + 1] >>> 16 < FEW >> 1) this.#merge(h);
  }

  /** Nothing is left: the pages go too. */
  #empty(): void {
    const heap = this.#heap, address = this.#own(), words = this.#wordsOf(address);
    const d = descriptorAt(words, at(address)), depth = words[d + STATE] & DEPTH, root = words[d + ROOT];
    for (let i = 0; i < 1 << depth;) {
      const page = this.#page(prefixOf(i, depth));
      i += 1 << (depth - depthOf(this.#wordsOf(page)[at(page) + 1]));
      heap.free(page, heap.blockSize(page));
    }
    if (depth > 0) heap.free(root, heap.blockSize(root));
    words[d + ROOT] = 0;
    words[d + STATE] &= ~DEPTH;
  }

  /** Makes sure that the page of a hash is there, and that no snapshot reads it or the descriptor: its address. */
  #ownPage(h: number): number {
    const heap = this.#heap;
    const page = this.#page(h);
    if (page === 0) {
      const first = this.#newPage(MIN_BITS, 0, 0);
      this.#direct(0, 0, first);
      return first;
    }
    if (heap.frozen && this.#wordsOf(page)[at(page) + 3] !== heap.epoch) {
      const copy = heap.copy(page, heap.blockSize(page));
      const words = this.#wordsOf(copy), head = at(copy);
      words[head + 3] = heap.epoch;
      this.#direct(words[head + 2], depthOf(words[head + 1]), copy);
      return copy;
    }
    return page;
  }

  /** An empty page. */
  #newPage(bits: number, depth: number, prefix: number): number {
    const page = this.#heap.allocate((PAGE_HEAD + (2 << bits)) * 4);
    const words = this.#wordsOf(page), head = at(page);
    words[head] = this.id | PAGE;
    words[head + 1] = bits | depth << 8;
    words[head + 2] = prefix;
    words[head + 3] = this.#heap.epoch;
    words.fill(0, head + PAGE_HEAD, head + PAGE_HEAD + (2 << bits));
    return page;
  }

  /** Gives the page of a hash twice as many slots. */
  #grow(h: number): void {
    const before = this.#page(h);
    const word = this.#wordsOf(before)[at(before) + 1];
    const prefix = this.#wordsOf(before)[at(before) + 2];
    const larger = this.#newPage(bitsOf(word) + 1, depthOf(word), prefix);
    // (Making room may have moved it.)
    const page = this.#page(h);
    const words = this.#wordsOf(larger), head = at(larger);
    const old = this.#wordsOf(page), first = at(page) + PAGE_HEAD;
    for (let i = first; i < first + (2 << bitsOf(word)); i += 2) {
      if (old[i + 1] !== 0) place(words, head, old[i], old[i + 1]);
    }
    words[head + 1] |= word >>> 16 << 16;
    this.#direct(prefix, depthOf(word), larger);
    this.#heap.free(page, this.#heap.blockSize(page));
  }

  /** Splits the page of a hash, which is ours: it keeps the entries whose next bit is 0. */
  #split(h: number): void {
    const before = this.#page(h);
    const depth = depthOf(this.#wordsOf(before)[at(before) + 1]);
    const prefix = this.#wordsOf(before)[at(before) + 2];
    if (depth === (stateOf(this.#heap, this.#address, STATE) & DEPTH)) this.#double();
    const bit = 1 << (31 - depth);
    const right = this.#newPage(MAX_BITS, depth + 1, prefix | bit);
    // (Making room may have moved it.)
    const left = this.#page(h);
    const words = this.#wordsOf(left), head = at(left), first = head + PAGE_HEAD;
    const others = this.#wordsOf(right), otherHead = at(right);
    scratch.set(words.subarray(first, first + scratch.length));
    words.fill(0, first, first + scratch.length);
    let count = 0, moved = 0;
    for (let i = 0; i < scratch.length; i += 2) {
      if (scratch[i + 1] === 0) continue;
      if (scratch[i] & bit) place(others, otherHead, scratch[i], scratch[i + 1]), moved++;
      else place(words, head, scratch[i], scratch[i + 1]), count++;
    }
    words[head + 1] = MAX_BITS | (depth + 1) << 8 | count << 16;
    others[otherHead + 1] |= moved << 16;
    this.#direct(prefix | bit, depth + 1, right);
  }

  /** Makes one page of that of a hash, which is ours, and its neighbour, if both are nearly empty. */
  #merge(h: number): void {
    const page = this.#page(h);
    const words = this.#wordsOf(page), head = at(page);
    const depth = depthOf(words[head + 1]);
    if (depth === 0) return;
    const bit = 1 << (32 - depth);
    const prefix = words[head + 2];
    const other = this.#page(prefix ^ bit);
    const otherWords = this.#wordsOf(other), otherHead = at(other), first = otherHead + PAGE_HEAD;
    const word = otherWords[otherHead + 1];
    const count = (word >>> 16) + (words[head + 1] >>> 16);
    if (depthOf(word) !== depth || count > FEW) return;
    for (let i = first; i < first + (2 << MAX_BITS); i += 2) {
      if (otherWords[i + 1] !== 0) place(words, head, otherWords[i], otherWords[i + 1]);
    }
    words[head + 1] = MAX_BITS | (depth - 1) << 8 | count << 16;
    words[head + 2] = prefix & ~bit;
    this.#direct(prefix & ~bit, depth - 1, page);
    this.#heap.free(other, this.#heap.blockSize(other));
  }

  /** Doubles the directory, or makes one. */
  #double(): void {
    const heap = this.#heap, depth = stateOf(heap, this.#address, STATE) & DEPTH;
    const larger = heap.allocate((PAGE_HEAD + (2 << depth)) * 4);
    const words = this.#wordsOf(larger), w = at(larger), pages = w + PAGE_HEAD;
    words[w] = this.id | PAGE | LONG;
    words[w + 1] = depth + 1;
    words[w + 2] = 0;
    words[w + 3] = heap.epoch;
    for (let i = 0; i < 1 << depth; i++) {
      words[pages + 2 * i] = words[pages + 2 * i + 1] = this.#page(prefixOf(i, depth));
    }
    const address = this.#own(), state = this.#wordsOf(address), d = descriptorAt(state, at(address));
    const old = state[d + ROOT];
    state[d + ROOT] = larger;
    state[d + STATE]++;
    if (depth > 0) heap.free(old, heap.blockSize(old));
  }

  /** Has all hashes that begin with `depth` bits of a prefix go to a page. */
  #direct(prefix: number, depth: number, page: number): void {
    const heap = this.#heap, address = this.#own(), state = this.#wordsOf(address);
    const d = descriptorAt(state, at(address)), own = state[d + STATE] & DEPTH;
    if (own === 0) return void (state[d + ROOT] = page);
    let root = state[d + ROOT];
    if (heap.frozen && this.#wordsOf(root)[at(root) + 3] !== heap.epoch) {
      root = state[d + ROOT] = heap.copy(root, heap.blockSize(root));
      this.#wordsOf(root)[at(root) + 3] = heap.epoch;
    }
    const from = at(root) + PAGE_HEAD + (prefix >>> (32 - own));
    this.#wordsOf(root).fill(page, from, from + (1 << (own - depth)));
  }
}

/** Bytes of the descriptor of a table whose name has so many bytes. */
export function descriptorSize(nameLength: number): number {
  return entrySize(nameLength, 0, 0) + TABLE_BYTES;
}

/** Writes the descriptor of an empty table. */
export function writeDescriptor(heap: Heap, address: number, id: number, kind: number, name: Span): void {
  const words = heap.words[address >>> UNIT_BITS], w = at(address), length = name.to - name.from;
  const long = isLong(length, 0);
  words[w] = id | TABLE | (long ? LONG : 0);
  words[w + 1] = length;
  if (long) words[w + 2] = words[w + 3] = 0;
  const d = descriptorAt(words, w);
  words.fill(0, d, d + TABLE_BYTES / 4);
  words[d + STATE] = kind << 8;
  words[d + EPOCH] = heap.epoch;
  copyBytes(name.bytes, name.from, heap.bytes[address >>> UNIT_BITS], keyFrom(words, w), length);
}

/** The number of the table that a descriptor describes, … */
export function idOf(heap: Heap, address: number): number {
  return heap.words[address >>> UNIT_BITS][at(address)] & OWNER;
}

/** … its kind, … */
export function kindOf(heap: Heap, address: number): number {
  return stateOf(heap, address, STATE) >>> 8 & 255;
}

/** … and a copy of its name. */
export function nameOf(heap: Heap, address: number): Uint8Array {
  const words = heap.words[address >>> UNIT_BITS], from = keyFrom(words, at(address));
  return heap.bytes[address >>> UNIT_BITS].slice(from, from + keyLengthOf(words, at(address)));
}

/** The first word of a table's state, by that of its descriptor. */
function descriptorAt(words: Int32Array, w: number): number {
  return w + 2 + ((words[w] & LONG) >>> 28);
}

function stateOf(heap: Heap, table: number, word: number): number {
  const words = heap.words[table >>> UNIT_BITS];
  return words[descriptorAt(words, at(table)) + word];
}

function bytesOf(heap: Heap, table: number): number {
  return stateOf(heap, table, BYTES + 1) * 2 ** 32 + (stateOf(heap, table, BYTES) >>> 0);
}

/** The page of a hash, or 0. */
function pageOf(heap: Heap, table: number, h: number): number {
  const words = heap.words[table >>> UNIT_BITS], d = descriptorAt(words, at(table));
  const root = words[d + ROOT], depth = words[d + STATE] & DEPTH;
  return depth === 0 ? root : heap.words[root >>> UNIT_BITS][at(root) + PAGE_HEAD + (h >>> (32 - depth))];
}

/** The address of the entry of a key in a table, or 0. */
function find(heap: Heap, table: number, key: Span): number {
  const entry = locate(heap, table, hashOf(key), key);
  return entry !== 0 && hasExpired(heap, entry) ? 0 : entry;
}

function hasExpired(heap: Heap, entry: number): boolean {
  const words = heap.words[entry >>> UNIT_BITS], w = at(entry);
  return (words[w] & EXPIRES) !== 0 && expiryOf(words, w) <= Date.now();
}

/** The entry of a key, or 0; sets {@linkcode slot} where there is one. */
function locate(heap: Heap, table: number, h: number, key: Span): number {
  const page = pageOf(heap, table, h);
  if (page === 0) return 0;
  const slots = heap.words[page >>> UNIT_BITS], head = at(page), first = head + PAGE_HEAD;
  const mask = (1 << bitsOf(slots[head + 1])) - 1;
  const { bytes, from, to } = key;
  const length = to - from;
  for (let i = h & mask;; i = (i + 1) & mask) {
    const s = first + 2 * i;
    const entry = slots[s + 1];
    if (entry === 0) return 0;
    if (slots[s] !== h) continue;
    const words = heap.words[entry >>> UNIT_BITS], w = at(entry);
    if (keyLengthOf(words, w) !== length) continue;
    const there = heap.bytes[entry >>> UNIT_BITS];
    const offset = keyFrom(words, w) - from;
    let k = from;
    while (k < to && there[k + offset] === bytes[k]) k++;
    if (k < to) continue;
    slot = s;
    return entry;
  }
}

/** See {@linkcode Table.scan}. */
function scanPage(
  heap: Heap,
  table: number,
  cursor: number,
  visit: (address: number) => void,
): number {
  const page = pageOf(heap, table, cursor);
  if (page === 0) return 0;
  const words = heap.words[page >>> UNIT_BITS], head = at(page), first = head + PAGE_HEAD;
  const slots = 2 << bitsOf(words[head + 1]);
  const next = nextPrefix(words, head);
  for (let i = first; i < first + slots; i += 2) if (words[i + 1] !== 0) visit(words[i + 1]);
  return next;
}

/** The first hash that comes after those of a page; 0 if there is none. */
function nextPrefix(words: Int32Array, head: number): number {
  return ((words[head + 2] >>> 0) + 2 ** (32 - depthOf(words[head + 1]))) % 2 ** 32;
}

function hashOf(key: Span): number {
  return key.hash ?? hash(key.bytes, key.from, key.to);
}

/** Puts an entry into the first free slot from its own on. */
function place(words: Int32Array, head: number, h: number, entry: number): void {
  const mask = (1 << bitsOf(words[head + 1])) - 1, first = head + PAGE_HEAD;
  let i = h & mask;
  while (words[first + 2 * i + 1] !== 0) i = (i + 1) & mask;
  words[first + 2 * i] = h;
  words[first + 2 * i + 1] = entry;
}

/** The first hash of a directory's index. */
function prefixOf(index: number, depth: number): number {
  return depth === 0 ? 0 : index << (32 - depth);
}

const at = (address: number) => (address & UNIT_MASK) << 1;
const bitsOf = (word: number) => word & 255;
const depthOf = (word: number) => word >>> 8 & 255;
const isLong = (keyLength: number, length: number) => keyLength > 255 || length >= 1 << 23;

function entrySize(keyLength: number, length: number, expiry: number): number {
  return (isLong(keyLength, length) ? 16 : 8) + (expiry > 0 ? 8 : 0) + keyLength + length;
}

function writeExpiry(words: Int32Array, e: number, expiry: number): void {
  words[e] = expiry;
  words[e + 1] = expiry / 2 ** 32;
}

/** The expiry of an entry that has one. */
function expiryOf(words: Int32Array, w: number): number {
  const e = w + (words[w] & LONG ? 4 : 2);
  return words[e + 1] * 2 ** 32 + (words[e] >>> 0);
}

/** The head of an entry, at word `w`: where its key begins, as a byte of its segment, … */
function keyFrom(words: Int32Array, w: number): number {
  const word = words[w];
  // (LONG is 8 bytes more, EXPIRES too, TABLE 32.)
  return (w << 2) + 8 + ((word & (LONG | TABLE)) >>> 26) + ((word & EXPIRES) >>> 27);
}

/** … how long it is, … */
function keyLengthOf(words: Int32Array, w: number): number {
  return words[w] & LONG ? words[w + 1] : words[w + 1] & 255;
}

/** … and how long its value is. */
function valueLengthOf(words: Int32Array, w: number): number {
  return words[w] & LONG ? words[w + 2] >>> 0 : words[w + 1] >>> 8;
}

function bytesAt(words: Int32Array, w: number): number {
  return keyLengthOf(words, w) + valueLengthOf(words, w);
}

/** An entry of a heap, as spans of its bytes. One object looks at one entry after another. */
export class Entry {
  readonly #heap: Heap;
  bytes: Uint8Array = new Uint8Array(0);
  keyFrom = 0;
  /** The key ends and the value begins. */
  keyTo = 0;
  valueTo = 0;
  /** When it is gone, in milliseconds since 1970; 0 if it stays. */
  expiry = 0;

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  look(address: number): this {
    const words = this.#heap.words[address >>> UNIT_BITS], w = at(address);
    this.bytes = this.#heap.bytes[address >>> UNIT_BITS];
    this.keyFrom = keyFrom(words, w);
    this.keyTo = this.keyFrom + keyLengthOf(words, w);
    this.valueTo = this.keyTo + valueLengthOf(words, w);
    this.expiry = words[w] & EXPIRES ? expiryOf(words, w) : 0;
    return this;
  }
}

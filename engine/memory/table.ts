/**
 * A table: keys and values in a {@linkcode Heap}, found by hash. (A set is a table of empty values.)
 *
 * All that a table is lies in blocks of the heap. A {@linkcode Table} is a number and nothing else, so that an idle
 * table costs no more than its blocks.
 *
 * ```text
 * registry.ts    number ──► descriptor.ts ──► directory.ts ──► page.ts ──► entry.ts
 *                           counts, name      by the first     by the      key, value,
 *                                             bits of a hash   last bits   expiry
 *
 * block.ts        what an address is, and the kinds of blocks
 * lookup.ts       the way from a descriptor to an entry, for all that read
 * hash_index.ts   how pages and directories grow, shrink and move
 * table.ts        how entries are set, deleted, expired, and put back by a transaction
 * view.ts         what a snapshot reads
 * ```
 *
 * Whatever changes an entry is announced as an effect ({@link ../effects.ts}). While somebody consumes effects, or the
 * heap is frozen, an entry is not overwritten in place.
 *
 * @module
 */

import type { Writer } from "../../msgpack/msgpack.ts";
import { UNIT_BITS, wordAt } from "../../blocks/block.ts";
import { bytesOf, DROPPED, EXPIRING, NEXT, SIZE, STATE, stateAt, stateOf } from "../../blocks/descriptor.ts";
import {
  copyOfKey,
  entrySize,
  expires,
  expiryOf,
  hasExpired,
  hashOf,
  keyLengthOf,
  keySpan,
  setExpiry,
  sizeOfEntry,
  UNWRITTEN,
  valueLengthOf,
  writeEntry,
} from "../../blocks/entry.ts";
import type { Span } from "../../msgpack/key.ts";
import { HashIndex } from "./hash_index.ts";
import { findEntry, prefetch, scanTable } from "../../blocks/lookup.ts";
import { firstSlot, nextSlot, slotOfEntry, slotOfKey, walkPage } from "../../blocks/page.ts";
import { FrozenTable, type TableView } from "./view.ts";

/** The table of a number. There may be several objects of the same table. */
export class Table extends HashIndex implements TableView {
  /** A copy of the canonical bytes of its name. */
  get name(): Uint8Array {
    return copyOfKey(this.heap, this.descriptor);
  }

  /** How many entries it has. */
  get size(): number {
    return stateOf(this.heap, this.descriptor, SIZE);
  }

  /** How many of its entries expire. */
  get expiring(): number {
    return stateOf(this.heap, this.descriptor, EXPIRING);
  }

  /** The bytes of its keys and values. */
  get bytes(): number {
    return bytesOf(this.heap, this.descriptor);
  }

  /** Whether nobody uses the table any more, or only a transaction that may bring it back. */
  get dropped(): boolean {
    return (stateOf(this.heap, this.descriptor, STATE) & DROPPED) !== 0;
  }

  set dropped(dropped: boolean) {
    const address = this.ownDescriptor(), words = this.wordsOf(address);
    const state = stateAt(words, wordAt(address)) + STATE;
    words[state] = dropped ? words[state] | DROPPED : words[state] & ~DROPPED;
  }

  /** The number of the table that was discarded before this one, or 0. */
  get next(): number {
    return stateOf(this.heap, this.descriptor, NEXT);
  }

  /** The table as it is now: while the heap is frozen, later changes go to copies. */
  view(): TableView {
    return new FrozenTable(this.heap, this.descriptor);
  }

  /** The address of the entry of a key, or 0. */
  find(key: Span): number {
    const entry = findEntry(this.heap, this.descriptor, hashOf(key), key);
    return entry !== 0 && hasExpired(this.heap, entry) ? 0 : entry;
  }

  /** {@linkcode prefetch} for keys of these hashes. */
  prefetch(hashes: Int32Array, count: number): number {
    return prefetch(this.heap, this.descriptor, hashes, count);
  }

  /**
   * Visits the entries of one page: those whose hashes begin like the cursor. The cursor of the first page is 0.
   * Returns the cursor of the next page, or 0 after the last. Going through all pages visits every entry that was
   * there from the first page to the last, whatever else changed; some of them may be visited twice.
   */
  scan(cursor: number, visit: (address: number) => void): number {
    return scanTable(this.heap, this.descriptor, cursor, visit);
  }

  /**
   * Visits entries in the order of their hashes, those of one page: from the hash `cursor` on until `visit` returns
   * false, and then those of the same hash as the last. Returns the cursor to go on with, or 0 after the last entry.
   * Hashes do not change: going on until 0 visits every entry that was there from beginning to end, and none twice,
   * whatever else changed.
   */
  walk(cursor: number, visit: (address: number) => boolean): number {
    const page = this.pageOf(cursor);
    return page === 0 ? 0 : walkPage(this.wordsOf(page), wordAt(page), cursor, visit);
  }

  /** Visits every entry. */
  forEach(visit: (address: number) => void): void {
    let cursor = 0;
    do cursor = this.scan(cursor, visit); while (cursor !== 0);
  }

  /**
   * Sets the value of a key to `bytes[from..to)`.
   *
   * @param expiry When the entry expires, in milliseconds since 1970; 0 for never.
   * @throws {OutOfMemory} if there is no room; the table is as it was.
   */
  set(key: Span, bytes: Uint8Array, from: number, to: number, expiry = 0): void {
    const heap = this.heap, { sink } = this.registry.effects;
    heap.changeCount++;
    const h = hashOf(key);
    const keyLength = key.to - key.from, length = to - from;
    const size = entrySize(keyLength, length, expiry);
    if (sink !== undefined) sink.prepare(keyLength);
    const { changes } = heap;
    const found = this.pageOf(h), at = found === 0 ? 0 : slotOfKey(heap, found, h, key);
    let old = at === 0 ? 0 : this.wordsOf(found)[at + 1];
    if (old !== 0 && !heap.frozen && sink === undefined) {
      const words = this.wordsOf(old), w = wordAt(old);
      if ((sizeOfEntry(words, w) + 7) >>> 3 === (size + 7) >>> 3) {
        const expiring = (expiry > 0 ? 1 : 0) - (expires(words, w) ? 1 : 0);
        const grown = length - valueLengthOf(words, w);
        const counted = expiring === 0 ? 0 : this.descriptor;
        changes.beginPage(found, counted);
        writeEntry(heap, old, this.id, key, bytes, from, length, expiry);
        if (expiring !== 0 || grown !== 0) this.count(0, expiring, grown);
        changes.endPage(found, counted);
        return;
      }
    }
    const entry = heap.allocate(size);
    writeEntry(heap, entry, this.id, key, bytes, from, length, expiry);
    try {
      if (old === 0) {
        this.add(this.makeRoom(h), h, entry, expiry > 0 ? 1 : 0, keyLength + length);
      } else {
        const page = this.ownPage(h), slot = slotOfKey(heap, page, h, key);
        const slots = this.wordsOf(page);
        // (Room was made: the old entry may have been moved.)
        old = slots[slot + 1];
        const words = this.wordsOf(old), w = wordAt(old);
        const expiring = (expiry > 0 ? 1 : 0) - (expires(words, w) ? 1 : 0);
        const descriptor = this.ownDescriptor(), counted = expiring === 0 ? 0 : descriptor;
        changes.beginPage(page, counted);
        slots[slot + 1] = entry;
        this.count(0, expiring, length - valueLengthOf(words, w));
        changes.endPage(page, counted);
        if (sink === undefined) heap.free(old, sizeOfEntry(words, w));
      }
    } catch (error) {
      heap.free(entry, size);
      throw error;
    }
    if (sink !== undefined) sink.set(this, h, entry, old);
    heap.cleanForWrite(size);
  }

  /**
   * Sets a key to a value of so many bytes, which the caller writes before anything else is done to the heap. Returns
   * where to write them.
   *
   * @throws {OutOfMemory} if there is no room; the table is as it was.
   */
  reserve(key: Span, length: number): Span {
    this.set(key, UNWRITTEN, 0, length);
    const entry = findEntry(this.heap, this.descriptor, hashOf(key), key);
    const to = wordAt(entry) * 4 + this.heap.blockSize(entry);
    return { bytes: this.heap.bytes[entry >>> UNIT_BITS], from: to - length, to };
  }

  /** Deletes a key. Returns whether it was there. */
  delete(key: Span): boolean {
    const h = hashOf(key);
    const entry = findEntry(this.heap, this.descriptor, h, key);
    if (entry === 0) return false;
    const found = !hasExpired(this.heap, entry);
    this.#delete(h, key);
    return found;
  }

  #delete(h: number, key: Span): void {
    const heap = this.heap, { sink } = this.registry.effects;
    const entry = this.unlink(h, key);
    const size = heap.blockSize(entry);
    if (sink !== undefined) sink.delete(this, h, entry);
    else heap.free(entry, size);
    heap.cleanForWrite(size);
  }

  /** Changes when an entry expires that does. Returns false if it does not, or may not be overwritten. */
  postpone(entry: number, time: number): boolean {
    const heap = this.heap, words = this.wordsOf(entry), w = wordAt(entry);
    if (heap.frozen || this.registry.effects.sink || !expires(words, w)) return false;
    heap.changeCount++;
    const page = this.pageOf(hashOf(keySpan(heap, entry)));
    heap.changes.beginPage(page, 0);
    setExpiry(words, w, time);
    heap.changes.endPage(page, 0);
    return true;
  }

  /** Whether an entry of this hash expires at exactly this time. */
  expiresAt(h: number, time: number): boolean {
    return this.#findExpiring(h, (expiry) => expiry === time) !== 0;
  }

  /** Deletes the entries of a hash whose time has come. */
  sweep(h: number, now: number): void {
    for (;;) {
      const entry = this.#findExpiring(h, (expiry) => expiry <= now);
      if (entry === 0) return;
      // (A copy: to delete the entry may move it.)
      const bytes = copyOfKey(this.heap, entry);
      this.#delete(h, { bytes, from: 0, to: bytes.length });
    }
  }

  /** An entry of this hash that expires, at such a time; 0 if there is none, or the table was dropped. */
  #findExpiring(h: number, fits: (expiry: number) => boolean): number {
    const page = this.dropped ? 0 : this.pageOf(h);
    if (page === 0) return 0;
    const slots = this.wordsOf(page), p = wordAt(page);
    for (let slot = firstSlot(slots, p, h); slot !== 0; slot = nextSlot(slots, p, h, slot)) {
      const entry = slots[slot + 1], words = this.wordsOf(entry), w = wordAt(entry);
      if (expires(words, w) && fits(expiryOf(words, w))) return entry;
    }
    return 0;
  }

  /** Undoes that an entry was set: deletes that of a key, as if it had never been there. */
  undoSet(key: Span): void {
    const entry = this.unlink(hashOf(key), key);
    this.heap.free(entry, this.heap.blockSize(entry));
  }

  /** Undoes that an entry was replaced or deleted: puts it back, and frees what its key has now. */
  restoreEntry(h: number, old: number): void {
    const heap = this.heap;
    heap.changeCount++;
    const page = this.ownPage(h), slot = slotOfKey(heap, page, h, keySpan(heap, old));
    this.countEntry(old, 1);
    if (slot === 0) return this.put(this.makeRoom(h), h, old);
    const slots = this.wordsOf(page), entry = slots[slot + 1];
    this.countEntry(entry, -1);
    slots[slot + 1] = old;
    heap.free(entry, heap.blockSize(entry));
  }

  /** Writes the key of an entry. Returns how many bytes it has. */
  copyKey(entry: number, to: Writer): number {
    const key = keySpan(this.heap, entry);
    to.copy(key.bytes, key.from, key.to);
    return key.to - key.from;
  }

  /**
   * Adds a table to this one, whose entries are descriptors.
   *
   * @throws {OutOfMemory} if there is no room; this table is as it was.
   */
  linkTable(h: number, id: number): void {
    const page = this.makeRoom(h);
    // (Making room may have moved the descriptor.)
    const descriptor = this.registry.descriptors[id];
    this.add(page, h, descriptor, 0, keyLengthOf(this.wordsOf(descriptor), wordAt(descriptor)));
  }

  /** Takes a table out of this one, whose entries are descriptors. */
  unlinkTable(h: number, name: Span): void {
    this.unlink(h, name);
  }

  /**
   * Changes the address of a descriptor in this table, whose entries are descriptors, if it is in it. Call it within a
   * change of {@linkcode Changes.all}.
   */
  relinkTable(h: number, from: number, to: number): void {
    let page = this.pageOf(h);
    if (page === 0) return;
    if (this.heap.frozen) page = this.ownPage(h);
    const slots = this.wordsOf(page), slot = slotOfEntry(slots, wordAt(page), h, from);
    if (slot !== 0) slots[slot + 1] = to;
  }

  /** Moves a block of this table, if it is in use: see `Owner` in {@link ./heap.ts}. */
  move(address: number): void {
    if (!this.moveBlock(address)) this.registry.effects.sink?.move(address);
  }
}

/**
 * The index of a table: extendible hashing, of which the blocks are a descriptor, a directory and pages.
 *
 * A page begins with 2 slots and grows to 256. One that is full then is split by one more bit of the hash, and where
 * the directory has too few bits for that, it doubles. So a table grows a page at a time, and no request waits for
 * more than that. Two neighbours that are nearly empty are merged. An empty table has no page.
 *
 * While the heap is frozen, a snapshot may read these blocks: the descriptor, the directory and a page are copied
 * before they are changed, once for each snapshot. A block is **owned** if no snapshot reads it.
 *
 * Whatever allocates may move blocks: addresses that were read before must be read again.
 *
 * @see Fagin, Nievergelt, Pippenger, Strong: Extendible Hashing, ACM TODS 4 (3), 1979
 * @module
 */

import { LONG, PAGE, UNIT_BITS, wordAt } from "../../blocks/block.ts";
import {
  BYTES,
  DEPTH,
  EPOCH,
  EXPIRING,
  NEXT,
  ROOT,
  SIZE,
  STATE,
  stateAt,
  stateOf,
} from "../../blocks/descriptor.ts";
import {
  DIRECTORY_HEAD,
  directorySize,
  pageOf,
  prefixOf,
  redirect,
  writeDirectoryHead,
} from "../../blocks/directory.ts";
import { dataLengthOf, expires, hashOf, keySpan } from "../../blocks/entry.ts";
import type { Span } from "../../msgpack/key.ts";
import type { Heap } from "./heap.ts";
import {
  bitsOf,
  capacity,
  copyEntries,
  countOf,
  depthOf,
  freeSlot,
  MAX_BITS,
  MERGE_MAX,
  mergePage,
  MIN_BITS,
  pageSize,
  putInto,
  scanPage,
  slotOfEntry,
  slotOfKey,
  splitPage,
  writePage,
} from "../../blocks/page.ts";
import type { TableRegistry } from "./registry.ts";

/** The index of the table of a number. It knows entries by hash and address, and counts them. */
export class HashIndex {
  readonly id: number;
  protected readonly registry: TableRegistry;
  protected readonly heap: Heap;

  constructor(registry: TableRegistry, id: number) {
    this.registry = registry;
    this.heap = registry.heap;
    this.id = id;
  }

  /** The address of the descriptor. */
  protected get descriptor(): number {
    return this.registry.descriptors[this.id];
  }

  protected wordsOf(address: number): Int32Array {
    return this.heap.words[address >>> UNIT_BITS];
  }

  /** The page of a hash, or 0. */
  protected pageOf(h: number): number {
    return pageOf(this.heap, this.descriptor, h);
  }

  /** The address of the descriptor, which is owned then. */
  protected ownDescriptor(): number {
    const heap = this.heap, address = this.descriptor;
    if (!heap.frozen) return address;
    const words = this.wordsOf(address);
    if (words[stateAt(words, wordAt(address)) + EPOCH] === heap.epoch) return address;
    return heap.changes.all(() => {
      const copy = heap.copy(address, heap.blockSize(address));
      const copied = this.wordsOf(copy);
      copied[stateAt(copied, wordAt(copy)) + EPOCH] = heap.epoch;
      this.registry.descriptorMoved(this.id, address, copy);
      return copy;
    });
  }

  /** The address of the page of a hash, which is owned then, and made if there is none. */
  protected ownPage(h: number): number {
    const heap = this.heap;
    const page = this.pageOf(h);
    if (page === 0) {
      const first = this.#newPage(MIN_BITS, 0, 0);
      heap.changes.all(() => this.#redirect(0, 0, first));
      return first;
    }
    if (heap.frozen && this.wordsOf(page)[wordAt(page) + 3] !== heap.epoch) {
      return heap.changes.all(() => {
        const copy = heap.copy(page, heap.blockSize(page));
        const words = this.wordsOf(copy), p = wordAt(copy);
        words[p + 3] = heap.epoch;
        this.#redirect(words[p + 2], depthOf(words[p + 1]), copy);
        return copy;
      });
    }
    return page;
  }

  /**
   * The address of the page of a hash, which is owned then and has room for another entry.
   *
   * @throws {OutOfMemory} if there is no memory for that; all entries are still found.
   */
  protected makeRoom(h: number): number {
    let page = this.ownPage(h);
    for (;;) {
      const word = this.wordsOf(page)[wordAt(page) + 1];
      if (countOf(word) < capacity(bitsOf(word))) return page;
      if (bitsOf(word) < MAX_BITS) this.#grow(h);
      else this.#split(h);
      page = this.pageOf(h);
    }
  }

  /** Puts an entry into a page that {@linkcode HashIndex.makeRoom} returned. */
  protected put(page: number, h: number, entry: number): void {
    putInto(this.wordsOf(page), wordAt(page), h, entry);
  }

  /**
   * Adds an entry to a page that {@linkcode HashIndex.makeRoom} returned, and counts it.
   *
   * @param expiring 1 if it expires, else 0.
   * @param bytes Those of its key and its value.
   */
  protected add(page: number, h: number, entry: number, expiring: number, bytes: number): void {
    const { changes } = this.heap, table = this.ownDescriptor();
    changes.beginTable(table);
    this.put(page, h, entry);
    changes.changedPage(page);
    this.count(1, expiring, bytes);
    changes.endTable(table);
  }

  /** Takes the entry of a key, which is there, out of the index. Returns its address. */
  protected unlink(h: number, key: Span): number {
    this.heap.changeCount++;
    const page = this.ownPage(h), slot = slotOfKey(this.heap, page, h, key);
    const words = this.wordsOf(page), p = wordAt(page), entry = words[slot + 1];
    const { changes } = this.heap, table = this.ownDescriptor();
    changes.beginTable(table);
    changes.beginPage(page);
    freeSlot(words, p, slot);
    changes.endPage(page);
    this.countEntry(entry, -1);
    changes.endTable(table);
    if (stateOf(this.heap, this.descriptor, SIZE) === 0) changes.all(() => this.#freePages());
    else if (countOf(words[p + 1]) < MERGE_MAX >> 1) this.#merge(h);
    return entry;
  }

  /** Counts an entry that comes or goes. */
  protected countEntry(entry: number, sign: 1 | -1): void {
    const words = this.wordsOf(entry), w = wordAt(entry);
    this.count(sign, expires(words, w) ? sign : 0, sign * dataLengthOf(words, w));
  }

  /** Counts entries, those that expire, and bytes of keys and values that come or go. */
  protected count(entries: number, expiring: number, bytes: number): void {
    const address = this.ownDescriptor(), words = this.wordsOf(address), s = stateAt(words, wordAt(address));
    words[s + SIZE] += entries;
    const sum = words[s + BYTES + 1] * 2 ** 32 + (words[s + BYTES] >>> 0) + bytes;
    words[s + BYTES] = sum;
    words[s + BYTES + 1] = sum / 2 ** 32;
    const totals = this.registry.totals[words[s + STATE] >>> 8 & 255];
    totals.entries += entries;
    totals.bytes += bytes;
    if (expiring === 0) return;
    const before = words[s + EXPIRING], after = words[s + EXPIRING] += expiring;
    totals.expiring += expiring;
    totals.expiringTables += (after > 0 ? 1 : 0) - (before > 0 ? 1 : 0);
  }

  /** Prepares {@linkcode HashIndex.freeNextPage}. `next` is the table that was discarded before this one, or 0. */
  startFreeing(next: number): void {
    const address = this.ownDescriptor(), words = this.wordsOf(address), s = stateAt(words, wordAt(address));
    words[s + NEXT] = next;
    // From now on, how many addresses of the directory are done.
    words[s + EXPIRING] = 0;
  }

  /** Frees one page of a table that nobody uses any more, and its entries. Returns whether all is freed. */
  freeNextPage(): boolean {
    const heap = this.heap;
    const address = this.ownDescriptor(), words = this.wordsOf(address), s = stateAt(words, wordAt(address));
    const depth = words[s + STATE] & DEPTH, index = words[s + EXPIRING], prefix = prefixOf(index, depth);
    const page = this.pageOf(prefix);
    if (page !== 0) {
      const free = (block: number) => heap.free(block, heap.blockSize(block));
      const slots = this.wordsOf(page), p = wordAt(page), pageDepth = depthOf(slots[p + 1]);
      scanPage(slots, p, free);
      this.#redirect(prefix, pageDepth, 0);
      free(page);
      const end = words[s + EXPIRING] = index + (1 << (depth - pageDepth));
      if (end < 1 << depth) return false;
      if (depth > 0) free(words[s + ROOT]);
    }
    this.registry.release(this.id);
    return true;
  }

  /** Moves a page, a directory or an entry of this table. Returns false for an entry that is not in the index. */
  protected moveBlock(address: number): boolean {
    const heap = this.heap;
    const words = this.wordsOf(address), w = wordAt(address);
    if (words[w] & PAGE) {
      const table = this.descriptor, state = this.wordsOf(table), s = stateAt(state, wordAt(table));
      if (words[w] & LONG) {
        if (state[s + ROOT] !== address) return true;
        heap.changes.all(() => state[s + ROOT] = heap.copy(address, heap.blockSize(address)));
        return true;
      }
      const prefix = words[w + 2], depth = depthOf(words[w + 1]);
      if (depth <= (state[s + STATE] & DEPTH) && this.pageOf(prefix) === address) {
        heap.changes.all(() => this.#redirect(prefix, depth, heap.copy(address, heap.blockSize(address))));
      }
      return true;
    }
    const h = hashOf(keySpan(heap, address));
    const page = this.pageOf(h);
    if (page === 0) return false;
    const slots = this.wordsOf(page), slot = slotOfEntry(slots, wordAt(page), h, address);
    if (slot === 0) return false;
    // (The copy frees the block, and may give its memory back, before the slot leads to the other one.)
    heap.changes.beginPage(page);
    try {
      slots[slot + 1] = heap.copy(address, heap.blockSize(address));
    } finally {
      heap.changes.endPage(page);
    }
    return true;
  }

  /** An empty page. */
  #newPage(bits: number, depth: number, prefix: number): number {
    const page = this.heap.allocate(pageSize(bits));
    writePage(this.wordsOf(page), wordAt(page), this.id, bits, depth, prefix, this.heap.epoch);
    return page;
  }

  /** Gives the page of a hash twice as many slots. */
  #grow(h: number): void {
    const before = this.pageOf(h);
    const word = this.wordsOf(before)[wordAt(before) + 1], depth = depthOf(word);
    const prefix = this.wordsOf(before)[wordAt(before) + 2];
    const larger = this.#newPage(bitsOf(word) + 1, depth, prefix);
    const page = this.pageOf(h);
    copyEntries(this.wordsOf(page), wordAt(page), this.wordsOf(larger), wordAt(larger));
    this.heap.changes.all(() => this.#redirect(prefix, depth, larger));
    this.heap.free(page, this.heap.blockSize(page));
  }

  /** Splits the page of a hash, which is owned: it keeps the entries whose next bit is 0. */
  #split(h: number): void {
    const before = this.pageOf(h);
    const depth = depthOf(this.wordsOf(before)[wordAt(before) + 1]);
    const prefix = this.wordsOf(before)[wordAt(before) + 2] | 1 << (31 - depth);
    if (depth === (stateOf(this.heap, this.descriptor, STATE) & DEPTH)) this.#doubleDirectory();
    const right = this.#newPage(MAX_BITS, depth + 1, prefix);
    const page = this.pageOf(h);
    this.heap.changes.all(() => {
      splitPage(this.wordsOf(page), wordAt(page), this.wordsOf(right), wordAt(right));
      this.#redirect(prefix, depth + 1, right);
    });
  }

  /** Merges the page of a hash, which is owned, with its neighbour, if both are nearly empty. */
  #merge(h: number): void {
    const page = this.pageOf(h);
    const words = this.wordsOf(page), p = wordAt(page), depth = depthOf(words[p + 1]);
    if (depth === 0) return;
    const other = this.pageOf(words[p + 2] ^ 1 << (32 - depth));
    const otherWords = this.wordsOf(other), o = wordAt(other);
    // (Of a neighbour that was split further, this is a part.)
    if (depthOf(otherWords[o + 1]) !== depth) return;
    if (countOf(otherWords[o + 1]) + countOf(words[p + 1]) > MERGE_MAX) return;
    this.heap.changes.all(() => {
      mergePage(words, p, otherWords, o);
      this.#redirect(words[p + 2], depth - 1, page);
    });
    this.heap.free(other, this.heap.blockSize(other));
  }

  /** Doubles the directory, or makes one. */
  #doubleDirectory(): void {
    const heap = this.heap, depth = stateOf(heap, this.descriptor, STATE) & DEPTH;
    const larger = heap.allocate(directorySize(depth + 1));
    const words = this.wordsOf(larger), d = wordAt(larger), pages = d + DIRECTORY_HEAD;
    writeDirectoryHead(words, d, this.id, depth + 1, heap.epoch);
    for (let i = 0; i < 1 << depth; i++) {
      words[pages + 2 * i] = words[pages + 2 * i + 1] = this.pageOf(prefixOf(i, depth));
    }
    const address = this.ownDescriptor(), state = this.wordsOf(address), s = stateAt(state, wordAt(address));
    const old = state[s + ROOT];
    heap.changes.all(() => {
      state[s + ROOT] = larger;
      state[s + STATE]++;
    });
    if (depth > 0) heap.free(old, heap.blockSize(old));
  }

  /** Makes all hashes that share the first `depth` bits of `prefix` lead to a page. Readers must not look meanwhile. */
  #redirect(prefix: number, depth: number, page: number): void {
    const heap = this.heap, address = this.ownDescriptor(), state = this.wordsOf(address);
    const s = stateAt(state, wordAt(address));
    if ((state[s + STATE] & DEPTH) === 0) return void (state[s + ROOT] = page);
    let root = state[s + ROOT];
    if (heap.frozen && this.wordsOf(root)[wordAt(root) + 3] !== heap.epoch) {
      root = state[s + ROOT] = heap.copy(root, heap.blockSize(root));
      this.wordsOf(root)[wordAt(root) + 3] = heap.epoch;
    }
    redirect(this.wordsOf(root), wordAt(root), prefix, depth, page);
  }

  /** Frees the pages and the directory of an empty table. */
  #freePages(): void {
    const heap = this.heap, address = this.ownDescriptor(), words = this.wordsOf(address);
    const s = stateAt(words, wordAt(address)), depth = words[s + STATE] & DEPTH, root = words[s + ROOT];
    for (let i = 0; i < 1 << depth;) {
      const page = this.pageOf(prefixOf(i, depth));
      i += 1 << (depth - depthOf(this.wordsOf(page)[wordAt(page) + 1]));
      heap.free(page, heap.blockSize(page));
    }
    if (depth > 0) heap.free(root, heap.blockSize(root));
    words[s + ROOT] = 0;
    words[s + STATE] &= ~DEPTH;
  }
}

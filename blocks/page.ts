/**
 * Pages: where the entries are whose hashes begin with the same bits.
 *
 * ```text
 *  word 0           1             2        3        4 …
 * ┌──────────────┬─────────────┬────────┬───────┬──────┬─────────┬──────┬─────────┬ …
 * │ owner · PAGE │ bits 0-3    │ prefix │ epoch │ hash │ address │ hash │ address │    2^bits slots
 * │              │ depth 8-15  │        │       │ 0: the slot is free                    (2 to 256)
 * │              │ count 16-31 │        │       │
 * └──────────────┴─────────────┴────────┴───────┴──────┴─────────┴──────┴─────────┴ …
 * ```
 *
 * The hashes of its entries begin with the first `depth` bits of `prefix`. Within its page, an entry is in the slot
 * that the low bits of its hash say, or in the next free one (linear probing). A deletion moves the entries behind it
 * up, so there are no tombstones. `epoch` is that of the heap when the page was made or copied: a page of an older
 * epoch may belong to a snapshot.
 *
 * `words` are those of the page's segment, and `p` is the index of its word 0. A slot is known by the index of its
 * hash among the words; its address is in the next word.
 *
 * @module
 */

import { PAGE, type Segments, UNIT_BITS, wordAt } from "./block.ts";
import { keyFrom, keyLengthOf } from "./entry.ts";
import type { Span } from "../msgpack/key.ts";

/** The words before the slots of a page. */
export const PAGE_HEAD = 4;
/** The bits of the smallest page and of the largest. */
export const MIN_BITS = 1;
export const MAX_BITS = 8;

/** How many entries a page holds before it grows or is split: 13/16 of its slots. */
export const capacity = (bits: number): number => (13 << bits) >> 4;
/** Two neighbours are merged if they have no more entries than this together. */
export const MERGE_MAX: number = capacity(MAX_BITS) >> 1;

/** The slots of the page that is being split. */
const splitting = new Int32Array(2 << MAX_BITS);
/** The slots of the page that is being walked through, in the order of their hashes. */
const walking = new Float64Array(1 << MAX_BITS);

/** The bits of a page, of which word 1 is given. */
export const bitsOf = (word: number): number => word & 15;
/** The slots of a page less one. (No more than a page has, whatever it holds: for those who read while it is written.) */
const maskOf = (word: number): number => ((1 << bitsOf(word)) - 1) & ((1 << MAX_BITS) - 1);
/** How many bits of their hashes its entries share. */
export const depthOf = (word: number): number => word >>> 8 & 255;
/** How many entries it holds. */
export const countOf = (word: number): number => word >>> 16;

/** The bytes of a page with 2^bits slots. */
export function pageSize(bits: number): number {
  return (PAGE_HEAD + (2 << bits)) * 4;
}

/** Writes an empty page. */
export function writePage(
  words: Int32Array,
  p: number,
  owner: number,
  bits: number,
  depth: number,
  prefix: number,
  epoch: number,
): void {
  words[p] = owner | PAGE;
  words[p + 1] = bits | depth << 8;
  words[p + 2] = prefix;
  words[p + 3] = epoch;
  words.fill(0, p + PAGE_HEAD, p + PAGE_HEAD + (2 << bits));
}

/** The first slot with this hash, or 0. */
export function firstSlot(words: Int32Array, p: number, h: number): number {
  return probe(words, p, h, h);
}

/** The next slot with this hash after `slot`, or 0. */
export function nextSlot(words: Int32Array, p: number, h: number, slot: number): number {
  return probe(words, p, h, ((slot - p - PAGE_HEAD) >> 1) + 1);
}

/** The first slot with this hash from slot number `i` on, before any that is free; 0 if there is none. */
function probe(words: Int32Array, p: number, h: number, i: number): number {
  const first = p + PAGE_HEAD, mask = maskOf(words[p + 1]);
  // (A page is never full; the bound is for those who read while it is written.)
  for (let left = mask; left >= 0; left--, i++) {
    const slot = first + 2 * (i & mask);
    if (words[slot + 1] === 0) return 0;
    if (words[slot] === h) return slot;
  }
  return 0;
}

/** The slot of a key in the page at an address, or 0. */
export function slotOfKey(segments: Segments, page: number, h: number, key: Span): number {
  // (The loop of probe() and the comparison of the key, written out: every lookup goes through them.)
  const slots = segments.words[page >>> UNIT_BITS], first = wordAt(page) + PAGE_HEAD;
  const word = slots[first - PAGE_HEAD + 1];
  // (Most pages of a large table have the most slots. The processor guesses so, and does not wait for the head of the page.)
  const mask = bitsOf(word) === MAX_BITS ? (1 << MAX_BITS) - 1 : maskOf(word);
  const { bytes, from, to } = key, length = to - from;
  const home = h & mask;
  let i = home;
  do {
    const slot = first + 2 * i, entry = slots[slot + 1];
    if (entry === 0) return 0;
    if (slots[slot] !== h) continue;
    const words = segments.words[entry >>> UNIT_BITS], w = wordAt(entry);
    if (keyLengthOf(words, w) !== length) continue;
    const stored = segments.bytes[entry >>> UNIT_BITS], offset = keyFrom(words, w) - from;
    let k = from;
    while (k < to && stored[k + offset] === bytes[k]) k++;
    if (k === to) return slot;
  } while ((i = (i + 1) & mask) !== home);
  return 0;
}

/** The slot of the entry of this hash that is at an address, or 0. */
export function slotOfEntry(words: Int32Array, p: number, h: number, entry: number): number {
  let slot = firstSlot(words, p, h);
  while (slot !== 0 && words[slot + 1] !== entry) slot = nextSlot(words, p, h, slot);
  return slot;
}

/** Puts an entry into the first free slot from its own on. */
export function putInto(words: Int32Array, p: number, h: number, entry: number): void {
  const mask = (1 << bitsOf(words[p + 1])) - 1, first = p + PAGE_HEAD;
  let i = h & mask;
  while (words[first + 2 * i + 1] !== 0) i = (i + 1) & mask;
  words[first + 2 * i] = h;
  words[first + 2 * i + 1] = entry;
  words[p + 1] += 1 << 16;
}

/** Frees a slot: the entries behind it move up. */
export function freeSlot(words: Int32Array, p: number, slot: number): void {
  const first = p + PAGE_HEAD, mask = (1 << bitsOf(words[p + 1])) - 1;
  let hole = (slot - first) >> 1;
  for (let i = (hole + 1) & mask; words[first + 2 * i + 1] !== 0; i = (i + 1) & mask) {
    const home = words[first + 2 * i] & mask;
    // An entry may not come before its own slot.
    if (((i - home) & mask) < ((i - hole) & mask)) continue;
    words[first + 2 * hole] = words[first + 2 * i];
    words[first + 2 * hole + 1] = words[first + 2 * i + 1];
    hole = i;
  }
  words[first + 2 * hole + 1] = 0;
  words[p + 1] -= 1 << 16;
}

/** Puts all entries of a page into another one too. */
export function copyEntries(from: Int32Array, f: number, to: Int32Array, t: number): void {
  const first = f + PAGE_HEAD, end = first + (2 << bitsOf(from[f + 1]));
  for (let slot = first; slot < end; slot += 2) {
    if (from[slot + 1] !== 0) putInto(to, t, from[slot], from[slot + 1]);
  }
}

/** Splits a page of the largest size by the next bit of its hashes: entries with a 1 go to the empty page `right`. */
export function splitPage(words: Int32Array, p: number, right: Int32Array, r: number): void {
  const depth = depthOf(words[p + 1]), bit = 1 << (31 - depth), first = p + PAGE_HEAD;
  splitting.set(words.subarray(first, first + splitting.length));
  words.fill(0, first, first + splitting.length);
  words[p + 1] = MAX_BITS | (depth + 1) << 8;
  for (let i = 0; i < splitting.length; i += 2) {
    if (splitting[i + 1] === 0) continue;
    if (splitting[i] & bit) putInto(right, r, splitting[i], splitting[i + 1]);
    else putInto(words, p, splitting[i], splitting[i + 1]);
  }
}

/** Takes the entries of the neighbour of a page: then its hashes share a bit less. */
export function mergePage(words: Int32Array, p: number, neighbour: Int32Array, n: number): void {
  copyEntries(neighbour, n, words, p);
  const bit = 1 << (32 - depthOf(words[p + 1]));
  words[p + 1] -= 1 << 8;
  words[p + 2] &= ~bit;
}

/** The first hash that comes after those of a page; 0 if there is none. */
export function nextPrefix(words: Int32Array, p: number): number {
  return ((words[p + 2] >>> 0) + 2 ** (32 - depthOf(words[p + 1]))) % 2 ** 32;
}

/** Visits the entries of a page. Returns the first hash of the next page, or 0 after the last. */
export function scanPage(words: Int32Array, p: number, visit: (address: number) => void): number {
  const first = p + PAGE_HEAD, end = first + (2 << bitsOf(words[p + 1]));
  const next = nextPrefix(words, p);
  for (let slot = first; slot < end; slot += 2) if (words[slot + 1] !== 0) visit(words[slot + 1]);
  return next;
}

/**
 * Visits the entries of a page in the order of their hashes, from the hash `cursor` on, until `visit` returns false:
 * then only those of the same hash as the last. Returns the hash to go on from, or 0 after the last page.
 */
export function walkPage(
  words: Int32Array,
  p: number,
  cursor: number,
  visit: (address: number) => boolean,
): number {
  const first = p + PAGE_HEAD, slots = maskOf(words[p + 1]) + 1;
  // Each hash and its slot, as one number.
  let count = 0;
  for (let i = 0; i < slots; i++) {
    const h = words[first + 2 * i] >>> 0;
    if (words[first + 2 * i + 1] !== 0 && h >= cursor) walking[count++] = h * 256 + i;
  }
  let last = -1;
  for (const each of walking.subarray(0, count).sort()) {
    const h = Math.floor(each / 256);
    if (last >= 0 && h !== last) return h;
    if (!visit(words[first + 2 * (each % 256) + 1])) last = h;
  }
  return nextPrefix(words, p);
}

/**
 * Lookups: how the entry of a key is found. The descriptor of a table leads to its directory, the directory to a page,
 * the page to the entry. All of it reads the segments and nothing else.
 *
 * @module
 */

import { type Segments, UNIT_BITS, wordAt } from "./block.ts";
import { DEPTH, ROOT, STATE, stateAt } from "./descriptor.ts";
import { DIRECTORY_HEAD, pageOf } from "./directory.ts";
import type { Span } from "../msgpack/key.ts";
import { bitsOf, PAGE_HEAD, scanPage, slotOfKey } from "./page.ts";

/** The address of the entry of a key in the table whose descriptor is at an address; 0 if there is none. */
export function findEntry(segments: Segments, descriptor: number, h: number, key: Span): number {
  const page = pageOf(segments, descriptor, h);
  if (page === 0) return 0;
  const slot = slotOfKey(segments, page, h, key);
  return slot === 0 ? 0 : segments.words[page >>> UNIT_BITS][slot + 1];
}

/** Visits the entries of the page that holds the hash `cursor`. Returns the first hash of the next page, or 0. */
export function scanTable(
  segments: Segments,
  descriptor: number,
  cursor: number,
  visit: (address: number) => void,
): number {
  const page = pageOf(segments, descriptor, cursor);
  return page === 0 ? 0 : scanPage(segments.words[page >>> UNIT_BITS], wordAt(page), visit);
}

/** The most hashes that {@linkcode prefetch} takes. */
const MAX_PREFETCH = 256;
/** The entries that are being prefetched. */
const entries = new Int32Array(MAX_PREFETCH);

/**
 * Brings what lookups of these hashes will read into the processor's caches. It is far apart in memory: lookups one
 * after another wait for each read, and here the processor reads for many of them at once, since no read in a loop
 * depends on another.
 *
 * @param count How many of the hashes: 256 at most.
 * @returns A number that means nothing. The caller uses it, so that the compiler does not leave the reads out.
 */
export function prefetch(
  { words }: Segments,
  descriptor: number,
  hashes: Int32Array,
  count: number,
): number {
  const state = words[descriptor >>> UNIT_BITS], s = stateAt(state, wordAt(descriptor));
  const depth = state[s + STATE] & DEPTH, shift = 32 - depth;
  if (depth === 0) return 0;
  const root = state[s + ROOT], directory = words[root >>> UNIT_BITS], pages = wordAt(root) + DIRECTORY_HEAD;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const h = hashes[i];
    const page = directory[pages + (h >>> shift)];
    const slots = words[page >>> UNIT_BITS], p = wordAt(page);
    sum ^= slots[p + PAGE_HEAD + 2 * (h & ((1 << bitsOf(slots[p + 1])) - 1))];
  }
  for (let i = 0; i < count; i++) {
    const h = hashes[i];
    const page = directory[pages + (h >>> shift)];
    const slots = words[page >>> UNIT_BITS], first = wordAt(page) + PAGE_HEAD;
    const mask = (1 << bitsOf(slots[first - PAGE_HEAD + 1])) - 1;
    let slot = h & mask;
    while (slots[first + 2 * slot + 1] !== 0 && slots[first + 2 * slot] !== h) slot = (slot + 1) & mask;
    entries[i] = slots[first + 2 * slot + 1];
  }
  for (let i = 0; i < count; i++) {
    const entry = entries[i];
    const there = words[entry >>> UNIT_BITS], w = wordAt(entry);
    sum ^= there[w];
    // The next line of the cache, if there is one.
    if (w + 13 < there.length) sum ^= there[w + 13];
  }
  return sum;
}

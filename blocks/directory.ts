/**
 * Directories: which page holds a hash, by the first bits of the hash.
 *
 * ```text
 *  word 0                  1       2   3       4 …
 * ┌─────────────────────┬───────┬───┬───────┬───────────────────────────────────────┐
 * │ owner · PAGE · LONG │ depth │ 0 │ epoch │ 2^depth addresses of pages            │
 * └─────────────────────┴───────┴───┴───────┴───────────────────────────────────────┘
 *
 *  hash  1 0 1 1 0 … … 0 1 1          directory (depth 2)       page (depth 2, prefix 10)
 *        └─┴ directory      └── slot    00 ─► ┌ page 0 ┐           ┌──────┬─────────┐
 *                                       01 ─► └ depth 1┘           │ hash │ address │─► entry: key, value
 *                                       10 ─────────────────────►  │ 0    │ 0       │   (free)
 *                                       11 ─► …                    └──────┴─────────┘
 * ```
 *
 * A page whose entries share fewer bits than the directory has is named by several of its addresses. A table with one
 * page has no directory: its descriptor names the page.
 *
 * @module
 */

import { LONG, PAGE, type Segments, UNIT_BITS, wordAt } from "./block.ts";
import { DEPTH, ROOT, STATE, stateAt } from "./descriptor.ts";

/** The words before the addresses. */
export const DIRECTORY_HEAD = 4;

/** The bytes of a directory of 2^depth addresses. */
export function directorySize(depth: number): number {
  return (DIRECTORY_HEAD + (1 << depth)) * 4;
}

/** Writes the head of a directory. Its addresses are written with {@linkcode redirect}. */
export function writeDirectoryHead(
  words: Int32Array,
  d: number,
  owner: number,
  depth: number,
  epoch: number,
): void {
  words[d] = owner | PAGE | LONG;
  words[d + 1] = depth;
  words[d + 2] = 0;
  words[d + 3] = epoch;
}

/** The first hash of an index of a directory. */
export function prefixOf(index: number, depth: number): number {
  return depth === 0 ? 0 : index << (32 - depth);
}

/** The address of the page that holds a hash, in the table whose descriptor is at an address; 0 if there is none. */
export function pageOf(segments: Segments, descriptor: number, h: number): number {
  const words = segments.words[descriptor >>> UNIT_BITS], s = stateAt(words, wordAt(descriptor));
  const root = words[s + ROOT], depth = words[s + STATE] & DEPTH;
  return depth === 0
    ? root
    : segments.words[root >>> UNIT_BITS][wordAt(root) + DIRECTORY_HEAD + (h >>> (32 - depth))];
}

/** Makes all hashes that share the first `depth` bits of `prefix` lead to a page. */
export function redirect(words: Int32Array, d: number, prefix: number, depth: number, page: number): void {
  const own = words[d + 1], from = d + DIRECTORY_HEAD + (prefix >>> (32 - own));
  words.fill(page, from, from + (1 << (own - depth)));
}

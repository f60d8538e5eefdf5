/**
 * Descriptors: the block of each table that leads to all else that the table is.
 *
 * ```text
 *  word 0          1 …                          then 8 words of state                                   then
 * ┌───────────────┬───────────────────────────┬──────┬───────┬──────┬──────────┬───────┬───────┬──────┬──────┐
 * │ owner · TABLE │ lengths, as an entry has  │ ROOT │ STATE │ SIZE │ EXPIRING │ BYTES │ EPOCH │ NEXT │ name │
 * │ · LONG?       │ them: the value has none  │      │       │      │          │ 2     │       │      │      │
 * └───────────────┴───────────────────────────┴──────┴───────┴──────┴──────────┴───────┴───────┴──────┴──────┘
 *
 * ROOT      0 if there are no entries; else the address of the only page, or of the directory if the depth is above 0
 * STATE     depth of the directory 0-7, kind of table 8-15, DROPPED bit 16
 * SIZE      entries                   EXPIRING   how many of them expire
 * BYTES     bytes of all keys and values, the lower half first
 * EPOCH     that of the heap when the descriptor was made or copied
 * NEXT      the table that was discarded before this one, see TableRegistry.discard()
 * ```
 *
 * The owner is the table itself. The name is laid out as the key of an entry, so that a table of descriptors is an
 * index of names.
 *
 * @module
 */

import { copyBytes } from "../msgpack/msgpack.ts";
import { LONG, OWNER, type Segments, TABLE, UNIT_BITS, wordAt } from "./block.ts";
import { entrySize, isLong, keyFrom, sizeOfEntry } from "./entry.ts";
import type { Span } from "../msgpack/key.ts";

/** The words of the state. */
export const ROOT = 0;
export const STATE = 1;
export const SIZE = 2;
export const EXPIRING = 3;
export const BYTES = 4;
export const EPOCH = 6;
export const NEXT = 7;
/** Bits of {@linkcode STATE}. */
export const DEPTH = 255;
export const DROPPED: number = 1 << 16;

/** The bytes of the state. */
const STATE_BYTES = 32;

/** The bytes of the descriptor of a table whose name has so many bytes. */
export function descriptorSize(nameLength: number): number {
  return entrySize(nameLength, 0, 0) + STATE_BYTES;
}

/** The bytes of a descriptor's block. */
export function sizeOfDescriptor(words: Int32Array, w: number): number {
  return sizeOfEntry(words, w) + STATE_BYTES;
}

/** Writes the descriptor of an empty table. */
export function writeDescriptor(
  segments: Segments,
  address: number,
  id: number,
  kind: number,
  name: Span,
  epoch: number,
): void {
  const words = segments.words[address >>> UNIT_BITS], w = wordAt(address), length = name.to - name.from;
  const long = isLong(length, 0);
  words[w] = id | TABLE | (long ? LONG : 0);
  words[w + 1] = length;
  if (long) words[w + 2] = words[w + 3] = 0;
  const s = stateAt(words, w);
  words.fill(0, s, s + STATE_BYTES / 4);
  words[s + STATE] = kind << 8;
  words[s + EPOCH] = epoch;
  copyBytes(name.bytes, name.from, segments.bytes[address >>> UNIT_BITS], keyFrom(words, w), length);
}

/** The index of the first word of the state, from that of the descriptor's word 0. */
export function stateAt(words: Int32Array, w: number): number {
  return w + 2 + ((words[w] & LONG) >>> 28);
}

/** A word of the state of the table whose descriptor is at an address. */
export function stateOf(segments: Segments, descriptor: number, word: number): number {
  const words = segments.words[descriptor >>> UNIT_BITS];
  return words[stateAt(words, wordAt(descriptor)) + word];
}

/** The number of the table. */
export function idOf(segments: Segments, descriptor: number): number {
  return segments.words[descriptor >>> UNIT_BITS][wordAt(descriptor)] & OWNER;
}

/** The kind of the table. */
export function kindOf(segments: Segments, descriptor: number): number {
  return stateOf(segments, descriptor, STATE) >>> 8 & 255;
}

/** How many bytes the keys and values of the table have together. */
export function bytesOf(segments: Segments, descriptor: number): number {
  return stateOf(segments, descriptor, BYTES + 1) * 2 ** 32 + (stateOf(segments, descriptor, BYTES) >>> 0);
}

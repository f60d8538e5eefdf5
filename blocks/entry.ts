/**
 * Entries: a key and its value in one block. A member of a set is an entry whose value has no bytes.
 *
 * ```text
 *            word 0             word 1               then
 * entry     │ owner · EXPIRES? │ key length 0-7     │ [expiry] key bytes, value bytes, 0-7 of padding
 *           │                  │ value length 8-31  │
 * LONG      │ owner · EXPIRES? │ key length         │ value length, 0, [expiry] key, value, padding
 *
 * expiry    two words: milliseconds since 1970, the lower half first; only with EXPIRES
 * ```
 *
 * An entry is LONG if its key has more than 255 bytes or its value 8 MiB or more. The names of tables are laid out
 * like keys ({@link ./descriptor.ts}), so most of these functions read descriptors too. `words` are those of the
 * block's segment, and `w` is the index of its word 0.
 *
 * @module
 */

import { copyBytes } from "../msgpack/msgpack.ts";
import { EXPIRES, LONG, type Segments, TABLE, UNIT_BITS, wordAt } from "./block.ts";
import type { Span } from "../msgpack/key.ts";
import { hash } from "./hash.ts";

/** A value whose bytes {@linkcode writeEntry} does not write: the caller does. */
export const UNWRITTEN: Uint8Array = new Uint8Array(0);

/** The hash of a key. */
export function hashOf(key: Span): number {
  return key.hash ?? hash(key.bytes, key.from, key.to);
}

/** Whether the lengths need a LONG entry. */
export function isLong(keyLength: number, valueLength: number): boolean {
  return keyLength > 255 || valueLength >= 1 << 23;
}

/** The bytes that an entry takes. */
export function entrySize(keyLength: number, valueLength: number, expiry: number): number {
  return (isLong(keyLength, valueLength) ? 16 : 8) + (expiry > 0 ? 8 : 0) + keyLength + valueLength;
}

/** Where the key begins, as a byte of its segment. */
export function keyFrom(words: Int32Array, w: number): number {
  const word = words[w];
  // LONG adds 8 bytes, TABLE 32 (LONG and TABLE are bits 29 and 31), and EXPIRES 8.
  return (w << 2) + 8 + ((word & (LONG | TABLE)) >>> 26) + ((word & EXPIRES) >>> 27);
}

/** The bytes of the key. */
export function keyLengthOf(words: Int32Array, w: number): number {
  return words[w] & LONG ? words[w + 1] : words[w + 1] & 255;
}

/** The bytes of the value. */
export function valueLengthOf(words: Int32Array, w: number): number {
  return words[w] & LONG ? words[w + 2] >>> 0 : words[w + 1] >>> 8;
}

/** The bytes of key and value together. */
export function dataLengthOf(words: Int32Array, w: number): number {
  return keyLengthOf(words, w) + valueLengthOf(words, w);
}

/** Whether the entry expires. */
export function expires(words: Int32Array, w: number): boolean {
  return (words[w] & EXPIRES) !== 0;
}

/** When an entry expires that does, in milliseconds since 1970. */
export function expiryOf(words: Int32Array, w: number): number {
  const e = w + (words[w] & LONG ? 4 : 2);
  return words[e + 1] * 2 ** 32 + (words[e] >>> 0);
}

/** Sets when an entry expires that does. */
export function setExpiry(words: Int32Array, w: number, expiry: number): void {
  const e = w + (words[w] & LONG ? 4 : 2);
  words[e] = expiry;
  words[e + 1] = expiry / 2 ** 32;
}

/** Whether an entry expires and its time has come. */
export function hasExpired(segments: Segments, address: number): boolean {
  const words = segments.words[address >>> UNIT_BITS], w = wordAt(address);
  return (words[w] & EXPIRES) !== 0 && expiryOf(words, w) <= Date.now();
}

/** The key of an entry where it is, or the name of a descriptor. */
export function keySpan(segments: Segments, address: number): Span {
  const words = segments.words[address >>> UNIT_BITS], w = wordAt(address), from = keyFrom(words, w);
  return { bytes: segments.bytes[address >>> UNIT_BITS], from, to: from + keyLengthOf(words, w) };
}

/** A copy of the key of an entry, or of the name of a descriptor. */
export function copyOfKey(segments: Segments, address: number): Uint8Array {
  const { bytes, from, to } = keySpan(segments, address);
  return bytes.slice(from, to);
}

/**
 * Writes an entry into a block that has just been allocated for it.
 *
 * @param value The value is `value[from..from + length)`, or {@linkcode UNWRITTEN}.
 * @param expiry When it expires, in milliseconds since 1970; 0 for never.
 */
export function writeEntry(
  segments: Segments,
  address: number,
  owner: number,
  key: Span,
  value: Uint8Array,
  from: number,
  length: number,
  expiry: number,
): void {
  const words = segments.words[address >>> UNIT_BITS], bytes = segments.bytes[address >>> UNIT_BITS];
  const keyLength = key.to - key.from;
  let w = wordAt(address);
  if (isLong(keyLength, length)) {
    words[w] = owner | LONG | (expiry > 0 ? EXPIRES : 0);
    words[w + 1] = keyLength;
    words[w + 2] = length;
    words[w + 3] = 0;
    w += 4;
  } else {
    words[w] = owner | (expiry > 0 ? EXPIRES : 0);
    words[w + 1] = keyLength | length << 8;
    w += 2;
  }
  if (expiry > 0) {
    words[w] = expiry;
    words[w + 1] = expiry / 2 ** 32;
    w += 2;
  }
  copyBytes(key.bytes, key.from, bytes, w << 2, keyLength);
  if (value !== UNWRITTEN) copyBytes(value, from, bytes, (w << 2) + keyLength, length);
}

/** The bytes of an entry's block. */
export function sizeOfEntry(words: Int32Array, w: number): number {
  const word = words[w], expiry = word & EXPIRES ? 8 : 0;
  if (word & LONG) return 16 + expiry + (words[w + 1] >>> 0) + (words[w + 2] >>> 0);
  return 8 + expiry + (words[w + 1] & 255) + (words[w + 1] >>> 8);
}

/** Reads entries, one after another: key and value are spans of `bytes`. */
export class Entry {
  readonly #segments: Segments;
  bytes: Uint8Array = new Uint8Array(0);
  keyFrom = 0;
  /** Where the key ends and the value begins. */
  keyTo = 0;
  valueTo = 0;
  /** When it expires, in milliseconds since 1970; 0 for never. */
  expiry = 0;

  constructor(segments: Segments) {
    this.#segments = segments;
  }

  /** Reads the entry at an address. */
  read(address: number): this {
    const words = this.#segments.words[address >>> UNIT_BITS], w = wordAt(address);
    this.bytes = this.#segments.bytes[address >>> UNIT_BITS];
    this.keyFrom = keyFrom(words, w);
    this.keyTo = this.keyFrom + keyLengthOf(words, w);
    this.valueTo = this.keyTo + valueLengthOf(words, w);
    this.expiry = words[w] & EXPIRES ? expiryOf(words, w) : 0;
    return this;
  }
}

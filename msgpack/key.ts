/**
 * Keys, set members and names, made canonical so that equal values are equal bytes.
 *
 * Keys are compared by value, but MessagePack can write one value in several ways: `1` as a byte or as nine,
 * a string under four kinds of head. The canonical bytes of a value are
 *
 *  - an integer: its shortest form; a float that is integral and within 64 bits: that integer;
 *  - any other float: 64 bits (every NaN the same one);
 *  - a string: its bytes under the shortest head that old clients know (no str 8);
 *  - bin and ext: the shortest head;
 *  - an array: its canonical items;
 *  - a map: its canonical pairs in the order of their keys' bytes; of equal keys the last.
 *
 * Values of different types differ: `1`, `"1"`, `true` and the byte 1 are four keys.
 *
 * To make `n` bytes canonical takes O(n) steps, and a map in it O(n log n) for each level of maps: for 64 KiB, 5 ms
 * at most.
 *
 * The file is long and holds one idea: the canonical form, of keys and in comparisons.
 *
 * @module
 */

import { head, skip, Writer } from "./msgpack.ts";

/** How many bytes a key, a member or a name may have. */
export const MAX_KEY_BYTES: number = 65_536;
/** How deep a key may be nested: making maps canonical costs their bytes once for each level. */
export const MAX_KEY_DEPTH = 16;

/** Whether the item at `at` is nested no deeper than a key may be. */
export function isShallow(bytes: Uint8Array, at: number): boolean {
  try {
    skip(bytes, at, MAX_KEY_DEPTH);
    return true;
  } catch {
    return false;
  }
}

/** The bytes of a canonical key, wherever they are. */
export interface Span {
  bytes: Uint8Array;
  from: number;
  to: number;
  /** The hash of these bytes, if it is known. */
  hash?: number;
}

/** The canonical bytes of a key: where they came from if they were canonical there, else a copy. */
export class Key implements Span {
  bytes: Uint8Array = new Uint8Array(0);
  from = 0;
  to = 0;
  hash: number | undefined = undefined;
  readonly #copy = new Writer(64);

  /** Points at the canonical form of the item at `at`, which is whole and ends before `end`. */
  aim(bytes: Uint8Array, at: number, end: number): this {
    this.hash = undefined;
    if (isCanonical(bytes, at)) {
      this.bytes = bytes;
      this.from = at;
      this.to = end;
    } else {
      this.#copy.reset();
      canonical(bytes, at, this.#copy);
      this.bytes = this.#copy.bytes;
      this.from = 0;
      this.to = this.#copy.length;
    }
    return this;
  }
}

/** Whether an item is surely in its canonical form: nearly every key is a short string or a small number. */
function isCanonical(bytes: Uint8Array, at: number): boolean {
  const first = bytes[at];
  if (first <= 0x80 || first === 0x90 || first >= 0xa0 && first < 0xc1 || first >= 0xe0) return true;
  switch (first) {
    case 0xc2:
    case 0xc3:
    case 0xc4:
      return true;
    case 0xcc:
      return bytes[at + 1] >= 0x80;
    case 0xcd:
      return bytes[at + 1] > 0;
    case 0xce:
      return (bytes[at + 1] | bytes[at + 2]) > 0;
    case 0xda:
      return bytes[at + 1] > 0 || bytes[at + 2] >= 32;
    default:
      return false;
  }
}

/**
 * Writes the canonical form of an item that is whole, and answers where the item ends. Maps that are nested deeper
 * than a key may be are written as they are.
 */
export function canonical(bytes: Uint8Array, at: number, to: Writer, depth: number = MAX_KEY_DEPTH): number {
  const first = bytes[at];
  if (first < 0x80) {
    to.byte(first);
    return at + 1;
  }
  if (isCanonical(bytes, at)) {
    const end = skip(bytes, at);
    to.copy(bytes, at, end);
    return end;
  }
  if (first >= 0x90 && first < 0xa0) return canonicalArray(bytes, at + 1, first & 15, to, depth);
  if (first >= 0xca && first < 0xd4) return canonicalNumber(bytes, at, to);
  const { type, length, body } = head(bytes, at);
  switch (type) {
    case "str":
      to.strHead(length);
      break;
    case "bin":
      to.binHead(length);
      break;
    case "ext":
      to.extHead(length, bytes[body - 1]);
      break;
    case "array":
      return canonicalArray(bytes, body, length, to, depth);
    case "map":
      return canonicalMap(bytes, at, body, length, to, depth);
    case "other":
      throw new TypeError(`Cannot make an item canonical: received the byte ${first}`);
  }
  to.copy(bytes, body, body + length);
  return body + length;
}

function canonicalArray(bytes: Uint8Array, at: number, length: number, to: Writer, depth: number): number {
  to.arrayHead(length);
  for (let i = 0; i < length; i++) at = canonical(bytes, at, to, depth);
  return at;
}

function canonicalMap(
  bytes: Uint8Array,
  at: number,
  body: number,
  length: number,
  to: Writer,
  depth: number,
): number {
  if (depth === 0) {
    const end = skip(bytes, at);
    to.copy(bytes, at, end);
    return end;
  }
  const start = to.length;
  to.mapHead(length);
  // The pairs as they come. Mostly they are in their order.
  const pairs = new Int32Array(2 * length);
  let next = body;
  for (let i = 0; i < length; i++) {
    pairs[2 * i] = to.length;
    next = canonical(bytes, next, to, depth - 1);
    pairs[2 * i + 1] = to.length;
    next = canonical(bytes, next, to, depth - 1);
  }
  const end = to.length;
  const order = inOrder(to.bytes, pairs, length);
  if (!order) return next;
  const from = pairs[0];
  const unordered = to.bytes.slice(from, end);
  to.length = start;
  to.mapHead(order.length);
  for (const i of order) {
    to.copy(unordered, pairs[2 * i] - from, (i + 1 < length ? pairs[2 * i + 2] : end) - from);
  }
  return next;
}

function canonicalNumber(bytes: Uint8Array, at: number, to: Writer): number {
  const end = skip(bytes, at);
  for (let i = at + 1; i < end; i++) scratch[i - at - 1] = bytes[i];
  switch (bytes[at]) {
    case 0xca:
      canonicalFloat(view.getFloat32(0), to);
      break;
    case 0xcb:
      canonicalFloat(view.getFloat64(0), to);
      break;
    case 0xcc:
      to.int(scratch[0]);
      break;
    case 0xcd:
      to.int(view.getUint16(0));
      break;
    case 0xce:
      to.int(view.getUint32(0));
      break;
    case 0xcf:
      to.int(view.getBigUint64(0));
      break;
    case 0xd0:
      to.int(view.getInt8(0));
      break;
    case 0xd1:
      to.int(view.getInt16(0));
      break;
    case 0xd2:
      to.int(view.getInt32(0));
      break;
    case 0xd3:
      to.int(view.getBigInt64(0));
  }
  return end;
}

const scratch = new Uint8Array(8);
const view = new DataView(scratch.buffer);

function canonicalFloat(value: number, to: Writer): void {
  if (Number.isSafeInteger(value)) to.int(value === 0 ? 0 : value);
  else if (Number.isInteger(value) && value >= -(2 ** 63) && value < 2 ** 64) to.int(BigInt(value));
  else to.float(Number.isNaN(value) ? NaN : value);
}

/**
 * The order of a map's pairs by the bytes of their keys, of equal keys the last; undefined if that is as they are.
 *
 * @param pairs Of each pair where its key begins, and where that ends. (No key is the beginning of another one.)
 */
function inOrder(bytes: Uint8Array, pairs: Int32Array, count: number): Int32Array | undefined {
  let i = 1;
  while (i < count && compareKeys(bytes, pairs, i - 1, i, 0) < 0) i++;
  if (i >= count) return undefined;
  const order = new Int32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  sortKeys(bytes, pairs, order, 0, count, 0);
  let unique = 0;
  for (let i = 0; i < count; i++) {
    if (i + 1 < count && compareKeys(bytes, pairs, order[i], order[i + 1], 0) === 0) continue;
    order[unique++] = order[i];
  }
  return order.subarray(0, unique);
}

/** So few keys are sorted by comparing them. */
const FEW = 8;

/**
 * Sorts keys that are equal in their first `skipped` bytes, and leaves equal ones as they are: by the next four
 * bytes, each as one number with the key's place, and then those that are equal in these. So a byte is looked at
 * once, however much the keys have in common.
 */
function sortKeys(
  bytes: Uint8Array,
  pairs: Int32Array,
  order: Int32Array,
  from: number,
  to: number,
  skipped: number,
): void {
  const count = to - from;
  if (count <= FEW) {
    for (let i = from + 1; i < to; i++) {
      const key = order[i];
      let j = i;
      for (; j > from && compareKeys(bytes, pairs, order[j - 1], key, skipped) > 0; j--) {
        order[j] = order[j - 1];
      }
      order[j] = key;
    }
    return;
  }
  // (A number holds 53 bits.)
  const width = count <= 2 ** 21 ? 4 : 2, places = 2 ** (53 - 8 * width);
  const digits = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const key = order[from + i];
    let digit = 0;
    for (let at = pairs[2 * key] + skipped, end = pairs[2 * key + 1], k = 0; k < width; k++, at++) {
      digit = digit * 256 + (at < end ? bytes[at] : 0);
    }
    digits[i] = digit * places + i;
  }
  digits.sort();
  const before = order.slice(from, to);
  for (let i = 0, end; i < count; i = end) {
    const first = Math.floor(digits[i] / places) * places;
    for (end = i; end < count && digits[end] < first + places; end++) {
      order[from + end] = before[digits[end] - first];
    }
    const key = order[from + i];
    if (end - i < 2 || pairs[2 * key] + skipped + width >= pairs[2 * key + 1]) continue;
    sortKeys(bytes, pairs, order, from + i, from + end, skipped + width);
  }
}

function compareKeys(bytes: Uint8Array, pairs: Int32Array, a: number, b: number, skipped: number): number {
  let i = pairs[2 * a] + skipped, j = pairs[2 * b] + skipped;
  const endA = pairs[2 * a + 1], endB = pairs[2 * b + 1];
  for (; i < endA && j < endB; i++, j++) if (bytes[i] !== bytes[j]) return bytes[i] - bytes[j];
  return endA - i - (endB - j);
}

/**
 * Whether two values are equal, as keys are: however they are written, `1` is 1.0, and the order of a map's pairs
 * does not matter. (Keys within them that are nested deeper than a key may be are compared as they are written.)
 *
 * It goes through either value once and sorts its maps: O(n log n), and less if the bytes are equal.
 */
export function sameValue(
  a: Uint8Array,
  fromA: number,
  toA: number,
  b: Uint8Array,
  fromB: number,
  toB: number,
): boolean {
  if (equalBytes(a, fromA, toA, b, fromB, toB)) return true;
  return new Canonical(a, fromA).equals(new Canonical(b, fromB));
}

/** Bytes of values that are compared by value: to put larger ones in order takes too long. */
const MAX_COMPARED = 2 ** 18;

/** {@linkcode sameValue} for values of any length: large ones are equal if their bytes are. */
export function equalValues(
  a: Uint8Array,
  fromA: number,
  toA: number,
  b: Uint8Array,
  fromB: number,
  toB: number,
): boolean {
  if (toA - fromA <= MAX_COMPARED && toB - fromB <= MAX_COMPARED) {
    return sameValue(a, fromA, toA, b, fromB, toB);
  }
  return equalBytes(a, fromA, toA, b, fromB, toB);
}

function equalBytes(
  a: Uint8Array,
  fromA: number,
  toA: number,
  b: Uint8Array,
  fromB: number,
  toB: number,
): boolean {
  if (toA - fromA !== toB - fromB) return false;
  let i = fromA;
  while (i < toA && a[i] === b[i - fromA + fromB]) i++;
  return i === toA;
}

/** The head of a map in {@linkcode Canonical}: four bytes follow, the place of what is known of it. */
const MAP = 0xdf;

/** A value with its items in canonical form, and its maps' pairs in order, without having moved them there. */
class Canonical {
  readonly #to = new Writer(64);
  /** Of each map: how many pairs it has, where it ends, and of each pair where key and value begin. */
  #maps = new Int32Array(16);
  #used = 0;
  /** Where {@linkcode Canonical.equals} is. */
  #at = 0;

  constructor(bytes: Uint8Array, at: number) {
    this.#add(bytes, at);
  }

  equals(other: Canonical): boolean {
    const bytes = this.#to.bytes, others = other.#to.bytes;
    const at = this.#at, otherAt = other.#at;
    const first = bytes[at];
    if (first !== others[otherAt]) return false;
    if (first === MAP) return this.#sameMap(other);
    const isArray = first >= 0x90 && first < 0xa0 || first === 0xdc || first === 0xdd;
    if (!isArray) {
      const end = skip(bytes, at);
      for (let i = at; i < end; i++) if (bytes[i] !== others[otherAt + i - at]) return false;
      this.#at = end;
      other.#at = otherAt + end - at;
      return true;
    }
    const { length, body } = head(bytes, at);
    if (head(others, otherAt).length !== length) return false;
    this.#at = body;
    other.#at = otherAt + body - at;
    for (let i = 0; i < length; i++) if (!this.equals(other)) return false;
    return true;
  }

  #sameMap(other: Canonical): boolean {
    const map = placeAt(this.#to.bytes, this.#at), otherMap = placeAt(other.#to.bytes, other.#at);
    const count = this.#maps[map];
    if (other.#maps[otherMap] !== count) return false;
    for (let i = 1; i <= count; i++) {
      const key = this.#maps[map + 2 * i], otherKey = other.#maps[otherMap + 2 * i];
      this.#at = this.#maps[map + 2 * i + 1];
      other.#at = other.#maps[otherMap + 2 * i + 1];
      if (this.#at - key !== other.#at - otherKey) return false;
      for (let k = key; k < this.#at; k++) {
        if (this.#to.bytes[k] !== other.#to.bytes[otherKey + k - key]) return false;
      }
      if (!this.equals(other)) return false;
    }
    this.#at = this.#maps[map + 1];
    other.#at = other.#maps[otherMap + 1];
    return true;
  }

  /** Adds an item, and answers where it ends. */
  #add(bytes: Uint8Array, at: number): number {
    const first = bytes[at];
    const isMap = first >= 0x80 && first < 0x90 || first === 0xde || first === MAP;
    const isArray = first >= 0x90 && first < 0xa0 || first === 0xdc || first === 0xdd;
    if (!isMap && !isArray) return canonical(bytes, at, this.#to);
    const { length, body } = head(bytes, at);
    if (isMap) return this.#addMap(bytes, body, length);
    this.#to.arrayHead(length);
    let next = body;
    for (let i = 0; i < length; i++) next = this.#add(bytes, next);
    return next;
  }

  #addMap(bytes: Uint8Array, at: number, length: number): number {
    const to = this.#to, map = this.#used;
    this.#used += 2 + 2 * length;
    if (this.#used > this.#maps.length) {
      const larger = new Int32Array(Math.max(this.#used, this.#maps.length * 2));
      larger.set(this.#maps);
      this.#maps = larger;
    }
    const place = to.reserve(5);
    to.bytes[place] = MAP;
    for (let i = 0; i < 4; i++) to.bytes[place + 1 + i] = map >>> 8 * i;
    const pairs = new Int32Array(2 * length);
    for (let i = 0; i < length; i++) {
      pairs[2 * i] = to.length;
      at = canonical(bytes, at, to);
      pairs[2 * i + 1] = to.length;
      at = this.#add(bytes, at);
    }
    const order = inOrder(to.bytes, pairs, length);
    const count = order?.length ?? length;
    this.#maps[map] = count;
    this.#maps[map + 1] = to.length;
    for (let i = 0; i < count; i++) {
      const pair = order?.[i] ?? i;
      this.#maps[map + 2 + 2 * i] = pairs[2 * pair];
      this.#maps[map + 3 + 2 * i] = pairs[2 * pair + 1];
    }
    return at;
  }
}

function placeAt(bytes: Uint8Array, at: number): number {
  return bytes[at + 1] | bytes[at + 2] << 8 | bytes[at + 3] << 16 | bytes[at + 4] << 24;
}

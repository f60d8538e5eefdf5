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
 * @module
 */

import { head, latin1, skip, Writer } from "../wire/msgpack.ts";
import type { Span } from "./table.ts";

/** How deep a key may be nested: making maps canonical costs their bytes once for each level. */
export const MAX_KEY_DEPTH = 16;

/** Bytes of a key, a name or a member at most. */
export const MAX_KEY_BYTES: number = 2 ** 16;

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
  if (first < 0x80 || first >= 0xa0 && first < 0xc1 || first >= 0xe0) return true;
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

/** Writes the canonical form of an item that is whole, and answers where the item ends. */
export function canonical(bytes: Uint8Array, at: number, to: Writer): number {
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
    case "array": {
      to.arrayHead(length);
      let next = body;
      for (let i = 0; i < length; i++) next = canonical(bytes, next, to);
      return next;
    }
    case "map":
      return canonicalMap(bytes, body, length, to);
    case "other":
      return canonicalScalar(bytes, at, to);
  }
  to.raw(bytes.subarray(body, body + length));
  return body + length;
}

function canonicalMap(bytes: Uint8Array, at: number, length: number, to: Writer): number {
  const pairs = new Map<string, string>();
  const item = new Writer(64);
  const next = () => {
    item.reset();
    at = canonical(bytes, at, item);
    return latin1(item.bytes, 0, item.length);
  };
  for (let i = 0; i < length; i++) {
    const key = next();
    pairs.set(key, next());
  }
  to.mapHead(pairs.size);
  for (const key of [...pairs.keys()].sort()) writeLatin1(key, to), writeLatin1(pairs.get(key)!, to);
  return at;
}

function writeLatin1(text: string, to: Writer): void {
  const at = to.reserve(text.length);
  for (let i = 0; i < text.length; i++) to.bytes[at + i] = text.charCodeAt(i);
}

function canonicalScalar(bytes: Uint8Array, at: number, to: Writer): number {
  const end = skip(bytes, at);
  const view = new DataView(bytes.buffer, bytes.byteOffset + at + 1, end - at - 1);
  switch (bytes[at]) {
    case 0xca:
      canonicalFloat(view.getFloat32(0), to);
      break;
    case 0xcb:
      canonicalFloat(view.getFloat64(0), to);
      break;
    case 0xcc:
      to.int(view.getUint8(0));
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
      break;
    default:
      to.raw(bytes.subarray(at, end));
  }
  return end;
}

function canonicalFloat(value: number, to: Writer): void {
  if (Number.isInteger(value) && value >= -(2 ** 63) && value < 2 ** 64) to.int(BigInt(value));
  else to.float(Number.isNaN(value) ? NaN : value);
}

/** Whether two values are equal, compared as keys are. */
export function sameValue(
  a: Uint8Array,
  aFrom: number,
  aTo: number,
  b: Uint8Array,
  bFrom: number,
  bTo: number,
): boolean {
  if (equalBytes(a, aFrom, aTo, b, bFrom, bTo)) return true;
  const one = new Writer(64), other = new Writer(64);
  canonical(a, aFrom, one);
  canonical(b, bFrom, other);
  return equalBytes(one.bytes, 0, one.length, other.bytes, 0, other.length);
}

function equalBytes(
  a: Uint8Array,
  aFrom: number,
  aTo: number,
  b: Uint8Array,
  bFrom: number,
  bTo: number,
): boolean {
  if (aTo - aFrom !== bTo - bFrom) return false;
  for (let i = aFrom; i < aTo; i++) if (a[i] !== b[bFrom + i - aFrom]) return false;
  return true;
}

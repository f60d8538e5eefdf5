/**
 * Converts between JavaScript values and MessagePack, for the client and for custom commands of the host.
 *
 * A JavaScript value that MessagePack does not have is refused. A MessagePack item that JavaScript does not have is
 * decoded to a value that encodes to the same item:
 *
 * | MessagePack | JavaScript |
 * |---|---|
 * | nil | `null` |
 * | int | `number` where that is exact, else `bigint` |
 * | float | `number` |
 * | str | `string`; bytes that are not UTF-8 (clients of before 2013 had no bin): `Uint8Array` |
 * | bin | `Uint8Array` |
 * | array | `Array` |
 * | map | a plain object where every key is a string, else a `Map` |
 * | ext -1, timestamp | `Date` where milliseconds are exact, else an {@linkcode Extension} |
 * | ext | {@linkcode Extension} |
 *
 * Also encoded: `Map`, `Set` (an array), any `ArrayBufferView` and `ArrayBuffer` (bin: its bytes as they are in memory),
 * and `bigint`. `undefined` is treated as `JSON.stringify` does: in an array it becomes nil, and a property of an object
 * whose value is `undefined` is left out, `{ x: undefined }` is `{}`. (As the value of a `Map` it becomes nil.)
 * `undefined` by itself is refused.
 *
 * It is our own, because the codecs on npm turn keys that are not strings into strings, a `Map` into `{}`, and 64-bit
 * integers into floats, or all integers into bigints.
 *
 * The file is long and holds one idea: what a value of JavaScript is in MessagePack, both ways.
 *
 * @module
 */

import {
  type Head,
  head,
  LimitError,
  MalformedError,
  MAX_DEPTH,
  MAX_REPLY_DEPTH,
  shortAscii,
  skip,
  TruncatedError,
  Writer,
} from "./msgpack.ts";

/**
 * A MessagePack extension: an application's own type, which memstore stores and returns unchanged.
 *
 * @example
 * ```ts
 * import { Extension } from "@memstore/memstore";
 *
 * const point = new Extension(7, new Uint8Array([1, 2]));
 * console.assert(point.type === 7 && point.data.length === 2);
 * ```
 */
export class Extension {
  /** -128 to 127; those below zero are MessagePack's own. */
  readonly type: number;
  /** The extension's bytes. */
  readonly data: Uint8Array;

  /**
   * Makes an extension of a type and its bytes.
   *
   * @throws {RangeError} if the type is not an integer of -128 to 127.
   * @throws {TypeError} if the data is not a `Uint8Array`.
   */
  constructor(type: number, data: Uint8Array) {
    if (!Number.isInteger(type) || type < -128 || type > 127) {
      throw new RangeError(`Cannot make an extension: the type must be -128 to 127: received ${type}`);
    }
    if (!(data instanceof Uint8Array)) {
      const received = Object.prototype.toString.call(data);
      throw new TypeError(`Cannot make an extension: the data must be a Uint8Array: received ${received}`);
    }
    this.type = type;
    this.data = data;
  }
}

const TIMESTAMP = -1;
/** The most items in an array or a map: no message has more bytes. */
const MAX_ITEMS = 2 ** 31 - 1;
const NO_BYTES = new Uint8Array(0);

/**
 * Appends a value to a writer.
 *
 * @throws {TypeError} for a value that MessagePack does not have: `undefined`, functions, symbols, promises, …
 * @throws {RangeError} for a bigint of more than 64 bits, or a value nested deeper than 512, as cycles are.
 */
export function encode(value: unknown, to: Writer, depth = 0): void {
  if (depth > MAX_DEPTH) {
    throw new RangeError(`Cannot encode a value nested deeper than ${MAX_DEPTH}: is it a cycle?`);
  }
  switch (typeof value) {
    case "string":
      if (to.ascii(value)) return;
      if (!value.isWellFormed()) refuse("a string with half of a surrogate pair", JSON.stringify(value));
      return to.str(value);
    case "number":
      return Number.isSafeInteger(value) && !Object.is(value, -0) ? to.int(value) : to.float(value);
    case "boolean":
      return to.bool(value);
    case "bigint":
      if (BigInt.asIntN(64, value) !== value && BigInt.asUintN(64, value) !== value) {
        throw new RangeError(`Cannot encode a bigint of more than 64 bits: received ${value}`);
      }
      return to.int(value);
    case "object":
      if (value === null) return to.nil();
      return encodeObject(value, to, depth + 1);
    default:
      refuse(`a value of type ${typeof value}`, String(value));
  }
}

function refuse(what: string, received: string): never {
  throw new TypeError(`Cannot encode ${what}: received ${received}`);
}

function encodeObject(value: object, to: Writer, depth: number): void {
  if (Array.isArray(value)) {
    const start = to.length, size = value.length, body = writeHead("arrayHead", size, to);
    let count = 0;
    while (count < size) encode(value[count++] ?? null, to, depth);
    if (count !== size) correctHead("arrayHead", count, to, start, body);
  } else if (value instanceof Uint8Array) {
    encodeBytes(value, to);
  } else if (value instanceof Map) {
    const start = to.length, size = value.size, body = writeHead("mapHead", size, to);
    let count = 0;
    for (const [key, item] of value) encode(key, to, depth), encode(item ?? null, to, depth), count++;
    if (count !== size) correctHead("mapHead", count, to, start, body);
  } else if (value instanceof Set) {
    const start = to.length, size = value.size, body = writeHead("arrayHead", size, to);
    let count = 0;
    for (const item of value) encode(item ?? null, to, depth), count++;
    if (count !== size) correctHead("arrayHead", count, to, start, body);
  } else if (value instanceof Date) {
    encodeDate(value, to);
  } else if (value instanceof Extension) {
    const { type, data } = value;
    if (!(data instanceof Uint8Array)) refuse("an extension whose data is no Uint8Array", typeof data);
    to.extHead(data.length, type);
    to.raw(data);
  } else if (ArrayBuffer.isView(value)) {
    encodeBytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength), to);
  } else if (value instanceof ArrayBuffer) {
    encodeBytes(new Uint8Array(value), to);
  } else {
    const kind = Object.prototype.toString.call(value);
    if (kind !== "[object Object]") refuse("an object that is not plain data", kind);
    const pairs = Object.entries(value).filter(([, item]) => item !== undefined);
    to.mapHead(pairs.length);
    for (const [key, item] of pairs) encode(key, to, depth), encode(item, to, depth);
  }
}

/** Writes the head of an array or a map. Returns the offset of its first item. */
function writeHead(head: "arrayHead" | "mapHead", size: number, to: Writer): number {
  if (size > MAX_ITEMS) {
    throw new RangeError(`Cannot encode more than ${MAX_ITEMS} items in one array or map: received ${size}`);
  }
  // (Each item has a byte at least.)
  if (size > to.limit) throw new LimitError(to.limit);
  to[head](size);
  return to.length;
}

/** Corrects a head, if an array or a map had more or fewer items than its size said: a proxy, for example. */
function correctHead(
  head: "arrayHead" | "mapHead",
  count: number,
  to: Writer,
  start: number,
  body: number,
): void {
  const items = to.bytes.slice(body, to.length);
  to.length = start;
  to[head](count);
  to.raw(items);
}

function encodeBytes(bytes: Uint8Array, to: Writer): void {
  to.binHead(bytes.length);
  to.raw(bytes);
}

/** Timestamp 32, 64 or 96, whichever is the shortest, as the MessagePack specification has it. */
function encodeDate(date: Date, to: Writer): void {
  const time = date.getTime();
  if (Number.isNaN(time)) refuse("a date that is not valid", String(date));
  const seconds = Math.floor(time / 1000);
  const nanoseconds = (time - seconds * 1000) * 1e6;
  const size = seconds < 0 || seconds >= 2 ** 34 ? 12 : nanoseconds === 0 && seconds < 2 ** 32 ? 4 : 8;
  const data = new DataView(new ArrayBuffer(size));
  if (size === 4) data.setUint32(0, seconds);
  else if (size === 8) data.setBigUint64(0, BigInt(nanoseconds) << 34n | BigInt(seconds));
  else data.setUint32(0, nanoseconds), data.setBigInt64(4, BigInt(seconds));
  to.extHead(size, TIMESTAMP);
  to.raw(new Uint8Array(data.buffer));
}

/**
 * Reads values one after another.
 *
 * Its methods throw a {@linkcode MalformedError} if the bytes end within an item, are nested deeper than
 * {@linkcode MAX_REPLY_DEPTH}, or are not MessagePack.
 */
export class Reader {
  /** The offset of the next item. */
  at: number;
  readonly #bytes: Uint8Array;
  /** (Most replies need none, and it takes as long to make as they take to read.) */
  #lazyView: DataView | undefined;
  #depth = 0;

  constructor(bytes: Uint8Array, at = 0) {
    this.#bytes = bytes;
    this.at = at;
  }

  get #view(): DataView {
    const { buffer, byteOffset, byteLength } = this.#bytes;
    return this.#lazyView ??= new DataView(buffer, byteOffset, byteLength);
  }

  /** Reads the next value. */
  value(): unknown {
    const first = this.#bytes[this.at];
    if (first < 0x80) return this.at += 1, first;
    if (first >= 0xe0) return this.at += 1, first - 0x100;
    if (first < 0xc0) {
      this.at += 1;
      if (first >= 0xa0) return this.#str(first & 31);
      return first < 0x90 ? this.#objectOrMap(first & 15) : this.#array(first & 15);
    }
    if (first >= 0xc0 && first <= 0xd3) {
      const scalar = this.#scalar(first);
      if (scalar !== undefined) return scalar;
    }
    const { type, length, body } = this.#head();
    this.at = body;
    switch (type) {
      case "str":
        return this.#str(length);
      case "bin":
        return this.#take(length);
      case "array":
        return this.#array(length);
      case "map":
        return this.#objectOrMap(length);
      case "ext":
        return this.#extension(this.#bytes[body - 1] << 24 >> 24, length);
      default:
        throw new MalformedError("the byte c1 begins no item", body - 1);
    }
  }

  /** Reads the next value, which must be a map, as a `Map`, even if all of its keys are strings. */
  map(): Map<unknown, unknown> {
    const { type, length, body } = this.#head();
    if (type !== "map") throw new MalformedError("a map is needed", this.at);
    this.at = body;
    const map = new Map();
    for (let i = 0; i < length; i++) {
      const key = this.value();
      map.set(key, this.value());
    }
    return map;
  }

  /** Reads the next value, which must be an array of a value and a map. */
  pair(): [unknown, Map<unknown, unknown>] {
    const { type, length, body } = this.#head();
    if (type !== "array" || length !== 2) throw new MalformedError("an array of two is needed", this.at);
    this.at = body;
    return [this.value(), this.map()];
  }

  #head(): Head {
    if (this.at >= this.#bytes.length) throw new TruncatedError(this.#bytes.length);
    return head(this.#bytes, this.at);
  }

  /** Returns the offset after a number of bytes. */
  #end(bytes: number): number {
    const end = this.at + bytes;
    if (end > this.#bytes.length) throw new TruncatedError(this.#bytes.length);
    return end;
  }

  #enter(): void {
    if (++this.#depth <= MAX_REPLY_DEPTH) return;
    throw new MalformedError(`items are nested deeper than ${MAX_REPLY_DEPTH}`, this.at);
  }

  /** nil, booleans and numbers that are longer than their head; undefined for every other item. */
  #scalar(first: number): unknown {
    const at = this.at + 1;
    this.#end(SCALAR_SIZES[first - 0xc0]);
    if (first === 0xc0) return this.at += 1, null;
    if (first === 0xc2 || first === 0xc3) return this.at += 1, first === 0xc3;
    if (SCALAR_SIZES[first - 0xc0] === 0) return undefined;
    const view = this.#view;
    switch (first) {
      case 0xca:
        return this.at += 5, view.getFloat32(at);
      case 0xcb:
        return this.at += 9, view.getFloat64(at);
      case 0xcc:
        return this.at += 2, view.getUint8(at);
      case 0xcd:
        return this.at += 3, view.getUint16(at);
      case 0xce:
        return this.at += 5, view.getUint32(at);
      case 0xcf:
        return this.at += 9, exact(view.getBigUint64(at));
      case 0xd0:
        return this.at += 2, view.getInt8(at);
      case 0xd1:
        return this.at += 3, view.getInt16(at);
      case 0xd2:
        return this.at += 5, view.getInt32(at);
      case 0xd3:
        return this.at += 9, exact(view.getBigInt64(at));
    }
  }

  #str(length: number): string | Uint8Array {
    const bytes = this.#bytes, end = this.#end(length);
    try {
      return shortAscii(bytes, this.at, end) ?? utf8.decode(bytes.subarray(this.at, end));
    } catch {
      return new Uint8Array(bytes.subarray(this.at, end));
    } finally {
      this.at = end;
    }
  }

  #array(length: number): unknown[] {
    const items = [];
    this.#enter();
    for (let i = 0; i < length; i++) items.push(this.value());
    this.#depth--;
    return items;
  }

  #take(length: number): Uint8Array {
    const from = this.at;
    this.at = this.#end(length);
    return length === 0 ? NO_BYTES : new Uint8Array(this.#bytes.subarray(from, this.at));
  }

  #objectOrMap(length: number): unknown {
    const object: Record<string, unknown> = {}, keys: string[] = [];
    let map: Map<unknown, unknown> | undefined;
    this.#enter();
    for (let i = 0; i < length; i++) {
      const key = this.#name() ?? this.value();
      // (An object may have its keys in another order.)
      if (typeof key !== "string") map ??= new Map(keys.map((each) => [each, object[each]]));
      if (map) map.set(key, this.value());
      else {
        keys.push(key as string);
        if (key !== "__proto__") object[key as string] = this.value();
        // Assigning this one would set the prototype.
        else Object.defineProperty(object, key, { value: this.value(), ...PLAIN });
      }
    }
    this.#depth--;
    return map ?? object;
  }

  /**
   * Reads the next item if it is a short string that was read as a name before: names of properties come again and again,
   * and to make a string takes longer than to compare its bytes.
   */
  #name(): string | undefined {
    const bytes = this.#bytes, at = this.at, first = bytes[at], length = first & 31;
    if (first < 0xa1 || first >= 0xc0 || at + length >= bytes.length) return undefined;
    const end = at + length, slot = (bytes[at + 1] * 7 + bytes[end] * 31 + length) & (NAMES - 1);
    const known = nameBytes[slot];
    if (known !== undefined && known.length === length + 1) {
      let i = 0;
      while (i <= length && known[i] === bytes[at + i]) i++;
      if (i > length) return this.at = end + 1, names[slot];
    }
    this.at = at + 1;
    const name = this.#str(length);
    if (typeof name !== "string") return this.at = at, undefined;
    nameBytes[slot] = bytes.slice(at, end + 1);
    return names[slot] = name;
  }

  #extension(type: number, length: number): Extension | Date {
    const at = this.at, view = this.#view;
    const data = this.#take(length);
    if (type === TIMESTAMP && (length === 4 || length === 8 || length === 12)) {
      const packed = length === 8 ? view.getBigUint64(at) : 0n;
      const seconds = length === 4
        ? view.getUint32(at)
        : length === 8
        ? Number(packed & 0x3ffffffffn)
        : Number(view.getBigInt64(at + 4));
      const nanoseconds = length === 4 ? 0 : length === 8 ? Number(packed >> 34n) : view.getUint32(at);
      const date = new Date(seconds * 1000 + nanoseconds / 1e6);
      if (nanoseconds % 1e6 === 0 && nanoseconds < 1e9 && !Number.isNaN(date.getTime())) return date;
    }
    return new Extension(type, data);
  }
}

/** How many names of properties are remembered: a power of 2. */
const NAMES = 256;
/** The names, and their bytes with their heads. */
const names: string[] = [];
const nameBytes: (Uint8Array | undefined)[] = new Array(NAMES).fill(undefined);

/** Bytes of c0 (nil) to d3 (int 64), or 0 where it is no scalar. */
const SCALAR_SIZES = [1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 5, 9, 2, 3, 5, 9, 2, 3, 5, 9];
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const PLAIN = { writable: true, enumerable: true, configurable: true };

function exact(value: bigint): number | bigint {
  const near = Number(value);
  return Number.isSafeInteger(near) ? near : value;
}

/** Encodes one value. */
export function encoded(value: unknown): Uint8Array {
  const to = new Writer(64);
  encode(value, to);
  return to.written.slice();
}

/**
 * Decodes bytes that are exactly one value.
 *
 * @throws {Error} if they are not.
 */
export function decoded(bytes: Uint8Array): unknown {
  const end = skip(bytes, 0);
  if (end !== bytes.length) throw new Error(`Cannot decode: ${bytes.length - end} bytes follow the value`);
  return new Reader(bytes).value();
}

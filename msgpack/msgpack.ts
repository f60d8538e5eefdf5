/**
 * MessagePack as bytes: finding the end of an item ({@linkcode skip}) and writing items ({@linkcode Writer}). The host
 * does not decode what clients send: it walks from item to item.
 *
 * ```text
 * 00-7f  positive fixint      c4 c5 c6  bin 8 16 32     cc cd ce cf  uint 8 16 32 64    d9 da db  str 8 16 32
 * 80-8f  fixmap (pairs)       c7 c8 c9  ext 8 16 32     d0 d1 d2 d3  int 8 16 32 64     dc dd     array 16 32
 * 90-9f  fixarray             ca cb     float 32 64     d4 … d8      fixext 1 2 4 8 16  de df     map 16 32
 * a0-bf  fixstr               c0 nil  c2 false  c3 true                                 e0-ff     negative fixint
 * ```
 *
 * c1 is never used. Before 2013 there were no bin, ext and str 8: a string was a0-bf, da or db, and had any bytes. The
 * writer uses only these three for strings, so that old clients can read what it writes.
 *
 * The file is long and holds one idea: the heads of items, how they are read and how they are written.
 *
 * @see https://github.com/msgpack/msgpack/blob/master/spec.md
 * @module
 */

/** The deepest nesting of items: what Python's msgpack writes, and every reader can read. */
export const MAX_DEPTH = 512;

/** The deepest nesting of a reply, which may have a value within the reply of `scan`. */
export const MAX_REPLY_DEPTH: number = MAX_DEPTH + 1;

/** The error for bytes that are not MessagePack, or that exceed a limit. */
export class MalformedError extends Error {
  override name = "MalformedError";
  /** What is wrong, … */
  readonly why: string;
  /** … and where, as an offset in the bytes. */
  readonly at: number;

  constructor(why: string, at: number) {
    super(`${why} at byte ${at}`);
    this.why = why;
    this.at = at;
  }
}

/** The error for items that are nested too deeply. */
export class TooDeepError extends MalformedError {
  constructor(maxDepth: number, at: number) {
    super(`items are nested deeper than ${maxDepth}`, at);
  }
}

/** The error for bytes that end within an item. With more bytes they may be valid. */
export class TruncatedError extends MalformedError {
  constructor(at: number) {
    super("the bytes end within an item", at);
  }
}

const malformed = (why: string, at: number): never => {
  throw new MalformedError(why, at);
};
const truncated = (at: number): never => {
  throw new TruncatedError(at);
};

/** For each depth of the walk: how many items follow the container that was entered there. */
const following = new Float64Array(MAX_REPLY_DEPTH);

/**
 * Returns the offset after the item at `at`.
 *
 * @throws {MalformedError} if it does not end within the bytes, is nested deeper than `maxDepth`, or has the byte c1 as a
 * head.
 */
export function skip(bytes: Uint8Array, at: number, maxDepth = MAX_DEPTH): number {
  // Nearly all are short.
  const first = bytes[at];
  const next = first < 0x80 || first >= 0xe0
    ? at + 1
    : first >= 0xa0 && first < 0xc0
    ? at + 1 + (first & 31)
    : first === 0xc4
    ? at + 2 + bytes[at + 1]
    : Infinity;
  return next <= bytes.length ? next : walk(bytes, at, maxDepth);
}

function walk(bytes: Uint8Array, at: number, maxDepth: number): number {
  const end = bytes.length;
  let depth = 0;
  let left = 1;
  for (;;) {
    if (at >= end) truncated(end);
    const head = bytes[at];
    let inside = 0;
    if (head < 0x80 || head >= 0xe0) at += 1;
    else if (head >= 0xa0 && head < 0xc0) at += 1 + (head & 31);
    else if (head < 0x90) at += 1, inside = (head & 15) * 2;
    else if (head < 0xa0) at += 1, inside = head & 15;
    else {
      switch (head) {
        case 0xc0:
        case 0xc2:
        case 0xc3:
          at += 1;
          break;
        case 0xc1:
          malformed("the byte c1 begins no item", at);
          break;
        case 0xc4:
        case 0xd9:
          at += 2 + number(bytes, at + 1, 1);
          break;
        case 0xc5:
        case 0xda:
          at += 3 + number(bytes, at + 1, 2);
          break;
        case 0xc6:
        case 0xdb:
          at += 5 + number(bytes, at + 1, 4);
          break;
        case 0xc7:
          at += 3 + number(bytes, at + 1, 1);
          break;
        case 0xc8:
          at += 4 + number(bytes, at + 1, 2);
          break;
        case 0xc9:
          at += 6 + number(bytes, at + 1, 4);
          break;
        case 0xdc:
        case 0xde:
          inside = number(bytes, at + 1, 2) * (head === 0xde ? 2 : 1);
          at += 3;
          break;
        case 0xdd:
        case 0xdf:
          inside = number(bytes, at + 1, 4) * (head === 0xdf ? 2 : 1);
          at += 5;
          break;
        default:
          at += FIXED_SIZE[head - 0xca];
      }
    }
    if (at > end) truncated(end);
    left -= 1;
    if (inside > 0) {
      if (depth === maxDepth) throw new TooDeepError(maxDepth, at);
      following[depth++] = left;
      left = inside;
    }
    // (Small numbers, nil, true and false come in rows.)
    while (left > 0 && at < end && ONE_BYTE[bytes[at]] === 1) at++, left--;
    while (left === 0) {
      if (depth === 0) return at;
      left = following[--depth];
    }
  }
}

/** Returns whether an item with this head is one byte long. */
const ONE_BYTE = Uint8Array.from({ length: 256 }, (_, head) => {
  return Number(
    head <= 0x80 || head === 0x90 || head === 0xa0 || head >= 0xe0 || [0xc0, 0xc2, 0xc3].includes(head),
  );
});

/** Sizes of ca (float 32) to d8 (fixext 16), heads included. */
const FIXED_SIZE = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18];

/** The big-endian unsigned number in `size` bytes. */
function number(bytes: Uint8Array, at: number, size: 1 | 2 | 4): number {
  if (at + size > bytes.length) truncated(bytes.length);
  if (size === 1) return bytes[at];
  if (size === 2) return bytes[at] << 8 | bytes[at + 1];
  return (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]) >>> 0;
}

/** Copies bytes between arrays. */
export function copyBytes(
  from: Uint8Array,
  at: number,
  to: Uint8Array,
  target: number,
  length: number,
): void {
  // A few are copied before a view of them would be made.
  if (length > 64) to.set(from.subarray(at, at + length), target);
  else for (let i = 0; i < length; i++) to[target + i] = from[at + i];
}

/** A decoded head: the kind of what follows, how many items, pairs or bytes it has, and where they begin. */
export interface Head {
  type: "array" | "map" | "str" | "bin" | "ext" | "other";
  length: number;
  body: number;
}

/** Reads the head of an item that {@linkcode skip} has passed. */
export function head(bytes: Uint8Array, at: number): Head {
  const first = bytes[at];
  const fix = (type: Head["type"], length: number): Head => ({ type, length, body: at + 1 });
  const sized = (type: Head["type"], size: 1 | 2 | 4, more = 0): Head => ({
    type,
    length: number(bytes, at + 1, size),
    body: at + 1 + size + more,
  });
  if (first >= 0x80 && first < 0x90) return fix("map", first & 15);
  if (first >= 0x90 && first < 0xa0) return fix("array", first & 15);
  if (first >= 0xa0 && first < 0xc0) return fix("str", first & 31);
  if (first >= 0xd4 && first <= 0xd8) return { type: "ext", length: 1 << (first - 0xd4), body: at + 2 };
  switch (first) {
    case 0xc4:
      return sized("bin", 1);
    case 0xc5:
      return sized("bin", 2);
    case 0xc6:
      return sized("bin", 4);
    case 0xc7:
      return sized("ext", 1, 1);
    case 0xc8:
      return sized("ext", 2, 1);
    case 0xc9:
      return sized("ext", 4, 1);
    case 0xd9:
      return sized("str", 1);
    case 0xda:
      return sized("str", 2);
    case 0xdb:
      return sized("str", 4);
    case 0xdc:
      return sized("array", 2);
    case 0xdd:
      return sized("array", 4);
    case 0xde:
      return sized("map", 2);
    case 0xdf:
      return sized("map", 4);
    default:
      return { type: "other", length: 0, body: at + 1 };
  }
}

/** Bytes as a string, one character a byte. */
export function latin1(bytes: Uint8Array, from: number, to: number): string {
  if (to - from <= SHORT) return short(bytes, from, to);
  let text = "";
  for (let at = from; at < to; at += CHUNK) {
    text += String.fromCharCode(...bytes.subarray(at, Math.min(at + CHUNK, to)));
  }
  return text;
}

/** Bytes as a string if all are ASCII and few, as nearly all strings are; undefined otherwise. */
export function shortAscii(bytes: Uint8Array, from: number, to: number): string | undefined {
  if (to - from > SHORT) return undefined;
  let all = 0;
  for (let at = from; at < to; at++) all |= bytes[at];
  return all < 0x80 ? short(bytes, from, to) : undefined;
}

/** {@linkcode latin1} of a few bytes: for those nothing is faster. */
function short(bytes: Uint8Array, from: number, to: number): string {
  let text = "", at = from;
  for (; at + 8 <= to; at += 8) {
    text += String.fromCharCode(
      bytes[at],
      bytes[at + 1],
      bytes[at + 2],
      bytes[at + 3],
      bytes[at + 4],
      bytes[at + 5],
      bytes[at + 6],
      bytes[at + 7],
    );
  }
  for (; at < to; at++) text += String.fromCharCode(bytes[at]);
  return text;
}

/** A string of at most this many bytes is built from its characters. */
const SHORT = 96;
/** Well below the number of arguments that a call can take. */
const CHUNK = 4096;

const utf8 = new TextEncoder();

/** The error for writing more than {@linkcode Writer.limit} allows. */
export class LimitError extends RangeError {
  override name = "LimitError";

  constructor(limit: number) {
    super(`Cannot write more than ${limit} bytes`);
  }
}

/** A buffer that grows, and the items written to it. */
export class Writer {
  /** The buffer. `bytes[0..length)` has been written; the rest is undefined. */
  bytes: Uint8Array<ArrayBuffer>;
  length = 0;
  /** The most bytes that may be written. Growing beyond it throws. */
  limit = Infinity;
  #view: DataView<ArrayBuffer>;

  constructor(capacity = 1024) {
    this.bytes = new Uint8Array(new ArrayBuffer(capacity));
    this.#view = new DataView(this.bytes.buffer);
  }

  /** What was written, as a view that is valid until the next write. */
  get written(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length);
  }

  /** Empties the writer, and frees a buffer that has grown unusually large. */
  reset(): void {
    this.length = 0;
    if (this.bytes.length > 1 << 20) {
      this.bytes = new Uint8Array(new ArrayBuffer(1 << 16));
      this.#view = new DataView(this.bytes.buffer);
    }
  }

  /** Makes room for more bytes. Returns the offset of the first. */
  reserve(bytes: number): number {
    const at = this.length, needed = at + bytes;
    if (needed > this.bytes.length) {
      if (needed > this.limit) throw new LimitError(this.limit);
      const larger = new Uint8Array(new ArrayBuffer(Math.max(needed, this.bytes.length * 2)));
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.length = needed;
    return at;
  }

  byte(value: number): void {
    const at = this.reserve(1);
    this.bytes[at] = value;
  }

  /** Writes bytes unchanged: an item, or a part of one. */
  raw(bytes: Uint8Array): void {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** Writes `bytes[from..to)` unchanged. */
  copy(bytes: Uint8Array, from: number, to: number): void {
    const at = this.reserve(to - from);
    copyBytes(bytes, from, this.bytes, at, to - from);
  }

  nil(): void {
    this.byte(0xc0);
  }

  bool(value: boolean): void {
    this.byte(value ? 0xc3 : 0xc2);
  }

  /** Writes an integer in its shortest form: a safe integer, or a bigint of -2⁶³ to 2⁶⁴ - 1. */
  int(value: number | bigint): void {
    if (value >= 0) {
      if (value < 0x80) this.byte(Number(value));
      else if (value < 0x100) this.#head(0xcc, 1, Number(value));
      else if (value < 0x10000) this.#head(0xcd, 2, Number(value));
      else if (value < 0x100000000) this.#head(0xce, 4, Number(value));
      else {
        const at = this.reserve(9);
        this.bytes[at] = 0xcf;
        this.#view.setBigUint64(at + 1, BigInt(value));
      }
    } else if (value >= -0x20) this.byte(Number(value) & 0xff);
    else if (value >= -0x80) this.#head(0xd0, 1, Number(value) & 0xff);
    else if (value >= -0x8000) this.#head(0xd1, 2, Number(value) & 0xffff);
    else if (value >= -0x80000000) this.#head(0xd2, 4, Number(value) >>> 0);
    else {
      const at = this.reserve(9);
      this.bytes[at] = 0xd3;
      this.#view.setBigInt64(at + 1, BigInt(value));
    }
  }

  /** Writes a 64-bit float. */
  float(value: number): void {
    const at = this.reserve(9);
    this.bytes[at] = 0xcb;
    this.#view.setFloat64(at + 1, value);
  }

  str(value: string): void {
    if (this.ascii(value)) return;
    const bytes = utf8.encode(value);
    this.strHead(bytes.length);
    this.raw(bytes);
  }

  /** Writes a string if it is short and all of it is ASCII, as nearly all short ones are; otherwise nothing. */
  ascii(value: string): boolean {
    const start = this.length, { length } = value;
    if (length > SHORT) return false;
    if (length < 32) this.byte(0xa0 | length);
    else this.strHead(length);
    const at = this.reserve(length), bytes = this.bytes;
    for (let i = 0; i < length; i++) {
      const code = value.charCodeAt(i);
      if (code >= 0x80) return this.length = start, false;
      bytes[at + i] = code;
    }
    return true;
  }

  strHead(bytes: number): void {
    if (bytes < 32) this.byte(0xa0 | bytes);
    else if (bytes < 0x10000) this.#head(0xda, 2, bytes);
    else this.#head(0xdb, 4, bytes);
  }

  binHead(bytes: number): void {
    if (bytes < 0x100) this.#head(0xc4, 1, bytes);
    else if (bytes < 0x10000) this.#head(0xc5, 2, bytes);
    else this.#head(0xc6, 4, bytes);
  }

  extHead(bytes: number, type: number): void {
    const fix = [1, 2, 4, 8, 16].indexOf(bytes);
    if (fix >= 0) this.byte(0xd4 + fix);
    else if (bytes < 0x100) this.#head(0xc7, 1, bytes);
    else if (bytes < 0x10000) this.#head(0xc8, 2, bytes);
    else this.#head(0xc9, 4, bytes);
    this.byte(type & 0xff);
  }

  arrayHead(items: number): void {
    if (items < 16) this.byte(0x90 | items);
    else if (items < 0x10000) this.#head(0xdc, 2, items);
    else this.#head(0xdd, 4, items);
  }

  mapHead(pairs: number): void {
    if (pairs < 16) this.byte(0x80 | pairs);
    else if (pairs < 0x10000) this.#head(0xde, 2, pairs);
    else this.#head(0xdf, 4, pairs);
  }

  #head(first: number, size: 1 | 2 | 4, value: number): void {
    const at = this.reserve(1 + size);
    this.bytes[at] = first;
    if (size === 1) this.bytes[at + 1] = value;
    else if (size === 2) this.#view.setUint16(at + 1, value);
    else this.#view.setUint32(at + 1, value);
  }
}

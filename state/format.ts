/**
 * The format of a state, version 1. It is pymemstore's: each can read what the other wrote.
 *
 * One MessagePack map, whose fields may come in any order:
 *
 * ```text
 * {
 *   "version": 1,
 *   "store":   { table: { key: value, … }, … },
 *   "sets":    { name: [member, …], … },
 *   "expires": { table: { key: milliseconds since 1970, … }, … },
 *   "crc32":   the CRC-32 (RFC 1952) of all bytes before this field
 * }
 * ```
 *
 * Keys, names and members are written in their canonical form, values as the bytes that a client sent. pymemstore
 * ignores the last two fields. `expires` follows `store`, and is written only if there are entries that expire. `crc32`
 * comes last: it detects damage that leaves valid MessagePack.
 *
 * A state is written and read as a stream: only a piece of it, or the one item that is being read, is in memory beside
 * the data. What is read goes to a new store, which is used only if the whole state is valid. (An engine whose data is
 * elsewhere writes the same, and has the data read to a {@linkcode StateSink} of its own.)
 *
 * The file is long and holds one idea: the format, as it is written and as it is read.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { Key, MAX_KEY_DEPTH } from "../msgpack/key.ts";
import type { Heap } from "../engine/memory/heap.ts";
import type { Entry } from "../blocks/entry.ts";
import type { Span } from "../msgpack/key.ts";
import { type Snapshot, Store } from "../engine/memory/store.ts";
import type { Table } from "../engine/memory/table.ts";
import type { TableView } from "../engine/memory/view.ts";
import { Reader } from "../msgpack/codec.ts";
import { head, latin1, MalformedError, skip, TruncatedError, Writer } from "../msgpack/msgpack.ts";
import { turn } from "../system/turn.ts";

/** The version that is written and read. */
export const VERSION = 1;
/** Bytes that are written or read at once; in between, other work of the process is done. */
const CHUNK = 1 << 17;
/** Values longer than this are read piece by piece. */
const LARGE = 1 << 20;
/** Bytes of an item at most: as many as a message can have, and as the engine can hold. */
const MAX_ITEM = 2 ** 31 - 1;

/** How far a store or a restore is. */
export interface Progress {
  /** Entries and members that were written or read. */
  entries: number;
  /** Bytes of the state that were written or read, before they are compressed. */
  bytes: number;
}

/** The bytes of a state, piece by piece. A piece is good until the next is asked for. */
export function* encodeState(
  { tables, sets, entry }: Snapshot,
  progress: Progress = { entries: 0, bytes: 0 },
): Generator<Uint8Array> {
  const to = new Writer(CHUNK * 2);
  let crc = 0;
  const flush = function* () {
    const piece = to.written;
    progress.bytes += piece.length;
    crc = crc32(piece, crc);
    yield piece;
    to.length = 0;
  };
  const page: number[] = [];
  const write = function* (of: TableView, each: () => Generator<Uint8Array> | void) {
    let cursor = 0;
    do {
      page.length = 0;
      cursor = of.scan(cursor, (address) => void page.push(address));
      for (const address of page) {
        entry.read(address);
        const large = each();
        if (large) yield* large;
      }
      if (to.length >= CHUNK) yield* flush();
    } while (cursor !== 0);
  };
  /** What is larger than a piece goes as it is. */
  const direct = function* ({ bytes, keyFrom, valueTo }: Entry) {
    yield* flush();
    for (let at = keyFrom; at < valueTo; at += CHUNK) {
      const piece = bytes.subarray(at, Math.min(at + CHUNK, valueTo));
      progress.bytes += piece.length;
      crc = crc32(piece, crc);
      yield piece;
    }
  };
  const { expiringTables } = tables.totals;
  to.mapHead(expiringTables > 0 ? 5 : 4);
  to.str("version");
  to.int(VERSION);
  to.str("store");
  to.mapHead(tables.size);
  for (const table of tables) {
    to.raw(table.name);
    to.mapHead(table.size);
    yield* write(table, () => {
      progress.entries++;
      if (entry.valueTo - entry.keyFrom > CHUNK) return direct(entry);
      to.copy(entry.bytes, entry.keyFrom, entry.valueTo);
    });
  }
  to.str("sets");
  to.mapHead(sets.size);
  for (const set of sets) {
    to.raw(set.name);
    to.arrayHead(set.size);
    yield* write(set, () => {
      to.copy(entry.bytes, entry.keyFrom, entry.keyTo);
      progress.entries++;
    });
  }
  if (expiringTables > 0) {
    to.str("expires");
    to.mapHead(expiringTables);
    for (const table of tables) {
      if (table.expiring === 0) continue;
      to.raw(table.name);
      to.mapHead(table.expiring);
      yield* write(table, () => {
        if (entry.expiry === 0) return;
        to.copy(entry.bytes, entry.keyFrom, entry.keyTo);
        to.int(entry.expiry);
      });
    }
  }
  yield* flush();
  to.str("crc32");
  to.int(crc);
  progress.bytes += to.length;
  yield to.written;
}

/** What receives the data of a state, in the order in which it is read. A key is good until the method returns. */
export interface StateSink {
  /** A table follows, whose entries may be missing. */
  table(name: Key): void;
  /** An entry of the table. */
  entry(key: Key, bytes: Uint8Array, from: number, to: number): void;
  /** Makes room for an entry of the table, whose value has `length` bytes and is long: they are put there later. */
  reserve(key: Key, length: number): Span;
  /** A set follows. */
  set(name: Key): void;
  /** A member of the set. */
  member(key: Key): void;
  /** Deadlines of entries of a table follow. */
  deadlines(table: Key): void;
  /** The deadline of an entry, in milliseconds since 1970. Returns whether there is one, if that is known. */
  deadline(key: Key, time: number): boolean;
  /** Resolves when more may follow. */
  ready(): Promise<void>;
}

/** Puts the data of a state into a store. */
class StoreSink implements StateSink {
  readonly #store: Store;
  #table!: Table;

  constructor(store: Store) {
    this.#store = store;
  }

  table(name: Key): void {
    this.#table = this.#store.tables.make(name);
  }

  entry(key: Key, bytes: Uint8Array, from: number, to: number): void {
    this.#table.set(key, bytes, from, to);
  }

  reserve(key: Key, length: number): Span {
    return this.#table.reserve(key, length);
  }

  set(name: Key): void {
    this.#table = this.#store.sets.make(name);
  }

  member(key: Key): void {
    this.#table.set(key, NO_BYTES, 0, 0);
  }

  deadlines(table: Key): void {
    this.table(table);
  }

  deadline(key: Key, time: number): boolean {
    return this.#store.expire(this.#table, key, time);
  }

  ready(): Promise<void> {
    return turn();
  }
}

/**
 * Reads the bytes of a state. Other work of the process runs meanwhile.
 *
 * @param to The store that receives the data. It must not be in use yet.
 * @throws {MalformedError} that says what is wrong, and at which byte.
 */
export async function decodeState(
  pieces: AsyncIterable<Uint8Array>,
  to: Store = new Store(),
  progress: Progress = { entries: 0, bytes: 0 },
): Promise<Store> {
  await readState(pieces, new StoreSink(to), progress, to.heap);
  return to;
}

/**
 * The same for data that goes elsewhere.
 *
 * @param memory What bytes that were not read yet count toward.
 */
export async function readState(
  pieces: AsyncIterable<Uint8Array>,
  sink: StateSink,
  progress: Progress,
  memory: Pick<Heap, "charge" | "discharge"> = FREE,
): Promise<void> {
  using input = new Window(memory);
  const reading = new StateReader(input, sink, progress).read();
  const read = () => {
    try {
      return reading.next().done;
    } catch (error) {
      throw error instanceof MalformedError ? new MalformedError(error.why, input.start + error.at) : error;
    }
  };
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += CHUNK) {
      const part = piece.subarray(at, at + CHUNK);
      progress.bytes += part.length;
      input.add(part);
      if (!input.satisfied) continue;
      read();
      await sink.ready();
    }
  }
  input.last = true;
  read();
}

const FREE = { charge: () => {}, discharge: () => {} };

/** The bytes that were not read yet, as far as they are there. They count toward the limit of a heap. */
class Window implements Disposable {
  readonly #heap: Pick<Heap, "charge" | "discharge">;
  bytes: Uint8Array = new Uint8Array(0);
  /** Where in {@linkcode Window.bytes} reading goes on. */
  at = 0;
  /** Where in the state the bytes begin. */
  start = 0;
  /** Nothing will follow. */
  last = false;
  #buffer = new Uint8Array(CHUNK * 2);
  #charged = 0;
  /** So many bytes must be there before it is worth to look again. */
  wanted = 0;
  /** The CRC-32 of the bytes before an offset. */
  #crc = 0;
  #summed = 0;

  constructor(heap: Pick<Heap, "charge" | "discharge">) {
    this.#heap = heap;
  }

  [Symbol.dispose](): void {
    this.#heap.discharge(this.#charged);
  }

  /** Whether there are enough bytes to go on. */
  get satisfied(): boolean {
    return this.bytes.length - this.at >= this.wanted;
  }

  add(piece: Uint8Array): void {
    this.crcOf(this.start + this.at);
    const rest = this.bytes.subarray(this.at);
    const length = rest.length + piece.length;
    if (length > this.#buffer.length) this.#resize(length + (length >>> 1));
    else if (this.#buffer.length > CHUNK * 16 && length < CHUNK) this.#resize(CHUNK * 2);
    this.#buffer.set(rest);
    this.#buffer.set(piece, rest.length);
    this.start += this.at;
    this.at = 0;
    this.bytes = this.#buffer.subarray(0, length);
  }

  #resize(length: number): void {
    if (length > this.#charged) this.#heap.charge(length - this.#charged);
    else this.#heap.discharge(this.#charged - length);
    this.#charged = length;
    this.#buffer = new Uint8Array(length);
  }

  /** The CRC-32 of all bytes before an offset in the state, which is not before those that were asked for. */
  crcOf(end: number): number {
    this.#crc = crc32(this.bytes.subarray(this.#summed - this.start, end - this.start), this.#crc);
    this.#summed = end;
    return this.#crc;
  }

  /** Where the item at `from` ends, or -1 if more bytes are needed to tell. */
  end(from: number, maxDepth?: number): number {
    try {
      return skip(this.bytes, from, maxDepth);
    } catch (error) {
      if (error instanceof TruncatedError && this.length(from) > MAX_ITEM) throw tooLong(from);
      return this.#more(error);
    }
  }

  /** The bytes of a string or binary at `from`, its head included; 0 if it is none, or the head is not there. */
  length(from: number): number {
    try {
      const { type, length, body } = head(this.bytes, from);
      return type === "str" || type === "bin" || type === "ext" ? body - from + length : 0;
    } catch {
      return 0;
    }
  }

  /** The head of a map or an array, and on to what follows it; -1 if more bytes are needed to tell. */
  open(type: "map" | "array", what: string): number {
    try {
      if (this.at >= this.bytes.length && !this.last) throw new TruncatedError(this.at);
      const found = this.at < this.bytes.length ? head(this.bytes, this.at) : undefined;
      if (found?.type !== type) {
        throw new MalformedError(`${what} must be ${type === "map" ? "a map" : "an array"}`, this.at);
      }
      this.at = found.body;
      return found.length;
    } catch (error) {
      return this.#more(error);
    }
  }

  #more(error: unknown): -1 {
    if (this.last || !(error instanceof TruncatedError)) throw error;
    if (this.bytes.length - this.at > MAX_ITEM) throw tooLong(this.at);
    // Twice as many each time: an item that is long is not walked again for every piece of it.
    this.wanted = Math.min((this.bytes.length - this.at) * 2, MAX_ITEM + 1);
    return -1;
  }
}

/** Reads from the bytes that have arrived, and yields when it needs more. */
class StateReader {
  readonly #window: Window;
  readonly #sink: StateSink;
  readonly #progress: Progress;
  readonly #name = new Key();
  readonly #key = new Key();

  constructor(window: Window, sink: StateSink, progress: Progress) {
    this.#window = window;
    this.#sink = sink;
    this.#progress = progress;
  }

  *read(): Generator<void, void> {
    const window = this.#window;
    const seen = new Set<string>();
    for (let fields = yield* this.#open("map", "a state file"); fields > 0; fields--) {
      const began = window.start + window.at;
      const { bytes, from, to } = yield* this.#readKey(this.#name);
      const field = latin1(bytes, from, to);
      const wrong = (why: string) => new MalformedError(why, began - window.start);
      if (seen.has(field)) throw wrong("a field is there twice");
      seen.add(field);
      if (field === FIELD.version) yield* this.#readVersion();
      else if (field === FIELD.store) yield* this.#readTables();
      else if (field === FIELD.sets) yield* this.#readSets();
      else if (field === FIELD.expires) {
        if (!seen.has(FIELD.store)) throw wrong('"expires" must follow "store"');
        yield* this.#readExpiries();
      } else if (field === FIELD.crc32) {
        if (fields > 1) throw wrong('"crc32" must be the last field');
        const sum = window.crcOf(began);
        if ((yield* this.#readNumber()) !== sum) throw wrong("the checksum does not fit what is there");
      } else throw wrong("there is a field that is not known");
    }
    if (!seen.has(FIELD.version)) throw new MalformedError('the map ends without a "version"', window.at);
    while (!window.last && window.at === window.bytes.length) yield;
    if (window.at < window.bytes.length) throw new MalformedError("more follows after the state", window.at);
  }

  *#readVersion(): Generator<void, void> {
    const began = this.#window.start + this.#window.at;
    if ((yield* this.#readNumber()) !== VERSION) {
      throw new MalformedError(`version ${VERSION} is needed`, began - this.#window.start);
    }
  }

  *#readTables(): Generator<void, void> {
    for (let tables = yield* this.#open("map", '"store"'); tables > 0; tables--) {
      this.#sink.table(yield* this.#readKey(this.#name));
      for (let pairs = yield* this.#open("map", "a table"); pairs > 0; pairs--) {
        yield* this.#readEntry();
        this.#progress.entries++;
      }
    }
  }

  *#readEntry(): Generator<void, void> {
    const window = this.#window;
    let from, to;
    while ((from = window.end(window.at, MAX_KEY_DEPTH)) < 0 || (to = window.end(from)) < 0) {
      const length = from < 0 ? 0 : window.length(from);
      if (length > LARGE) return yield* this.#readLarge(from, length);
      yield;
    }
    if (to - from > MAX_ITEM) throw tooLong(from);
    this.#sink.entry(this.#key.aim(window.bytes, window.at, from), window.bytes, from, to);
    window.at = to;
  }

  /** Reads a long value straight to where it stays. */
  *#readLarge(from: number, length: number): Generator<void, void> {
    const window = this.#window;
    const to = this.#sink.reserve(this.#key.aim(window.bytes, window.at, from), length);
    window.at = from;
    window.wanted = 0;
    for (let at = to.from; at < to.to;) {
      const part = window.bytes.subarray(window.at, window.at + to.to - at);
      to.bytes.set(part, at);
      at += part.length;
      window.at += part.length;
      if (at < to.to && window.last) throw new TruncatedError(window.at);
      if (at < to.to) yield;
    }
  }

  *#readSets(): Generator<void, void> {
    for (let sets = yield* this.#open("map", '"sets"'); sets > 0; sets--) {
      this.#sink.set(yield* this.#readKey(this.#name));
      for (let members = yield* this.#open("array", "a set"); members > 0; members--) {
        this.#sink.member(yield* this.#readKey(this.#key));
        this.#progress.entries++;
      }
    }
  }

  *#readExpiries(): Generator<void, void> {
    for (let tables = yield* this.#open("map", '"expires"'); tables > 0; tables--) {
      this.#sink.deadlines(yield* this.#readKey(this.#name));
      yield* this.#readPairs((key, bytes, from) => {
        const time = new Reader(bytes, from).value();
        if (typeof time !== "number" || !(time > 0)) throw new MalformedError("a time is needed", from);
        if (!this.#sink.deadline(key, time)) {
          throw new MalformedError("an entry that is not there expires", from);
        }
      });
    }
  }

  /** Reads the pairs of a table. */
  *#readPairs(each: (key: Key, bytes: Uint8Array, from: number, to: number) => void): Generator<void, void> {
    const window = this.#window;
    for (let pairs = yield* this.#open("map", "a table"); pairs > 0; pairs--) {
      let from, to;
      while ((from = window.end(window.at, MAX_KEY_DEPTH)) < 0 || (to = window.end(from)) < 0) yield;
      each(this.#key.aim(window.bytes, window.at, from), window.bytes, from, to);
      window.at = to;
    }
  }

  *#open(type: "map" | "array", what: string): Generator<void, number> {
    let length;
    while ((length = this.#window.open(type, what)) < 0) yield;
    return length;
  }

  /** Reads a key, or a name or member. It is good until the next `yield`. */
  *#readKey(to: Key): Generator<void, Key> {
    const window = this.#window;
    let end;
    while ((end = window.end(window.at, MAX_KEY_DEPTH)) < 0) yield;
    to.aim(window.bytes, window.at, end);
    window.at = end;
    return to;
  }

  *#readNumber(): Generator<void, unknown> {
    const { bytes, from } = yield* this.#readKey(this.#key);
    return new Reader(bytes, from).value();
  }
}

function tooLong(at: number): MalformedError {
  return new MalformedError(`an item is longer than ${MAX_ITEM} bytes`, at);
}

const NO_BYTES = new Uint8Array(0);
const fieldKey = (name: string): string => {
  const to = new Writer(16);
  to.str(name);
  return latin1(to.bytes, 0, to.length);
};
const FIELD = {
  version: fieldKey("version"),
  store: fieldKey("store"),
  sets: fieldKey("sets"),
  expires: fieldKey("expires"),
  crc32: fieldKey("crc32"),
};

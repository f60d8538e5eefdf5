/**
 * Reads the data of another process where it lies: its memory, mapped, whose {@link ./head.ts | head} tells whether what
 * was read was whole. A reader asks nobody, writes nothing, and holds no lock.
 *
 * ```text
 * structure: even? ─► descriptor ─► page: even? ─► entry ─► copy it ─► the same sequences? ─► the copy is good
 *     ▲                                                                       │ no
 *     └──────────── after a little while, some times; then: BUSY ◄────────────┘
 * ```
 *
 * Until the sequences are found unchanged, whatever was read may be anything: a number that was never an address, a length
 * of gigabytes. So nothing is believed: an address beyond the memory that is mapped finds no segment, which throws, and
 * is caught; what lies beyond a segment is `undefined`; a page has 256 slots at most, whatever it says; a value is copied
 * if it lies in what is mapped, and decoded after that.
 *
 * What is read so is the state of one moment: that in which the sequences were read again.
 *
 * @module
 */

import type { Span } from "../msgpack/key.ts";
import { copyBytes, Writer } from "../msgpack/msgpack.ts";
import { EXPIRES, SEGMENT, type Segments, UNIT_BITS, wordAt } from "./block.ts";
import {
  CURSOR_SECRET,
  HASH_SECRET,
  HEAD_BYTES,
  HEAD_MAGIC,
  HEAD_TOKEN,
  HEAD_TOKEN_BYTES,
  HEAD_VERSION,
  IN_USE,
  NAMES,
  OWNER_THREAD,
  pageSequence,
  SEGMENT_COUNT,
  STATE,
  STRUCTURE,
  tableSequence,
} from "./head.ts";
import { fromClient, toClient } from "./cursor.ts";
import { EXPIRING, SIZE, stateOf } from "./descriptor.ts";
import { pageOf } from "./directory.ts";
import { expiryOf, keyFrom, keyLengthOf, valueLengthOf } from "./entry.ts";
import { halfSipHash } from "./hash.ts";
import { findEntry } from "./lookup.ts";
import { slotOfKey, walkPage } from "./page.ts";

/** There is no such entry. */
export const MISSING = -1;
/** It could not be read: the process that has the data must be asked. */
export const BUSY = -2;

/** Larger values are not read here, in bytes. */
export const MAX_VALUE: number = 1 << 24;
/** The number of a thread is below this. The bits from this on say that it has ended, or that another one waits. */
const MAX_THREAD: number = 2 ** 30;
/**
 * Before more bytes are copied, the sequence is looked at once more: a length that is not whole would take memory, and where
 * it leads into a hole, that of the process that has the data.
 */
const LARGE = 1 << 12;
/** A buffer of more bytes is given back when the next value needs less. */
const KEPT_BUFFER = 1 << 20;
/** The time by which entries expire: the host's, whatever a program makes of its `Date`. */
const systemTime = Date.now;
/** The memory that a view of a segment reaches, in bytes: a block may go beyond its segment. */
const VIEW_BYTES = SEGMENT + MAX_VALUE + (1 << 17);
/** How often a read is tried. */
const TRIES = 24;
/** How often a read of many entries is tried. */
const LONG_TRIES = 3;

/** The head of memory that is not mapped any more: no thread writes it. */
const NO_HEAD = new Int32Array(HEAD_BYTES / 4);

/** The kinds of tables that have names. */
export type Kind = "tables" | "sets";

/** A table or a set, by its name: where it is found is remembered for the next read. */
export class KnownTable implements Span {
  readonly bytes: Uint8Array;
  readonly from = 0;
  readonly to: number;
  readonly hash: number;
  /** The word of the head that has the descriptor of the table of names. */
  readonly names: number;
  /** Whether it is that table itself. */
  readonly isNames: boolean;
  /** Its descriptor, or 0, … */
  descriptor = 0;
  /** … as of this structure. */
  structure = -1;

  /** Use {@linkcode MemoryReader.table} or {@linkcode MemoryReader.names}. */
  constructor(bytes: Uint8Array, hash: number, kind: Kind, isNames = false) {
    this.isNames = isNames;
    this.bytes = bytes;
    this.to = bytes.length;
    this.hash = hash;
    this.names = NAMES + (kind === "tables" ? 0 : 1);
  }
}

/** On what a read of one entry relied: while the sequences are these, it would find the same. */
export interface Reliance {
  /** The sequence of the structure. */
  readonly structure: number;
  /** The index of the sequence of the page, … */
  readonly at: number;
  /** … and the sequence. */
  readonly sequence: number;
}

/** What is counted: reads that found what they looked for, or that it is missing; … */
const READS = 0;
/** … how often one was tried again; … */
const RETRIES = 1;
/** … and those that were {@linkcode BUSY}. */
const FALLBACKS = 2;

/** Reads the memory of one heap. */
export class MemoryReader implements Segments, Reliance {
  readonly bytes: Uint8Array[] = [];
  readonly words: Int32Array[] = [];
  /** The value that was read last. */
  value: Uint8Array = new Uint8Array(256);
  /** When its entry expires, in milliseconds since 1970; 0 for never. */
  expiry = 0;
  /** On what the last {@linkcode MemoryReader.get} relied; a structure of -1 if that does not say all. */
  structure = -1;
  at = 0;
  sequence = 0;
  /** How reads went: how many there were, how often one was tried again, and how many were {@linkcode BUSY}. */
  readonly counts: Float64Array;
  readonly #buffer: ArrayBuffer;
  #head: Int32Array;
  readonly #owner: number;
  readonly #now: () => number;
  readonly #k0: number;
  readonly #k1: number;
  readonly #cursorSecret: Int32Array;
  readonly #scanned = new Writer(1 << 12);
  /** Sequences, each by its index and its value, that reads relied on, while those are to hold together. */
  #relied: number[] | undefined;
  /** When the first of the entries expires that such reads have found, in milliseconds since 1970. */
  #until = Infinity;

  /**
   * @param buffer The memory as it is mapped.
   * @param token The one that it must hold.
   * @param counts Where to count how reads go: three numbers, see {@linkcode MemoryReader.counts}.
   * @param now Returns the time, in milliseconds since 1970.
   * @throws {Error} if it is not the memory of a heap of that token.
   */
  constructor(
    buffer: ArrayBuffer,
    token: Uint8Array,
    counts: Float64Array = new Float64Array(3),
    now: () => number = systemTime,
  ) {
    this.#now = now;
    const head = new Int32Array(buffer, 0, HEAD_BYTES / 4);
    const own = new Uint8Array(buffer, HEAD_TOKEN, token.length);
    if (
      head[0] !== HEAD_MAGIC || head[1] !== HEAD_VERSION || own.length !== HEAD_TOKEN_BYTES ||
      own.some((byte, i) => byte !== token[i])
    ) {
      throw new Error("Cannot read the memory: it is another");
    }
    this.#buffer = buffer;
    this.counts = counts;
    this.#head = head;
    const owner = head[OWNER_THREAD];
    this.#owner = owner < MAX_THREAD ? owner : 0;
    this.#scanned.limit = 2 * MAX_VALUE;
    this.#k0 = head[HASH_SECRET];
    this.#k1 = head[HASH_SECRET + 1];
    this.#cursorSecret = head.slice(CURSOR_SECRET, CURSOR_SECRET + 2);
    this.#look();
  }

  /** Reads nothing more: the memory is about to be unmapped. All that is asked for is {@linkcode BUSY}. */
  close(): void {
    this.#head = NO_HEAD;
    this.words.length = this.bytes.length = 0;
  }

  /** Whether the memory is still that of the data, and the thread that writes it lives. */
  get usable(): boolean {
    const head = this.#head;
    return head[STATE] === IN_USE && head[OWNER_THREAD] === this.#owner && this.#owner > 0;
  }

  /** The table or set of a name, whose canonical bytes are given. It need not exist. */
  table(kind: Kind, name: Uint8Array): KnownTable {
    return new KnownTable(name, this.hash({ bytes: name, from: 0, to: name.length }), kind);
  }

  /** The names of all tables, or of all sets, as the keys of a table. */
  names(kind: Kind): KnownTable {
    return new KnownTable(new Uint8Array(0), 0, kind, true);
  }

  /** The hash of a key. */
  hash({ bytes, from, to }: Span): number {
    return halfSipHash(bytes, from, to, this.#k0, this.#k1);
  }

  /**
   * Copies the value of a key, which has its hash, to {@linkcode MemoryReader.value}.
   *
   * @param copies Whether to copy it, or only to find it.
   * @returns The bytes of the value; or {@linkcode MISSING}, or {@linkcode BUSY}.
   */
  get(table: KnownTable, key: Span, copies = true): number {
    const head = this.#head, h = key.hash!;
    for (let tries = 0; tries < TRIES; tries++) {
      if (tries > 0) this.#pause(tries);
      const structure = head[STRUCTURE];
      if (structure & 1) continue;
      try {
        const descriptor = table.structure === structure ? table.descriptor : this.#find(table, structure);
        const page = descriptor === 0 ? 0 : pageOf(this, descriptor, h);
        // (The directory is larger than what can be read of it.)
        if (page === undefined) break;
        const at = pageSequence(page), sequence = head[at];
        if (sequence & 1) continue;
        const slot = page === 0 ? 0 : slotOfKey(this, page, h, key);
        const length = slot === 0
          ? MISSING
          : this.#copy(this.words[page >>> UNIT_BITS][slot + 1], at, sequence, copies);
        if (Atomics.load(head, at) !== sequence || head[STRUCTURE] !== structure) continue;
        if (length === BUSY || !this.usable) break;
        if (this.#relied) this.#rely(table, structure, at, sequence);
        this.counts[READS]++;
        if (slot === 0) this.expiry = 0;
        // (A table that is made now changes neither of them.)
        this.structure = descriptor === 0 ? -1 : structure;
        this.at = at;
        this.sequence = sequence;
        return length;
      } catch {
        this.#look();
      }
    }
    this.counts[FALLBACKS]++;
    return BUSY;
  }

  /** Whether {@linkcode MemoryReader.get} would find in a table what it found when it relied on this. */
  holds(table: KnownTable, { structure, at, sequence }: Reliance): boolean {
    const head = this.#head;
    if (Atomics.load(head, STRUCTURE) !== structure || head[at] !== sequence || !this.usable) return false;
    if (this.#relied) this.#rely(table, structure, at, sequence);
    this.counts[READS]++;
    return true;
  }

  /**
   * The number of entries of a table.
   *
   * @returns The number, or {@linkcode BUSY}.
   */
  size(table: KnownTable): number {
    const head = this.#head;
    for (let tries = 0; tries < TRIES; tries++) {
      if (tries > 0) this.#pause(tries);
      const structure = head[STRUCTURE];
      if (structure & 1) continue;
      try {
        const descriptor = this.#find(table, structure), at = tableSequence(descriptor);
        const sequence = head[at];
        if (sequence & 1) continue;
        const size = descriptor === 0 ? 0 : stateOf(this, descriptor, SIZE);
        const expiring = descriptor === 0 ? 0 : stateOf(this, descriptor, EXPIRING);
        if (Atomics.load(head, at) !== sequence || head[STRUCTURE] !== structure) continue;
        // (Some of them may have expired.)
        if (expiring > 0 || !this.usable) break;
        if (this.#relied) this.#rely(table, structure, at, sequence);
        this.counts[READS]++;
        return size;
      } catch {
        this.#look();
      }
    }
    this.counts[FALLBACKS]++;
    return BUSY;
  }

  /**
   * Reads a page of entries, as the command `scan` does: from a cursor on, until there are so many entries or bytes.
   *
   * @param values Whether to read values too, or keys alone.
   * @param to Where the keys and values are written.
   * @returns The number of entries and the next cursor; undefined if it could not be read.
   */
  scan(
    table: KnownTable,
    cursor: number,
    values: boolean,
    most: { entries: number; bytes: number },
    to: Writer,
  ): { entries: number; next: number } | undefined {
    const found = this.together(LONG_TRIES, () => this.#scan(table, cursor, values, most));
    this.counts[found ? READS : FALLBACKS]++;
    // (Only the attempt that held is written.)
    if (found) to.copy(this.#scanned.bytes, 0, this.#scanned.length);
    return found;
  }

  /**
   * Runs reads that must hold at one moment.
   *
   * @param run Returns undefined if it could not read something.
   * @returns What it returns; undefined if what it has read did not hold together at any attempt.
   */
  together<Result>(tries: number, run: () => Result | undefined): Result | undefined {
    const outer = this.#relied, until = this.#until;
    for (let i = 0; i < tries; i++) {
      if (i > 0) this.#pause(i);
      const relied: number[] = this.#relied = [];
      this.#until = Infinity;
      let result, held = false;
      try {
        result = run();
        held = result !== undefined && this.#unchanged(relied);
      } finally {
        this.#relied = outer;
        this.#until = held ? Math.min(until, this.#until) : until;
      }
      if (!held) continue;
      if (outer) { for (const each of relied) outer.push(each); }
      return result;
    }
  }

  /** Begins to note what reads rely on. */
  begin(): void {
    this.#relied = [];
    this.#until = Infinity;
  }

  /** Ends {@linkcode MemoryReader.begin}. Returns whether all that was read since then holds at this moment. */
  end(): boolean {
    const relied = this.#relied ?? [];
    this.#relied = undefined;
    return this.#unchanged(relied);
  }

  /** Whether all that reads relied on is as it was, at this moment. */
  #unchanged(relied: readonly number[]): boolean {
    for (let i = 0; i < relied.length; i += 2) {
      if (Atomics.load(this.#head, relied[i]) !== relied[i + 1]) return false;
    }
    return this.#now() < this.#until && this.usable;
  }

  /** Notes what a read relied on. */
  #rely(table: KnownTable, structure: number, at: number, sequence: number): void {
    const relied = this.#relied!;
    relied.push(STRUCTURE, structure, at, sequence);
    if (table.descriptor !== 0) return;
    // (A table that is made now changes the page of its name.)
    const names = pageSequence(pageOf(this, this.#head[table.names], table.hash));
    const now = Atomics.load(this.#head, names) & ~1;
    relied.push(names, this.#find(table, structure) === 0 ? now : now - 1);
  }

  /** The descriptor of a table, or 0. */
  #find(table: KnownTable, structure: number): number {
    if (table.structure === structure) return table.descriptor;
    if (table.isNames) return this.#head[table.names];
    const found = findEntry(this, this.#head[table.names], table.hash, table);
    table.descriptor = found;
    // (That there is none may change at any moment; where it is, only with the structure.)
    table.structure = found === 0 ? -1 : structure;
    return found;
  }

  /**
   * Copies the value of an entry. Returns its length; {@linkcode MISSING} if it has expired.
   *
   * @param at The sequence of its page, …
   * @param sequence … and what it was before.
   * @param copies Whether to copy it, or only to look whether it is there.
   */
  #copy(entry: number, at: number, sequence: number, copies: boolean): number {
    const words = this.words[entry >>> UNIT_BITS], w = wordAt(entry);
    if (words[w] & EXPIRES) {
      const expiry = this.expiry = expiryOf(words, w);
      if (expiry <= this.#now()) return MISSING;
      if (expiry < this.#until) this.#until = expiry;
    } else {
      this.expiry = 0;
    }
    if (!copies) return 0;
    const bytes = this.bytes[entry >>> UNIT_BITS];
    const from = keyFrom(words, w) + keyLengthOf(words, w), length = valueLengthOf(words, w);
    if (!(length <= MAX_VALUE) || from + length > bytes.length) return BUSY;
    if (length > LARGE && Atomics.load(this.#head, at) !== sequence) return BUSY;
    const { value } = this;
    if (length > value.length || value.length > KEPT_BUFFER && length <= KEPT_BUFFER) {
      this.value = new Uint8Array(length > KEPT_BUFFER ? length : Math.max(256, length * 2));
    }
    copyBytes(bytes, from, this.value, 0, length);
    return length;
  }

  /** Reads a page of entries to {@linkcode MemoryReader.#scanned}. */
  #scan(
    table: KnownTable,
    cursor: number,
    values: boolean,
    most: { entries: number; bytes: number },
  ): { entries: number; next: number } | undefined {
    const head = this.#head, time = this.#now(), relied = this.#relied!, scanned = this.#scanned;
    scanned.reset();
    const structure = Atomics.load(head, STRUCTURE);
    if (structure & 1) return undefined;
    let entries = 0, visited = 0, at = STRUCTURE, sequence = structure;
    const visit = (address: number) => {
      const words = this.words[address >>> UNIT_BITS], w = wordAt(address);
      visited++;
      const expiry = words[w] & EXPIRES ? expiryOf(words, w) : Infinity;
      if (expiry > time) {
        if (expiry < this.#until) this.#until = expiry;
        const bytes = this.bytes[address >>> UNIT_BITS], from = keyFrom(words, w);
        const length = keyLengthOf(words, w) + (values ? valueLengthOf(words, w) : 0);
        if (!(length <= MAX_VALUE) || from + length > bytes.length) {
          throw new RangeError("Cannot copy: too long");
        }
        if (length > LARGE && Atomics.load(head, at) !== sequence) {
          throw new RangeError("Cannot copy: too late");
        }
        scanned.copy(bytes, from, from + length);
        entries++;
      }
      return visited < most.entries && scanned.length < most.bytes;
    };
    try {
      const descriptor = this.#find(table, structure);
      let next = fromClient(cursor, this.#cursorSecret);
      if (descriptor === 0) {
        this.#rely(table, structure, STRUCTURE, structure);
        next = 0;
      } else {
        do {
          const page = pageOf(this, descriptor, next);
          if (page === undefined) return undefined;
          at = pageSequence(page);
          sequence = Atomics.load(head, at);
          if (sequence & 1) return undefined;
          relied.push(STRUCTURE, structure, at, sequence);
          next = page === 0 ? 0 : walkPage(this.words[page >>> UNIT_BITS], wordAt(page), next, visit);
          visited++;
          // (What is not whole may lead in a circle.)
          if (Atomics.load(head, at) !== sequence || Atomics.load(head, STRUCTURE) !== structure) {
            return undefined;
          }
        } while (next !== 0 && visited < most.entries && scanned.length < most.bytes);
      }
      return { entries, next: toClient(next, this.#cursorSecret) };
    } catch {
      this.#look();
      return undefined;
    }
  }

  /** Looks which segments there are. */
  #look(): void {
    const count = Math.min(Atomics.load(this.#head, SEGMENT_COUNT), this.#buffer.byteLength / SEGMENT);
    // (Nothing is found in segment 0.)
    if (this.words.length === 0) this.words.push(new Int32Array(2)), this.bytes.push(new Uint8Array(8));
    for (let i = this.words.length; i < count; i++) {
      const length = Math.min(VIEW_BYTES, this.#buffer.byteLength - i * SEGMENT);
      this.words.push(new Int32Array(this.#buffer, i * SEGMENT, length / 4));
      this.bytes.push(new Uint8Array(this.#buffer, i * SEGMENT, length));
    }
  }

  /** Lets a change end. */
  #pause(tries: number): void {
    this.counts[RETRIES]++;
    for (let i = 8 << Math.min(tries, 8); i > 0; i--) Atomics.load(this.#head, STRUCTURE);
  }
}

/**
 * Reads without the host: commands that only look something up are carried out here, in the host's memory, where that is
 * mapped ({@link ../blocks/reader.ts}). What cannot be answered here is left to the host, which knows all commands.
 *
 * ```text
 * command ─► RecentValues ─► name and key, canonical ─► MemoryReader ─► reply
 *                 └─ kept, and unchanged: reply              └─ BUSY ─► ASK: the host replies
 * ```
 *
 * A reply is what the host would reply, with the same checks of arguments: those that it would refuse are left to it.
 *
 * @module
 */

import { RANGE_BYTES } from "../blocks/block.ts";
import { BUSY, type Kind, type KnownTable, MemoryReader, MISSING } from "../blocks/reader.ts";
import { MAX_PAGE_ENTRIES, PAGE_BYTES, PAGE_ENTRIES } from "../commands/pages.ts";
import { encode, Reader } from "../msgpack/codec.ts";
import { isShallow, Key, MAX_KEY_BYTES } from "../msgpack/key.ts";
import { Writer } from "../msgpack/msgpack.ts";
import { KEPT_BYTES, RecentValues } from "./recent.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import { SharedView } from "../transport/shared/range.ts";
import { loadSharedMemoryIfGranted } from "../transport/shared/system.ts";

/** In place of a reply: the host must be asked. */
export const ASK: unique symbol = Symbol("ask the host");

/** How often it is looked whether the memory is still the host's, in milliseconds: while it is mapped, it takes room. */
const WATCH_MS = 1000;
/** How many tables are remembered. */
const MAX_TABLES = 1024;
/** Larger tables are not read here as a whole: as many entries and bytes as a page may have. */
const WHOLE = { entries: 2048, bytes: PAGE_BYTES };
/** How many keys are looked up at once. */
const MAX_KEYS = 10_000;
/** When memory is asked for again that could not be mapped, in milliseconds: a restore may have replaced it meanwhile. */
const RETRY_MS = 100;
/** More bytes than the head of a reply has. */
const HEAD_BYTES = 32;
/** How often reads of several keys are tried. */
const MANY_TRIES = 4;
/** How many bytes the values of several keys may have: what the host refuses must not be read here. */
const MANY_BYTES = 2 ** 24;

const commands = [
  "get",
  "exists",
  "ttl",
  "in_set",
  "get_many",
  "size",
  "set_size",
  "scan",
  "scan_set",
  "keys",
  "all",
  "list_set",
  "tables",
  "sets",
] as const;
/** The commands that can be carried out here. */
type DirectCommand = typeof commands[number];
const names: ReadonlySet<string> = new Set(commands);

/** The memory of one host, once that has told where it is. */
export class DirectReads {
  #view: SharedView | undefined;
  #reader: MemoryReader | undefined;
  /** Looks whether the memory is still the host's, also while nobody reads. */
  #watch: ReturnType<typeof setInterval> | undefined;
  /** The one that notes what reads rely on. */
  #noting: MemoryReader | undefined;
  /** Whether the host should be asked where its memory is, … */
  #wanted: boolean;
  /** … and from when on, in the time of `performance.now()`. */
  #wantedAt = 0;
  #maxReply = Infinity;
  readonly #tables: Record<Kind, Map<string, KnownTable>> = { tables: new Map(), sets: new Map() };
  /** The table that was read last, and its name. */
  #last: KnownTable | undefined;
  #lastName: unknown;
  #lastKind: Kind | undefined;
  readonly #recent = new RecentValues();
  readonly #written = new Writer(256);
  readonly #scanned = new Writer(1 << 12);
  readonly #key = new Key();
  /** Whether an argument is being encoded: it may have a getter that reads. */
  #encoding = false;

  /** @param wanted Whether to read directly at all. */
  constructor(wanted: boolean) {
    this.#wanted = wanted;
  }

  /** Whether the host should be asked where its memory is, for such a command. */
  wantedFor(command: string): boolean {
    return this.#wanted && names.has(command) &&
      (this.#wantedAt === 0 || performance.now() >= this.#wantedAt);
  }

  /** Whether the host should be asked where its memory is, to read from it. */
  get wanted(): boolean {
    return this.#wanted;
  }

  /** Whether memory is mapped. */
  get open(): boolean {
    return this.#reader !== undefined;
  }

  /**
   * Takes what the host replied to the question where its memory is. If that cannot be mapped, the host is asked for each
   * read, and after a while where its memory is; if it has none that could be, not before {@linkcode DirectReads.forget}.
   *
   * @param figures Where reads are counted.
   * @param maxReply How many bytes a reply may have: the host refuses longer ones.
   */
  use(offer: unknown, figures: Float64Array | undefined, maxReply = Infinity): void {
    const { pid, fd, token } = (offer ?? {}) as Partial<MemoryOffer>;
    this.#wanted = false;
    this.#maxReply = maxReply;
    const valid = Number.isInteger(pid) && Number.isInteger(fd) && token instanceof Uint8Array;
    if (!valid || !loadSharedMemoryIfGranted()) return;
    try {
      this.#view = new SharedView(pid!, fd!, RANGE_BYTES);
      this.#reader = new MemoryReader(this.#view.buffer, token!, figures);
      const watch = this.#watch = setInterval(() => this.#reader?.usable || this.forget(), WATCH_MS);
      Deno.unrefTimer(watch);
    } catch {
      // (Another user's host, one in another container, or what a restore has just replaced.)
      this.#unmap();
      this.#wanted = true;
      this.#wantedAt = performance.now() + RETRY_MS;
    }
  }

  /** Begins to note what reads rely on. Returns whether there is memory to read. */
  begin(): boolean {
    this.#noting = this.#reader;
    this.#reader?.begin();
    return this.#reader !== undefined;
  }

  /** Ends {@linkcode DirectReads.begin}. Returns whether all that was read since then holds at this moment. */
  end(): boolean {
    const noting = this.#noting;
    this.#noting = undefined;
    return noting !== undefined && noting === this.#reader && noting.end();
  }

  /** Notes that the host is, or may be, another one. */
  forget(): void {
    this.#unmap();
    this.#wanted = true;
    this.#wantedAt = 0;
  }

  /** Unmaps the memory, for good. */
  close(): void {
    this.#unmap();
    this.#wanted = false;
  }

  /**
   * Carries out a command, if it is one that can be here.
   *
   * @returns The raw reply, or {@linkcode ASK}.
   * @throws {TypeError} if an argument cannot be encoded.
   */
  read(name: string, args: readonly unknown[]): unknown {
    const reader = this.#reader;
    if (reader === undefined || this.#encoding) return ASK;
    const count = args.length;
    switch (name as DirectCommand) {
      case "get":
        return count === 2 ? this.#get(reader, args[0], args[1]) : ASK;
      case "exists":
        return count === 2 ? this.#has(reader, "tables", args[0], args[1]) : ASK;
      case "ttl":
        return count === 2 ? this.#ttl(reader, args[0], args[1]) : ASK;
      case "in_set":
        return count === 2 ? this.#has(reader, "sets", args[0], args[1]) : ASK;
      case "size":
        return count === 1 ? this.#size(reader, "tables", args[0]) : ASK;
      case "set_size":
        return count === 1 ? this.#size(reader, "sets", args[0]) : ASK;
      case "get_many":
        return count === 2 || count === 3 ? this.#getMany(reader, args) : ASK;
      case "scan":
        return count === 2 || count === 3 ? this.#scan(reader, "tables", args) : ASK;
      case "scan_set":
        return count === 2 || count === 3 ? this.#scan(reader, "sets", args) : ASK;
      case "keys":
        return count === 1 ? this.#whole(reader, this.#table(reader, "tables", args[0]), false) : ASK;
      case "all":
        return count === 1 ? this.#whole(reader, this.#table(reader, "tables", args[0]), true) : ASK;
      case "list_set":
        return count === 1 ? this.#whole(reader, this.#table(reader, "sets", args[0]), false) : ASK;
      case "tables":
      case "sets":
        return count === 0 ? this.#whole(reader, reader.names(name as Kind), false) : ASK;
      default:
        return ASK;
    }
  }

  #get(reader: MemoryReader, name: unknown, key: unknown): unknown {
    const table = this.#table(reader, "tables", name);
    if (!table) return ASK;
    // (A table whose name is no string is not remembered.)
    const findable = typeof name === "string" && (typeof key === "string" || typeof key === "number");
    const recent = findable ? this.#recent.find(table, key) : undefined;
    if (recent !== undefined && reader.holds(table, recent)) return this.#recent.use(recent);
    if (!this.#aim(reader, key)) return ASK;
    const length = reader.get(table, this.#key);
    if (length === BUSY) return this.#ask();
    if (length > this.#maxReply) return ASK;
    const value = length === MISSING ? null : valueOrAsk(reader.value);
    const bytes = this.#key.to - this.#key.from + length;
    if (findable && bytes <= KEPT_BYTES && reader.expiry === 0 && reader.structure !== -1) {
      this.#recent.keep(table, key, value, reader);
    }
    return value;
  }

  #has(reader: MemoryReader, kind: Kind, name: unknown, key: unknown): unknown {
    const table = this.#table(reader, kind, name);
    if (!table || !this.#aim(reader, key)) return ASK;
    const found = reader.get(table, this.#key, false);
    return found === BUSY ? this.#ask() : found !== MISSING;
  }

  #ttl(reader: MemoryReader, name: unknown, key: unknown): unknown {
    const table = this.#table(reader, "tables", name);
    if (!table || !this.#aim(reader, key)) return ASK;
    const found = reader.get(table, this.#key, false), { expiry } = reader;
    if (found < 0) return found === MISSING ? null : this.#ask();
    return expiry === 0 ? Infinity : Math.max(0, expiry - Date.now()) / 1000;
  }

  #size(reader: MemoryReader, kind: Kind, name: unknown): unknown {
    const table = this.#table(reader, kind, name);
    if (!table) return ASK;
    const size = reader.size(table);
    return size === BUSY ? this.#ask() : size;
  }

  #getMany(reader: MemoryReader, args: readonly unknown[]): unknown {
    const [name, keys] = args, missing = args.length > 2 ? args[2] : null;
    const table = this.#table(reader, "tables", name);
    // (Other values for missing keys change on their way to the host and back.)
    const plain = missing === null || typeof missing === "string";
    if (!table || !plain || !Array.isArray(keys) || keys.length > MAX_KEYS) return ASK;
    let bytes = 0;
    const most = Math.min(MANY_BYTES, this.#maxReply);
    const found = reader.together(MANY_TRIES, () => {
      const values = [];
      for (const key of keys) {
        // (In an array, undefined is nil.)
        if (!this.#aim(reader, key ?? null)) return undefined;
        const length = reader.get(table, this.#key);
        if (length === BUSY || (bytes += 1 + Math.max(length, 0)) > most) return undefined;
        const value = length === MISSING ? missing : valueOrAsk(reader.value);
        if (value === ASK) return undefined;
        values.push(value);
      }
      return values;
    });
    return found ?? this.#ask();
  }

  #scan(reader: MemoryReader, kind: Kind, args: readonly unknown[]): unknown {
    const [name, cursor] = args, count = args.length > 2 ? args[2] : PAGE_ENTRIES;
    const table = this.#table(reader, kind, name), values = kind === "tables";
    const isPage = Number.isInteger(cursor) && Number.isInteger(count) &&
      (cursor as number) >= 0 && (cursor as number) < 2 ** 32 && (count as number) >= 0 &&
      (count as number) < 2 ** 32;
    if (!table || !isPage) return ASK;
    const most = { entries: Math.min(count as number, MAX_PAGE_ENTRIES), bytes: PAGE_BYTES };
    const page = this.#page(reader, table, cursor as number, values, most);
    if (!page) return this.#ask();
    const items = this.#scannedItems(page.entries, values);
    return items === ASK ? ASK : [page.next, items];
  }

  /** The keys of a table that is small, or its entries. */
  #whole(reader: MemoryReader, table: KnownTable | undefined, values: boolean): unknown {
    const page = table && this.#page(reader, table, 0, values, WHOLE);
    return page?.next === 0 ? this.#scannedItems(page.entries, values) : this.#ask();
  }

  /** Reads a page of a table. */
  #page(reader: MemoryReader, table: KnownTable, cursor: number, values: boolean, most: typeof WHOLE) {
    const scanned = this.#scanned;
    scanned.reset();
    const page = reader.scan(table, cursor, values, most, scanned);
    return scanned.length + HEAD_BYTES <= this.#maxReply ? page : undefined;
  }

  /** So many keys that were read, or entries. */
  #scannedItems(length: number, values: boolean): unknown[] | Map<unknown, unknown> | typeof ASK {
    const items = new Reader(this.#scanned.written);
    // (If the bytes are no MessagePack, the host says so.)
    try {
      if (!values) return Array.from({ length }, () => items.value());
      const entries = new Map<unknown, unknown>();
      for (let i = 0; i < length; i++) {
        const key = items.value();
        entries.set(key, items.value());
      }
      return entries;
    } catch {
      return ASK;
    }
  }

  /** The host must be asked. If that is because the memory is not its data any more, it is unmapped. */
  #ask(): typeof ASK {
    if (this.#reader && !this.#reader.usable) this.forget();
    return ASK;
  }

  /** The table of a name; undefined if the name is none for the host. */
  #table(reader: MemoryReader, kind: Kind, name: unknown): KnownTable | undefined {
    if (typeof name !== "string") {
      if (!this.#aim(reader, name)) return undefined;
      const { bytes, from, to } = this.#key;
      return reader.table(kind, bytes.slice(from, to));
    }
    if (name === this.#lastName && kind === this.#lastKind) return this.#last;
    const known = this.#tables[kind];
    let table = known.get(name);
    if (!table) {
      if (!this.#aim(reader, name)) return undefined;
      const { bytes, from, to } = this.#key;
      table = reader.table(kind, bytes.slice(from, to));
      if (known.size === MAX_TABLES) known.clear();
      known.set(name, table);
    }
    this.#lastName = name;
    this.#lastKind = kind;
    return this.#last = table;
  }

  /** Makes the key canonical. Whether the host would take it. */
  #aim(reader: MemoryReader, value: unknown): boolean {
    const written = this.#written, key = this.#key;
    written.reset();
    if (typeof value !== "object") encode(value, written, 1);
    else if (!this.#encode(value)) return false;
    key.aim(written.bytes, 0, written.length);
    if (key.to - key.from > MAX_KEY_BYTES) return false;
    key.hash = reader.hash(key);
    // (A getter may have closed the client.)
    return this.#reader === reader;
  }

  /** Encodes an object, whose getters may read. Whether it is nested no deeper than a key may be. */
  #encode(value: object | null): boolean {
    this.#encoding = true;
    try {
      const written = this.#written;
      encode(value, written, 1);
      return written.length <= MAX_KEY_BYTES && isShallow(written.bytes, 0);
    } finally {
      this.#encoding = false;
    }
  }

  #unmap(): void {
    clearInterval(this.#watch);
    this.#watch = undefined;
    this.#reader?.close();
    this.#reader = undefined;
    this.#view?.[Symbol.dispose]();
    this.#view = undefined;
    this.#last = this.#lastName = this.#lastKind = undefined;
    this.#recent.clear();
    this.#tables.tables.clear();
    this.#tables.sets.clear();
  }
}

/** The value that bytes begin with. If they are no MessagePack, the host says so. */
function valueOrAsk(bytes: Uint8Array): unknown {
  try {
    return new Reader(bytes).value();
  } catch {
    return ASK;
  }
}

/**
 * What commands on tables and on sets have in common: several keys in an argument, going through a table, and
 * writing entries to the reply.
 *
 * An entry whose time has come is not there for any command, though it may not have been deleted yet.
 *
 * A command that visits few entries does so at once. One that visits many goes through a snapshot, in steps, and
 * others are served in between; it still replies what was there at one moment.
 *
 * @module
 */

import { MAX_PAGE_ENTRIES, PAGE_BYTES, PAGE_ENTRIES } from "../../../commands/pages.ts";
import { head, skip } from "../../../msgpack/msgpack.ts";
import { fromClient, toClient } from "../../../blocks/cursor.ts";
import { Key } from "../../../msgpack/key.ts";
import type { Catalog } from "../catalog.ts";
import { Entry } from "../../../blocks/entry.ts";
import type { Span } from "../../../msgpack/key.ts";
import type { Store } from "../store.ts";
import type { Table } from "../table.ts";
import type { TableView } from "../view.ts";
import type { Call, Steps } from "./call.ts";

/** A command visits this many entries at once: a fraction of a millisecond. */
const AT_ONCE = 2048;

/** Tables that a command goes through, as they are at one moment. */
export class Reading implements Disposable {
  readonly tables: readonly (TableView | undefined)[];
  /** Looks at entries of the tables. */
  readonly entry: Entry;
  /** The moment, in milliseconds since 1970. */
  readonly now: number = Date.now();
  readonly #thaw: (() => void) | undefined;

  /**
   * @param frozen Whether the tables may change before the reading is disposed of: then it reads a snapshot.
   */
  constructor(store: Store, tables: readonly (Table | undefined)[], frozen: boolean) {
    const { heap } = store;
    this.entry = new Entry(heap);
    if (frozen) heap.freeze();
    this.tables = frozen ? tables.map((table) => table?.view()) : tables;
    this.#thaw = frozen ? () => heap.thaw() : undefined;
  }

  [Symbol.dispose](): void {
    this.#thaw?.();
  }

  /** Visits every entry of a table that is there, with its key. The key is good until the next. */
  *each(table: TableView | undefined, visit: (address: number, key: Span) => void): Steps {
    if (!table || table.size === 0) return;
    const key: Span = { bytes: NO_BYTES, from: 0, to: 0 };
    let cursor = 0;
    do {
      let visited = 0;
      cursor = table.scan(cursor, (address) => {
        visited++;
        const { bytes, keyFrom, keyTo, expiry } = this.entry.read(address);
        if (expiry !== 0 && expiry <= this.now) return;
        key.bytes = bytes;
        key.from = keyFrom;
        key.to = keyTo;
        visit(address, key);
      });
      yield visited;
    } while (cursor !== 0);
  }

  /** Whether the time of an entry has come. */
  hasExpired(address: number): boolean {
    const { expiry } = this.entry.read(address);
    return expiry !== 0 && expiry <= this.now;
  }

  /** How many entries of a table are there. */
  *count(table: TableView | undefined): Generator<number, number> {
    if (!table || table.expiring === 0) return table?.size ?? 0;
    let count = 0;
    yield* this.each(table, () => count++);
    return count;
  }
}

const NO_BYTES = new Uint8Array(0);

/**
 * Goes through tables: at once, or in steps where that takes long.
 *
 * @param find Finds the tables. (The steps may begin later, when a name has another table.)
 * @param visits How many entries are visited; left out: all of the tables.
 */
export function read(
  call: Call,
  find: () => (Table | undefined)[],
  steps: (reading: Reading) => Steps,
  visits?: number,
): void | Steps {
  const tables = find();
  visits ??= tables.reduce((sum, table) => sum + (table?.size ?? 0), 0);
  if (visits > AT_ONCE) return inSteps(call, find, steps);
  using reading = new Reading(call.store, tables, false);
  for (const visited of steps(reading)) call.visit(visited);
}

function* inSteps(call: Call, find: () => (Table | undefined)[], steps: (reading: Reading) => Steps): Steps {
  // (Nothing changes while a batch runs.)
  using reading = new Reading(call.store, find(), !call.inBatch);
  yield* steps(reading);
}

/** The keys of an argument that is an array. A key is good until the next. */
export function* eachKey(call: Call, arg: number): Generator<Key, void> {
  const { payload } = call, key = new Key();
  const { length, body } = head(payload, call.from(arg));
  for (let i = 0, at = body; i < length; i++) {
    const end = skip(payload, at);
    yield call.aimKey(key, at, end);
    at = end;
  }
}

/** Visits the keys of an argument that is a map, each with where its value begins and ends. */
function eachEntry(call: Call, arg: number, visit: (key: Key, from: number, to: number) => void): void {
  const { payload } = call, key = new Key();
  const { length, body } = head(payload, call.from(arg));
  for (let i = 0, at = body; i < length; i++) {
    const from = skip(payload, at), to = skip(payload, from);
    visit(call.aimKey(key, at, from), from, to);
    at = to;
  }
}

/** Sets all entries of an argument or, if there is no room for one of them, none. Returns how many are new. */
export function setAll(call: Call, catalog: Catalog, arg: number, what: "keys" | "entries"): number {
  const { length } = head(call.payload, call.from(arg));
  // Nothing changes nothing: no table is made for it.
  if (length === 0) return 0;
  call.visit(length);
  return call.store.transaction(() => {
    const table = catalog.make(call.key(0));
    let added = 0;
    const set = (key: Span, from: number, to: number) => {
      if (table.find(key) === 0) added++;
      table.set(key, call.payload, from, to);
    };
    if (what === "entries") eachEntry(call, arg, set);
    else for (const key of eachKey(call, arg)) set(key, 0, 0);
    return added;
  });
}

/** Replies how many entries a table has. */
export function writeSize(call: Call, catalog: Catalog): void | Steps {
  const find = () => [catalog.get(call.key(0))];
  const [table] = find();
  if (!table || table.expiring === 0 || call.store.expiryQueue.next > Date.now()) {
    return call.reply.int(table?.size ?? 0);
  }
  return read(call, find, function* (reading) {
    call.reply.int(yield* reading.count(reading.tables[0]));
  });
}

/** Replies the keys of a table, or its keys and values. */
export function writeAll(call: Call, catalog: Catalog, what: "keys" | "entries"): void | Steps {
  return writeTable(call, () => catalog.get(call.key(0)), what);
}

/** Replies the names of all tables, or of all sets. */
export function writeNames(call: Call, catalog: Catalog): void | Steps {
  return writeTable(call, () => catalog.names, "keys");
}

function writeTable(call: Call, find: () => Table | undefined, what: "keys" | "entries"): void | Steps {
  // (It is known before anything is written whether a large table fits; its keys alone may fit where it does not.)
  if (what === "entries") call.checkRoom(find()?.bytes ?? 0, IN_PAGES);
  return read(call, () => [find()], function* (reading) {
    const [table] = reading.tables, { reply } = call;
    const size = yield* reading.count(table);
    if (what === "keys") reply.arrayHead(size);
    else reply.mapHead(size);
    yield* reading.each(table, (address) => write(address, call, reading.entry, what));
  });
}

/** Replies entries that were found in one of the tables of a reading. */
export function* writeFound(call: Call, reading: Reading, found: readonly number[]): Steps {
  call.reply.arrayHead(found.length);
  for (let i = 0; i < found.length; i++) {
    write(found[i], call, reading.entry, "keys");
    if (i % 256 === 255) yield 256;
  }
}

function write(address: number, call: Call, entry: Entry, what: "keys" | "entries"): void {
  const { bytes, keyFrom, keyTo, valueTo } = entry.read(address);
  const to = what === "keys" ? keyTo : valueTo;
  call.checkRoom(to - keyFrom, IN_PAGES);
  call.reply.copy(bytes, keyFrom, to);
}

/** What to do where a reply is too large. */
export const IN_PAGES = "scan and scan_set return it in pages";

/** Replies a page of entries, and the cursor of the next: arguments 1 and 2 are the cursor and a count. */
export function writePage(call: Call, catalog: Catalog, what: "keys" | "entries"): void {
  const table = catalog.get(call.key(0));
  const { entry } = call.store, { reply } = call, now = Date.now();
  const count = Math.min(call.count > 2 ? call.decode(2) as number : PAGE_ENTRIES, MAX_PAGE_ENTRIES);
  const found: number[] = [];
  let cursor = fromClient(call.decode(1) as number);
  // (A page of the table costs something too, however little is in it.)
  let visited = 0, bytes = 0;
  const visit = (address: number) => {
    const { keyFrom, keyTo, valueTo, expiry } = entry.read(address);
    visited++;
    if (expiry === 0 || expiry > now) {
      found.push(address);
      bytes += (what === "keys" ? keyTo : valueTo) - keyFrom;
    }
    return visited < count && bytes < PAGE_BYTES;
  };
  do {
    cursor = table?.walk(cursor, visit) ?? 0;
    visited++;
  } while (cursor !== 0 && visited < count && bytes < PAGE_BYTES);
  call.visit(visited);
  call.checkRoom(bytes + 16, "ask for fewer at once");
  reply.arrayHead(2);
  reply.int(toClient(cursor));
  if (what === "keys") reply.arrayHead(found.length);
  else reply.mapHead(found.length);
  for (const address of found) write(address, call, entry, what);
}

/** Whether the key that is argument 1 is in the table that is argument 0. */
export function has(catalog: Catalog, call: Call): boolean {
  return (catalog.get(call.key(0))?.find(call.key(1)) ?? 0) !== 0;
}

/** Replies the value of an entry. */
export function writeValue(address: number, call: Call, entry: Entry = call.store.entry): void {
  const { bytes, keyTo, valueTo } = entry.read(address);
  call.checkRoom(valueTo - keyTo);
  call.reply.copy(bytes, keyTo, valueTo);
}

/**
 * What commands on tables and on sets have in common: reading several keys from an argument, and writing
 * entries to the reply.
 *
 * An entry whose time has come is not there for any command, though it may not have been swept yet.
 *
 * @module
 */

import type { Span, Table } from "../engine/table.ts";
import { fromClient, toClient } from "../engine/cursor.ts";
import { Key } from "../engine/key.ts";
import type { Names } from "../engine/store.ts";
import { head, skip } from "../wire/msgpack.ts";
import type { Call } from "./call.ts";

/** After so many bytes `scan` and `scan_set` answer, whatever was asked for. */
const SCAN_BYTES = 2 ** 20;
/** How many entries they look at if they are not told. */
const SCAN_COUNT = 1000;

/** Visits the keys of an argument that is an array. A key is good until the next. */
export function eachKey(call: Call, arg: number, visit: (key: Key) => void): void {
  const { payload } = call, key = new Key();
  const { length, body } = head(payload, call.from(arg));
  for (let i = 0, at = body; i < length; i++) {
    const end = skip(payload, at);
    visit(key.aim(payload, at, end));
    at = end;
  }
}

/** Visits the keys of an argument that is a map, each with where its value begins and ends. */
function eachEntry(call: Call, arg: number, visit: (key: Key, from: number, to: number) => void): void {
  const { payload } = call, key = new Key();
  const { length, body } = head(payload, call.from(arg));
  for (let i = 0, at = body; i < length; i++) {
    const from = skip(payload, at), to = skip(payload, from);
    visit(key.aim(payload, at, from), from, to);
    at = to;
  }
}

/** Sets all entries of an argument or, if there is no room for one of them, none. Answers how many are new. */
export function setAll(call: Call, names: Names, arg: number, what: "keys" | "entries"): number {
  // Nothing changes nothing: no table is made for it.
  if (head(call.payload, call.from(arg)).length === 0) return 0;
  return call.store.transaction(() => {
    const table = names.make(call.key(0));
    let added = 0;
    const set = (key: Span, from: number, to: number) => {
      if (table.find(key) === 0) added++;
      table.set(key, call.payload, from, to);
    };
    if (what === "entries") eachEntry(call, arg, set);
    else eachKey(call, arg, (key) => set(key, 0, 0));
    return added;
  });
}

/** How many entries a table has. */
export function sizeOf(table: Table | undefined, { store }: Call, now: number = Date.now()): number {
  if (!table) return 0;
  if (table.expiring === 0 || store.expiries.next > now) return table.size;
  let size = 0;
  table.forEach((address) => {
    if (isThere(store.entry.look(address).expiry, now)) size++;
  });
  return size;
}

const isThere = (expiry: number, now: number) => expiry === 0 || expiry > now;

/** Writes how many entries a table has, and then each. */
export function writeAll(
  table: Table | undefined,
  call: Call,
  writeHead: (size: number) => void,
  write: (address: number, call: Call) => void,
): void {
  const now = Date.now();
  writeHead(sizeOf(table, call, now));
  if (table?.expiring === 0) return table.forEach((address) => write(address, call));
  table?.forEach((address) => {
    if (isThere(call.store.entry.look(address).expiry, now)) write(address, call);
  });
}

/** The keys of a table, or the members of a set, as an array. */
export function writeKeys(of: Table | undefined, call: Call): void {
  writeAll(of, call, (size) => call.reply.arrayHead(size), writeKey);
}

/** What `scan` and `scan_set` answer: arguments 1 and 2 are where to begin and how many to look at. */
export function writeScan(
  table: Table | undefined,
  call: Call,
  writeHead: (size: number) => void,
  write: (address: number, call: Call) => void,
): void {
  const { entry } = call.store, now = Date.now();
  const count = call.count > 2 ? call.decode(2) as number : SCAN_COUNT;
  const found: number[] = [];
  let cursor = fromClient(call.decode(1) as number);
  // (A page costs something too, however little is in it.)
  let looked = 0, bytes = 0;
  const visit = (address: number) => {
    const { keyFrom, valueTo, expiry } = entry.look(address);
    looked++;
    if (isThere(expiry, now)) {
      found.push(address);
      bytes += valueTo - keyFrom;
    }
    return looked < count && bytes < SCAN_BYTES;
  };
  do {
    cursor = table?.walk(cursor, visit) ?? 0;
    looked++;
  } while (cursor !== 0 && looked < count && bytes < SCAN_BYTES);
  call.reply.arrayHead(2);
  call.reply.int(toClient(cursor));
  writeHead(found.length);
  for (const address of found) write(address, call);
}

/** Whether the key that is argument 1 is in the table that is argument 0. */
export function has(names: Names, call: Call): boolean {
  return (names.get(call.key(0))?.find(call.key(1)) ?? 0) !== 0;
}

/** Writes the value of an entry, … */
export function writeValue(address: number, { store, reply }: Call): void {
  const { bytes, keyTo, valueTo } = store.entry.look(address);
  reply.copy(bytes, keyTo, valueTo);
}

/** … its key, … */
export function writeKey(address: number, { store, reply }: Call): void {
  const { bytes, keyFrom, keyTo } = store.entry.look(address);
  reply.copy(bytes, keyFrom, keyTo);
}

/** … or both. */
export function writeEntry(address: number, { store, reply }: Call): void {
  const { bytes, keyFrom, valueTo } = store.entry.look(address);
  reply.copy(bytes, keyFrom, valueTo);
}

/** Writes the names of all tables, or of all sets. */
export function writeNames(names: Names, { reply }: Call): void {
  reply.arrayHead(names.size);
  for (const { name } of names.values()) reply.raw(name);
}

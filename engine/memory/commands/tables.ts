/**
 * What the commands on tables do.
 *
 * @module
 */

import { MemStoreError } from "../../../transport/message.ts";
import { head } from "../../../msgpack/msgpack.ts";
import { equalValues } from "../../../msgpack/key.ts";
import type { Span } from "../../../msgpack/key.ts";
import type { Table } from "../table.ts";
import type { Call, Handler, Steps } from "./call.ts";
import {
  eachKey,
  has,
  read,
  type Reading,
  setAll,
  writeAll,
  writeNames,
  writePage,
  writeSize,
  writeValue,
} from "./items.ts";
import { type Numeric, numericAt, writeSum } from "./number.ts";

/** The handlers of commands on tables, by the commands' names. */
export const tableHandlers = {
  get(call) {
    const entry = tableToRead(call)?.find(call.key(1)) ?? 0;
    if (entry === 0) call.reply.nil();
    else writeValue(entry, call);
  },
  set(call) {
    set(call, 2, expiry(call, 3));
    call.reply.int(1);
  },
  set_new(call) {
    const made = !has(call.store.tables, call);
    if (made) set(call, 2, expiry(call, 3));
    call.reply.int(made ? 1 : 0);
  },
  cas(call) {
    const fits = isExpected(find(call), call);
    if (fits) set(call, 3);
    call.reply.int(fits ? 1 : 0);
  },
  incr: increment,
  pop(call) {
    const entry = find(call);
    if (entry === 0) return call.reply.nil();
    writeValue(entry, call);
    call.store.tables.get(call.key(0))?.delete(call.key(1));
  },
  del(call) {
    call.reply.int(call.store.tables.get(call.key(0))?.delete(call.key(1)) ? 1 : 0);
  },
  del_if(call) {
    const entry = find(call);
    const fits = entry !== 0 && isExpected(entry, call);
    if (fits) call.store.tables.get(call.key(0))?.delete(call.key(1));
    call.reply.int(fits ? 1 : 0);
  },
  exists(call) {
    call.reply.bool(has(call.store.tables, call));
  },
  get_many(call) {
    const { length } = head(call.payload, call.from(1));
    const { tables } = call.store;
    const { bytes: missing, from, to } = call.count > 2
      ? { bytes: call.payload, from: call.from(2), to: call.to(2) }
      : NIL;
    const steps = function* (reading: Reading): Steps {
      const [table] = reading.tables, { reply } = call;
      reply.arrayHead(length);
      let cost = 0;
      for (const key of eachKey(call, 1)) {
        const entry = table?.find(key) ?? 0;
        if (entry === 0 || reading.hasExpired(entry)) {
          call.checkRoom(to - from), reply.copy(missing, from, to);
        } else writeValue(entry, call, reading.entry);
        cost += keyCost(key.to - key.from);
        if (cost >= STEP) yield cost, cost = 0;
      }
    };
    return read(call, () => [tables.get(call.key(0))], steps, length + keyCost(call.to(1) - call.from(1)));
  },
  set_many(call) {
    call.reply.int(setAll(call, call.store.tables, 1, "entries"));
  },
  expire(call) {
    const { store, reply } = call;
    const table = store.tables.get(call.key(0));
    const seconds = Number(call.decode(2));
    if (!table) return reply.int(0);
    if (seconds <= 0) return reply.int(table.delete(call.key(1)) ? 1 : 0);
    reply.int(store.expire(table, call.key(1), timeIn(seconds)) ? 1 : 0);
  },
  persist(call) {
    const { store } = call, entry = find(call);
    const expires = entry !== 0 && store.entry.read(entry).expiry > 0;
    const table = store.tables.get(call.key(0));
    call.reply.int(expires && store.expire(table!, call.key(1), 0) ? 1 : 0);
  },
  ttl(call) {
    const entry = find(call);
    if (entry === 0) return call.reply.nil();
    const { expiry } = call.store.entry.read(entry);
    call.reply.float(expiry === 0 ? Infinity : Math.max(0, expiry - Date.now()) / 1000);
  },
  keys(call) {
    return writeAll(call, call.store.tables, "keys");
  },
  size(call) {
    return writeSize(call, call.store.tables);
  },
  all(call) {
    const { tables } = call.store;
    if (call.legacy && !tables.get(call.key(0))) return call.reply.int(-1);
    return writeAll(call, tables, "entries");
  },
  scan(call) {
    writePage(call, call.store.tables, "entries");
  },
  drop(call) {
    call.reply.int(call.store.tables.drop(call.key(0)) ? 1 : 0);
  },
  tables(call) {
    return writeNames(call, call.store.tables);
  },
} satisfies Record<string, Handler>;

/** The entry of the key that is argument 1 in the table that is argument 0; 0 if it is not there. */
function find(call: Call): number {
  return call.store.tables.get(call.key(0))?.find(call.key(1)) ?? 0;
}

/** Sets the key that is argument 1 to the value that is argument `value`. */
function set(call: Call, value: number, expiry = 0): void {
  const { store } = call, from = call.from(value), to = call.to(value);
  store.set(call.key(0), call.key(1), call.payload, from, to, expiry);
  call.copy(to - from);
}

/** When an entry expires whose seconds are argument `arg`; 0 if it is left out. */
function expiry(call: Call, arg: number): number {
  if (call.count <= arg) return 0;
  const seconds = Number(call.decode(arg));
  if (seconds > 0) return timeIn(seconds);
  throw new MemStoreError("BAD_ARGUMENT", `Cannot set: seconds must be more than 0: received ${seconds}`);
}

/** A time, in milliseconds since 1970. */
const timeIn = (seconds: number) => Math.ceil(Date.now() + seconds * 1000);

/** The table that a command reads. In pymemstore asking a table for a key made it, which `all` then shows. */
function tableToRead(call: Call): Table | undefined {
  return call.legacy && call.right !== "read"
    ? call.store.tables.make(call.key(0))
    : call.store.tables.get(call.key(0));
}

/** Whether the value of an entry is argument 2, by value; without an entry it is nil. */
function isExpected(address: number, call: Call): boolean {
  const { payload } = call, from = call.from(2), to = call.to(2);
  if (address === 0) return payload[from] === 0xc0;
  const { bytes, keyTo, valueTo } = call.store.entry.read(address);
  return equalValues(bytes, keyTo, valueTo, payload, from, to);
}

const NIL: Span = { bytes: new Uint8Array([0xc0]), from: 0, to: 1 };

/** A key of this many bytes takes as long as visiting so many entries. */
const keyCost = (bytes: number) => 1 + (bytes >>> 6);
/** Entries that are visited in a step. */
const STEP = 128;

const ZERO: Numeric = { value: 0, float: false };
const ONE: Numeric = { value: 1, float: false };

/** An entry that is there keeps its expiry. */
function increment(call: Call): void {
  const { store, reply } = call;
  const by = call.count > 2 ? numericAt(call.payload, call.from(2))! : ONE;
  const due = expiry(call, 3);
  const table = store.tables.get(call.key(0));
  const address = table?.find(call.key(1)) ?? 0;
  const start = reply.length;
  if (address === 0) {
    writeSum(ZERO, by, reply);
    return store.set(call.key(0), call.key(1), reply.bytes, start, reply.length, due);
  }
  const { bytes, keyTo, expiry: old } = store.entry.read(address);
  const before = numericAt(bytes, keyTo);
  if (!before) throw new MemStoreError("FAILED", "Cannot incr: the value of the key is not a number");
  writeSum(before, by, reply);
  table!.set(call.key(1), reply.bytes, start, reply.length, old);
}

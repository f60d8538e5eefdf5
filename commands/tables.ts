/**
 * The commands on tables.
 *
 * @module
 */

import type { Table } from "../engine/table.ts";
import { MemStoreError } from "../wire/message.ts";
import { head } from "../wire/msgpack.ts";
import { any, type CommandEntry, entries, key, keys, number, optional, seconds, uint32 } from "./args.ts";
import type { Call } from "./call.ts";
import {
  eachKey,
  has,
  setAll,
  sizeOf,
  writeAll,
  writeEntry,
  writeKeys,
  writeNames,
  writeScan,
  writeValue,
} from "./items.ts";
import { type Numeric, numericAt, writeSum } from "./number.ts";

/** The commands on tables, by their names. */
export const tableCommands = {
  get: {
    needs: "read",
    args: [key("table"), key("key")],
    help: "The value of a key, or nil.",
    finds: "tables",
    run(call) {
      const entry = tableToRead(call)?.find(call.key(1)) ?? 0;
      if (entry === 0) call.reply.nil();
      else writeValue(entry, call);
    },
  },
  set: {
    needs: "write",
    args: [key("table"), key("key"), any("value")],
    help: "Sets the value of a key.",
    finds: "tables",
    run(call) {
      call.store.tables.set(call.key(0), call.key(1), call.payload, call.from(2), call.to(2));
      call.reply.int(1);
    },
  },
  set_new: {
    needs: "write",
    args: [key("table"), key("key"), any("value")],
    help: "Sets a key that is not there: 1, or 0 if it is.",
    finds: "tables",
    run(call) {
      if (has(call.store.tables, call)) return call.reply.int(0);
      call.store.tables.set(call.key(0), call.key(1), call.payload, call.from(2), call.to(2));
      call.reply.int(1);
    },
  },
  cas: {
    needs: "write",
    args: [key("table"), key("key"), any("expected"), any("value")],
    help: "Sets a key whose value is as expected: 1, or 0 if not.",
    finds: "tables",
    run(call) {
      const { tables } = call.store;
      const fits = isExpected(tables.get(call.key(0))?.find(call.key(1)) ?? 0, call);
      if (fits) tables.set(call.key(0), call.key(1), call.payload, call.from(3), call.to(3));
      call.reply.int(fits ? 1 : 0);
    },
  },
  incr: {
    needs: "write",
    args: [key("table"), key("key"), optional(number("by"))],
    help: "Adds to a number, 1 if not told otherwise: the sum.",
    finds: "tables",
    run: increment,
  },
  pop: {
    needs: "write",
    args: [key("table"), key("key")],
    help: "Deletes a key: its value, or nil if it was not there.",
    finds: "tables",
    run(call) {
      const table = call.store.tables.get(call.key(0));
      const entry = table?.find(call.key(1)) ?? 0;
      if (entry === 0) return call.reply.nil();
      writeValue(entry, call);
      call.checkReply();
      table?.delete(call.key(1));
    },
  },
  del: {
    needs: "write",
    args: [key("table"), key("key")],
    help: "Deletes a key: 1, or 0 if it was not there.",
    finds: "tables",
    run(call) {
      call.reply.int(call.store.tables.get(call.key(0))?.delete(call.key(1)) ? 1 : 0);
    },
  },
  exists: {
    needs: "read",
    args: [key("table"), key("key")],
    help: "Whether a table has a key.",
    finds: "tables",
    run(call) {
      call.reply.bool(has(call.store.tables, call));
    },
  },
  get_many: {
    needs: "read",
    args: [key("table"), keys("keys")],
    help: "The values of several keys, nil for those not there.",
    run(call) {
      const table = call.store.tables.get(call.key(0));
      call.reply.arrayHead(head(call.payload, call.from(1)).length);
      eachKey(call, 1, (key) => {
        const entry = table?.find(key) ?? 0;
        if (entry === 0) call.reply.nil();
        else writeValue(entry, call);
        call.checkReply();
      });
    },
  },
  set_many: {
    needs: "write",
    args: [key("table"), entries("entries")],
    help: "Sets several keys, all or none: how many are new.",
    run(call) {
      call.reply.int(setAll(call, call.store.tables, 1, "entries"));
    },
  },
  expire: {
    needs: "write",
    args: [key("table"), key("key"), seconds("seconds")],
    help: "Has a key be gone after so many seconds: 1, or 0 if none.",
    finds: "tables",
    run: expire,
  },
  persist: {
    needs: "write",
    args: [key("table"), key("key")],
    help: "Has a key stay that would be gone some day: 1, or 0.",
    finds: "tables",
    run(call) {
      const table = call.store.tables.get(call.key(0));
      const entry = table?.find(call.key(1)) ?? 0;
      const expires = entry !== 0 && call.store.entry.look(entry).expiry > 0;
      call.reply.int(expires && call.store.expire(table!, call.key(1), 0) ? 1 : 0);
    },
  },
  ttl: {
    needs: "read",
    args: [key("table"), key("key")],
    help: "Seconds that a key has left: Infinity if it stays, or nil.",
    finds: "tables",
    run(call) {
      const entry = call.store.tables.get(call.key(0))?.find(call.key(1)) ?? 0;
      if (entry === 0) return call.reply.nil();
      const { expiry } = call.store.entry.look(entry);
      call.reply.float(expiry === 0 ? Infinity : Math.max(0, expiry - Date.now()) / 1000);
    },
  },
  keys: {
    needs: "read",
    args: [key("table")],
    help: "The keys of a table, all at once.",
    run(call) {
      writeKeys(call.store.tables.get(call.key(0)), call);
    },
  },
  size: {
    needs: "read",
    args: [key("table")],
    help: "How many entries a table has.",
    run(call) {
      call.reply.int(sizeOf(call.store.tables.get(call.key(0)), call));
    },
  },
  all: {
    needs: "read",
    args: [key("table")],
    help: "A table as a map, all at once.",
    run(call) {
      const table = call.store.tables.get(call.key(0));
      if (!table && call.legacy) return call.reply.int(-1);
      writeAll(table, call, (size) => call.reply.mapHead(size), writeEntry);
    },
  },
  scan: {
    needs: "read",
    args: [key("table"), uint32("cursor"), optional(uint32("count"))],
    help: "Some entries, and the cursor of the next; 0 begins and ends.",
    run(call) {
      const table = call.store.tables.get(call.key(0));
      writeScan(table, call, (size) => call.reply.mapHead(size), writeEntry);
    },
  },
  drop: {
    needs: "write",
    args: [key("table")],
    help: "Drops a table: 1, or 0 if there was none.",
    run(call) {
      call.reply.int(call.store.tables.drop(call.key(0)) ? 1 : 0);
    },
  },
  tables: {
    needs: "read",
    args: [],
    help: "The names of the tables.",
    run(call) {
      writeNames(call.store.tables, call);
    },
  },
} satisfies Record<string, CommandEntry>;

/** The table that a command reads. In pymemstore asking a table for a key made it, which `all` then shows. */
function tableToRead(call: Call): Table | undefined {
  return call.legacy && call.right !== "read"
    ? call.store.tables.make(call.key(0))
    : call.store.tables.get(call.key(0));
}

/** Whether the value of an entry is argument 2, byte for byte; without an entry it is nil. */
function isExpected(address: number, call: Call): boolean {
  const { payload } = call, from = call.from(2), to = call.to(2);
  if (address === 0) return payload[from] === 0xc0;
  const { bytes, keyTo, valueTo } = call.store.entry.look(address);
  if (valueTo - keyTo !== to - from) return false;
  for (let i = from; i < to; i++) if (payload[i] !== bytes[keyTo + i - from]) return false;
  return true;
}

const ONE: Numeric = { value: 1, float: false };

/** The entry keeps its expiry. */
function increment(call: Call): void {
  const { store, reply } = call;
  const by = call.count > 2 ? numericAt(call.payload, call.from(2))! : ONE;
  const table = store.tables.get(call.key(0));
  const address = table?.find(call.key(1)) ?? 0;
  const start = reply.length;
  if (address === 0) {
    writeSum({ value: 0, float: false }, by, reply);
    store.tables.set(call.key(0), call.key(1), reply.bytes, start, reply.length);
    return;
  }
  const { bytes, keyTo, expiry } = store.entry.look(address);
  const old = numericAt(bytes, keyTo);
  if (!old) throw new MemStoreError("FAILED", "Cannot incr: the value of the key is no number");
  writeSum(old, by, reply);
  table!.set(call.key(1), reply.bytes, start, reply.length, expiry);
}

function expire(call: Call): void {
  const { store, reply } = call;
  const table = store.tables.get(call.key(0));
  const seconds = Number(call.decode(2));
  if (!table) return reply.int(0);
  if (seconds <= 0) return reply.int(table.delete(call.key(1)) ? 1 : 0);
  reply.int(store.expire(table, call.key(1), Math.ceil(Date.now() + seconds * 1000)) ? 1 : 0);
}

/**
 * What the commands on tables do in Redis. One that is about one key is one command there, or one script; one that is about a
 * whole table asks every partition.
 *
 * Arguments are taken before the first `await`: after it, the call is another command's.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { MemStoreError } from "../../transport/message.ts";
import type { WriteReply } from "../call.ts";
import { equalValues } from "../../msgpack/key.ts";
import { argument, type Call, canonical, type Database, type Handler, valueIn } from "./database.ts";
import { type Collection, deadlineOf } from "./layout.ts";
import { divide, replyAny, replyFlag, replyNumber, replySum } from "./items.ts";
import type { Argument, Reply } from "./node.ts";
import * as scripts from "./scripts.ts";
import { exists, writeEntries, writeKeys, writeNames, writePage } from "./walk.ts";

/** How often a value is compared on the front before a command gives up: others change it each time. */
const MAX_TRIES = 64;

/** The handlers of commands on tables, by the commands' names. */
export const tableHandlers = {
  get(call) {
    const { store, table, partition, key } = entryOf(call);
    if (call.legacy && call.right !== "read") makeTable(store, table, partition);
    return store.send(partition, ["HGET", table.key(partition), key], "repeatable")
      .then((stored) => {
        const value = valueIn(store, partition, stored);
        return (to) => value ? to.raw(value) : to.nil();
      });
  },
  set(call) {
    if (call.count > 3) return put(call, scripts.SET_FOR).then(replyNumber);
    const { store, table, partition, key } = entryOf(call);
    const args = [...store.tableKeys(table, partition), key, argument(call, 2), table.suffix];
    return store.run(partition, scripts.SET, args).then(replyNumber);
  },
  set_new(call) {
    return put(call, scripts.SET_NEW).then(replyNumber);
  },
  cas(call) {
    const { store, table, partition, key } = entryOf(call);
    const keys = store.tableKeys(table, partition), value = argument(call, 3);
    return compared(
      call,
      (expected) => store.run(partition, scripts.CAS, [...keys, key, expected, value, table.suffix]),
    );
  },
  incr(call) {
    const { store, table, partition, key } = entryOf(call);
    const by = call.count > 2 ? argument(call, 2) : ONE, seconds = secondsOf(call, 3);
    const keys = store.tableKeys(table, partition);
    return store.run(partition, scripts.INCR, [...keys, key, by, table.suffix, seconds]).then(
      (sum) => {
        if (sum === 0) throw new MemStoreError("FAILED", "Cannot incr: the value of the key is not a number");
        if (sum === 1 || sum === 2) {
          const what = sum === 1 ? "a float" : "an integer of 64 bits";
          throw new MemStoreError("FAILED", `Cannot incr: the sum is more than ${what} can be`);
        }
        return (to) => to.raw(sum as Buffer);
      },
    );
  },
  pop(call) {
    const { store, table, partition, key } = entryOf(call);
    return store.run(partition, scripts.POP, [...store.tableKeys(table, partition), key])
      .then((value) => (to) => value === null ? to.nil() : to.raw(value as Buffer));
  },
  del(call) {
    const { store, table, partition, key } = entryOf(call);
    return store.run(partition, scripts.DEL, [...store.tableKeys(table, partition), key]).then(
      replyNumber,
    );
  },
  del_if(call) {
    const { store, table, partition, key } = entryOf(call);
    return compared(
      call,
      (expected) =>
        store.run(partition, scripts.DEL_IF, [
          ...store.tableKeys(table, partition),
          key,
          expected,
          table.suffix,
        ]),
    );
  },
  exists(call) {
    const { store, table, partition, key } = entryOf(call);
    return store.run(partition, scripts.EXISTS, [table.key(partition), key], "repeatable").then(replyFlag);
  },
  get_many(call) {
    const { store } = call, table = tableOf(call);
    const missing = call.count > 2 ? argument(call, 2) : NIL;
    const wanted = divide(call, 1, "keys");
    return getMany(store, table, wanted.parts).then((found) => {
      const values = wanted.order.map(({ partition, at }) => found.get(partition)![at] ?? missing);
      return (to) => {
        to.arrayHead(values.length);
        for (const value of values) to.raw(value);
      };
    });
  },
  set_many(call) {
    const { store } = call, table = tableOf(call);
    const { parts } = divide(call, 1, "entries");
    return replySum(Array.from(parts, ([partition, entries]) => {
      return store.run(partition, scripts.SET_MANY, [
        ...store.tableKeys(table, partition),
        table.suffix,
        ...entries,
      ]);
    }));
  },
  expire(call) {
    const { store, table, partition, key } = entryOf(call);
    const seconds = String(Number(call.decode(2)));
    const keys = store.tableKeys(table, partition);
    return store.run(partition, scripts.EXPIRE, [...keys, key, table.suffix, seconds]).then(replyNumber);
  },
  persist(call) {
    const { store, table, partition, key } = entryOf(call);
    return store.run(partition, scripts.PERSIST, [...store.tableKeys(table, partition), key, table.suffix])
      .then(replyNumber);
  },
  ttl(call) {
    const { store, table, partition, key } = entryOf(call);
    return store.send(partition, ["HGET", table.key(partition), key], "repeatable").then((stored) => {
      if (!valueIn(store, partition, stored)) return (to) => to.nil();
      const left = (deadlineOf(stored as Buffer) - store.now(partition)) / 1000;
      return (to) => to.float(left);
    });
  },
  keys(call) {
    return writeKeys(call.store, tableOf(call), call.maxReply);
  },
  size(call) {
    return sizeOf(call.store, tableOf(call)).then(replyNumber);
  },
  all(call) {
    const { store, maxReply } = call, table = tableOf(call);
    if (!call.legacy) return writeEntries(store, table, maxReply);
    return exists(store, table).then((is) => is ? writeEntries(store, table, maxReply) : replyNumber(-1));
  },
  scan(call) {
    return writePage(call, tableOf(call));
  },
  drop(call) {
    const { store } = call, table = tableOf(call);
    return replyAny(store.partitions.map((partition) => {
      return store.run(partition, scripts.DROP, [...store.tableKeys(table, partition), table.suffix]);
    }));
  },
  tables(call) {
    return writeNames(call.store, "tables", call.maxReply);
  },
} satisfies Record<string, Handler>;

const ONE = Buffer.from([1]);
const NIL = Buffer.from([0xc0]);

/** The table that is argument 0. */
function tableOf(call: Call): Collection {
  return call.store.layout.collection("tables", call.key(0));
}

/** The table that is argument 0, and the key that is argument 1. */
function entryOf(call: Call) {
  const { store } = call, key = call.key(1);
  return {
    store,
    table: tableOf(call),
    partition: store.layout.partitionOf(key),
    key: canonical(call, key),
  };
}

/** Runs a script that stores argument 2 under argument 1, and argument 3 are the seconds until that expires. */
function put(call: Call, script: scripts.Script): Promise<Reply> {
  const { store, table, partition, key } = entryOf(call);
  const keys = store.tableKeys(table, partition), value = argument(call, 2), seconds = secondsOf(call, 3);
  return store.run(partition, script, [...keys, key, value, table.suffix, seconds]);
}

/** The seconds after which an entry expires; empty if they are left out. */
function secondsOf(call: Call, arg: number): string {
  if (call.count <= arg) return "";
  const seconds = Number(call.decode(arg));
  if (seconds > 0) return String(seconds);
  throw new MemStoreError("BAD_ARGUMENT", `Cannot set: seconds must be more than 0: received ${seconds}`);
}

/** In pymemstore asking a table for a key made the table. */
function makeTable(store: Database, table: Collection, partition: number): void {
  // (If it fails, so does what follows on the same connection.)
  store.send(partition, ["SADD", store.catalog("tables", partition), table.suffix], "repeatable").catch(
    () => {},
  );
}

/**
 * Runs a script that compares the stored value with argument 2. Where there are several ways to encode what it finds, it
 * returns the value: it is compared here and, if it is the same, expected as it is encoded there.
 */
async function compared(call: Call, run: (expected: Buffer) => Promise<Reply>): Promise<WriteReply> {
  const wanted = argument(call, 2);
  let expected = wanted;
  for (let i = 0; i < MAX_TRIES; i++) {
    const found = await run(expected);
    if (typeof found === "number") return replyNumber(found);
    const value = found as Buffer;
    if (!equalValues(value, 0, value.length, wanted, 0, wanted.length)) return replyNumber(0);
    expected = value;
  }
  throw new MemStoreError("FAILED", "Cannot compare the value: others change it all the time");
}

/** The values of keys, by their partitions; undefined for one that is not there. */
async function getMany(
  store: Database,
  table: Collection,
  parts: ReadonlyMap<number, Argument[]>,
): Promise<Map<number, (Buffer | undefined)[]>> {
  const found = new Map<number, (Buffer | undefined)[]>();
  await Promise.all(Array.from(parts, async ([partition, keys]) => {
    const stored = await store.send(
      partition,
      ["HMGET", table.key(partition), ...keys],
      "repeatable",
    ) as Reply[];
    found.set(partition, stored.map((each) => valueIn(store, partition, each)));
  }));
  return found;
}

/** How many entries of a table are there. */
async function sizeOf(store: Database, table: Collection): Promise<number> {
  const ask = (partition: number) =>
    store.run(partition, scripts.SIZE, [table.key(partition), table.deadlines(partition)], "repeatable");
  let size = 0;
  for await (const count of store.each(ask)) size += count as number;
  return size;
}

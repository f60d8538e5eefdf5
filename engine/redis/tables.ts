/**
 * What the commands on tables do in Redis. One that is about one key is one command there, or one script; one that is about a
 * whole table asks every partition.
 *
 * Arguments are taken before the first `await`: after it, the call is another command's.
 *
 * @module
 */

import { MemStoreError } from "../../transport/message.ts";
import type { Writer } from "../../msgpack/msgpack.ts";
import type { WriteReply } from "../call.ts";
import type { Buffer } from "node:buffer";
import { argument, type Call, canonical, type Database, type Handler } from "./database.ts";
import { type Collection, deadlineOf, valueOf } from "./layout.ts";
import type { Reply } from "./node.ts";
import {
  CAS,
  DEL,
  DEL_IF,
  DROP,
  EXISTS,
  EXPIRE,
  INCR,
  PERSIST,
  POP,
  type Script,
  SET,
  SET_FOR,
  SET_NEW,
  SIZE,
} from "./scripts.ts";

/** The handlers of commands on tables, by the commands' names. */
export const tableHandlers = {
  get(call) {
    const { store, table, partition, key } = entryOf(call);
    return store.send(partition, ["HGET", table.key(partition), key], "repeatable")
      .then(replyValue(store, partition));
  },
  set(call) {
    const { store, table, partition, key } = entryOf(call);
    const value = argument(call, 2);
    if (call.count > 3) return put(call, SET_FOR, value, secondsOf(call, 3)).then(replyNumber);
    return store.run(
      partition,
      SET,
      [table.key(partition), store.catalog("tables", partition), key, value, table.name],
    )
      .then(replyNumber);
  },
  del(call) {
    const { store, table, partition, key } = entryOf(call);
    return store.run(partition, DEL, [table.key(partition), key]).then(replyNumber);
  },
  size(call) {
    const { store } = call, table = tableOf(call);
    return sizeOf(store, table).then((size) => (reply) => reply.int(size));
  },
} satisfies Record<string, Handler>;

/** The table that is argument 0. */
function tableOf(call: Call): Collection {
  return call.store.layout.collection("tables", call.key(0));
}

/** The table that is argument 0, and the key that is argument 1. */
function entryOf(call: Call) {
  const { store } = call, key = call.key(1);
  const table = tableOf(call);
  return { store, table, partition: store.layout.partitionOf(key), key: canonical(call, key) };
}

/** Runs a script that stores a value under the key that is argument 1. */
function put(call: Call, script: Script, value: Buffer, seconds: string): Promise<Reply> {
  const { store, table, partition, key } = entryOf(call);
  const keys = store.tableKeys(table, partition);
  return store.run(partition, script, [...keys, key, value, table.name, table.suffix, seconds]);
}

/** The seconds after which an entry expires; empty if they are left out. */
function secondsOf(call: Call, arg: number): string {
  if (call.count <= arg) return "";
  const seconds = Number(call.decode(arg));
  if (seconds > 0) return String(seconds);
  throw new MemStoreError("BAD_ARGUMENT", `Cannot set: seconds must be more than 0: received ${seconds}`);
}

/** How many entries of a table are there. */
async function sizeOf(store: Database, table: Collection): Promise<number> {
  const ask = async (partition: number): Promise<number> => {
    const [entries, , deadlines, due] = store.tableKeys(table, partition);
    for (;;) {
      const size = await store.run(
        partition,
        SIZE,
        [entries, deadlines, due, table.suffix, SWEEP],
        "repeatable",
      );
      if (size as number >= 0) return size as number;
    }
  };
  let size = 0;
  for await (const count of store.each(ask)) size += count;
  return size;
}

/** How many entries are deleted at a time, of those whose time has come. */
const SWEEP = "256";

const replyNumber = (reply: Reply): WriteReply => (to: Writer) => to.int(reply as number);

/** Replies what is stored, unless its time has come; else nil. */
function replyValue(store: Database, partition: number): (stored: Reply) => WriteReply {
  return (stored) => {
    if (stored === null || deadlineOf(stored as Buffer) <= store.now(partition)) return (to) => to.nil();
    return (to) => to.raw(valueOf(stored as Buffer));
  };
}

/**
 * What the commands on sets do in Redis. A set is a Redis set in each partition, and equal members are in the same partition: so
 * a union, an intersection or a difference is that of each partition, which Redis computes.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import { head, skip } from "../../msgpack/msgpack.ts";
import type { WriteReply } from "../call.ts";
import { Key } from "../../msgpack/key.ts";
import { type Call, canonical, type Database, type Handler } from "./database.ts";
import { allOf, divide, Gathering, replyAny, replyFlag, replyNumber, replySum } from "./items.ts";
import type { Collection } from "./layout.ts";
import { CLEAR_SET, DROP_SET, PULL, PUSH } from "./scripts.ts";
import { writeKeys, writeNames, writePage } from "./walk.ts";

/** The handlers of commands on sets, by the commands' names. */
export const setHandlers = {
  push(call) {
    const { store, set, partition, member } = memberOf(call);
    return store.run(partition, PUSH, [
      ...keysOf(store, set, partition),
      set.suffix,
      member,
    ])
      .then(() => replyNumber(1));
  },
  push_many(call) {
    const { store } = call, set = setOf(call);
    const { parts } = divide(call, 1, "keys");
    return replySum(Array.from(parts, ([partition, members]) => {
      return store.run(partition, PUSH, [
        ...keysOf(store, set, partition),
        set.suffix,
        ...members,
      ]);
    }));
  },
  pull(call) {
    const { store, set, partition, member } = memberOf(call);
    return store.run(partition, PULL, [...keysOf(store, set, partition), member]).then(replyNumber);
  },
  in_set(call) {
    const { store, set, partition, member } = memberOf(call);
    return store.send(partition, ["SISMEMBER", set.key(partition), member], "repeatable").then(replyFlag);
  },
  list_set(call) {
    return writeKeys(call.store, setOf(call), call.maxReply);
  },
  scan_set(call) {
    return writePage(call, setOf(call));
  },
  union(call) {
    return combine(call, "SUNION");
  },
  inter(call) {
    return combine(call, "SINTER");
  },
  diff(call) {
    return combine(call, "SDIFF");
  },
  async set_size(call) {
    const { store } = call, set = setOf(call);
    let size = 0;
    for await (
      const count of store.each((partition) =>
        store.send(partition, ["SCARD", set.key(partition)], "repeatable")
      )
    ) size += count as number;
    return replyNumber(size);
  },
  clear_set(call) {
    const { store } = call, set = setOf(call);
    const cleared = store.partitions.map((each) => store.run(each, CLEAR_SET, keysOf(store, set, each)));
    return allOf(cleared).then(() => replyNumber(1));
  },
  drop_set(call) {
    const { store } = call, set = setOf(call);
    return replyAny(store.partitions.map((partition) => {
      return store.run(partition, DROP_SET, [
        ...keysOf(store, set, partition),
        set.suffix,
      ]);
    }));
  },
  sets(call) {
    return writeNames(call.store, "sets", call.maxReply);
  },
} satisfies Record<string, Handler>;

/** What scripts on a set take. */
function keysOf(store: Database, set: Collection, partition: number): [members: string, catalog: string] {
  return [set.key(partition), store.catalog("sets", partition)];
}

/** The set that is argument 0. */
function setOf(call: Call): Collection {
  return call.store.layout.collection("sets", call.key(0));
}

/** The set that is argument 0, and the member that is argument 1. */
function memberOf(call: Call) {
  const { store } = call, member = call.key(1);
  return {
    store,
    set: setOf(call),
    partition: store.layout.partitionOf(member),
    member: canonical(call, member),
  };
}

/** The sets that argument 0 names. */
function setsOf(call: Call): Collection[] {
  const { payload, store: { layout } } = call, name = new Key();
  const { length, body } = head(payload, call.from(0));
  const sets: Collection[] = [];
  for (let i = 0, at = body; i < length; i++) {
    const end = skip(payload, at);
    sets.push(layout.collection("sets", name.aim(payload, at, end)));
    at = end;
  }
  return sets;
}

/** Replies what a command of Redis makes of several sets. */
async function combine(call: Call, command: "SUNION" | "SINTER" | "SDIFF"): Promise<WriteReply> {
  const { store, maxReply } = call, sets = setsOf(call);
  const found = new Gathering(maxReply);
  if (sets.length > 0) {
    const ask = (partition: number) =>
      store.send(partition, [command, ...sets.map((set) => set.key(partition))], "repeatable");
    for await (const members of store.each(ask)) for (const member of members as Buffer[]) found.add(member);
  }
  return (to) => found.writeArray(to);
}

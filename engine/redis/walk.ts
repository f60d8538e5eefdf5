/**
 * Going through tables and sets: all of one, or page by page.
 *
 * The pages of a scan go through the partitions in order, and through each partition in the order of a hash of the keys. A
 * cursor is the partition and the hash where the next page begins. So whatever comes and goes meanwhile, an entry that is there
 * during the whole scan is returned once. (Redis' own `HSCAN` may return one twice.) Each page costs all keys of its
 * partition, but only the values that are returned.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import { MAX_PAGE_ENTRIES, PAGE_BYTES, PAGE_ENTRIES } from "../../commands/pages.ts";
import type { WriteReply } from "../call.ts";
import { type Call, type Database, valueIn } from "./database.ts";
import { Gathering } from "./items.ts";
import { type Collection, type Kind, nameOf, valueOf } from "./layout.ts";
import type { Reply } from "./node.ts";
import { TABLE_KEYS } from "./scripts.ts";

/** How many values are asked for at a time. */
const VALUES = 64;

/** The keys of a table, or the members of a set, in a partition. */
export function keysIn(store: Database, collection: Collection, partition: number): Promise<Buffer[]> {
  const key = collection.key(partition);
  const keys = collection.kind === "sets"
    ? store.send(partition, ["SMEMBERS", key], "repeatable")
    : store.run(partition, TABLE_KEYS, [key, collection.deadlines(partition)], "repeatable");
  return keys as Promise<Buffer[]>;
}

/** The entries of a table in a partition: keys, and what is stored under them, in turn. */
export async function entriesIn(store: Database, table: Collection, partition: number): Promise<Buffer[]> {
  const stored = await store.send(partition, ["HGETALL", table.key(partition)], "repeatable") as Buffer[];
  const found: Buffer[] = [];
  for (let i = 0; i < stored.length; i += 2) {
    if (valueIn(store, partition, stored[i + 1])) found.push(stored[i], stored[i + 1]);
  }
  return found;
}

/** Replies the keys of a table, or the members of a set. */
export async function writeKeys(store: Database, collection: Collection, most: number): Promise<WriteReply> {
  const found = new Gathering(most);
  for await (const keys of store.each((partition) => keysIn(store, collection, partition))) {
    for (const key of keys) found.add(key);
  }
  return (to) => found.writeArray(to);
}

/** Replies a table as a map. */
export async function writeEntries(store: Database, table: Collection, most: number): Promise<WriteReply> {
  const found = new Gathering(most);
  for await (const entries of store.each((partition) => entriesIn(store, table, partition))) {
    for (let i = 0; i < entries.length; i += 2) {
      found.add(entries[i]);
      found.add(valueOf(entries[i + 1]));
    }
  }
  return (to) => found.writeMap(to);
}

/** The names of the tables, or of the sets. */
export async function namesOf(store: Database, kind: Kind): Promise<Map<string, Buffer>> {
  const names = new Map<string, Buffer>();
  const ask = (partition: number) =>
    store.send(partition, ["SMEMBERS", store.catalog(kind, partition)], "repeatable");
  for await (const found of store.each(ask)) {
    for (const suffix of found as Buffer[]) {
      const id = suffix.toString("latin1");
      if (!names.has(id)) names.set(id, nameOf(suffix));
    }
  }
  return names;
}

/** Replies the names of the tables, or of the sets. */
export async function writeNames(store: Database, kind: Kind, most: number): Promise<WriteReply> {
  const found = new Gathering(most);
  for (const name of (await namesOf(store, kind)).values()) found.add(name);
  return (to) => found.writeArray(to);
}

/** Whether a table or set exists. */
export async function exists(store: Database, { kind, suffix }: Collection): Promise<boolean> {
  const ask = (partition: number) =>
    store.send(partition, ["SISMEMBER", store.catalog(kind, partition), suffix], "repeatable");
  for await (const found of store.each(ask)) if (found === 1) return true;
  return false;
}

/** A key, and where a scan comes to it. */
interface Place {
  readonly key: Buffer;
  readonly position: number;
}

/** Replies a page of a table or set, and the cursor of the next: arguments 1 and 2 are the cursor and a count. */
export async function writePage(call: Call, collection: Collection): Promise<WriteReply> {
  const { store } = call, { layout } = store;
  const cursor = call.decode(1) as number;
  const wanted = call.count > 2 ? call.decode(2) as number : PAGE_ENTRIES;
  // (A page of none would have the cursor that it began with.)
  const count = Math.min(Math.max(wanted, 1), MAX_PAGE_ENTRIES);
  const page = new Page(store, collection, count);
  let partition = Math.floor(cursor / layout.positions), from = cursor % layout.positions;
  const ask = (partition: number) => keysIn(store, collection, partition);
  let next = 0;
  for await (const keys of store.each(ask, { from: partition, first: 1 })) {
    const places = keys.map((key) => ({ key, position: layout.positionOf(key) }))
      .filter(({ position }) => position >= from)
      .sort((a, b) => a.position - b.position);
    const rest = await page.add(partition, places);
    next = rest ? partition * layout.positions + rest.position : (partition + 1) * layout.positions;
    if (page.isFull) break;
    partition++;
    from = 0;
  }
  if (next >= layout.partitions * layout.positions) next = 0;
  return (to) => {
    to.arrayHead(2);
    to.int(page.isFull ? next : 0);
    if (collection.kind === "sets") page.found.writeArray(to);
    else page.found.writeMap(to);
  };
}

/** A page that is filled. */
class Page {
  readonly found = new Gathering(Infinity);
  readonly #store: Database;
  readonly #collection: Collection;
  readonly #count: number;
  #entries = 0;
  #bytes = 0;

  constructor(store: Database, collection: Collection, count: number) {
    this.#store = store;
    this.#collection = collection;
    this.#count = count;
  }

  get isFull(): boolean {
    return this.#entries >= this.#count || this.#bytes >= PAGE_BYTES;
  }

  /** Adds keys of a partition until the page is full. Returns the first that it does not hold. */
  async add(partition: number, places: readonly Place[]): Promise<Place | undefined> {
    for (let i = 0; i < places.length; i += VALUES) {
      const some = places.slice(i, i + VALUES);
      const values = this.#collection.kind === "sets" ? undefined : await this.#valuesOf(partition, some);
      for (const [k, { key, position }] of some.entries()) {
        // (A page ends where the next has another position: a cursor does not tell two keys of one apart.)
        if (this.isFull && position !== places[i + k - 1]?.position) return places[i + k];
        this.#entries++;
        const value = values?.[k];
        if (values && !value) continue;
        this.#bytes += key.length + (value?.length ?? 0);
        this.found.add(key);
        if (value) this.found.add(value);
      }
    }
  }

  async #valuesOf(partition: number, places: readonly Place[]): Promise<(Buffer | undefined)[]> {
    const keys = places.map(({ key }) => key);
    const args = ["HMGET", this.#collection.key(partition), ...keys];
    const stored = await this.#store.send(partition, args, "repeatable") as Reply[];
    return stored.map((each) => valueIn(this.#store, partition, each));
  }
}

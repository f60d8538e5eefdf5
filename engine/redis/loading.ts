/**
 * Data that is to take the place of what is there. It is written beside it, under keys of its own, and takes its place partition
 * by partition at the end: or, if it is not complete, is deleted again.
 *
 * One front at a time may do that: it has a lease while it does.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { MemStoreError } from "../../transport/message.ts";
import { turn } from "../../system/turn.ts";
import type { Key } from "../../msgpack/key.ts";
import type { Span } from "../../msgpack/key.ts";
import { Database } from "./database.ts";
import { type Collection, type Kind, slotOf } from "./layout.ts";
import type { Argument, Reply } from "./node.ts";
import { CLEAR, DELAY, LEASE, PUSH, REPLACE, type Script, SET_MANY } from "./scripts.ts";

/** How long the lease holds, in milliseconds; it is renewed three times as often. */
const LEASE_MS = 15_000;
/** Bytes that are gathered before they are sent. */
const GATHERED = 1 << 21;
/** How many arguments a script is given at a time: a node does nothing else meanwhile. */
const ARGUMENTS = 1024;
/** What an item costs beside its bytes. */
const ITEM_BYTES = 32;

/** Writes data beside what is there. */
export class Loading implements AsyncDisposable {
  readonly #database: Database;
  /** The same nodes, and the keys of the new data. */
  readonly #next: Database;
  readonly #lease: string;
  readonly #id = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("hex");
  readonly #timer: ReturnType<typeof setInterval>;
  #script: Script = SET_MANY;
  #collection: Collection | undefined;
  /** By partition, what is gathered for the collection. */
  readonly #gathered = new Map<number, Argument[]>();
  #bytes = 0;
  /** A long value is gathered whose bytes are not there yet. */
  #filling = false;
  readonly #sent: Promise<void>[] = [];
  #lost = false;

  private constructor(database: Database) {
    this.#database = database;
    this.#next = new Database(database.layout.next, database.nodes);
    this.#lease = `${database.layout.meta}:restore`;
    this.#timer = setInterval(() => {
      this.#take().then((is) => this.#lost ||= !is, () => {});
    }, LEASE_MS / 3);
  }

  /** @throws {MemStoreError} if another front restores. */
  static async begin(database: Database): Promise<Loading> {
    const loading = new Loading(database);
    try {
      if (!await loading.#take()) {
        throw new MemStoreError("FAILED", "another restore to this Redis is running");
      }
      await loading.#clear();
      return loading;
    } catch (error) {
      clearInterval(loading.#timer);
      throw error;
    }
  }

  /** A table follows. */
  table(name: Key): void {
    this.#open("tables", name, SET_MANY);
    this.#make(name);
  }

  /** An entry of the table. */
  entry(key: Key, bytes: Uint8Array, from: number, to: number): void {
    this.#add(key, Buffer.from(bytes.subarray(from, to)));
  }

  /** An entry of the table, whose value is put into the bytes that it returns. */
  reserve(key: Key, length: number): Span {
    const bytes = Buffer.allocUnsafeSlow(length);
    this.#add(key, bytes);
    this.#filling = true;
    return { bytes, from: 0, to: length };
  }

  /** A set follows. */
  set(name: Key): void {
    this.#open("sets", name, PUSH);
    this.#make(name);
  }

  /** A member of the set. */
  member(key: Key): void {
    this.#add(key);
  }

  /** Deadlines of entries of a table follow. */
  deadlines(table: Key): void {
    this.#open("tables", table, DELAY);
  }

  /** The deadline of an entry. Whether there is one is found out later. */
  deadline(key: Key, time: number): boolean {
    this.#add(key, String(time));
    return true;
  }

  /** Resolves when more may follow. */
  async ready(): Promise<void> {
    if (this.#filling || this.#bytes < GATHERED) return await turn();
    await this.#flush();
  }

  /** Puts the new data in place of the old. */
  async commit(): Promise<void> {
    this.#filling = false;
    await this.#flush();
    if (this.#lost || !await this.#take()) {
      throw new MemStoreError(
        "FAILED",
        "another front has begun to restore, since Redis could not be reached",
      );
    }
    const { bases } = this.#next.layout;
    const replace = (partition: number) => {
      const base = this.#database.layout.bases[partition];
      const args = [this.#database.catalog("tables", partition), base, bases[partition]];
      return this.#database.run(partition, REPLACE, args);
    };
    for await (const _ of this.#database.each(replace));
  }

  /** Deletes what did not take the place of the old data. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await Promise.allSettled(this.#sent);
    // (If Redis cannot be reached, the next restore does it.)
    if (this.#lost) return;
    await this.#clear().catch(() => {});
    await this.#database.nodes.send(slotOf(this.#lease), ["DEL", this.#lease], "repeatable").catch(() => {});
  }

  async #take(): Promise<boolean> {
    const args = ["EVALSHA", LEASE.sha, LEASE.keys, this.#lease, this.#id, String(LEASE_MS)];
    return await this.#database.nodes.send(slotOf(this.#lease), args, "repeatable") === 1;
  }

  async #clear(): Promise<void> {
    const clear = (partition: number) => {
      const args = [this.#next.catalog("tables", partition), this.#next.layout.bases[partition]];
      return this.#next.run(partition, CLEAR, args, "repeatable");
    };
    for await (const _ of this.#next.each(clear));
  }

  /** What follows is of a collection. */
  #open(kind: Kind, name: Span, script: Script): void {
    this.#filling = false;
    this.#send();
    this.#collection = this.#next.layout.collection(kind, name);
    this.#script = script;
  }

  /** The collection is there also if it is empty. */
  #make(name: Span): void {
    const { kind, suffix } = this.#collection!, partition = this.#next.layout.partitionOf(name);
    const made = this.#next.send(
      partition,
      ["SADD", this.#next.catalog(kind, partition), suffix],
      "repeatable",
    );
    this.#note(made, () => {});
    this.#bytes += ITEM_BYTES;
  }

  #add(key: Span, value?: Argument): void {
    this.#filling = false;
    const partition = this.#next.layout.partitionOf(key);
    let args = this.#gathered.get(partition);
    if (!args) this.#gathered.set(partition, args = []);
    args.push(Buffer.from(key.bytes.subarray(key.from, key.to)));
    if (value !== undefined) args.push(value);
    this.#bytes += key.to - key.from + (value?.length ?? 0) + ITEM_BYTES;
  }

  /** Sends what is gathered. */
  #send(): void {
    const collection = this.#collection!, script = this.#script;
    for (const [partition, all] of this.#gathered) {
      const keys = collection.kind === "tables"
        ? this.#next.tableKeys(collection, partition)
        : [collection.key(partition), this.#next.catalog("sets", partition)];
      for (let i = 0; i < all.length; i += ARGUMENTS) {
        const args = all.slice(i, i + ARGUMENTS);
        const reply = this.#next.run(partition, script, [...keys, collection.suffix, ...args], "repeatable");
        this.#note(reply, (count) => {
          if (script === DELAY && count !== args.length / 2) {
            throw new Error("an entry that is not there expires");
          }
        });
      }
    }
    this.#gathered.clear();
  }

  #note(reply: Promise<Reply>, check: (reply: Reply) => void): void {
    const sent = reply.then(check);
    // (It is waited for later.)
    sent.catch(() => {});
    this.#sent.push(sent);
  }

  async #flush(): Promise<void> {
    this.#send();
    await Promise.all(this.#sent);
    this.#sent.length = 0;
    this.#bytes = 0;
  }
}

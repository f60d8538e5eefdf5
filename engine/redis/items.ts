/**
 * What the handlers on tables and on sets have in common: several keys in an argument, writes to several partitions, and
 * replies.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import { head, skip, type Writer } from "../../msgpack/msgpack.ts";
import { MemStoreError } from "../../transport/message.ts";
import type { WriteReply } from "../call.ts";
import { Key } from "../../msgpack/key.ts";
import { IN_PAGES } from "../memory/commands/items.ts";
import { type Call, canonical, view } from "./database.ts";
import type { Argument, Reply } from "./node.ts";

/** Replies a number. */
export function replyNumber(reply: Reply): WriteReply {
  return (to) => to.int(reply as number);
}

/** Replies whether it is 1. */
export function replyFlag(reply: Reply): WriteReply {
  return (to) => to.bool(reply === 1);
}

/** What an argument with several keys comes to in each partition, and where in it each key is. */
export interface Divided {
  readonly parts: ReadonlyMap<number, Argument[]>;
  readonly order: readonly { readonly partition: number; readonly at: number }[];
}

/** Divides the keys of an argument, or its keys and values, over the partitions. */
export function divide(call: Call, arg: number, what: "keys" | "entries"): Divided {
  const { payload, store: { layout } } = call, key = new Key();
  const parts = new Map<number, Argument[]>(), order: { partition: number; at: number }[] = [];
  const { length, body } = head(payload, call.from(arg));
  call.visit(length);
  for (let i = 0, at = body; i < length; i++) {
    const end = skip(payload, at);
    key.aim(payload, at, end);
    const partition = layout.partitionOf(key);
    let part = parts.get(partition);
    if (!part) parts.set(partition, part = []);
    order.push({ partition, at: part.length });
    part.push(canonical(call, key));
    at = end;
    if (what === "entries") part.push(view(payload, end, at = skip(payload, end)));
  }
  return { parts, order };
}

/**
 * What writes to several partitions came to.
 *
 * @throws {MemStoreError} if one failed: `UNCERTAIN` if others did not.
 */
export async function allOf(writes: Promise<Reply>[]): Promise<number[]> {
  const results = await Promise.allSettled(writes);
  const failed = results.find((result) => result.status === "rejected");
  if (!failed) return results.map((result) => (result as PromiseFulfilledResult<number>).value);
  const done = results.filter(({ status }) => status === "fulfilled").length;
  if (done === 0) throw failed.reason;
  const why = failed.reason instanceof Error ? failed.reason.message : String(failed.reason);
  const where = `it was done in ${done} of ${results.length} partitions`;
  throw new MemStoreError("UNCERTAIN", `Cannot do all of it: ${where}: ${why}`);
}

/** Replies the sum of what writes to several partitions return. */
export async function replySum(writes: Promise<Reply>[]): Promise<WriteReply> {
  return replyNumber((await allOf(writes)).reduce((sum, count) => sum + count, 0));
}

/** Replies 1 if one of the writes to several partitions returns 1, else 0. */
export async function replyAny(writes: Promise<Reply>[]): Promise<WriteReply> {
  return replyNumber((await allOf(writes)).includes(1) ? 1 : 0);
}

/** Items that are gathered for a reply. */
export class Gathering {
  readonly #items: Buffer[] = [];
  readonly #most: number;
  #bytes = 0;

  /** @param most Bytes that a reply may have. */
  constructor(most: number) {
    this.#most = most;
  }

  /** @throws {MemStoreError} `TOO_LARGE` if a reply cannot hold it. */
  add(item: Buffer): void {
    this.#bytes += item.length;
    if (this.#bytes > this.#most) {
      const why = `the replies to a message have ${this.#most} bytes at most`;
      throw new MemStoreError("TOO_LARGE", `Cannot reply: ${why}: ${IN_PAGES}`);
    }
    this.#items.push(item);
  }

  /** Replies the items as an array. */
  writeArray(to: Writer): void {
    to.arrayHead(this.#items.length);
    for (const item of this.#items) to.raw(item);
  }

  /** Replies the items, which are keys and values in turn, as a map. */
  writeMap(to: Writer): void {
    to.mapHead(this.#items.length / 2);
    for (const item of this.#items) to.raw(item);
  }
}

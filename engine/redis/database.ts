/**
 * What the handlers of this engine get as their data: the layout, and the nodes.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Call as AnyCall, Handler as AnyHandler } from "../call.ts";
import type { Span } from "../../msgpack/key.ts";
import { type Collection, deadlineOf, type Kind, type Layout, valueOf } from "./layout.ts";
import type { Argument, Reply } from "./node.ts";
import type { Effect, Nodes } from "./nodes.ts";
import type { Script } from "./scripts.ts";

/** One command of a message. */
export type Call = AnyCall<Database>;
/** Carries out a command on the data in Redis. */
export type Handler = AnyHandler<Database>;

/** How many partitions are asked at a time, by a command that asks all of them. */
const AT_A_TIME = 32;

/** Tables and sets in Redis. */
export class Database {
  readonly layout: Layout;
  readonly nodes: Nodes;

  constructor(layout: Layout, nodes: Nodes) {
    this.layout = layout;
    this.nodes = nodes;
  }

  /** Sends a command about keys of a partition. */
  send(partition: number, args: readonly Argument[], effect: Effect): Promise<Reply> {
    return this.nodes.send(this.layout.slots[partition], args, effect);
  }

  /** Runs a script on a partition. */
  run(
    partition: number,
    { sha, keys }: Script,
    args: readonly Argument[],
    effect: Effect = "once",
  ): Promise<Reply> {
    return this.send(partition, ["EVALSHA", sha, keys, ...args], effect);
  }

  /** The time in a partition, in milliseconds since 1970: what has a deadline up to this is not there. */
  now(partition: number): number {
    return this.nodes.now(this.layout.slots[partition]);
  }

  /** The key of a catalog in a partition. */
  catalog(kind: Kind, partition: number): string {
    return this.layout.bases[partition] + kind;
  }

  /** The key of what is due in a partition. */
  due(partition: number): string {
    return `${this.layout.bases[partition]}due`;
  }

  /** What scripts on the entries of a table take: the keys of entries, catalog, deadlines and due. */
  tableKeys(table: Collection, partition: number): [string, string, string, string] {
    return [
      table.key(partition),
      this.catalog("tables", partition),
      table.deadlines(partition),
      this.due(partition),
    ];
  }

  /** The numbers of all partitions. */
  get partitions(): number[] {
    return Array.from(this.layout.bases.keys());
  }

  /**
   * Asks every partition, some at a time, and yields what they reply in their order.
   *
   * @param from The first partition.
   * @param first How many are asked at first: whoever needs few replies does not ask for many.
   * @param most How many are asked at a time later.
   */
  async *each<Result>(
    ask: (partition: number) => Promise<Result>,
    { from = 0, most = AT_A_TIME, first = most }: { from?: number; first?: number; most?: number } = {},
  ): AsyncGenerator<Result, void> {
    const { partitions } = this.layout;
    const asked: Promise<Result>[] = [];
    let next = from, ahead = first;
    try {
      for (; next < partitions || asked.length > 0; ahead = Math.min(ahead * 2, most)) {
        while (next < partitions && asked.length < ahead) {
          const answer = ask(next++);
          // (Where one fails, nobody waits for those after it.)
          answer.catch(() => {});
          asked.push(answer);
        }
        yield await asked.shift()!;
      }
    } finally {
      await Promise.allSettled(asked);
    }
  }
}

/** An argument as it was sent. */
export function argument(call: Call, i: number): Buffer {
  return view(call.payload, call.from(i), call.to(i));
}

/** The canonical form of an argument, as the bytes of a Redis command. */
export function canonical(call: Call, key: Span): Buffer {
  const { bytes, from, to } = key;
  // (Where the key has a buffer of its own, the next command uses that again.)
  return bytes === call.payload ? view(bytes, from, to) : Buffer.from(bytes.subarray(from, to));
}

/** Whether the time of what is stored has not come: its value, else undefined. */
export function valueIn(store: Database, partition: number, stored: Reply): Buffer | undefined {
  if (stored === null || deadlineOf(stored as Buffer) <= store.now(partition)) return undefined;
  return valueOf(stored as Buffer);
}

/** Bytes of a message, as bytes of a Redis command. */
export function view({ buffer, byteOffset }: Uint8Array, from: number, to: number): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset + from, to - from);
}

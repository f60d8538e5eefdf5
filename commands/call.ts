/**
 * What a command's handler is given: its arguments as bytes, the data, the host, and the reply to write.
 *
 * @module
 */

import { Key } from "../engine/key.ts";
import type { Store } from "../engine/store.ts";
import type { Persistence } from "../state/persistence.ts";
import { Reader } from "../wire/codec.ts";
import { MemStoreError } from "../wire/message.ts";
import type { Right } from "../wire/clients.ts";
import type { Writer } from "../wire/msgpack.ts";
import type { Command } from "./dispatch.ts";

/** What commands need of the host beside the data. */
export interface Host {
  readonly store: Store;
  readonly persistence: Persistence;
  /** What `stats` tells of the process. */
  stats(): Record<string, unknown>;
  /** A client was not allowed a command. */
  denied(command: string): void;
  /** Stops the host once the replies that are due have left. */
  stop(): void;
}

/** One command of a message, while it runs. The dispatcher uses one object for all. */
export class Call {
  readonly host: Host;
  /** Every command that the host knows, by name: its own and those that were added. */
  readonly commands: ReadonlyMap<string, Command>;
  /** What the handler writes its reply to: one item, or nothing if it answers with a promise. */
  reply!: Writer;
  /** Whether the client expects pymemstore's replies. */
  legacy = false;
  /** The hash of the second argument as a key, if it is known. */
  hash: number | undefined;
  /** What the client may do. */
  right: Right = "admin";
  /** What the command's `prepare` resolved to. */
  prepared: unknown;
  /** How many arguments there are. */
  count = 0;
  #payload!: Uint8Array;
  #offsets!: Int32Array;
  readonly #keys: Key[] = [];
  #first = 0;
  readonly #maxReply: number;

  /**
   * @param maxReply Bytes that the replies of a message may have.
   */
  constructor(host: Host, commands: ReadonlyMap<string, Command>, maxReply: number) {
    this.host = host;
    this.commands = commands;
    this.#maxReply = maxReply;
  }

  /** Points at a command: `count` arguments, whose offsets in the payload begin at `offsets[first]`. */
  aim(payload: Uint8Array, offsets: Int32Array, first: number, count: number): this {
    this.#payload = payload;
    this.#offsets = offsets;
    this.#first = first;
    this.count = count;
    this.hash = undefined;
    return this;
  }

  get store(): Store {
    return this.host.store;
  }

  /** The payload, of which an argument is `payload[from(i)..to(i))`. */
  get payload(): Uint8Array {
    return this.#payload;
  }

  /** Where an argument begins. */
  from(i: number): number {
    return this.#offsets[this.#first + i];
  }

  /** Where an argument ends. */
  to(i: number): number {
    return this.#offsets[this.#first + i + 1];
  }

  /** An argument as a key: its canonical form, good until the next command. */
  key(i: number): Key {
    const at = this.#first + i;
    const key = (this.#keys[i] ??= new Key()).aim(this.#payload, this.#offsets[at], this.#offsets[at + 1]);
    if (i === 1) key.hash = this.hash;
    return key;
  }

  /** An argument as a JavaScript value. */
  decode(i: number): unknown {
    return new Reader(this.#payload, this.#offsets[this.#first + i]).value();
  }

  /**
   * Call it while a long reply is written.
   *
   * @throws {MemStoreError} if the replies have too many bytes.
   */
  checkReply(): void {
    if (this.reply.length <= this.#maxReply) return;
    throw new MemStoreError("TOO_LARGE", `Cannot reply with more than ${this.#maxReply} bytes at once`);
  }
}

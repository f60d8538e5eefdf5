/**
 * What a command's handler gets: its arguments as bytes, the data of the engine, and the reply to write.
 *
 * @module
 */

import { Reader } from "../msgpack/codec.ts";
import type { Right } from "../auth/clients.ts";
import { MemStoreError } from "../transport/message.ts";
import type { Sender } from "../transport/transport.ts";
import { Writer } from "../msgpack/msgpack.ts";
import { Key } from "../msgpack/key.ts";

/** A handler that writes more than this checks itself that there is room for it. */
export const SHORT_REPLY = 64;
/** To copy this many bytes, as bits, takes as long as to visit an entry. */
const BYTES_BITS = 8;
/** To put this many bytes of a key in their canonical form, as bits, takes as long as to visit an entry. */
const CANONICAL_BITS = 5;
/** Entries that the commands of a batch may visit: nobody is served meanwhile. */
const MAX_BATCH_WORK = 2 ** 15;

/**
 * A command that takes long, in steps. Each step ends with about how many entries it has visited; in between,
 * others may be served.
 */
export type Steps = Generator<number, void>;

/** Writes a reply that took its time. */
export type WriteReply = (reply: Writer) => void;

/**
 * Carries out a command. It writes one item to `call.reply` and returns; or returns the steps that will; or, if
 * it waits for something else, a promise of a function that writes the item. A {@linkcode MemStoreError} that is
 * thrown becomes the reply.
 */
export type Handler<Data = unknown> = (call: Call<Data>) => void | Steps | Promise<WriteReply>;

/** One command of a message, while it runs. Each message that runs has a call of its own. */
export class Call<Data = unknown> {
  /** What the engine keeps: a handler knows which engine it is of. */
  store: Data;
  /** Where the reply goes: it belongs to this message until it is sent. */
  readonly reply: Writer = new Writer(1 << 10);
  /** Whether the client expects pymemstore's replies. */
  legacy = false;
  /** Whether the command is part of a batch, whose work is bounded. */
  inBatch = false;
  /** What the client may do. */
  right: Right = "admin";
  /** Who sent the command; undefined if the process itself did. */
  sender: Sender | undefined;
  /** The hash of the second argument as a key, if it is known. */
  hash: number | undefined;
  /** How many arguments there are. */
  count = 0;
  /** Whether the command found no room for its reply: it was not done. */
  lacksRoom = false;
  /** Entries that the message has visited, more or less: handlers that visit many add to it. */
  work = 0;
  #payload!: Uint8Array;
  #offsets!: Int32Array;
  readonly #keys: Key[] = [];
  #first = 0;
  /** Bytes that the replies of a message may have together. */
  readonly maxReply: number;

  /** @param maxReply Bytes that the replies of a message may have together. */
  constructor(store: Data, maxReply: number) {
    this.store = store;
    this.maxReply = maxReply;
  }

  /** Begins a message: what is known of it before its first command. */
  begin({ legacy, right, sender }: Pick<Call, "legacy" | "right"> & { sender?: Sender }): void {
    this.reply.reset();
    this.legacy = legacy;
    this.right = right;
    this.sender = sender;
    this.work = 0;
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
    const key = this.aimKey(this.#keys[i] ??= new Key(), this.#offsets[at], this.#offsets[at + 1]);
    if (i === 1) key.hash = this.hash;
    return key;
  }

  /** Points a key at an item of the payload, and counts the work if it had to be put in its canonical form. */
  aimKey(key: Key, from: number, to: number): Key {
    key.aim(this.#payload, from, to);
    if (key.bytes !== this.#payload) this.visit(to - from >>> CANONICAL_BITS);
    return key;
  }

  /** An argument as a JavaScript value. */
  decode(i: number): unknown {
    return new Reader(this.#payload, this.#offsets[this.#first + i]).value();
  }

  /** Counts the bytes of a value that is set. */
  copy(bytes: number): void {
    this.work += bytes >>> BYTES_BITS;
  }

  /**
   * Counts entries that are visited. Call it before they are.
   *
   * @throws {MemStoreError} `TOO_LARGE` if a batch would visit too many.
   */
  visit(entries: number): void {
    this.work += entries;
    if (!this.inBatch || this.work <= MAX_BATCH_WORK) return;
    const why = `its commands go through more than ${MAX_BATCH_WORK} entries`;
    throw new MemStoreError("TOO_LARGE", `Cannot run the batch: ${why}: send them on their own`);
  }

  /**
   * Makes sure that the reply may grow by so many bytes. Call it before they are written.
   *
   * @param hint What to do instead, for the error's text.
   * @throws {MemStoreError} `TOO_LARGE` if the replies of the message would be too long.
   */
  checkRoom(bytes: number, hint?: string): void {
    this.work += bytes >>> BYTES_BITS;
    if (this.reply.length + bytes <= this.maxReply) return;
    this.lacksRoom = true;
    const why = `the replies to a message have ${this.maxReply} bytes at most`;
    throw new MemStoreError("TOO_LARGE", `Cannot reply: ${why}${hint ? `: ${hint}` : ""}`);
  }

  /**
   * Checks a reply that was written without {@linkcode Call.checkRoom}, since its length was not known before.
   *
   * @param start Where it begins.
   * @throws {MemStoreError} `REPLY_TOO_LARGE` if the replies are too long and it is not a short one. In a batch it is
   * `TOO_LARGE`: what the command did is rolled back.
   */
  checkReply(start: number): void {
    const { length } = this.reply;
    if (length <= this.maxReply || length - start <= SHORT_REPLY) return;
    const why = `the replies to a message have ${this.maxReply} bytes at most`;
    if (this.inBatch) throw new MemStoreError("TOO_LARGE", `Cannot reply: ${why}`);
    throw new MemStoreError("REPLY_TOO_LARGE", `Cannot send the reply, though the command was done: ${why}`);
  }
}

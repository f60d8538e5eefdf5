/**
 * What a host knows of one connection: its requests that are not answered yet, and its replies that have not left.
 *
 * libzmq does not say which replies have left. So the empty frame of each reply names a counter as its bytes, and
 * as the function that frees them libzmq's own `zmq_atomic_counter_inc`: when the frame has been sent, or dropped,
 * the counter grows by one. Replies leave in order, so it tells which of them are still pending.
 *
 * @module
 */

import type { IncomingMessage, Sender } from "../transport.ts";
import type { Frames, ParsedFrames } from "./frames.ts";

/** A message that came by a connection. */
export class ReceivedMessage implements IncomingMessage {
  readonly from: Connection;
  readonly publicKey: string | undefined;
  /** The frames before the payload, which the reply repeats. */
  readonly envelope: Frames;
  readonly legacy: boolean;
  readonly batch: boolean;
  readonly parts: boolean;
  readonly payload: Uint8Array;
  readonly fault: string | undefined;

  constructor(from: Connection, publicKey: string | undefined, parsed: ParsedFrames) {
    this.from = from;
    this.publicKey = publicKey;
    this.envelope = parsed.envelope;
    this.legacy = parsed.legacy;
    this.batch = parsed.batch;
    this.parts = parsed.parts;
    this.payload = parsed.payload;
    this.fault = parsed.fault;
  }

  get direct(): boolean {
    return !this.legacy && this.envelope.length === 3;
  }
}

/** A connection of a client. */
export class Connection implements Sender {
  readonly fd: number;
  /** The routing id of its messages; undefined until one has arrived. */
  id: Uint8Array | undefined;
  /** Its owner: a key, a process or a machine. Known once a message has arrived. */
  owner = "";
  /** The number of its last message among all messages of the port: the least has been idle for the longest time. */
  lastMessage = 0;
  /** How many of its messages are paused: its next ones wait, so that they do not overtake them. */
  paused = 0;
  /** How many of its messages will be answered later. */
  inFlight = 0;
  /** Its messages that could not be read, less those that could. */
  faults = 0;
  /** It has a lane beside it, and its empty messages are doorbells. */
  hasLane = false;
  /** It was disconnected: what it sent before that is discarded. */
  disconnected = false;
  /** When the connection was lost, or 0. */
  closedAt = 0;
  /** Messages that wait until it has read more of its replies, … */
  readonly deferred: ReceivedMessage[] = [];
  /** … the bytes of their payloads, … */
  deferredBytes = 0;
  /** … and since when it has read nothing. */
  blockedSince = 0;
  /** Bytes of replies that libzmq has not begun to send. */
  pendingBytes = 0;
  /** How many of the counted frames have been freed. Threads of libzmq write it. */
  readonly #counter = new Int32Array(new ArrayBuffer(4));
  readonly counter: Deno.PointerValue = Deno.UnsafePointer.of(this.#counter);
  #collected = 0;
  /** The bytes of each reply that may still be pending; those before {@linkcode Connection.#first} are not. */
  #sizes: number[] = [];
  #first = 0;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Notes a reply whose empty frame names the counter. */
  addReply(bytes: number): void {
    this.#sizes.push(bytes);
    this.pendingBytes += bytes;
  }

  /** Whether the connection is closed. */
  get gone(): boolean {
    return this.closedAt > 0;
  }

  /** How many replies may still be pending. */
  get pendingReplies(): number {
    return this.#sizes.length - this.#first;
  }

  /** Notes the replies that have left since the last time. Returns their bytes. */
  collectSent(): number {
    const count = Atomics.load(this.#counter, 0);
    const end = this.#first + ((count - this.#collected) | 0);
    if (end === this.#first) return 0;
    this.#collected = count;
    let sent = 0;
    while (this.#first < end) sent += this.#sizes[this.#first++];
    this.pendingBytes -= sent;
    if (this.#first * 2 >= this.#sizes.length) {
      this.#sizes = this.#sizes.slice(this.#first);
      this.#first = 0;
    }
    return sent;
  }
}

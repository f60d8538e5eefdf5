/**
 * A call is one command, from the method that was called until its promise is settled. A request is the calls that are
 * sent in one message.
 *
 * @module
 */

import { replyShape } from "../commands/list.ts";
import { encode, Reader } from "../msgpack/codec.ts";
import { MemStoreError, readReply } from "../transport/message.ts";
import { LimitError, MAX_REPLY_DEPTH, skip, Writer } from "../msgpack/msgpack.ts";

/** Converts a raw reply to what the method resolves to. */
export type Convert = (reply: unknown) => unknown;

/** One command whose reply is pending. */
export class PendingCall {
  /** Whether the promise is settled: by a reply, or because the call was given up. */
  settled = false;
  /** Runs when it is settled. */
  onSettled: ((call: PendingCall) => void) | undefined;

  constructor(
    /** The command's name. */
    readonly name: string,
    /** Where its command begins in the bytes of its request, … */
    readonly from: number,
    /** … and ends. */
    readonly to: number,
    /** When it is given up, in the time of `performance.now()`, … */
    readonly deadline: number,
    /** … which is this many milliseconds after it was made. */
    readonly timeout: number,
    readonly convert: Convert | undefined,
    readonly resolve: (reply: unknown) => void,
    readonly reject: (error: unknown) => void,
  ) {}

  /** Settles the call with its reply. */
  succeed(reply: unknown): void {
    if (this.settled) return;
    this.settled = true;
    this.onSettled?.(this);
    this.resolve(this.convert ? this.convert(reply) : reply);
  }

  /** Settles the call with an error. */
  fail(error: unknown): void {
    if (this.settled) return;
    this.settled = true;
    this.onSettled?.(this);
    this.reject(error);
  }
}

/**
 * How a request's calls travel.
 *
 *  - `gathered`: independent calls that were made at about the same time.
 *  - `alone`: one call that may take long, and would hold up the reply of others in its message.
 *  - `batch`: a transaction; all of its calls, or none.
 */
export type RequestKind = "gathered" | "alone" | "batch";

/** How many writers are kept for other requests. */
const SPARE_WRITERS = 16;
const writers: Writer[] = [];
const NO_BYTES = new Writer(0);

/** Calls that are sent in one message. */
export class Request {
  readonly kind: RequestKind;
  calls: PendingCall[];
  /** Their commands, one after another; empty once the request has been sent. */
  bytes: Writer;
  /** Whether the bytes hold the commands of these calls and no others. */
  whole = true;
  /** The first error that a reply has. For a batch, it is why the batch failed. */
  failure: MemStoreError | undefined;
  /** How many of the calls have been replied to. */
  #replied = 0;
  /** Whether a command is being encoded. */
  #encoding = false;

  constructor(
    kind: RequestKind,
    calls: PendingCall[] = [],
    bytes: Writer = writers.pop() ?? new Writer(1024),
  ) {
    this.kind = kind;
    this.calls = calls;
    this.bytes = bytes;
  }

  /** Whether a command is being encoded: one of its values has a getter that makes a call. */
  get encoding(): boolean {
    return this.#encoding;
  }

  /**
   * Appends a command to the bytes. If it throws, nothing is appended.
   *
   * @returns Where it begins.
   * @throws {TypeError} if an argument cannot be encoded.
   */
  encode(name: string, args: readonly unknown[], maxBytes: number): number {
    if (this.#encoding) throw new TypeError(`Cannot ${name}: another call of its batch is being made`);
    const { bytes } = this, start = bytes.length;
    this.#encoding = true;
    bytes.limit = start + maxBytes;
    try {
      bytes.arrayHead(1 + args.length);
      bytes.str(name);
      // The command's array is one level already.
      for (const arg of args) encode(arg, bytes, 1);
      if (bytes.length - start > maxBytes) throw tooLong(name, bytes.length - start, maxBytes);
      return start;
    } catch (error) {
      bytes.length = start;
      throw error instanceof LimitError ? tooLong(name, "more", maxBytes) : error;
    } finally {
      bytes.limit = Infinity;
      this.#encoding = false;
    }
  }

  /** The length of the message, in bytes. */
  get length(): number {
    return this.whole ? this.bytes.length : this.calls.reduce((sum, { from, to }) => sum + to - from, 0);
  }

  /** The message's payload. If calls were removed, it is built in `scratch`. */
  payload(scratch: Writer): Uint8Array {
    if (this.whole) return this.bytes.written;
    scratch.reset();
    for (const { from, to } of this.calls) scratch.copy(this.bytes.bytes, from, to);
    return scratch.written;
  }

  /** Notes that the request was sent: its bytes are not needed any more. */
  release(): void {
    if (this.whole && writers.length < SPARE_WRITERS) {
      this.bytes.reset();
      writers.push(this.bytes);
    }
    this.bytes = NO_BYTES;
  }

  /** Moves the calls after the first `count` to another request. */
  split(count: number): Request {
    const rest = new Request(this.kind, this.calls.splice(count), this.bytes);
    this.whole = rest.whole = false;
    return rest;
  }

  /** Removes calls that were given up. */
  dropSettled(): void {
    const pending = this.calls.filter((call) => !call.settled);
    if (pending.length < this.calls.length) this.whole = false;
    this.calls = pending;
  }

  fail(error: (call: PendingCall) => unknown): void {
    for (const call of this.calls) if (!call.settled) call.fail(error(call));
  }

  /**
   * Settles calls with the replies that a payload has.
   *
   * @returns Whether all calls have been replied to.
   */
  settle(payload: Uint8Array): boolean {
    try {
      return this.#settle(payload);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.fail(({ name }) =>
        new MemStoreError("FAILED", `Cannot ${name}: the reply cannot be read: ${why}`)
      );
      return true;
    }
  }

  #settle(payload: Uint8Array): boolean {
    const reader = new Reader(payload);
    const { calls } = this;
    do {
      const { at } = reader, call = calls[this.#replied++];
      if (call.settled) {
        // A status and a value.
        reader.at = skip(payload, skip(payload, at), MAX_REPLY_DEPTH);
        continue;
      }
      const reply = readReply(replyShape(call.name), reader);
      if (!(reply instanceof MemStoreError)) {
        call.succeed(reply);
      } else if (reply.code === "BAD_REQUEST" && at === 0 && reader.at === payload.length) {
        // A malformed message has one reply, however many commands it had.
        this.failure = reply;
        this.fail(() => reply);
        return true;
      } else {
        if (reply.code !== "NOT_RUN") this.failure ??= reply;
        call.fail(reply);
      }
    } while (this.#replied < calls.length && reader.at < payload.length);
    return this.#replied === calls.length;
  }
}

/** Makes the error for something that is longer than a message may be. */
export function tooLong(what: string, bytes: number | "more", maxBytes: number): MemStoreError {
  const why = `a message may have ${maxBytes} bytes (maxMessage)`;
  return new MemStoreError("TOO_LARGE", `Cannot ${what}: ${why}: received ${bytes}`);
}

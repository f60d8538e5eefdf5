/**
 * Messages: the header and the payload of a request, the payload of a reply, and how the two protocols differ. How a
 * message travels is a transport's: {@link ./zeromq/frames.ts} has the frames of ZeroMQ.
 *
 * ```text
 * request                                   reply
 *   header    native clients only             the same header
 *   payload: command, command, …              payload: reply, reply, …
 *
 * header:   4d 'M' | 01 version, + 80 for a batch, + 40 for replies in parts | 0 to 30 bytes of the client's own: its request number
 * command:  a MessagePack array, [name, ...args]
 * ```
 *
 * A reply payload has one reply for each command of the payload, in the same order. A **native** reply is two
 * items: `0` and the value, or `1` and `[code, text]`. A **legacy** reply (no header: pymemstore's REQ clients)
 * is one item: the value, `-1` for a command that was refused, `["failed", text]` for one that failed. A message
 * that cannot be read has one reply: `BAD_REQUEST`.
 *
 * The commands of a message run one after another, each on its own: one that is refused or fails is answered
 * with its code, and its neighbours run. Other clients may be served in between.
 *
 * A **batch** is a transaction: nothing runs in between, and either all of its commands are done or none is. If
 * one is refused or fails, what was done is rolled back; that command is answered with its code, the others
 * with `NOT_RUN`.
 *
 * The replies to a message may be longer together than a message may be. Those that do not fit are refused, and their
 * commands are not done (or are, if they write and the data is in Redis: `REPLY_TOO_LARGE`); unless the client takes **replies in parts**: then several messages, each with the header,
 * have the replies to the first commands, to the next, and so on. (The replies to a batch, and to a legacy client, are
 * always one message.)
 *
 * Messages of one client run in the order in which it sent them, with one exception: a message that waits for a
 * store, a restore, or an asynchronous custom command lets later messages run first.
 *
 * How long a message and its reply may be, how many commands it may hold, and how many of them a client may
 * have in flight, are limits of the host ({@link ./limits.ts}), which `hello` tells.
 *
 * @module
 */

import type { Reader } from "../msgpack/codec.ts";
import { MalformedError } from "../msgpack/msgpack.ts";
import type { Writer } from "../msgpack/msgpack.ts";

/**
 * Why a command was not done.
 *
 * | code | meaning |
 * |---|---|
 * | `BAD_REQUEST` | the message is not one: its frames, its header or its MessagePack |
 * | `UNKNOWN_COMMAND` | the host has no command of this name |
 * | `BAD_ARGUMENT` | too few or too many arguments, or one of the wrong type |
 * | `TOO_LARGE` | it, or its reply, is larger than a limit allows: it was not done |
 * | `REPLY_TOO_LARGE` | it was done, but its reply is larger than the limit |
 * | `OUT_OF_MEMORY` | the host's memory is full |
 * | `DENIED` | this client may not |
 * | `NOT_IN_BATCH` | a batch cannot hold it: it could not be rolled back |
 * | `NOT_ATOMIC` | the commands of a batch are about several partitions of a cluster: none was done |
 * | `FAILED` | it was tried: the text says what went wrong |
 * | `NOT_RUN` | nothing is wrong with it, but another command of its batch was refused or failed |
 * | `IN_USE` | a host serves the endpoint already |
 * | `STOPPING` | the host has stored its state and stops: it takes no more writes |
 * | `UNAVAILABLE` | what has the data (Redis) could not be reached in time: it was not done |
 * | `UNCERTAIN` | the connection to what has the data was lost before its reply: it may have been done |
 */
export type Code =
  | "BAD_REQUEST"
  | "UNKNOWN_COMMAND"
  | "BAD_ARGUMENT"
  | "TOO_LARGE"
  | "REPLY_TOO_LARGE"
  | "OUT_OF_MEMORY"
  | "DENIED"
  | "NOT_IN_BATCH"
  | "FAILED"
  | "NOT_RUN"
  | "IN_USE"
  | "STOPPING"
  | "NOT_ATOMIC"
  | "UNAVAILABLE"
  | "UNCERTAIN";

/**
 * A command that was not done, or of which it is unknown whether it was.
 *
 * @example
 * ```ts
 * import { MemStoreClient, MemStoreError } from "@memstore/memstore";
 *
 * await using client = new MemStoreClient(`${Deno.makeTempDirSync()}/nobody.sock`, { timeout: 50 });
 * try {
 *   await client.get("users", "alice");
 * } catch (error) {
 *   console.assert(error instanceof MemStoreError && error.code === "TIMEOUT");
 * }
 * ```
 */
export class MemStoreError extends Error {
  /** `"MemStoreError"`. */
  override name = "MemStoreError";
  /** Why: one that the host answered, or one of the client's own. */
  readonly code: Code | ClientCode;

  /** Makes an error with a code, and a text for people. */
  constructor(code: Code | ClientCode, text: string) {
    super(text);
    this.code = code;
  }
}

/**
 * Why a client has no reply.
 *
 * | code | meaning |
 * |---|---|
 * | `UNAVAILABLE` | no host could be reached: the command was not done |
 * | `TIMEOUT` | none came in time; if the message had left, the command may have been done |
 * | `DISCONNECTED` | the host went away after the message had left: the command may have been done |
 * | `CLOSED` | the client was closed |
 */
export type ClientCode = "UNAVAILABLE" | "TIMEOUT" | "DISCONNECTED" | "CLOSED";

/** The first byte of a header. */
const MAGIC = 0x4d;
/** The version that this host and client speak. */
export const VERSION = 1;
/** The bit of the second byte that marks a batch. */
const BATCH = 0x80;
/** The bit of the second byte that says that replies may come in parts. */
const PARTS = 0x40;
/** Bytes of our client's header: magic, version, and a request number of 32 bits. */
export const HEADER_BYTES = 6;
/** The longest header: magic, version, and 30 bytes of the client's own. */
const MAX_HEADER = 32;

/** Whether bytes are the header of a native client, though perhaps not a valid one. */
export function isHeader(bytes: Uint8Array | undefined): bytes is Uint8Array {
  return bytes?.[0] === MAGIC;
}

/** Whether a header says that the commands are one transaction. */
export function isBatch(header: Uint8Array): boolean {
  return (header[1] & BATCH) !== 0;
}

/** Whether a header says that the replies may come in several messages. */
export function takesParts(header: Uint8Array): boolean {
  return (header[1] & (BATCH | PARTS)) === PARTS;
}

/** Why a header cannot be read; undefined where it can. */
export function headerFault(header: Uint8Array): string | undefined {
  if (header.length < 2) return "a header has 2 bytes at least: received 1";
  const version = header[1] & ~(BATCH | PARTS);
  if (version !== VERSION) return `the host speaks version ${VERSION} of the protocol: received ${version}`;
  if (header.length > MAX_HEADER) {
    return `a header has ${MAX_HEADER} bytes at most: received ${header.length}`;
  }
}

/** Why a command is refused: as much of a {@linkcode MemStoreError} as a reply tells. */
export type Refusal = Pick<MemStoreError, "code" | "message">;

/** Writes the reply to a command that was not done. */
export function writeRefusal(
  { code, message }: Refusal,
  legacy: boolean,
  to: Writer,
): void {
  if (!legacy) {
    to.int(1);
    to.arrayHead(2);
    to.str(code);
    to.str(message);
  } else if (code === "FAILED") {
    to.arrayHead(2);
    to.str("failed");
    to.str(message);
  } else {
    to.int(-1);
  }
}

/**
 * The header of a native request, whose number tells which reply is its own.
 *
 * @param batch Whether the commands are one transaction.
 * @param parts Whether the replies may come in several messages.
 * @param bytes Where it is written.
 */
export function header(
  request: number,
  batch = false,
  parts = false,
  bytes: Uint8Array = new Uint8Array(HEADER_BYTES),
): Uint8Array {
  const flags = (batch ? BATCH : 0) | (parts ? PARTS : 0);
  bytes[0] = MAGIC;
  bytes[1] = VERSION | flags;
  bytes[2] = request >>> 24;
  bytes[3] = request >>> 16;
  bytes[4] = request >>> 8;
  bytes[5] = request;
  return bytes;
}

/** The number of the request whose {@linkcode header} a reply repeats; undefined for any other bytes. */
export function requestNumber(bytes: Uint8Array, at = 0, length = bytes.length): number | undefined {
  if (length !== HEADER_BYTES || bytes[at] !== MAGIC) return undefined;
  return (bytes[at + 2] << 24 | bytes[at + 3] << 16 | bytes[at + 4] << 8 | bytes[at + 5]) >>> 0;
}

/**
 * What a reply is: a value; the entries of a table, whose keys may be of any type; or a page of them with the
 * cursor of the next.
 */
export type ReplyShape = "value" | "map" | "page";

/**
 * The value of the native reply that a reader is at, or the error that it tells of.
 *
 * @throws {MalformedError} if it is none.
 */
export function readReply(shape: ReplyShape, reply: Reader): unknown {
  const { at } = reply;
  const status = reply.value();
  if (status !== 0) {
    const error = status === 1 ? reply.value() : undefined;
    const [code, text] = Array.isArray(error) ? error : [];
    if (typeof code === "string" && typeof text === "string") return new MemStoreError(code as Code, text);
    throw new MalformedError("a reply is needed", at);
  }
  // A table's keys may be of any type: it is a Map whatever they are.
  if (shape === "map") return reply.map();
  return shape === "page" ? reply.pair() : reply.value();
}

/** A reply that arrived at a client. */
export interface Reply {
  /** The number of the request. */
  request: number;
  /** Valid until the next reply is received. */
  payload: Uint8Array;
}

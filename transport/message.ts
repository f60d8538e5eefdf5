/**
 * Messages: how a request is laid out in frames, how a reply is, and how the two protocols differ.
 *
 * ```text
 * request (at the host)                    reply
 *   routing id   ┐                           the same envelope
 *   …            │ envelope                  reply payload
 *   empty frame  │ (≤ 512 bytes)
 *   header       ┘ native clients only
 *   payload: command, command, …
 *
 * header:   4d 'M' | 01 version, + 80 for a batch, + 40 for replies in parts | 0 to 30 bytes of the client's own: its request number
 * command:  a MessagePack array, [name, ...args]
 * ```
 *
 * A reply payload has one reply for each command of the payload, in the same order. A **native** reply is two
 * items: `0` and the value, or `1` and `[code, text]`. A **legacy** reply (no header: pymemstore's REQ clients)
 * is one item: the value, `-1` for a command that was refused, `["failed", text]` for one that failed. A payload
 * or envelope that cannot be read has one reply: `BAD_REQUEST`.
 *
 * The commands of a message run one after another, each on its own: one that is refused or fails is answered
 * with its code, and its neighbours run. Other clients may be served in between.
 *
 * A **batch** is a transaction: nothing runs in between, and either all of its commands are done or none is. If
 * one is refused or fails, what was done is rolled back; that command is answered with its code, the others
 * with `NOT_RUN`.
 *
 * The replies to a message may be longer together than a message may be. Those that do not fit are refused, and their
 * commands are not done; unless the client takes **replies in parts**: then several messages, each with the envelope,
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

import { type Frames, MAX_FRAMES } from "./zeromq/socket.ts";
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
 * | `FAILED` | it was tried: the text says what went wrong |
 * | `NOT_RUN` | nothing is wrong with it, but another command of its batch was refused or failed |
 * | `IN_USE` | a host serves the endpoint already |
 * | `STOPPING` | the host has stored its state and stops: it takes no more writes |
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
  | "STOPPING";

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
/** Bytes of an envelope at most: each reply repeats it. */
const MAX_ENVELOPE = 512;
/** The longest header: magic, version, and 30 bytes of the client's own. */
const MAX_HEADER = 32;

/** A request, taken apart. */
export interface Request {
  /** The frames before the payload, which the reply repeats. */
  envelope: Frames;
  /** Whether the client expects pymemstore's replies. */
  legacy: boolean;
  /** Whether the commands are one transaction. */
  batch: boolean;
  /** Whether the replies may come in several messages. */
  parts: boolean;
  payload: Uint8Array;
  /** Why the frames cannot be read; undefined where they can. */
  fault?: string;
}

/** Takes a message that a ROUTER socket received apart. */
export function parseRequest(frames: Frames): Request {
  const last = frames.length - 1;
  const empty = frames.findIndex((frame, i) => i > 0 && i < last && frame.length === 0);
  const between = empty < 0 ? [] : frames.slice(empty + 1, last);
  const legacy = between[0]?.[0] !== MAGIC;
  let envelope = frames.slice(0, empty < 0 ? 1 : legacy ? empty + 1 : empty + 2);
  const size = envelope.reduce((sum, { length }) => sum + length, 0);
  // (To a fault of this kind the reply goes to the sender alone.)
  if (size > MAX_ENVELOPE) envelope = [frames[0], EMPTY];
  const fault = empty < 0
    ? "an empty frame and a payload are needed"
    : frames.length === MAX_FRAMES
    ? `a message has fewer than ${MAX_FRAMES} frames`
    : size > MAX_ENVELOPE
    ? `an envelope has ${MAX_ENVELOPE} bytes at most: received ${size}`
    : between.length === 0
    ? undefined
    : legacy
    ? "between the empty frame and the payload there may be a header alone"
    : between.length > 1
    ? `one payload is needed: received ${between.length} frames after the header`
    : headerFault(between[0]);
  const batch = !legacy && (between[0][1] & BATCH) !== 0;
  const parts = !legacy && !batch && (between[0][1] & PARTS) !== 0;
  return { envelope, legacy, batch, parts, payload: frames[last], fault };
}

const EMPTY = new Uint8Array(0);

function headerFault(header: Uint8Array): string | undefined {
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
 */
export function header(request: number, batch = false, parts = false): Uint8Array {
  const flags = (batch ? BATCH : 0) | (parts ? PARTS : 0);
  const bytes = new Uint8Array([MAGIC, VERSION | flags, 0, 0, 0, 0]);
  new DataView(bytes.buffer).setUint32(2, request);
  return bytes;
}

/** The request number and the payload of a reply to {@linkcode header}; undefined for anything else. */
export function parseReply(frames: Frames): Reply | undefined {
  const [empty, head, payload] = frames;
  if (frames.length !== 3 || empty.length > 0 || head.length !== 6 || head[0] !== MAGIC) return undefined;
  return { request: new DataView(head.buffer, head.byteOffset).getUint32(2), payload };
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

/** A reply, taken apart. */
export interface Reply {
  /** The number of the request. */
  request: number;
  payload: Uint8Array;
}

/**
 * Messages: how a request is laid out in frames, how a reply is, and how the two protocols differ.
 *
 * ```text
 * request (at the host)                    reply
 *   routing id   ┐                           the same envelope
 *   …            │ envelope                  reply payload
 *   empty frame  │
 *   header       ┘ native clients only
 *   payload: command, command, …
 *
 * header:   4d 'M' | 01 version | 0 to 30 bytes of the client's own: its request number
 * command:  a MessagePack array, [name, ...args]
 * ```
 *
 * A reply payload holds as many replies as the payload has commands, in their order. A **native** reply is
 * two items: `0` and the value, or `1` and `[code, text]`. A **legacy** reply (no header: pymemstore's REQ
 * clients) is one item: the value, `-1` for what is refused, `["failed", text]` for a store or restore that
 * failed.
 *
 * A message is checked whole before any of it runs, and nothing else runs between its commands. If one of
 * its commands is refused, so is the message: that command is answered with its code, the others with
 * `NOT_RUN`. A payload or envelope that cannot be understood at all has one reply, `BAD_REQUEST`.
 *
 * How long a message and its reply may be, how many commands it may hold, and how many of them a client may
 * have under way, are limits of the host: {@link ./limits.ts} has their defaults.
 *
 * Messages of one client run in the order in which it sent them, but one that stores or restores is
 * answered when its file is done, and one that restores runs then: others are served meanwhile.
 *
 * @module
 */

import { type Frames, MAX_FRAMES } from "./socket.ts";
import type { Reader } from "./codec.ts";
import { MalformedError } from "./msgpack.ts";
import type { Writer } from "./msgpack.ts";

/**
 * Why a command was not done.
 *
 * | code | meaning |
 * |---|---|
 * | `BAD_REQUEST` | the message is not one: its frames, its header or its MessagePack |
 * | `UNKNOWN_COMMAND` | the host has no command of this name |
 * | `BAD_ARGUMENT` | too few or too many arguments, or one of the wrong type |
 * | `TOO_LARGE` | more than a message may hold |
 * | `OUT_OF_MEMORY` | the host's memory is full |
 * | `DENIED` | this client may not |
 * | `FAILED` | it was tried: the text says what went wrong |
 * | `NOT_RUN` | nothing is wrong with it, but another command of its message was refused |
 */
export type Code =
  | "BAD_REQUEST"
  | "UNKNOWN_COMMAND"
  | "BAD_ARGUMENT"
  | "TOO_LARGE"
  | "OUT_OF_MEMORY"
  | "DENIED"
  | "FAILED"
  | "NOT_RUN";

/**
 * A command that was not done, or of which it is not known.
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
 * | `TIMEOUT` | none came in time; if the message had left, the command may have been done |
 * | `DISCONNECTED` | the host went away after the message had left: the command may have been done |
 * | `CLOSED` | the client was closed |
 */
export type ClientCode = "TIMEOUT" | "DISCONNECTED" | "CLOSED";

/** The first byte of a header. */
const MAGIC = 0x4d;
/** The version that this host and client speak. */
const VERSION = 1;
/** The longest header: magic, version, and 30 bytes of the client's own. */
const MAX_HEADER = 32;

/** A request, taken apart. */
export interface Request {
  /** The frames before the payload, which the reply repeats. */
  envelope: Frames;
  /** Whether the client expects pymemstore's replies. */
  legacy: boolean;
  payload: Uint8Array;
  /** Why the frames cannot be understood; undefined where they can. */
  fault?: string;
}

/** Takes a message that a ROUTER socket received apart. */
export function parseRequest(frames: Frames): Request {
  const last = frames.length - 1;
  const empty = frames.findIndex((frame, i) => i > 0 && i < last && frame.length === 0);
  const between = empty < 0 ? [] : frames.slice(empty + 1, last);
  const legacy = between[0]?.[0] !== MAGIC;
  const envelope = frames.slice(0, empty < 0 ? 1 : legacy ? empty + 1 : empty + 2);
  const fault = empty < 0
    ? "an empty frame and a payload are needed"
    : frames.length === MAX_FRAMES
    ? `a message has fewer than ${MAX_FRAMES} frames`
    : between.length === 0
    ? undefined
    : legacy
    ? "between the empty frame and the payload there may be a header alone"
    : between.length > 1
    ? `one payload is needed: received ${between.length} frames after the header`
    : headerFault(between[0]);
  return { envelope, legacy, payload: frames[last], fault };
}

function headerFault(header: Uint8Array): string | undefined {
  if (header.length < 2) return "a header has 2 bytes at least: received 1";
  if (header[1] !== VERSION) {
    return `version ${VERSION} of the protocol is spoken here: received version ${header[1]}`;
  }
  if (header.length > MAX_HEADER) {
    return `a header has ${MAX_HEADER} bytes at most: received ${header.length}`;
  }
}

/** Writes the reply to a command that was not done. */
export function writeRefusal(
  { code, message }: Pick<MemStoreError, "code" | "message">,
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

/** The header of a native request: its number is what the reply is recognised by. */
export function header(request: number): Uint8Array {
  const bytes = new Uint8Array([MAGIC, VERSION, 0, 0, 0, 0]);
  new DataView(bytes.buffer).setUint32(2, request);
  return bytes;
}

/** The request number and the payload of a reply to {@linkcode header}; undefined for anything else. */
export function parseReply(frames: Frames): { request: number; payload: Uint8Array } | undefined {
  const [empty, head, payload] = frames;
  if (frames.length !== 3 || empty.length > 0 || head.length !== 6 || head[0] !== MAGIC) return undefined;
  return { request: new DataView(head.buffer, head.byteOffset).getUint32(2), payload };
}

/**
 * The value of the native reply that a reader is at, or the error that it tells of.
 *
 * @throws {MalformedError} if it is none.
 */
export function readReply(name: string, reply: Reader): unknown {
  const { at } = reply;
  const status = reply.value();
  if (status !== 0) {
    const error = status === 1 ? reply.value() : undefined;
    const [code, text] = Array.isArray(error) ? error : [];
    if (typeof code === "string" && typeof text === "string") return new MemStoreError(code as Code, text);
    throw new MalformedError("a reply is needed", at);
  }
  // A table's keys may be of any type: it is a Map whatever they are.
  if (name === "all") return reply.map();
  return name === "scan" ? reply.pair() : reply.value();
}

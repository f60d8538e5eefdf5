/**
 * Frames: how ZeroMQ carries the messages of {@link ../message.ts}.
 *
 * ```text
 * request (at the host)                    reply
 *   routing id   ┐                           the same envelope
 *   …            │ envelope                  reply payload
 *   empty frame  │ (≤ 512 bytes)
 *   header       ┘ native clients only
 *   payload: command, command, …
 * ```
 *
 * The envelope may hold the routing ids of proxies too; it ends at the first empty frame, or behind the header.
 *
 * @module
 */

import { headerFault, isBatch, isHeader, type Reply, requestNumber, takesParts } from "../message.ts";

/** A multipart message. */
export type Frames = Uint8Array[];

/** Frames beyond this number are read and thrown away; no valid message comes near it. */
export const MAX_FRAMES = 64;

/** Bytes of an envelope at most: each reply repeats it. */
const MAX_ENVELOPE = 512;

const EMPTY = new Uint8Array(0);

/** What the frames of a request say. */
export interface ParsedFrames {
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
  fault: string | undefined;
}

/** Takes a message that a ROUTER socket received apart. */
export function parseRequest(frames: Frames): ParsedFrames {
  const last = frames.length - 1;
  const empty = frames.findIndex((frame, i) => i > 0 && i < last && frame.length === 0);
  const between = empty < 0 ? [] : frames.slice(empty + 1, last);
  const [header] = between;
  const legacy = !isHeader(header);
  let envelope = frames.slice(0, empty < 0 ? 1 : legacy ? empty + 1 : empty + 2);
  const size = sizeOf(envelope);
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
    : headerFault(header);
  const batch = !legacy && isBatch(header);
  const parts = !legacy && takesParts(header);
  return { envelope, legacy, batch, parts, payload: frames[last], fault };
}

/** The reply that frames hold for a native client; undefined where they hold none. */
export function parseReply(frames: Frames): Reply | undefined {
  if (frames.length !== 3) return undefined;
  const [empty, header, payload] = frames;
  if (empty.length > 0) return undefined;
  const request = requestNumber(header);
  return request === undefined ? undefined : { request, payload };
}

/** The bytes of all frames together. */
export function sizeOf(frames: Frames): number {
  let bytes = 0;
  for (const { length } of frames) bytes += length;
  return bytes;
}

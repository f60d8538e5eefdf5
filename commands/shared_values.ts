/**
 * `undefined` as a key, a value or a member of a {@linkcode SharedMap} or {@linkcode SharedSet}: MessagePack does not have
 * it. It is stored as the extension of type 0 whose one byte is 0, as other encoders of JavaScript values do. (Within
 * an array or an object, it is treated as everywhere in memstore.)
 *
 * @module
 */

import { Extension } from "../msgpack/codec.ts";

/** What `undefined` is stored as. */
const UNDEFINED = new Extension(0, new Uint8Array([0]));

/**
 * What `get_many` is asked to reply for a key that does not exist, where that must be told from a stored `null`: a string
 * that nobody stores, because that is quick to encode and to compare.
 */
export const MISSING = `\0${crypto.randomUUID().slice(0, 8)}`;

/** Whether what is stored stands for `undefined`. */
export const isUndefined = (stored: unknown): boolean =>
  stored instanceof Extension && stored.type === 0 && stored.data.length === 1 && stored.data[0] === 0;

/** Converts a value to what is stored for it. */
export function toStored(value: unknown): unknown {
  return value === undefined ? UNDEFINED : value;
}

/** Converts what is stored to the value. */
export function fromStored<Value>(stored: unknown): Value {
  return (isUndefined(stored) ? undefined : stored) as Value;
}

/**
 * Checks the function that a method calls for each entry, before it calls it.
 *
 * @throws {TypeError} if it is none.
 */
export function checkCallable(fn: unknown, method: string): void {
  if (typeof fn === "function") return;
  throw new TypeError(`Cannot call ${method}: it needs a function: received ${String(fn)}`);
}

/** How many entries or members an iteration reads at a time. */
export const PAGE = 1000;

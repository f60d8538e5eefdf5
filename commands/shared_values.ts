/**
 * `undefined` as a key, a value or a member of a {@linkcode SharedMap} or {@linkcode SharedSet}: MessagePack does not have
 * it. It is stored as the extension of type 0 whose one byte is 0, as other encoders of JavaScript values do. (Within
 * an array or an object, it is treated as everywhere in memstore.)
 *
 * @module
 */

import { Extension } from "../msgpack/codec.ts";

/** What `undefined` is stored as. */
export const UNDEFINED = new Extension(0, new Uint8Array([0]));

/** What `get` replies for a key that does not exist, if it is asked to. It is never stored. */
export const MISSING = new Extension(0, new Uint8Array([1]));

/** Whether a value that was read is one of the two above. */
export function is(mark: Extension, value: unknown): boolean {
  return value instanceof Extension && value.type === 0 && value.data.length === 1 &&
    value.data[0] === mark.data[0];
}

/** Converts a value to what is stored for it. */
export function toStored(value: unknown): unknown {
  return value === undefined ? UNDEFINED : value;
}

/** Converts what is stored to the value. */
export function fromStored<Value>(stored: unknown): Value {
  return (is(UNDEFINED, stored) ? undefined : stored) as Value;
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

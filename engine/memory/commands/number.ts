/**
 * Numbers as MessagePack has them: integers of 64 bits, exact, and floats.
 *
 * @module
 */

import { Reader } from "../../../msgpack/codec.ts";
import type { Writer } from "../../../msgpack/msgpack.ts";
import { MemStoreError } from "../../../transport/message.ts";

/** The number at `at`; undefined if what is there is none. */
export function numberAt(bytes: Uint8Array, at: number): number | bigint | undefined {
  const first = bytes[at];
  if (first < 0x80) return first;
  return isFloat(first) || isInteger(first) ? new Reader(bytes, at).value() as number | bigint : undefined;
}

const isFloat = (first: number) => first === 0xca || first === 0xcb;
const isInteger = (first: number) => first < 0x80 || first >= 0xe0 || first >= 0xcc && first <= 0xd3;

/** A number and its kind: a float may have an integral value. */
export interface Numeric {
  value: number | bigint;
  float: boolean;
}

/** The same, with the kind of number that it is. */
export function numericAt(bytes: Uint8Array, at: number): Numeric | undefined {
  const value = numberAt(bytes, at);
  return value === undefined ? undefined : { value, float: isFloat(bytes[at]) };
}

/**
 * Writes a sum: an integer if both are, else a float.
 *
 * @throws {MemStoreError} if no integer of 64 bits, or no finite float, is that sum.
 */
export function writeSum(a: Numeric, b: Numeric, to: Writer): void {
  if (a.float || b.float) {
    const sum = Number(a.value) + Number(b.value);
    if (!Number.isFinite(sum)) throw beyond("a float");
    return to.float(sum);
  }
  const near = Number(a.value) + Number(b.value);
  if (Number.isSafeInteger(near) && typeof a.value === "number" && typeof b.value === "number") {
    return to.int(near);
  }
  const sum = BigInt(a.value) + BigInt(b.value);
  if (sum < -(2n ** 63n) || sum >= 2n ** 64n) throw beyond("an integer of 64 bits");
  to.int(sum);
}

function beyond(what: string): MemStoreError {
  return new MemStoreError("FAILED", `Cannot incr: the sum is more than ${what} can be`);
}
